"""Contexts of a connector: the passes that they take, and how long they are kept."""

import gc

import pytest
import torch

from ella_core.config import LLMAdapterConfig, MLPConfig, ResamplerConfig, TimeConfig
from ella_core.connectors import build_connector
from ella_core.store import ContextStore
from ella_core.text_encoders import EncodedPrompt

CPU = torch.device("cpu")
TSC = ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=8, time=TimeConfig(32, 40))
NO_TIME = ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=8, time=None)
MLP = MLPConfig(llm_dim=48, width=64)
POOLED = ResamplerConfig(48, 64, 1, num_latents=8, time=TimeConfig(32, 40), pooled_dim=24)
ADAPTER = LLMAdapterConfig(48, 64, 1, 1, heads=4, max_tokens=16, num_latents=8, pooled_dim=24)


def make(config=TSC, device=None, room=0):
    torch.manual_seed(0)
    connector = build_connector(config).eval()
    connector.reset_parameters()
    return ContextStore(connector, device, room)


def prompt(length):
    return EncodedPrompt(torch.randn(1, length, 48), tokens=length)


def count_passes(store):
    """(prompts, LLM tokens, timesteps) of each pass, as they come."""
    passes = []
    store.connector.register_forward_pre_hook(
        lambda _, inputs: passes.append((len(inputs[0]), inputs[0].shape[2], len(inputs[1])))
    )
    return passes


def test_prompts_prepared_together_have_the_contexts_that_each_has_alone():
    store, prompts = make(), [prompt(n) for n in (3, 11, 1)]
    store.prepare(prompts, [999, 500, 0], CPU)
    for each in prompts:
        alone = store.connector(each.features, torch.tensor([999, 500, 0]))
        found = torch.cat([store.context(each, timestep) for timestep in (999, 500, 0)])
        assert found.shape == (3, 8, 64)
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [MLP, NO_TIME])
def test_a_connector_without_timestep_has_one_context_for_all(config):
    store, prompts = make(config), [prompt(3), prompt(11)]
    passes = count_passes(store)
    store.prepare(prompts, [999, 500], CPU)
    assert [timesteps for _, _, timesteps in passes] == [1]
    for each, length in zip(prompts, (3, 11), strict=True):
        found = store.context(each, 7)
        assert store.context(each, 8) is found
        assert found.shape == (1, length if config is MLP else 8, 64)
        alone = store.connector(each.features, torch.tensor([7]))
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_a_long_schedule_is_computed_in_several_passes():
    store, prompts = make(), [prompt(2000), prompt(1)]
    passes = count_passes(store)
    store.prepare(prompts, range(30), CPU)
    assert [timesteps for _, _, timesteps in passes] == [4] * 7 + [2]  # 2 x 2008 x 4 rows
    alone = store.connector(prompts[0].features, torch.tensor([29]))
    torch.testing.assert_close(store.context(prompts[0], 29), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("latents", "timesteps"), [(64, 16), (1984, 4)])
def test_a_pass_counts_the_connectors_own_latents(latents, timesteps):
    config = ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=latents, time=None)
    store = make(config)
    store.connector.timestep_aware = True  # so that timesteps are kept apart
    passes = count_passes(store)
    store.prepare([prompt(960 if latents == 64 else 1984)], range(16), CPU)
    assert {timesteps for _, _, timesteps in passes} == {timesteps}


def test_what_was_computed_is_told():
    store, prompts, seen = make(), [prompt(2000), prompt(1)], []
    passes = store.prepare(prompts, range(30), CPU, lambda *states: seen.append(states))
    assert (passes.count, passes.timesteps) == (8, frozenset(range(30)))
    assert seen == [(done, 8) for done in range(9)]
    assert passes.seconds > 0
    store.prepare(prompts[:1], [30], CPU)
    passes = store.prepare(prompts, [30, 3], CPU)
    assert (passes.count, passes.timesteps) == (1, {30})  # the second prompt's
    assert store.prepare(prompts, [30, 3], CPU).count == 0


def test_a_prompt_that_occurs_twice_is_computed_once():
    store, each = make(), prompt(3)
    passes = count_passes(store)
    store.prepare([each, each], [1, 1], CPU)
    assert passes == [(1, 3, 1)]


def test_a_huge_prompt_goes_through_by_itself():
    store = make()
    passes = count_passes(store)
    store.prepare([prompt(9000), prompt(1)], [1, 2], CPU)
    assert passes == [(1, 9000, 1), (1, 9000, 1), (1, 1, 2)]


def test_prompts_of_equal_numbers_are_kept_apart():
    """Nor are two readings of one text the same: their features may differ in the last digit."""
    store, a, b = make(), prompt(3), prompt(3)
    store.prepare([a], [1], CPU)
    assert store.has([a], [1])
    assert not store.has([b], [1])
    assert not store.has([a, b], [1])
    assert not store.has([a], [1, 2])


def test_contexts_go_with_their_prompt():
    store, gone, stays = make(), prompt(3), prompt(3)
    store.prepare([gone, stays], [1, 2], CPU)
    assert len(store._kept) == 2
    del gone
    gc.collect()
    assert len(store._kept) == 1
    assert store.has([stays], [1, 2])


def test_contexts_are_kept_where_they_are_wanted():
    store, each = make(device=torch.device("meta")), prompt(3)
    store.prepare([each], [1], CPU)
    assert store.context(each, 1).device.type == "meta"


def test_pooled_embeddings_are_kept_beside_the_contexts():
    store, prompts = make(POOLED), [prompt(3), prompt(11)]
    store.prepare(prompts, [999, 0], CPU)
    for each in prompts:
        for timestep in (999, 0):
            pooled = store.pooled(each, timestep)
            assert pooled.shape == (1, 24)
            expected = store.connector.pooled(store.context(each, timestep))
            torch.testing.assert_close(pooled, expected)


def test_chunks_are_read_one_by_one_and_follow_each_other():
    store = make(ADAPTER)
    features, mask = torch.randn(2, 9, 48), torch.arange(9) < torch.tensor([[9], [4]])
    chunked, other = EncodedPrompt(features, mask=mask, tokens=13), prompt(5)
    passes = count_passes(store)
    store.prepare([chunked, other], [500], CPU)
    assert [count for count, _, _ in passes] == [3]
    alone = [
        store.connector(features[i : i + 1, :n], torch.tensor([1])) for i, n in ((0, 9), (1, 4))
    ]
    torch.testing.assert_close(store.context(chunked, 500), torch.cat(alone, dim=1))
    torch.testing.assert_close(store.pooled(chunked, 500), store.connector.pooled(alone[0]))
    assert store.context(other, 500).shape == (1, 8, 64)


def test_what_was_filled_up_is_not_read():
    store = make(ADAPTER)
    features, mask = torch.randn(1, 9, 48), torch.arange(9)[None] >= 5
    padded = EncodedPrompt(features, mask=mask, tokens=4)
    store.prepare([padded], [500], CPU)
    changed = features.clone()
    changed[:, :5] = 100
    expected = store.connector(changed, torch.tensor([1]), mask)
    torch.testing.assert_close(store.context(padded, 500), expected)


@pytest.mark.parametrize("config", [TSC, POOLED])
def test_contexts_are_used_elsewhere_within_the_room(config):
    gpu, each, other = torch.device("meta"), prompt(3), prompt(5)
    bytes_of_two = 2 * 4 * (8 * 64 + (24 if config is POOLED else 0))
    store = make(config, CPU, bytes_of_two)
    store.prepare([each, other], [1, 2], CPU)
    store.bring([each, other], [1, 2], gpu)
    where = [store.context(p, t).device.type for p in (each, other) for t in (1, 2)]
    assert where == ["meta", "meta", "cpu", "cpu"]
    assert store.context(other, 1, gpu).device == gpu
    if config is POOLED:
        assert store.pooled(each, 1).device == store.pooled(other, 1, gpu).device == gpu
    store.settle()
    alone = store.connector(each.features, torch.tensor([2]))
    torch.testing.assert_close(store.context(each, 2), alone, rtol=1e-4, atol=1e-5)
