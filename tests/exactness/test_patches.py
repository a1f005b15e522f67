"""Patches of MODEL before and after ELLA: the rows stay exact, the order makes no difference."""

import pytest

from support.exactness import NEGATIVE, POSITIVE

DEEP = "deep.safetensors"  # two levels, which FreeU needs
EVERY_CALL = [{0: POSITIVE, 1: NEGATIVE}]
PAG = ("PerturbedAttentionGuidance", {"scale": 3.0})
SAG = ("SelfAttentionGuidance", {"scale": 0.5})
RESCALE = ("RescaleCFG", {"multiplier": 0.7})
FREEU = ("FreeU_V2", {})
PATCHES = {
    "RescaleCFG": ([RESCALE], EVERY_CALL),
    "FreeU": ([("FreeU", {})], EVERY_CALL),
    "FreeU_V2": ([FREEU], EVERY_CALL),
    "PerturbedAttentionGuidance": ([PAG], [*EVERY_CALL, {0: POSITIVE}]),
    "SelfAttentionGuidance": ([SAG], [*EVERY_CALL, {0: NEGATIVE}]),
    "PAG and SAG": ([PAG, SAG], [*EVERY_CALL, {0: POSITIVE}, {0: NEGATIVE}]),
    "a chain": ([FREEU, RESCALE, PAG], [*EVERY_CALL, {0: POSITIVE}]),
}


def patched(graph, model, patches):
    for node, inputs in patches:
        model = graph.add(node, model=model, **inputs)
    return model


@pytest.mark.parametrize(("patches", "calls"), PATCHES.values(), ids=PATCHES.keys())
def test_patches(exact, new_graph, patches, calls):
    graph = new_graph(ckpt=DEEP)
    before = graph.condition(POSITIVE, NEGATIVE, model=patched(graph, graph.checkpoint, patches))
    after = patched(graph, graph.conditioning, patches)
    model, name = graph.recorder(after)
    models = [before, after, graph.conditioning]
    changes = {"record": False, "scheduler": "karras", "steps": 4}
    saved = [graph.save(graph.sample(model=m, **changes)) for m in models]
    graph.save(graph.sample(model=model, **changes))
    result = exact.run(graph)
    exact.check_cycle(name, calls)
    before, after, without = exact.latents(result, saved)
    assert (before - after).abs().max() == 0.0
    assert (before - without).abs().max() > 0.01


@pytest.mark.parametrize("first", [True, False])
def test_hypertile(exact, new_graph, first):
    """It draws its tiles at random, so two runs can't be compared with one another."""
    graph = new_graph(ckpt=DEEP)
    tiles = [("HyperTile", {"tile_size": 32, "swap_size": 1})]
    if first:
        model = graph.condition(POSITIVE, NEGATIVE, model=patched(graph, graph.checkpoint, tiles))
    else:
        model = patched(graph, graph.conditioning, tiles)
    name = graph.sampled(model=model, scheduler="karras")
    exact.run(graph)
    exact.check(name)


@pytest.mark.parametrize("first", [True, False])
def test_torch_compile(exact, new_graph, first):
    """Inductor, the node's default. ELLA stays outside of what is compiled."""
    graph = new_graph()
    plain = graph.sample(record=False, steps=3)
    seen = graph.add("TestCompiledGraphs", after=plain)
    start = graph.checkpoint if first else graph.conditioning
    model = graph.add("TorchCompileModel", model=start)
    if first:
        model = graph.condition(POSITIVE, NEGATIVE, model=model)
    recorded, name = graph.recorder(model)
    nothing = graph.add("LatentMultiply", samples=seen, multiplier=0.0)  # ties the order down
    compiled = graph.sample(record=False, model=recorded, steps=3, latent_image=nothing)
    then = graph.add("TestCompiledGraphs", after=compiled)
    saved = [graph.save(node) for node in (plain, compiled)]
    result = exact.run(graph)
    exact.check(name)
    assert result.outputs[then.id]["graphs"][0] > result.outputs[seen.id]["graphs"][0]
    a, b = exact.latents(result, saved)
    assert (a - b).abs().max() < 1e-3 * a.abs().max()
