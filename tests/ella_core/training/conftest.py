"""One small base, LLM, folder of pictures and cache for all tests of the training package."""

from pathlib import Path

import pytest
import torch

import tiny_models
from ella_core.training.config import TrainConfig
from ella_core.training.config_file import read_config
from ella_core.training.precompute import precompute
from support.models import write_llama
from support.training import settings, write_pictures


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Use the threads of the processes that the tests start, so that sums have the same order."""
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
