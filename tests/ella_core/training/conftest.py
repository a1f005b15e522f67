"""One small base, LLM, folder of pictures and cache for all tests of the training package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_models
from ella_core.training.config import TrainConfig
from ella_core.training.config_file import read_config
from ella_core.training.precompute import precompute
from support.models import write_llama

PICTURES = 12
WORDS = ("a red barn", "two cats on a wall", "fog", "a very small boat under a tall bridge")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """As in the processes that the tests start, so that sums are added up in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with base.safetensors and llm/."""
    folder = tmp_path_factory.mktemp("training models")
    without_middle = {"transformer_depth_output": [0, 0], "transformer_depth_middle": -2}
    tiny_models.draw_checkpoint(folder / "base.safetensors", **without_middle)
    write_llama(folder / "llm")
    return folder


def write_pictures(folder: Path, count: int = PICTURES) -> Path:
    """Pictures of noise with captions of two kinds, and targets of the alignment."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 255, (40, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        captions = {"long": [f"{WORDS[i % 4]}, number {i}", "no more"], "short": WORDS[i % 4]}
        (folder / f"{i:03d}.json").write_text(json.dumps({"captions": captions}))
        np.save(folder / f"{i:03d}.context.npy", rng.standard_normal((4, 768), dtype=np.float32))
    np.save(folder / "empty.context.npy", np.zeros((4, 768), dtype=np.float32))
    return folder


def settings(models: Path, data: Path, run: Path, **changes) -> dict:
    """A run of small parts that takes a second."""
    source = {"pictures": str(data / "pictures"), "cache": str(data / "cache")}
    time = {"channels": 32, "dim": 16}
    resampler = {"llm_dim": 64, "width": 32, "context_dim": 768, "layers": 1, "heads": 4}
    return {
        "run": str(run),
        "base": {"path": str(models / "base.safetensors")},
        "llm": {"path": str(models / "llm")},
        "connector": {"resampler": {**resampler, "num_latents": 4, "time": time}},
        "text": {"tokens": 32, "flexible": True},
        "data": {"resolution": 32, "sources": [source], "workers": 1},
        "optimiser": {"lr": 1e-3},
        "batch": 4,
        "micro_batch": 2,
        "steps": 20,
        "precision": "fp32",
        "checkpoint": {"every": 5},
        **changes,
    }


@pytest.fixture(scope="session")
def data(models, tmp_path_factory) -> Path:
    """A folder with pictures/ and, made of them, cache/."""
    folder = tmp_path_factory.mktemp("training data")
    write_pictures(folder / "pictures")
    precompute(read_config(settings(models, folder, folder / "run")))
    return folder


@pytest.fixture
def config(models, data, tmp_path):
    """Changes of `settings` -> the config of a run of its own."""

    def make(run="run", **changes) -> TrainConfig:
        return read_config(settings(models, data, tmp_path / run, **changes))

    return make
