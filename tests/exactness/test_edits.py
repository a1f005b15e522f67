"""Edits of a conditioning's tensor by other nodes hold at every model call's own timestep."""

import pytest
import torch

from support.exactness import NEGATIVE, POSITIVE, TOLERANCE, WIDTH
from support.host import plain_tokens

OTHER = "A blue dog."
BATCH = (POSITIVE, OTHER)


def edited(graph, how, repeat=1, keep_options=True):
    other = graph.condition(OTHER, "", model=graph.conditioning)
    sides = {"conditioning_1": graph.conditioning[1], "conditioning_2": other[1]}
    given = {"how": how, "repeat": repeat, "keep_options": keep_options}
    return graph.add("TestEditConditioning", **sides, **given)


EDITS = {
    "batch": (BATCH, WIDTH),
    "permuted": (BATCH, WIDTH),
    "sliced": (BATCH, WIDTH),
    "fp16": (BATCH, WIDTH),
    "fp16 in numpy": ((POSITIVE, POSITIVE), WIDTH),
    "padded": (BATCH, 77),
    "in a buffer": (BATCH, 77),
}
# Behind numpy and without options nothing tells of ELLA any more.
CASES = [(how, keep) for how in EDITS for keep in (True, False) if keep or "numpy" not in how]


@pytest.mark.parametrize(("how", "keep_options"), CASES)
def test_a_prompt_for_each_picture(exact, new_graph, how, keep_options):
    texts, length = EDITS[how]
    graph = new_graph()
    positive = edited(graph, how, keep_options=keep_options)
    name = graph.sampled(positive=positive, batch=2, scheduler="karras", sampler_name="heun")
    exact.run(graph)
    seen = set()
    for row in exact.rows(name):
        seen.add(row.index)
        for sample, text in zip(row.tokens, (texts, (NEGATIVE,) * 2)[row.index], strict=True):
            exact.assert_exact(sample[None, :WIDTH], text, row.timestep)
            assert not sample[WIDTH:].any()
        assert row.tokens.shape[1] == (length, WIDTH)[row.index]
    assert seen == {0, 1}


def test_a_prompt_for_each_frame_in_context_windows(exact, new_graph):
    """8 frames of two prompts in turn, in windows of 4 that begin at even frames.

    ComfyUI 0.33 puts the frame before a window in front of it.
    """
    graph = new_graph()
    windows = {"context_length": 4, "context_overlap": 2, "dim": 0}
    model = graph.add("ContextWindowsManual", model=graph.conditioning, **windows)
    positive = edited(graph, "batch", repeat=4)
    changes = {"batch": 8, "scheduler": "karras", "steps": 7}
    name = graph.sampled(model=model, positive=positive, **changes)
    exact.run(graph)
    for row in exact.rows(name):
        samples = len(row.tokens)
        texts = ((BATCH * samples)[-samples:], [NEGATIVE] * samples)[row.index]
        for sample, text in zip(row.tokens, texts, strict=True):
            exact.assert_exact(sample[None], text, row.timestep)


@pytest.mark.parametrize("ella", ["first", "second", "both"])
def test_conditioning_average(exact, new_graph, ella):
    """The average is Blend Embeds' at each timestep. ELLA's options are lost if it comes second."""
    graph = new_graph()
    other = graph.condition(OTHER, "", model=graph.conditioning)[1]
    plain = graph.plain(3)
    to, source = {
        "first": (graph.conditioning[1], plain),
        "second": (plain, graph.conditioning[1]),
        "both": (graph.conditioning[1], other),
    }[ella]
    strength = {"conditioning_to_strength": 0.25}
    average = graph.add(
        "ConditioningAverage", conditioning_to=to, conditioning_from=source, **strength
    )
    sampled = graph.sample(positive=average, scheduler="karras", sampler_name="heun")
    graph.save(sampled)
    result = exact.run(graph)
    assert sampled.id not in result.texts
    for row in exact.rows(graph.record):
        if row.index == 0:
            own, others = (exact.reference(text).at(row.timestep) for text in (POSITIVE, OTHER))
            static = plain_tokens(3)[0]
            to, source = {
                "first": (own, static[:WIDTH]),
                "second": (static, torch.nn.functional.pad(own, (0, 0, 0, 77 - WIDTH))),
                "both": (own, others),
            }[ella]
            expected = 0.25 * to + 0.75 * source
            assert (row.tokens[0] - expected).norm() < TOLERANCE * expected.norm()


def test_a_context_that_another_node_brings_into_cross_attention(exact, new_graph):
    """The picture is that of the conditioning itself, whatever the sampler's own prompt is."""
    graph = new_graph("sd15.safetensors")
    own = graph.add(
        "TestOwnCrossAttention", model=graph.conditioning, conditioning=graph.conditioning[1]
    )
    changes = {"record": False, "cfg": 1.0, "scheduler": "karras", "sampler_name": "dpm_2"}
    samples = [
        graph.sample(model=own, positive=graph.plain(1), **changes),
        graph.sample(model=own, positive=graph.conditioning[2], **changes),
        graph.sample(**changes),
        graph.sample(positive=graph.plain(1), **changes),
    ]
    saved = [graph.save(node) for node in samples]
    beside_plain, beside_ella, expected, plain = exact.latents(exact.run(graph), saved)
    assert (beside_plain - expected).abs().max() < 1e-5
    assert (beside_ella - expected).abs().max() < 1e-5
    assert (plain - expected).abs().max() > 0.01
