"""What a connector in ComfyUI keeps, and for how long."""

import gc
import pickle
import weakref

import pytest
import torch

import tiny_models
from ella_core.checkpoint import save_connector
from ella_core.config import MLPConfig, ResamplerConfig, TimeConfig
from ella_core.connectors import build_connector
from ella_core.errors import EllaError

CPU = torch.device("cpu")
TSC = ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=8, time=TimeConfig(32, 40))


@pytest.fixture
def make(tmp_path):
    tiny_models.import_host()
    from ella_core.comfy.sampling.connector import load_ella

    def make(config):
        torch.manual_seed(0)
        connector = build_connector(config)
        connector.reset_parameters()
        save_connector(connector, config, tmp_path / "x.safetensors")
        return load_ella(tmp_path / "x.safetensors")

    return make


def embeds(length):
    from ella_core.comfy.llm.model import LLMEmbeds

    part = ((torch.randn(1, length, 48), 1.0),)
    return LLMEmbeds(part, part, "llm")


def test_prompts_prepared_together_have_the_tokens_that_each_has_alone(make):
    ella, prompts = make(TSC), [embeds(n) for n in (3, 11, 1)]
    ella.prepare(prompts, [999, 500, 0], CPU)
    for prompt in prompts:
        ((features, _),) = prompt.parts
        alone = ella.connector(features, torch.tensor([999, 500, 0]))
        found = ella.tokens(prompt, [999, 500, 0], CPU)
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_an_mlp_gives_each_prompt_as_many_tokens_as_it_has(make):
    tiny = MLPConfig(llm_dim=48, width=64)
    ella, prompts = make(tiny), [embeds(3), embeds(11)]
    ella.prepare(prompts, [999, 500], CPU)
    for prompt, length in zip(prompts, (3, 11), strict=True):
        ((features, _),) = prompt.parts
        found = ella.tokens(prompt, [7], CPU)
        assert found.shape == (1, length, 64)
        torch.testing.assert_close(found, ella.connector(features, torch.tensor([7])))


def test_a_long_schedule_is_computed_in_several_passes(make):
    ella, prompts, passes = make(TSC), [embeds(2000), embeds(1)], []
    ella.connector.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[1])))
    ella.prepare(prompts, range(30), CPU)
    assert sum(passes) == 30
    assert max(passes) == 3  # 2 prompts x 3 timesteps x 2064 rows stay below 16k
    ((features, _),) = prompts[0].parts
    alone = ella.connector(features, torch.tensor([29]))
    torch.testing.assert_close(ella.tokens(prompts[0], [29], CPU), alone, rtol=1e-4, atol=1e-5)


def test_what_was_computed_is_told(make):
    ella, prompts, seen = make(TSC), [embeds(2000), embeds(1)], []
    passes = ella.prepare(prompts, range(30), CPU, lambda *states: seen.append(states))
    assert (passes.count, passes.timesteps) == (10, frozenset(range(30)))
    assert seen == [(done, 10) for done in range(11)]
    ella.prepare(prompts[:1], [30], CPU)
    passes = ella.prepare(prompts, [30, 3], CPU)
    assert (passes.count, passes.timesteps) == (1, {30})  # the second prompt's


def test_a_huge_prompt_goes_through_by_itself(make):
    ella, prompts, passes = make(TSC), [embeds(9000), embeds(1)], []
    ella.connector.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape[2]))
    ella.prepare(prompts, [1, 2], CPU)
    assert passes == [9000, 9000, 1]


def test_what_is_kept_goes_with_the_prompt(make):
    ella, gone, stays = make(TSC), embeds(3), embeds(3)
    ella.prepare([gone, stays], [1, 2], CPU)
    assert len(ella._kept) == 2
    del gone
    gc.collect()
    assert len(ella._kept) == 1
    assert ella.has(stays, [1, 2])


def test_what_other_nodes_do_to_a_conditioning_does_not_reach_what_is_kept(make):
    from ella_core.comfy.sampling.conditioning import make_conditioning

    ella, prompt = make(TSC), embeds(3)
    ((tokens, _),) = make_conditioning(ella, prompt)
    before = ella.tokens(prompt, [499], CPU).clone()
    tokens.mul_(0)
    assert torch.equal(ella.tokens(prompt, [499], CPU), before)


def test_a_conditioning_goes_without_the_garbage_collector(make):
    from ella_core.comfy.sampling.conditioning import make_conditioning
    from ella_core.comfy.sampling.prompt import prompts_in

    gc.disable()
    try:
        made = make_conditioning(make(TSC), embeds(3))
        (prompt,) = prompts_in(made[0][0])
        left = [weakref.ref(prompt), weakref.ref(prompt.ella.connector)]
        del prompt, made
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


def test_the_connector_of_another_pack(make):
    """The official pack's wire is called ELLA too."""
    from ella_core.comfy.sampling.conditioning import make_conditioning

    with pytest.raises(EllaError, match="got a dict, which another node pack made"):
        make_conditioning({}, embeds(3))


def test_a_conditioning_that_is_to_be_saved_says_why_it_cannot_be(make):
    ella = make(TSC)
    from ella_core.comfy.sampling.conditioning import make_conditioning

    with pytest.raises(EllaError, match=r"can't be saved .*Save the prompt's text"):
        pickle.dumps(make_conditioning(ella, embeds(3)))
