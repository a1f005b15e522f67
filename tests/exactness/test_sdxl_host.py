"""SDXL among the host's other nodes: LoRA, context windows; and a connector that was trained."""

from dataclasses import replace

import pytest
import torch

from bootstrap import ROOT
from ella_core.config import TimeConfig
from ella_core.training.config_file import load_config
from ella_core.training.export import export
from support import reference
from support.host import LLM_DIM
from support.models import write_lora
from support.sdxl import (
    ELLA_SDXL,
    NEGATIVE,
    POSITIVE,
    SDXLGraph,
    adapted,
    check,
    run,
)
from tiny_models import draw_connector

LORA = "sdxl-lora.safetensors"


@pytest.fixture
def lora(host):
    file = host.models / "loras" / LORA
    write_lora(file, block=4, context_dim=2048)
    yield {"lora_name": LORA, "strength_model": 10.0}
    file.unlink()


def test_a_lora_before_and_after_ella_is_the_same(host, prompts, lora):
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    before = graph.condition(
        POSITIVE, NEGATIVE, model=graph.add("LoraLoaderModelOnly", model=graph.checkpoint, **lora)
    )
    after = graph.add("LoraLoaderModelOnly", model=graph.conditioning, **lora)
    models = [before, after, graph.conditioning]
    saved = [graph.save(graph.sample(record=False, model=model, steps=2)) for model in models]
    names = [graph.recorded(model=model, steps=2) for model in models[:2]]
    result = run(host, graph)
    for name in names:
        check(host, name, [adapted(prompts[POSITIVE]), adapted(prompts[NEGATIVE])])
    before, after, without = (host.latent(result, node.id) for node in saved)
    assert torch.equal(before, after)
    assert not torch.equal(before, without)


def test_context_windows(host, prompts):
    """Overlapping windows of 4 over a batch of 6; the embedding depends on the timestep."""
    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    # On newer ComfyUI: nothing but the windows, and no further row at the start of one.
    newer = {"freenoise": False, "split_conds_to_windows": False, "causal_window_fix": False}
    newer |= {"cond_retain_index_list": "", "latent_retain_index_list": ""}
    model = graph.add(
        "ContextWindowsManual",
        model=graph.conditioning,
        context_length=4,
        context_overlap=2,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=0,
        **newer,
    )
    # Equally many steps and latents: ComfyUI compares the schedule's sigmas with the batch's.
    name = graph.recorded(model=model, batch=6, steps=5, scheduler="karras")
    run(host, graph)
    found = check(host, name, [prompts[POSITIVE].ella, prompts[NEGATIVE].ella], samples=4)
    assert len(found) == 5 * 2 * 2  # steps, windows, sides


def test_what_was_trained_by_the_preset_for_sdxl(host, prompts, tmp_path):
    """A checkpoint of the preset's connector, fewer and narrower; exported in 16 bit."""
    config = load_config(ROOT / "configs/sdxl-flan-t5-xl-512.yaml").connector_config
    small = replace(config, llm_dim=LLM_DIM, layers=1, num_latents=8, time=TimeConfig(32, 40))
    draw_connector(tmp_path / "checkpoints/step-00000001/connector.safetensors", small)
    file = export(tmp_path, host.models / "ella/trained.safetensors", half=True)
    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    graph.nodes[graph.ella.id]["inputs"]["ella_name"] = file.name
    name = graph.recorded()
    run(host, graph)

    def of(text):
        def at(timestep):
            with torch.no_grad():
                features = host.reference(text).features
                context = reference.tsc(weights, features, timestep)
                return context, reference.pooled(weights, context)

        weights = prompts[text].weights("ella", file.name)
        return at

    check(host, name, [of(POSITIVE), of(NEGATIVE)])
    file.unlink()
