"""LLM adapters for SDXL: parity with the released code, layouts of their files, what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ella_core.checkpoint import load_connector, read_header, save_connector
from ella_core.config import LLMAdapterConfig
from ella_core.connectors import build_connector
from ella_core.errors import EllaError
from support import golden_adapter, golden_weights
from support.models import write_adapter
from support.reference import llm_adapter

GOLDEN = Path(__file__).parents[1] / "data/sdxl_adapter_outputs.safetensors"
DIMS = {"llm_dim": 48, "wide": 2, "width": 64, "pooled": 40, "inputs": 32, "outputs": 12}
CONFIG = LLMAdapterConfig(48, 64, heads=4, max_tokens=32, num_latents=12, pooled_dim=40)
ANY = torch.tensor([499])


def golden():
    """Yield each golden run: its name, how its adapter is made, its features and its mask."""
    with safe_open(GOLDEN, "pt") as file:
        dims = json.loads(file.metadata()["dims"])
        kinds = {name: dims.pop(name) for name in ("gemma", "t5gemma")}
        for name in sorted({key.rpartition("/")[0] for key in file.keys()}):  # noqa: SIM118
            kind, length, masked = name.split("/")
            length = int(length[1:])
            features = golden_weights.llm_features(2, length, kinds[kind]["llm_dim"], length)
            mask = None
            if masked == "half":
                mask = torch.ones(2, length, dtype=torch.bool)
                mask[0, length // 2 :] = False
            yield name, {**kinds[kind], **dims}, torch.from_numpy(features), mask


@pytest.mark.parametrize(("name", "dims", "features", "mask"), list(golden()))
def test_agrees_with_the_released_code(name, dims, features, mask, tmp_path):
    write_adapter(tmp_path / "x.safetensors", **dims)
    adapter = load_connector(tmp_path / "x.safetensors")
    context = adapter(features, ANY, mask)
    with safe_open(GOLDEN, "pt") as file:
        expected = file.get_tensor(f"{name}/sequence")
        torch.testing.assert_close(context, expected, rtol=0, atol=1e-4)
        expected = file.get_tensor(f"{name}/pooled")
        torch.testing.assert_close(adapter.pooled(context), expected, rtol=0, atol=1e-4)


@pytest.fixture
def path(tmp_path):
    write_adapter(tmp_path / "any name.safetensors", heads=4, **DIMS)
    return tmp_path / "any name.safetensors"


def test_agrees_with_plain_functions(path):
    adapter, weights = load_connector(path), load_file(path)
    for length in (1, 7, 32, 40):
        features = torch.from_numpy(golden_weights.llm_features(1, length, 48))
        mask = torch.arange(length)[None] >= length // 3  # as a tokenizer that pads on the left
        context = adapter(features, ANY, mask)
        expected, pooled = llm_adapter(weights, features, mask, heads=4)
        torch.testing.assert_close(context, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(adapter.pooled(context), pooled, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("llm_dim", "wide", "parameters"), [(1152, 2, 305_253_632), (2304, 3, 357_971_200)]
)
def test_parameter_counts_of_the_released_adapters(llm_dim, wide, parameters):
    with torch.device("meta"):
        adapter = build_connector(LLMAdapterConfig(llm_dim=llm_dim, wide_layers=wide))
    assert sum(p.numel() for p in adapter.parameters()) == parameters
    shapes = golden_adapter.shapes(llm_dim, wide).values()
    assert sum(torch.Size(shape).numel() for shape in shapes) == parameters


def test_prompts_at_several_timesteps_in_one_pass(path):
    """Each prompt as if it were alone, and the same at every timestep."""
    adapter = load_connector(path)
    features, timesteps = torch.randn(3, 1, 9, 48), torch.tensor([0, 500, 999, 3])
    mask = torch.arange(9) < torch.tensor([1, 9, 5])[:, None, None]
    together = adapter(features, timesteps, mask)
    assert together.shape == (3, 4, 12, 64)
    assert adapter.pooled(together).shape == (3, 4, 40)
    for i, length in enumerate((1, 9, 5)):
        alone = adapter(features[i, :, :length], ANY)
        torch.testing.assert_close(together[i], alone.expand(4, -1, -1))


def test_what_it_says_of_itself(path):
    adapter = load_connector(path)
    assert adapter.config == CONFIG
    assert (adapter.llm_dim, adapter.context_dim, adapter.pooled_dim) == (48, 64, 40)
    assert (adapter.timestep_aware, adapter.num_tokens) == (False, 12)
    assert adapter.metadata.trained_tokens == build_connector(CONFIG).metadata.trained_tokens == 32
    assert read_header(path) == (CONFIG, adapter.metadata)


def test_the_file_layout_is_the_released_one(path, tmp_path):
    save_connector(load_connector(path), tmp_path / "again.safetensors")
    before, after = load_file(path), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert load_connector(tmp_path / "again.safetensors").config == CONFIG


def separated(tensors, names=lambda attention: f"{attention}.", which=".", out="out_proj"):
    """q, k and v in tensors of their own, for the attentions whose name has `which` in it."""
    found = {}
    for key, tensor in tensors.items():
        attention, packed, kind = key.partition(".in_proj_")
        if packed and which in key:
            for layer, part in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{names(attention)}{layer}_proj.{kind}"] = part.clone()
        elif ".out_proj." in key and which in key:
            attention, kind = key.split(".out_proj.")
            found[f"{names(attention)}{out}.{kind}"] = tensor
        else:
            found[key] = tensor
    return found


def without_module(attention):
    """The attention's layers directly in the block, or in the adapter."""
    if "_attention_blocks" in attention:
        return attention.removesuffix("attn")
    return attention.removesuffix("attention")


LAYOUTS = {
    "separate": separated,
    "separate, o_proj": lambda tensors: separated(tensors, out="o_proj"),
    "separate in the blocks alone": lambda tensors: separated(tensors, which="blocks"),
    "without the attentions' modules": lambda tensors: separated(tensors, without_module),
    "in a wrapper": lambda tensors: {f"llm_adapter.{k}": t for k, t in tensors.items()},
    "in two wrappers": lambda tensors: {f"module.model.{k}": t for k, t in tensors.items()},
    "separate in a connector": lambda tensors: {
        f"connector.{k}": t for k, t in separated(tensors).items()
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_that_people_have(path, layout):
    expected = load_connector(path).state_dict()
    tensors = LAYOUTS[layout](load_file(path))
    assert tensors.keys() != load_file(path).keys()
    save_file(tensors, path, metadata={"heads": "4"})
    found = load_connector(path)
    assert found.config == CONFIG
    for key, tensor in expected.items():
        assert torch.equal(found.state_dict()[key], tensor), key


def test_sixteen_heads_without_metadata(path):
    save_file(load_file(path), path)
    assert load_connector(path).config.heads == 16


@pytest.mark.parametrize("layout", ["released", "separate"])
def test_every_tensor_that_is_missing_is_named(path, layout):
    tensors = load_file(path)
    if layout == "separate":
        tensors = separated(tensors)
    for key in tensors:
        save_file({k: t for k, t in tensors.items() if k != key}, path, metadata={"heads": "4"})
        with pytest.raises(EllaError, match=rf"any name.*{re.escape(key)} is missing"):
            load_connector(path)


FAULTS = {
    "surplus": (
        lambda t: t.update({"input_norm.weight": torch.ones(48)}),
        "input_norm.weight does not belong there",
    ),
    "misshapen": (
        lambda t: t.update({"pooling_token": torch.zeros(1, 2, 64)}),
        r"pooling_token is \[1, 2, 64\], expected \[1, 1, 64\]",
    ),
    "of other dimensions": (
        lambda t: t.update({"compression_queries": torch.zeros(12, 64)}),
        r"compression_queries is of shape \[12, 64\], not of 3 dimensions",
    ),
    "twice": (
        lambda t: t.update({"module.compression_queries": torch.zeros(1, 12, 64)}),
        "compression_queries is there twice, as .* and as ",
    ),
    "beside another": (
        lambda t: t.update({"ema.compression_queries": torch.zeros(1, 12, 64)}),
        "ema.compression_queries does not belong there",
    ),
    "NaN": (
        lambda t: t["seq_projection.bias"].fill_(float("nan")),
        "seq_projection.bias holds NaN",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_tensor_must_be_right(path, fault):
    edit, message = FAULTS[fault]
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"heads": "4"})
    with pytest.raises(EllaError, match=message) as error:
        load_connector(path)
    assert path.name in str(error.value)


def test_an_adapter_of_jina_clip_is_refused_by_name(tmp_path):
    tensors = {
        "seq_projection.0.weight": torch.zeros(64, 48),
        "positional_embedding.weight": torch.zeros(32, 64),
        "attention_blocks.0.attn.q_proj.weight": torch.zeros(64, 64),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(EllaError, match="adapter for Jina CLIP v2, which can't be used"):
        load_connector(tmp_path / "x.safetensors")


def test_heads_that_the_width_can_not_have(path):
    save_file(load_file(path), path, metadata={"heads": "7"})
    with pytest.raises(EllaError, match="asks for '7' attention heads, impossible for a width of"):
        load_connector(path)


def test_initial_weights_have_the_stated_statistics():
    torch.manual_seed(0)
    adapter = build_connector(LLMAdapterConfig(256, 512, 1, 1, max_tokens=256, pooled_dim=64))
    adapter.reset_parameters()
    for drawn in (
        adapter.input_position_embeddings,
        adapter.output_position_embeddings,
        adapter.compression_queries,
    ):
        assert drawn.std().item() == pytest.approx(1, rel=0.02)
        assert drawn.mean().item() == pytest.approx(0, abs=0.02)
    block = adapter.wide_attention_blocks[0]
    for attention in (block.attn, adapter.compression_attention, adapter.pooling_attention):
        bound = (6 / (4 * 512)) ** 0.5  # Xavier-uniform of the packed (3 * width, width)
        assert attention.to_q.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
        assert not attention.to_v.bias.any()
    for layer in (adapter.seq_projection, block.mlp[0], adapter.pooled_projection[4]):
        bound = layer.in_features**-0.5  # torch's default
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
