"""Validation, buckets, emptied captions, export: what a run can do beside the plain loop."""

import re
import runpy
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import tiny_models
from bootstrap import ROOT, host_dir
from ella_core.checkpoint import load_connector
from ella_core.errors import EllaError
from ella_core.training.bases import load_base
from ella_core.training.batches import (
    TrainingPictures,
    choose_caption,
    held_out,
    make_batch,
    to_tensors,
)
from ella_core.training.cli import _parser
from ella_core.training.config import BaseConfig, OptimiserConfig
from ella_core.training.config_file import read_config
from ella_core.training.export import export
from ella_core.training.loss import Conditioning, NoiseLoss
from ella_core.training.precompute import precompute
from ella_core.training.trainer import Trainer, lr_factor
from support.training import SMALL_SDXL, settings

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
    with pytest.raises(EllaError, match=r"opens only \.safetensors files. Give .*mine that"):
        export(made.run, made.run / "mine")


@pytest.fixture
def _any_precision():
    """accelerate keeps to one precision in a process; forget it before and after."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.mark.usefixtures("_any_precision")
def test_sdxl_trains_draws_sheets_and_exports_its_pool(config, data, tmp_path):
    """In bf16, as presets do, from pictures of their own sizes."""
    tiny_models.draw_checkpoint(path := tmp_path / "sdxl.safetensors", **SMALL_SDXL)
    resampler = {"llm_dim": 64, "width": 32, "context_dim": 2048, "pooled_dim": 1280, "layers": 1}
    resampler |= {"heads": 4, "num_latents": 4, "time": {"channels": 32, "dim": 16}}
    made = config(
        base={"path": str(path)},
        connector={"resampler": resampler},
        data={"resolution": 32, "sources": [{"pictures": str(data / "pictures")}]},
        optimiser={},
        precision="bf16",
        steps=2,
        sheet={"prompts": ["fog"], "steps": 2},
    )
    trainer = Trainer(made)
    assert trainer.parts.lr == 1e-5
    assert trainer.parts.base.unet.dtype == torch.bfloat16
    before = {k: t.clone() for k, t in trainer.parts.connector.state_dict().items()}
    trainer.train()
    trained = load_connector(made.run / "connector.safetensors")
    assert (trained.context_dim, trained.pooled_dim) == (2048, 1280)
    after = trained.state_dict()
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert Image.open(made.run / "sheets/step-00000002.jpg").size == (32, 32 + 14)


def test_a_run_can_start_from_a_connector(config):
    Trainer(first := config(steps=2)).train()
    file = first.run / "connector.safetensors"
    again = config(
        run="again", steps=1, connector={"init_from": str(file)}, optimiser={"lr": 0.0}, seed=1
    )
    Trainer(again).train()
    found, expected = load_file(again.run / "connector.safetensors"), load_file(file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    assert load_connector(again.run / "connector.safetensors").config.heads == 4


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_learning_rates(schedule, expected):
    options = OptimiserConfig(schedule=schedule, warmup=4)
    assert [lr_factor(step, 8, options) for step in range(8)] == pytest.approx(expected, abs=1e-6)


def test_a_gradient_is_clipped_to_the_norm(config):
    def first_moment(**changes):
        trainer = Trainer(config(run=f"{len(changes)}", optimiser={"lr": 1e-3, **changes}))
        trainer._make_step(next(trainer._micro_batches()))
        moments = [state["exp_avg"] for state in trainer._optimiser.state.values()]
        return torch.cat([moment.flatten() for moment in moments]) / 0.1

    whole, clipped = first_moment(), first_moment(max_grad_norm=1e-3)
    assert whole.norm() > 1e-2
    torch.testing.assert_close(clipped, whole * 1e-3 / whole.norm(), rtol=1e-3, atol=1e-9)


def test_kinds_of_captions_come_by_their_shares():
    captions = {0: "long", 1: "long", 2: "short", 3: "tags"}
    rng = np.random.default_rng(0)

    def shares(wanted):
        drawn = Counter(choose_caption(captions, wanted, rng) for _ in range(4000))
        return [drawn[number] / 4000 for number in captions]

    assert shares({"long": 0.8, "short": 0.2}) == pytest.approx([0.4, 0.4, 0.2, 0], abs=0.03)
    assert shares({}) == pytest.approx([0.25] * 4, abs=0.03)
    assert shares({"absent": 1.0}) == pytest.approx([0.25] * 4, abs=0.03)


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
