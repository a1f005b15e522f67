"""A connector file is read by its tensors, and errors say what is wrong with it."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ella_core.checkpoint import load_connector, save_connector
from ella_core.config import ConnectorMetadata, MLPConfig, ResamplerConfig, TimeConfig
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
        replace(CONFIG, context_dim=96),
        replace(CONFIG, context_dim=64),
        replace(CONFIG, pooled_dim=56),
        replace(CONFIG, context_dim=96, pooled_dim=56),
        ResamplerConfig(48, 64, layers=1, num_latents=8, time=None, context_dim=32, pooled_dim=56),
    ],
)
def test_kind_and_size_come_from_the_file(config, tmp_path):
    torch.manual_seed(0)
    saved = build_connector(config)
    saved.requires_grad_(False).reset_parameters()
    save_connector(saved, tmp_path / "x.safetensors")
    loaded = load_connector(tmp_path / "x.safetensors")
    assert loaded.config == config
    features, timesteps = torch.randn(2, 5, 48), torch.tensor([1, 900])
    context = loaded(features, timesteps)
    assert torch.equal(context, saved(features, timesteps))
    assert (context.shape[-1], loaded.pooled_dim) == (loaded.context_dim, saved.pooled_dim)
    if loaded.pooled_dim is None:
        with pytest.raises(NotImplementedError):
            loaded.pooled(context)
    else:
        pooled = loaded.pooled(context)
        assert pooled.shape == (2, loaded.pooled_dim)
        assert torch.equal(pooled, saved.pooled(context))


def test_metadata_travels_with_the_file(path, tmp_path):
    connector = load_connector(path)
    assert connector.metadata == ConnectorMetadata(trained_tokens=128)  # as the released file
    connector.metadata = ConnectorMetadata(
        trained_tokens=256,
        llm="FLAN-T5-XL",
        llm_type="t5",
        llm_layers=24,
        llm_layer=-1,
        base="Stable Diffusion 1.5",
        steps=280_000,
        licence="Apache-2.0",
        version="1",
    )
    save_connector(connector, tmp_path / "again.safetensors")
    assert load_connector(tmp_path / "again.safetensors").metadata == connector.metadata


@pytest.mark.parametrize(
    ("name", "text"),
    [("trained_tokens", "0"), ("trained_tokens", "many"), ("steps", "1.5"), ("llm_layer", "-2")],
)
def test_metadata_that_is_no_number(path, name, text):
    save_file(load_file(path), path, metadata={name: text})
    with pytest.raises(EllaError, match=f"its metadata says '{text}' for {name}, expected a whole"):
        load_connector(path)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: key.replace("connector.", "connector._orig_mod."),
    ],
)
def test_prefixes_of_wrappers_are_stripped(path, wrapped):
    expected = load_connector(path)
    save_file({wrapped(key): tensor for key, tensor in load_file(path).items()}, path)
    found = load_connector(path)
    assert found.config == expected.config
    for key, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key


def test_a_tensor_with_and_without_a_prefix(path):
    tensors = load_file(path)
    save_file({**tensors, "module.connector.latents": torch.zeros(8, 64)}, path)
    with pytest.raises(EllaError, match=r"connector\.latents is there twice, as "):
        load_connector(path)


def test_the_file_layout_is_the_released_one(path, tmp_path):
    connector = load_connector(path)
    save_connector(connector, tmp_path / "again.safetensors")
    before, after = load_file(path), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, None])
def test_any_dtype_loads_into_any_other(path, stored, dtype):
    save_file({key: tensor.to(stored) for key, tensor in load_file(path).items()}, path)
    connector = load_connector(path, dtype=dtype)
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
    "half an output layer": (
        lambda t: t.update({"connector.proj_out.weight": torch.zeros(96, 64)}),
        "connector.norm_out.bias is missing.*connector.norm_out.weight is missing.*proj_out.bias",
    ),
    "a pool without its layers": (
        lambda t: t.update({"connector.pool.proj.weight": torch.zeros(56, 64)}),
        "connector.pool.attn.in_proj_bias is missing",
    ),
    "a pool without its last layer": (
        lambda t: t.update({"connector.pool.query": torch.zeros(1, 64)}),
        "connector.pool.query does not belong there",
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


def test_a_file_that_is_replaced_in_place_leaves_the_loaded_connector_alone(path):
    connector = load_connector(path)
    before = {key: tensor.clone() for key, tensor in connector.state_dict().items()}
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    with path.open("r+b") as file:
        file.seek(header)
        file.write(bytes(len(whole) - header))
    assert not any(tensor.any() for tensor in load_connector(path).state_dict().values())
    for key, tensor in connector.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_heads_that_the_pool_can_not_have(path):
    change(path, lambda t: t.update({"connector.proj_out.weight": torch.zeros(97, 64)}))
    change(path, lambda t: t.update({"connector.pool.proj.weight": torch.zeros(56, 97)}))
    with pytest.raises(EllaError, match="'8' attention heads, impossible for a width of 97"):
        load_connector(path)


@pytest.mark.parametrize("heads", ["3", "0", "many", "-8"])
def test_impossible_heads_in_the_metadata(path, heads):
    save_file(load_file(path), path, metadata={"heads": heads})
    with pytest.raises(EllaError, match=f"metadata asks for '{heads}' attention heads"):
        load_connector(path)
