"""Painting with a small pipeline of diffusers."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from ella_core.checkpoint import load_connector, save_connector
from ella_core.config import ResamplerConfig, TimeConfig
from ella_core.connectors import build_connector
from ella_core.diffusers_adapter import attached
from ella_core.evaluation.cli import main
from ella_core.evaluation.generate.jobs import read_metadata
from ella_core.evaluation.questions import Item, Question, write_csv
from ella_core.text_encoders import load_text_encoder
from support.models import write_llama

PROMPTS = ("a cup", "two cups")


def write_pipeline(folder: Path) -> None:
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4, 4),
        decoder_block_out_channels=(4, 4),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    scheduler = diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)
    diffusers.StableDiffusionPipeline(
        vae, None, None, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_pipeline(folder / "pipeline")
    write_llama(folder / "llm", width=48)
    connector = build_connector(ResamplerConfig(48, 32, 1, 4, 8, TimeConfig(16, 24)))
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_connector(connector, folder / "connector.safetensors")
    return folder


@pytest.fixture
def paint(models, tmp_path):
    questions = (Question(1, "Is it there?"),)
    items = [Item(f"item-{i}", prompt, questions) for i, prompt in enumerate(PROMPTS)]
    write_csv(tmp_path / "questions.csv", items)
    command = ["generate", "--questions", str(tmp_path / "questions.csv"), "--pictures", "2"]
    command += ["--folder", str(tmp_path / "out"), "--pipeline", str(models / "pipeline")]
    command += ["--steps", "2", "--guidance", "3", "--width", "16", "--height", "16"]
    ella = ["--connector", str(models / "connector.safetensors"), "--llm", str(models / "llm")]
    return lambda *options: main([*command, *(options or ella), "--seed", "5"])


def test_pictures_are_the_adapters(paint, models, tmp_path):
    assert paint() == 0
    parts = ("safety_checker", "feature_extractor", "text_encoder", "tokenizer")
    pipe = diffusers.DiffusionPipeline.from_pretrained(models / "pipeline", **dict.fromkeys(parts))
    connector = load_connector(models / "connector.safetensors")
    encoder = load_text_encoder(models / "llm", torch.float32)
    found = []
    with attached(pipe, connector) as embed:
        for i, prompt in enumerate(PROMPTS):
            for crop in range(2):
                expected = pipe(
                    **embed(encoder.encode([prompt]), encoder.encode([""])),
                    num_inference_steps=2,
                    guidance_scale=3,
                    width=16,
                    height=16,
                    generator=torch.Generator().manual_seed(5 + crop),
                ).images[0]
                picture = Image.open(tmp_path / f"out/item-{i}_{crop}.png")
                np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
                found.append(picture.tobytes())
    assert len(set(found)) == 4
    metadata = read_metadata(tmp_path / "out/item-1_1.png")
    assert (metadata["prompt"], metadata["seed"]) == ("two cups", 6)
    assert metadata["diffusers"] == diffusers.__version__


def test_what_is_there_is_not_painted_again(paint, tmp_path):
    assert paint() == 0
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.png")}
    gone = tmp_path / "out/item-1_0.png"
    picture = gone.read_bytes()
    gone.unlink()
    assert paint() == 0
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.png")}
    assert {file for file in before if before[file] != after[file]} == {gone}
    assert gone.read_bytes() == picture


def test_a_connector_without_its_llm(paint, capsys):
    assert paint("--connector", "connector.safetensors") == 1
    assert "--connector and --llm belong together" in capsys.readouterr().err


def test_a_folder_without_a_pipeline(paint, tmp_path, capsys):
    assert paint("--pipeline", str(tmp_path)) == 1
    assert "can't be opened as a pipeline" in capsys.readouterr().err
