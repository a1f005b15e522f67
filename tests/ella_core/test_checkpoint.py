"""What a file holds is read from its tensors; what is wrong with it is said."""

import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from ella_core.checkpoint import load_connector, save_connector
from ella_core.config import MLPConfig, ResamplerConfig, TimeConfig
from ella_core.connectors import build_connector
from ella_core.errors import EllaError
from support.models import write_tsc

DIMS = {"width": 64, "layers": 2, "num_latents": 8, "llm_dim": 48, "time_channels": 32}
CONFIG = ResamplerConfig(
    llm_dim=48, width=64, layers=2, heads=8, num_latents=8, time=TimeConfig(32, 40)
)


@pytest.fixture
def path(tmp_path):
    write_tsc(tmp_path / "any name.safetensors", time_dim=40, **DIMS)
    return tmp_path / "any name.safetensors"


@pytest.mark.parametrize(
    "config",
    [
        MLPConfig(llm_dim=48, width=64),
        ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=8, time=None),
        ResamplerConfig(llm_dim=48, width=64, layers=11, heads=4, num_latents=8, time=None),
        ResamplerConfig(llm_dim=48, width=64, layers=2, heads=2, time=TimeConfig(32, 40, True)),
        CONFIG,
    ],
)
def test_kind_and_size_come_from_the_file(config, tmp_path):
    torch.manual_seed(0)
    saved = build_connector(config)
    saved.reset_parameters()
    save_connector(saved, config, tmp_path / "x.safetensors")
    loaded, detected = load_connector(tmp_path / "x.safetensors")
    assert detected == config
    features, timesteps = torch.randn(2, 5, 48), torch.tensor([1, 900])
    assert torch.equal(loaded(features, timesteps), saved(features, timesteps))


def test_the_file_layout_is_the_released_one(path, tmp_path):
    connector, config = load_connector(path)
    save_connector(connector, config, tmp_path / "again.safetensors")
    before, after = load_file(path), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, None])
def test_any_dtype_loads_into_any_other(path, stored, dtype):
    save_file({key: tensor.to(stored) for key, tensor in load_file(path).items()}, path)
    connector, _ = load_connector(path, dtype=dtype)
    assert {p.dtype for p in connector.parameters()} == {dtype or stored}
    tokens = connector(torch.randn(1, 5, 48, dtype=dtype or stored), torch.tensor([500]))
    assert tokens.isfinite().all()


def change(path, edit):
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


FAULTS = {
    "missing": (
        lambda t: t.pop("connector.perceiver_blocks.1.ln_ff.linear.bias"),
        "connector.perceiver_blocks.1.ln_ff.linear.bias is missing",
    ),
    "first missing": (lambda t: t.pop("connector.proj_in.weight"), "proj_in.weight is missing"),
    "surplus": (
        lambda t: t.update({"connector.extra.weight": torch.zeros(2)}),
        "connector.extra.weight does not belong there",
    ),
    "misshapen": (
        lambda t: t.update({"connector.proj_in.bias": torch.zeros(65)}),
        r"connector.proj_in.bias is \[65\], expected \[64\]",
    ),
    "not a matrix": (
        lambda t: t.update({"connector.latents": torch.zeros(8)}),
        r"connector.latents is of shape \[8\], not a matrix",
    ),
    "NaN": (
        lambda t: t["connector.latents"].fill_(float("nan")),
        "connector.latents holds NaN",
    ),
    "integers": (
        lambda t: t.update({"connector.latents": torch.zeros(8, 64, dtype=torch.int8)}),
        "connector.latents is stored as torch.int8",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_tensor_must_be_right(path, fault):
    edit, message = FAULTS[fault]
    change(path, edit)
    with pytest.raises(EllaError, match=message) as error:
        load_connector(path)
    assert path.name in str(error.value)


@pytest.mark.parametrize(
    ("key", "guess"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "a diffusion checkpoint"),
        ("lora_unet_mid_block_attn1.lora_down.weight", "a LoRA"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "a T5 text encoder"),
        ("something.else", "it holds 1 tensors, the first named 'something.else'"),
    ],
)
def test_other_files_are_recognised(tmp_path, key, guess):
    save_file({key: torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(EllaError, match=guess):
        load_connector(tmp_path / "x.safetensors")


def test_a_file_cut_short_anywhere_is_named(path):
    whole = path.read_bytes()
    for size in [0, 1, 7, 8, *random.Random(0).sample(range(9, len(whole)), 20)]:
        path.write_bytes(whole[:size])
        with pytest.raises(EllaError, match=rf"any name.safetensors .*{size:,} bytes"):
            load_connector(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EllaError, match=r"There is no file .*gone.safetensors"):
        load_connector(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_pickles_are_refused_unopened(tmp_path, suffix):
    bomb = tmp_path / f"ella{suffix}"
    bomb.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(EllaError, match=r"is not a \.safetensors file"):
        load_connector(bomb)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("heads", ["3", "0", "many", "-8"])
def test_impossible_heads_in_the_metadata(path, heads):
    save_file(load_file(path), path, metadata={"heads": heads})
    with pytest.raises(EllaError, match=f"metadata asks for '{heads}' attention heads"):
        load_connector(path)
