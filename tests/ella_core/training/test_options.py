"""Validation, buckets, emptied captions, export: what a run can do beside the plain loop."""

import re
import runpy
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from bootstrap import ROOT, host_dir
from ella_core.checkpoint import load_connector
from ella_core.errors import EllaError
from ella_core.training.bases import load_base
from ella_core.training.batches import TrainingPictures, held_out, make_batch, to_tensors
from ella_core.training.cli import _parser
from ella_core.training.config import BaseConfig
from ella_core.training.config_file import read_config
from ella_core.training.export import export
from ella_core.training.loss import Conditioning, NoiseLoss
from ella_core.training.precompute import precompute
from ella_core.training.trainer import Trainer
from support.training import settings

CPU = torch.device("cpu")


def test_validation_is_the_mean_loss_of_each_band_on_fixed_noise(config, data):
    source = {"cache": str(data / "cache")}
    made = config(
        steps=2,
        optimiser={"lr": 0.0},  # so that both validations see the same weights
        validation={"sources": [source], "every": 1, "pictures": 5, "bands": 4},
    )
    trainer = Trainer(made)
    trainer.train()
    conditioning, loss = (
        Conditioning(trainer.parts.connector),
        NoiseLoss(trainer.parts.base, made.loss),
    )
    by_band = {band: [] for band in range(4)}
    with torch.no_grad():
        for draw in held_out(trainer.parts.held_out, made):
            batch = to_tensors(make_batch([draw]), None, CPU)
            by_band[draw.timestep // 250].append(float(loss(conditioning, batch)))
    assert [len(losses) for losses in by_band.values()] == [5] * 4

    log = EventAccumulator(str(made.run / "logs")).Reload()
    every = [loss for losses in by_band.values() for loss in losses]
    expected = {"loss": sum(every) / len(every)}
    for band, losses in by_band.items():
        expected[f"timesteps {250 * band}-{250 * band + 249}"] = sum(losses) / len(losses)
    for name, value in expected.items():
        first, second = (event.value for event in log.Scalars(f"validation/{name}"))
        assert first == second == pytest.approx(value, abs=1e-5)
    assert len(set(expected.values())) == 5


def test_buckets_keep_the_shapes_of_pictures(models, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, size in enumerate([(64, 32), (32, 64), (33, 64), (48, 48)] * 2):
        Image.new("RGB", size, (20 * i, 0, 0)).save(pictures / f"{i}.png")
        (pictures / f"{i}.txt").write_text(f"picture {i}")
    source = {"pictures": str(pictures), "cache": str(tmp_path / "cache")}
    data = {"resolution": 48, "buckets": True, "bucket_step": 16, "sources": [source]}
    changes = {"data": data, "steps": 6, "batch": 2, "micro_batch": 1}
    made = read_config({**settings(models, tmp_path, tmp_path / "run"), **changes})
    precompute(made)
    trainer = Trainer(made)
    assert set(trainer.parts.sources[0].buckets) == {(48, 48), (32, 64), (64, 32)}
    seen = set()
    loss = trainer._loss

    def watching(conditioning, batch):
        seen.add(tuple(batch.latents.shape[2:]))
        assert batch.sizes[0, 4:].tolist() == [8 * edge for edge in batch.latents.shape[2:]]
        return loss(conditioning, batch)

    trainer._loss = watching
    trainer.train()
    assert len(seen) > 1
    assert seen <= {(6, 6), (4, 8), (8, 4)}
    # The same shapes come of pictures that are encoded while training.
    online = read_config(
        {
            **settings(models, tmp_path, tmp_path / "online"),
            **changes,
            "data": {**data, "sources": [{"pictures": str(pictures)}]},
        }
    )
    assert Trainer(online).parts.sources[0].buckets == trainer.parts.sources[0].buckets


def test_captions_are_emptied_anew_at_every_step(config):
    made = config(text={"tokens": 32, "flexible": True, "empty": 0.3})
    trainer = Trainer(made)
    source = trainer.parts.sources[0]
    empty = source.read(0, (32, 32), 0, lambda _: None).features
    drawn = TrainingPictures(made, trainer.parts.sources)
    seen: dict[str, list[bool]] = {}
    for number in range(180):
        for item in drawn[number].items:
            seen.setdefault(item.key, []).append(torch.equal(item.features, empty))
    assert len(seen) == 12
    assert all(any(emptied) and not all(emptied) for emptied in seen.values())
    share = sum(sum(emptied) for emptied in seen.values()) / 360
    assert share == pytest.approx(0.3, abs=0.08)


def test_export_writes_what_load_ella_reads(config):
    made = config(steps=4, checkpoint={"every": 2}, licence="Apache-2.0")
    Trainer(made).train()
    path = export(made.run, made.run / "mine.safetensors", step=2, half=True)
    connector = load_connector(path)
    assert {p.dtype for p in connector.parameters()} == {torch.float16}
    metadata = connector.metadata
    assert (metadata.steps, metadata.trained_tokens, metadata.licence) == (2, 32, "Apache-2.0")
    assert (metadata.llm, metadata.llm_type, metadata.llm_layers) == ("llm", "llama", 2)
    assert metadata.base == "base.safetensors"
    assert connector.config.heads == 4
    newest = load_connector(made.run / "connector.safetensors")
    assert newest.metadata.steps == 4
    assert not torch.equal(newest.latents, connector.latents.float())
    with pytest.raises(
        EllaError, match=r"no checkpoint of step 3: found step-00000002, step-00000004"
    ):
        export(made.run, step=3)
    with pytest.raises(EllaError, match=r"absent has no checkpoint yet"):
        export(made.run / "absent")


def write_diffusers_folder(file, folder):
    """A base as a diffusers folder, with a CLIP of one layer and Stable Diffusion's tokenizer."""
    base = load_base(BaseConfig(file))
    base.unet.register_to_config(sample_size=4)  # which a single file does not say
    torch.manual_seed(0)
    text = CLIPTextConfig(
        hidden_size=768, intermediate_size=64, num_hidden_layers=1, num_attention_heads=12
    )
    StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer.from_pretrained(
            host_dir() / "comfy/sd1_tokenizer", model_max_length=77
        ),
        unet=base.unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def test_a_diffusers_folder_trains_and_draws_its_own_pictures_beside(config, models, tmp_path):
    write_diffusers_folder(models / "base.safetensors", tmp_path / "base")
    sheet = {"prompts": ["a red barn", "fog"], "steps": 2}
    made = config(base={"path": str(tmp_path / "base")}, steps=1, sheet=sheet)
    Trainer(made).train()
    drawn = Image.open(made.run / "sheets/step-00000001.jpg")
    assert drawn.size == (2 * 32, 2 * (32 + 14))
    base, ours = (drawn.crop((x, 14, x + 32, 46)).tobytes() for x in (0, 32))
    assert base != ours
    file = config(run="file", steps=1)
    Trainer(file).train()
    found, expected = (load_file(c.run / "connector.safetensors") for c in (made, file))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_pages_code_for_diffusers_runs(config, models, tmp_path, monkeypatch):
    write_diffusers_folder(models / "base.safetensors", tmp_path / "stable-diffusion-v1-5")
    shutil.copytree(models / "llm", tmp_path / "flan-t5-xl")
    Trainer(made := config(steps=1)).train()
    shutil.copy(made.run / "connector.safetensors", tmp_path)
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "page.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path("page.py")["image"].size == (32, 32)


def test_the_commands_of_the_page_are_commands():
    lines = (ROOT / "docs/training.md").read_text(encoding="utf-8").splitlines()
    start = "python scripts/train.py "
    commands = [line.removeprefix(start).split("  ")[0] for line in lines if line.startswith(start)]
    assert len(commands) >= 8
    for command in commands:
        words = command.split()
        known = words[0] in ("caption", "filter", "precompute", "export")
        assert _parser().parse_args(words if known else ["train", *words]).run_command
