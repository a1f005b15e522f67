"""The files in the repository: small, and as good as what was trained."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from ella_core.checkpoint import load_connector
from miniature import shipping
from miniature.judge import read
from miniature.vae import VAE
from miniature.world import draw_scene, paint


def test_the_files_are_small():
    files = list(shipping.DATA.glob("*.xz"))
    assert {file.name.split(".")[0] for file in files} == {"base", "vae", "connector"}
    assert sum(file.stat().st_size for file in files) <= shipping.LIMIT


def test_int8_keeps_a_matrix_to_half_a_step_of_each_row(tmp_path):
    rows = torch.logspace(-2, 1, 64).unsqueeze(1)
    matrix = rows * torch.randn(64, 40, generator=torch.Generator().manual_seed(0))
    shipping.pack({"weight": matrix, "bias": matrix[0]}, tmp_path / "x.xz", {"a": "b"})
    state, metadata = shipping.unpack(tmp_path / "x.xz")
    assert metadata == {"a": "b"}
    step = matrix.abs().amax(1, keepdim=True) / 127
    assert ((state["weight"].float() - matrix).abs() <= 0.6 * step).all()
    torch.testing.assert_close(state["bias"].float(), matrix[0], rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    shipping.install(folder)
    return folder


def test_the_judge_reads_every_picture_that_went_through_the_shipped_vae(models):
    state = load_file(models / "checkpoints" / shipping.CHECKPOINT)
    narrow = VAE()
    weights = {
        name: state[f"first_stage_model.{name}"][tuple(map(slice, tensor.shape))]
        for name, tensor in narrow.state_dict().items()
    }
    narrow.load_state_dict(weights)
    for seed in range(24):
        scene = draw_scene(seed, "new")
        (picture,) = narrow.decode(narrow.encode(paint(scene, seed)[None]))
        assert read(picture) == scene


def test_what_is_installed_is_replaced_by_a_newer_one(tmp_path, monkeypatch):
    packed = tmp_path / "data"
    shutil.copytree(shipping.DATA, packed)
    monkeypatch.setattr(shipping, "DATA", packed)
    target = tmp_path / "models/ella" / shipping.CONNECTOR
    shipping.install(tmp_path / "models")
    first = target.stat()
    shipping.install(tmp_path / "models")
    assert target.stat().st_mtime_ns == first.st_mtime_ns
    state, metadata = shipping.unpack(packed / "connector.safetensors.xz")
    state["connector.proj_in.bias"] += 1
    shipping.pack(state, packed / "connector.safetensors.xz", metadata)
    shipping.install(tmp_path / "models")
    installed = load_file(target)["connector.proj_in.bias"]
    assert torch.equal(installed, state["connector.proj_in.bias"])


def test_the_connector_says_what_it_is(models):
    connector = load_connector(models / "ella" / shipping.CONNECTOR)
    assert (connector.llm_dim, connector.context_dim, connector.num_tokens) == (576, 768, 16)
    assert connector.metadata.licence == "Apache-2.0"
    assert connector.metadata.llm == "SmolLM2-135M-Instruct"
