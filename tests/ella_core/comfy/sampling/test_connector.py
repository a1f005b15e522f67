"""A connector and its conditionings in ComfyUI's memory."""

import gc
import importlib.util
import pickle
import weakref

import pytest
import torch

import tiny_models
from ella_core.checkpoint import save_connector
from ella_core.config import (
    ConnectorMetadata,
    LLMAdapterConfig,
    LLMIdentity,
    ResamplerConfig,
    TimeConfig,
)
from ella_core.connectors import build_connector
from ella_core.errors import EllaError
from ella_core.text_encoders import EncodedPrompt

TSC = ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=8, time=TimeConfig(32, 40))


@pytest.fixture
def make(tmp_path):
    tiny_models.import_host()
    from ella_core.comfy.sampling.connector import load_ella

    def make(config):
        torch.manual_seed(0)
        connector = build_connector(config)
        connector.reset_parameters()
        save_connector(connector, tmp_path / "x.safetensors")
        return load_ella(tmp_path / "x.safetensors")

    return make


def embeds(length):
    from ella_core.comfy.llm.embeds import LLMEmbeds

    part = ((EncodedPrompt(torch.randn(1, length, 48), tokens=length), 1.0),)
    return LLMEmbeds(part, part, "llm")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, None),
        ({"llm": "FLAN-T5-XL"}, None),
        ({"llm_type": "t5", "llm_layers": 24, "llm_layer": -1}, None),
        ({"llm_type": "umt5", "llm_layers": 24, "llm_layer": 24}, None),  # as GGUF names both
        ({"llm_type": "llama"}, "is a t5 of 24 layers, but the connector .* another LLM, a llama"),
        ({"llm": "T5-XXL", "llm_layers": 12}, "was trained with T5-XXL, a LLM of 12 layers"),
        ({"llm_layer": 20}, "was trained on hidden layer 20 of its LLM"),
    ],
)
def test_another_llm_of_the_same_width(make, metadata, message):
    from ella_core.comfy.llm.embeds import LLMEmbeds
    from ella_core.comfy.sampling.connector import check_features

    ella = make(TSC)
    ella.connector.metadata = ConnectorMetadata(**metadata)
    prompt = EncodedPrompt(torch.randn(1, 3, 48), LLMIdentity("t5", 24), tokens=3)
    read = LLMEmbeds(((prompt, 1.0),), ((prompt, 1.0),), "llm")
    if message is None:
        check_features(ella, read)
    else:
        with pytest.raises(EllaError, match=message):
            check_features(ella, read)


def condition(ella, prompt):
    from ella_core.comfy.editor.report import Report
    from ella_core.comfy.sampling.conditioning import make_conditioning

    return make_conditioning(ella, prompt, None, Report(None, []))


def test_what_other_nodes_do_to_a_conditioning_does_not_reach_what_is_kept(make):
    ella, prompt = make(TSC), embeds(3)
    ((context, _),) = condition(ella, prompt)
    ((part, _),) = prompt.parts
    before = ella.store.context(part, 499).clone()
    context.mul_(0)
    assert torch.equal(ella.store.context(part, 499), before)


def test_a_conditioning_goes_without_the_garbage_collector(make):
    from ella_core.comfy.sampling.context import prompts_of

    gc.disable()
    try:
        made = condition(make(TSC), embeds(3))
        (prompt,) = prompts_of(made[0][0])
        left = [weakref.ref(prompt), weakref.ref(prompt.ella.connector)]
        del prompt, made
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


def test_the_connector_of_another_pack(make):
    """The official pack's wire is called ELLA too."""
    with pytest.raises(EllaError, match="got a dict, which another node pack made"):
        condition({}, embeds(3))


def test_a_conditioning_that_is_to_be_saved_says_why_it_cannot_be(make):
    ella = make(TSC)
    with pytest.raises(EllaError, match=r"can't be saved .*Save the prompt's text"):
        pickle.dumps(condition(ella, embeds(3)))


@pytest.mark.parametrize(
    "config", [TSC, LLMAdapterConfig(48, 64, 1, 1, max_tokens=8, num_latents=8, pooled_dim=40)]
)
def test_comfyuis_cache_knows_how_much_memory_a_connector_takes(make, config):
    ella = make(config)
    assert ella.get_ram_usage() == sum(t.nbytes for t in ella.connector.state_dict().values())


def test_a_connector_is_loaded_as_comfyuis_own_models_are(make, monkeypatch):
    """With dynamic VRAM, where ComfyUI has it and a GPU."""
    from comfy import model_patcher

    from ella_core.comfy import memory

    core = getattr(model_patcher, "ModelPatcherDynamic", model_patcher.ModelPatcher)
    monkeypatch.setattr(model_patcher, "CoreModelPatcher", core, raising=False)
    spec = importlib.util.spec_from_file_location("memory_with_a_gpu", memory.__file__)
    with_a_gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(with_a_gpu)
    assert issubclass(with_a_gpu.SharedPatcher, core)
