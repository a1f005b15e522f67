"""Architecture, parity with the reference implementation, initialisation."""

import ast
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ella_core.checkpoint import load_connector, save_connector
from ella_core.config import PAPER_CONNECTORS, MLPConfig, ResamplerConfig, TimeConfig
from ella_core.connectors import build_connector
from ella_core.connectors.timestep import sinusoid
from support import golden_weights
from support.models import write_tsc
from support.reference import pooled, tsc

GOLDEN = Path(__file__).parents[1] / "data/official_tsc_outputs.safetensors"


def golden_keys():
    with safe_open(GOLDEN, "pt") as file:
        return list(file.keys())


@pytest.mark.parametrize("key", golden_keys())
def test_agrees_with_the_reference_implementation(key, tmp_path):
    with safe_open(GOLDEN, "pt") as file:
        expected, dims = file.get_tensor(key), file.metadata()
    tag, length, batch, seed, timestep = key.split("/")
    dims = ast.literal_eval(dims.get(tag, "{}"))
    write_tsc(tmp_path / "tsc.safetensors", **dims)
    connector = load_connector(tmp_path / "tsc.safetensors")
    features = golden_weights.llm_features(
        int(batch[1:]), int(length[1:]), dims.get("llm_dim", 2048), int(seed[4:])
    )
    timesteps = torch.full((len(features),), int(timestep[1:]))
    tokens = connector(torch.from_numpy(features), timesteps)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-4)


def test_agrees_with_plain_functions(tmp_path):
    dims = {"width": 64, "layers": 3, "num_latents": 8, "llm_dim": 48, "time_channels": 32}
    weights = write_tsc(tmp_path / "tsc.safetensors", time_dim=40, **dims)
    connector = load_connector(tmp_path / "tsc.safetensors")
    features = torch.from_numpy(golden_weights.llm_features(1, 21, 48))
    for timestep in (0, 1, 333, 999):
        tokens = connector(features, torch.tensor([timestep]))
        torch.testing.assert_close(tokens, tsc(weights, features, timestep), rtol=0, atol=1e-4)


@pytest.mark.parametrize("context_dim", [None, 96])
def test_output_layer_and_pool_agree_with_plain_functions(context_dim, tmp_path):
    config = ResamplerConfig(
        48, 64, 3, num_latents=8, time=TimeConfig(32, 40), context_dim=context_dim, pooled_dim=56
    )
    connector = random_connector(config)
    save_connector(connector, tmp_path / "x.safetensors")
    weights = load_file(tmp_path / "x.safetensors")
    features = torch.from_numpy(golden_weights.llm_features(1, 21, 48))
    for timestep in (0, 333, 999):
        context = connector(features, torch.tensor([timestep]))
        assert context.shape == (1, 8, context_dim or 64)
        torch.testing.assert_close(context, tsc(weights, features, timestep), rtol=0, atol=1e-4)
        expected = pooled(weights, context)
        torch.testing.assert_close(connector.pooled(context), expected, rtol=0, atol=1e-4)
    many = connector(features, torch.tensor([0, 500]))[:, None].expand(2, 3, -1, -1)
    assert connector.pooled(many).shape == (2, 3, 56)


def test_parameter_counts_of_the_output_layer_and_the_pool():
    def count(config):
        with torch.device("meta"):
            return sum(p.numel() for p in build_connector(config).parameters())

    wide = 768 * 2048 + 2048 + 2 * 2048  # linear, layer norm
    pool = 2048 + 4 * (2048 * 2048 + 2048) + 2048 * 1280 + 1280  # query, attention, linear
    assert count(ResamplerConfig(context_dim=2048)) == 66_820_608 + wide
    assert count(ResamplerConfig(context_dim=2048, pooled_dim=1280)) == 66_820_608 + wide + pool


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp", 2_164_224),
        ("resampler-1", 8_712_192),
        ("resampler-6", 44_159_232),
        ("adaln-zero", 73_907_712),
        ("adaln", 66_820_608),
    ],
)
def test_parameter_counts_of_the_papers_table_6(name, parameters):
    with torch.device("meta"):
        connector = build_connector(PAPER_CONNECTORS[name])
    assert sum(p.numel() for p in connector.parameters()) == parameters


@pytest.mark.parametrize("time", [None, TimeConfig(32, 64), TimeConfig(32, 64, gated=True)])
def test_a_batch_of_one_is_broadcast(time):
    config = ResamplerConfig(llm_dim=48, width=64, layers=2, num_latents=8, time=time)
    connector = random_connector(config)
    features, timesteps = torch.randn(3, 5, 48), torch.tensor([0, 500, 999])
    many_timesteps = connector(features[:1], timesteps)
    many_prompts = connector(features, timesteps[1:2])
    for i in range(3):
        one = connector(features[:1], timesteps[i : i + 1])
        torch.testing.assert_close(many_timesteps[i : i + 1], one)
        one = connector(features[i : i + 1], timesteps[1:2])
        torch.testing.assert_close(many_prompts[i : i + 1], one)
    assert time is None or not torch.allclose(many_timesteps[0], many_timesteps[2])


@pytest.mark.parametrize("time", [None, TimeConfig(32, 64), TimeConfig(32, 64, gated=True)])
def test_prompts_of_different_length_at_several_timesteps_in_one_pass(time):
    """Each as if it were alone, whatever the shorter ones were filled up with."""
    config = ResamplerConfig(llm_dim=48, width=64, layers=2, num_latents=8, time=time)
    connector = random_connector(config)
    prompts, timesteps = [torch.randn(n, 48) for n in (1, 9, 5)], torch.tensor([0, 500, 999, 3])
    features, mask = torch.full((3, 1, 9, 48), 7.0), torch.zeros(3, 1, 9, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        features[i, 0, : len(prompt)], mask[i, 0, : len(prompt)] = prompt, True
    together = connector(features, timesteps, mask)
    assert together.shape == (3, 4, 8, 64)
    for i, prompt in enumerate(prompts):
        alone = connector(prompt[None], timesteps)
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-5)
    unmasked = connector(features, timesteps)
    assert not torch.allclose(together[0], unmasked[0], rtol=1e-2)


def test_mlp_keeps_the_number_of_tokens():
    connector = random_connector(MLPConfig(llm_dim=48, width=64))
    assert connector(torch.randn(1, 13, 48), torch.tensor([7])).shape == (1, 13, 64)


def test_sinusoid_puts_the_cosine_first_and_stays_exact_in_float32():
    out = sinusoid(torch.tensor([0, 999]), 4)
    expected = torch.tensor([[1, 1, 0, 0]]).float()
    torch.testing.assert_close(out[:1], expected)
    angles = torch.tensor([999.0, 9.99])
    torch.testing.assert_close(out[1], torch.cat([angles.cos(), angles.sin()]))


def test_initial_weights_have_the_stated_statistics():
    torch.manual_seed(0)
    connector = build_connector(ResamplerConfig(layers=1, time=TimeConfig(gated=True)))
    connector.reset_parameters()
    width, block = 768, connector.perceiver_blocks[0]
    assert connector.latents.std().item() == pytest.approx(width**-0.5, rel=0.02)
    assert connector.latents.mean().item() == pytest.approx(0, abs=1e-3)
    for layer in (block.attn.to_q, block.attn.to_k, block.attn.to_v):
        bound = (6 / (4 * width)) ** 0.5  # Xavier-uniform of the packed (3 * width, width)
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
        assert not layer.bias.any()
    for norm in (block.ln_1, block.ln_2, block.ln_ff):
        assert not norm.linear.weight.any()
        assert not norm.linear.bias.any()
    for layer in (connector.proj_in, block.mlp.c_fc, block.mlp.c_proj):
        bound = layer.in_features**-0.5  # torch's default
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


def test_adaln_zero_blocks_start_as_the_identity():
    config = ResamplerConfig(
        llm_dim=48, width=64, layers=3, num_latents=8, time=TimeConfig(32, 64, gated=True)
    )
    connector = build_connector(config)
    connector.reset_parameters()
    latents = torch.randn(2, 8, 64)
    for block in connector.perceiver_blocks:
        assert torch.equal(block(latents, torch.randn(2, 5, 64), torch.randn(2, 64)), latents)


def random_connector(config):
    torch.manual_seed(0)
    connector = build_connector(config)
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return connector.requires_grad_(False)
