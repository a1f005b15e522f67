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
    """With the one of the node's two backends that needs no C++ compiler."""
    graph = new_graph()
    start = graph.checkpoint if first else graph.conditioning
    model = graph.add("TorchCompileModel", model=start, backend="cudagraphs")
    if first:
        model = graph.condition(POSITIVE, NEGATIVE, model=model)
    recorded, name = graph.recorder(model)
    nodes = [graph.sample(record=False, steps=3, model=m) for m in (recorded, graph.conditioning)]
    count = graph.add("TestCompiledGraphs", after=nodes[0])
    saved = [graph.save(node) for node in nodes]
    result = exact.run(graph)
    exact.check(name)
    assert result.outputs[count.id]["graphs"][0] > 0
    compiled, plain = exact.latents(result, saved)
    assert (compiled - plain).abs().max() < 1e-3 * plain.abs().max()
