"""All stages of the training, from nothing to packed files, with a few steps each."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState

from bootstrap import CACHE, ROOT
from ella_core.checkpoint import load_connector
from miniature import connectors, layers, shipping
from miniature.recipe import Sizes, train
from smollm2 import NAME, unpack_smollm2

SMALL = ("batch=8", "micro_batch=8", "validation.pictures=8")
FEW = Sizes(
    vae_steps=2,
    base_steps=1,
    base_pictures=40,
    judged=1,
    captions=16,
    held_out=8,
    align=("steps=2", *SMALL),
)


@pytest.fixture
def own_precision():
    """accelerate has one precision a process, and other tests train in another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder in which all stages were run, and `data` beside it."""
    folder, threads = tmp_path_factory.mktemp("miniature") / "run", torch.get_num_threads()
    unpack_smollm2(CACHE / NAME)
    folder.mkdir()
    (folder / NAME).symlink_to(CACHE / NAME)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        train(folder, folder.parent / "data", FEW)
    torch.set_num_threads(threads)
    return folder


@pytest.mark.usefixtures("own_precision")
def test_the_recipe_makes_a_miniature_from_nothing(run, tmp_path, monkeypatch):
    data = run.parent / "data"
    monkeypatch.setattr(shipping, "DATA", data)
    shipping.install(tmp_path / "models")
    assert (tmp_path / "models/checkpoints" / shipping.CHECKPOINT).is_file()
    connector = load_connector(tmp_path / "models/ella" / shipping.CONNECTOR)
    assert connector.metadata.steps == 2
    assert connector.metadata.llm == NAME
    (last,) = json.loads((data / "curves.json").read_text(encoding="utf-8"))["align"]
    assert last["step"] == 2
    assert last["held_out_loss"] > 0


@pytest.fixture(scope="module")
def prepared(run):
    """The folder of `run`, with captions of one thing to train connectors on."""
    connectors.prepare(run, captions=16, held_out=8)
    return run


@pytest.mark.usefixtures("own_precision")
def test_connectors_are_trained_alike(prepared):
    run = prepared
    captions = [path.read_text() for path in (run / "connectors/data/pictures").glob("*.txt")]
    assert len(captions) == 16
    assert not any(" and " in caption for caption in captions)
    folder = connectors.train(run, "resampler-1", 0, steps=2, noise_steps=1, settings=SMALL)
    aligned = load_connector(run / "connectors/resampler-1-0-2/connector.safetensors")
    assert aligned.metadata.steps == 2
    assert load_connector(folder / "connector.safetensors").metadata.steps == 1
    measured = connectors.measured(folder)
    assert measured["parameters"] == sum(p.numel() for p in aligned.parameters())
    assert measured["alignment"] > 0
    assert {name for name in measured if "timesteps" in name} == {
        f"timesteps {start}-{start + 199}" for start in range(0, 1000, 200)
    }


@pytest.mark.usefixtures("own_precision")
def test_an_mlp_is_trained_without_alignment(prepared):
    folder = connectors.train(prepared, "mlp", 0, steps=2, noise_steps=1, settings=SMALL)
    assert connectors.measured(folder)["parameters"] == 577 * 768 + 769 * 768
    assert not (prepared / "connectors/mlp-0-2").exists()


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.usefixtures("own_precision")
def test_a_connector_learns_from_the_first_layers_of_an_llm(run, number):
    layers.write_cut(run / NAME, run / layers.folder_name(number), number)
    connector = load_connector(layers.train(run, layers.folder_name(number), 0, 1, SMALL))
    metadata = connector.metadata
    assert (metadata.llm, metadata.llm_layers) == (layers.folder_name(number), number)
