"""A run, an interruption or a clone leaves nothing behind."""

import requests
import torch

from support.exactness import NEGATIVE, POSITIVE

STEPS = 12


def ella_run(exact, new_graph):
    graph = new_graph()
    model, name = graph.recorder()
    sampled = graph.sample(record=False, model=model, scheduler="karras", steps=STEPS)
    return graph, name, graph.save(sampled)


def plain_run(exact, new_graph):
    """The same checkpoint without ELLA; recorded, so that ComfyUI does not cache it."""
    graph = new_graph()
    model, _ = graph.recorder(graph.checkpoint)
    pair = {"positive": graph.plain(1), "negative": graph.plain(2)}
    saved = graph.save(graph.sample(record=False, model=model, **pair))
    (latent,) = exact.latents(exact.run(graph), [saved])
    return latent


def test_an_interrupted_run(exact, new_graph):
    plain = plain_run(exact, new_graph)
    graph, name, saved = ella_run(exact, new_graph)
    (alone,) = exact.latents(exact.run(graph), [saved])

    def interrupt(_node, done, _of):
        if done == 1:
            requests.post(f"{exact.host.server.address}/interrupt", timeout=10)

    graph, name, _ = ella_run(exact, new_graph)
    result = exact.host.run(graph, interrupt)
    assert result.error is not None
    assert "exception_message" not in result.error  # interrupted, not failed
    assert 1 <= len(exact.host.records(name)) < STEPS

    assert torch.equal(plain_run(exact, new_graph), plain)
    graph, name, saved = ella_run(exact, new_graph)
    (again,) = exact.latents(exact.run(graph), [saved])
    exact.check(name)
    assert torch.equal(again, alone)


def test_patched_twice_and_cloned(exact, new_graph):
    """Another prompt's ELLA, ELLA Patch Model and a clone behind ELLA change no bit."""
    graph = new_graph()
    twice = graph.condition("A blue dog.", "", model=graph.conditioning)
    patched = graph.add("ELLAPatchModel", model=graph.add("ELLAPatchModel", model=twice))
    cloned = graph.add(
        "LoraLoaderModelOnly",
        model=graph.conditioning,
        lora_name="lora.safetensors",
        strength_model=0.0,
    )
    models = [graph.conditioning, twice, patched, cloned]
    saved = [graph.save(graph.sample(record=False, model=model)) for model in models]
    names = [graph.sampled(model=model) for model in models]
    once, *others = exact.latents(exact.run(graph), saved)
    for other in others:
        assert (once - other).abs().max() == 0.0
    for name in names:
        exact.check(name, [POSITIVE, NEGATIVE])
