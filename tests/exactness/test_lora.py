"""LoRA on MODEL, and LoRA as hooks on a conditioning."""

import pytest

from support.exactness import NEGATIVE, POSITIVE

LORA = {"lora_name": "lora.safetensors", "strength_model": 0.8}
PAIR = ("positive", "negative")


def lora(graph, model):
    """Load LoRA with a real CLIP."""
    clip = graph.add("CLIPLoader", clip_name="clip_l.safetensors")
    return graph.add("LoraLoader", model=model, clip=clip, **LORA)


def test_before_and_after_ella_are_the_same(exact, new_graph):
    graph = new_graph()
    before = graph.condition(POSITIVE, NEGATIVE, model=lora(graph, graph.checkpoint))
    after = lora(graph, graph.conditioning)
    models = [before, after, graph.conditioning]
    saved = [graph.save(graph.sample(record=False, model=model)) for model in models]
    names = [graph.sampled(model=model) for model in models[:2]]
    result = exact.run(graph)
    for name in names:
        exact.check(name)
    before, after, without = exact.latents(result, saved)
    assert (before - after).abs().max() == 0.0
    assert (before - without).abs().max() > 0.01


def hooked(graph, hooks):
    """Positive and negative with hooks."""
    pair = {"positive_NEW": graph.conditioning[1], "negative_NEW": graph.conditioning[2]}
    made = graph.add("PairConditioningSetProperties", hooks=hooks, **pair)
    return {"positive": made[0], "negative": made[1]}


@pytest.mark.parametrize("node", ["CreateHookLora", "CreateHookLoraModelOnly"])
def test_lora_as_hook(exact, new_graph, node):
    graph = new_graph()
    hooks = graph.add(node, **LORA)
    plain = graph.add("LoraLoaderModelOnly", model=graph.conditioning, **LORA)
    model, name = graph.recorder()
    nodes = [
        graph.sample(record=False, model=model, **hooked(graph, hooks)),
        graph.sample(record=False, model=plain),
        graph.sample(record=False),
    ]
    saved = [graph.save(node) for node in nodes]
    result = exact.run(graph)
    exact.check(name)
    hook, plain, without = exact.latents(result, saved)
    assert (hook - plain).abs().max() == 0.0
    assert (hook - without).abs().max() > 0.01


def test_hook_on_one_conditioning_only(exact, new_graph):
    """Positive and negative are then sampled with different weights, in a call each."""
    graph = new_graph()
    hooks = graph.add("CreateHookLora", **LORA)
    positive = graph.add("ConditioningSetProperties", cond_NEW=graph.conditioning[1], hooks=hooks)
    name = graph.sampled(positive=positive, scheduler="karras")
    exact.run(graph)
    rows = exact.check(name)
    assert len({row.call for row in rows}) == len(rows) == 12


def test_keyframes(exact, new_graph):
    """A LoRA for the first half of the schedule is neither a whole one nor none."""
    graph = new_graph()
    frames = graph.add("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0)
    frames = graph.add(
        "CreateHookKeyframe", strength_mult=0.0, start_percent=0.5, prev_hook_kf=frames
    )
    whole = graph.add("CreateHookLora", **LORA)
    half = graph.add("SetHookKeyframes", hooks=whole, hook_kf=frames)
    model, name = graph.recorder()
    nodes = [
        graph.sample(record=False, model=model, **hooked(graph, half)),
        graph.sample(record=False, **hooked(graph, whole)),
        graph.sample(record=False),
    ]
    saved = [graph.save(node) for node in nodes]
    result = exact.run(graph)
    exact.check(name)
    half, whole, none = exact.latents(result, saved)
    assert (half - whole).abs().max() > 0.01
    assert (half - none).abs().max() > 0.01


def test_another_checkpoint_as_hook(exact, new_graph):
    """At full strength it is that checkpoint."""
    graph = new_graph()
    hooks = graph.add("CreateHookModelAsLoraModelOnly", ckpt_name="other.safetensors")
    checkpoint = graph.add("CheckpointLoaderSimple", ckpt_name="other.safetensors")
    other = graph.add("ELLAPatchModel", model=checkpoint)
    model, name = graph.recorder()
    nodes = [
        graph.sample(record=False, model=model, **hooked(graph, hooks)),
        graph.sample(record=False, model=other),
        graph.sample(record=False),
    ]
    saved = [graph.save(node) for node in nodes]
    result = exact.run(graph)
    exact.check(name)
    hook, other, without = exact.latents(result, saved)
    assert (hook - other).abs().max() < 1e-3 * other.abs().max()
    assert (hook - without).abs().max() > 0.01
