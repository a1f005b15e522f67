"""More prompts, weaker and stronger, blended, in regions, and beside CLIP."""

import pytest
import torch
from safetensors.torch import load_file

from support.host import EllaGraph, plain_tokens, relative_error, rows

TOLERANCE = 1e-3  # relative, L2


def run(host, graph):
    result = host.run(graph)
    assert result.error is None, result.error
    records = host.records(graph.record)
    assert records
    return [(record, record["timesteps"][0].item()) for record in records]


def conditioning(graph, text, **changes):
    inputs = {"ella": graph.ella, "embeds": graph.encode(text), "strength": 1.0, **changes}
    return graph.add("ELLAConditioning", **inputs)


def test_ella_conditioning_on_a_model_from_ella_patch_model(host):
    graph = EllaGraph()
    model = graph.add("ELLAPatchModel", model=graph.checkpoint)
    positive, negative = conditioning(graph, "A red cat."), conditioning(graph, "blurry")
    graph.save(graph.sample(model=model, positive=positive, negative=negative))
    for record, step in run(host, graph):
        for index, text in enumerate(("A red cat.", "blurry")):
            (row,) = rows(record, index)
            assert relative_error(row, host.reference(text).at(step)) < TOLERANCE


def test_a_negative_that_is_left_open_is_the_empty_prompt(host):
    graph = EllaGraph("A red cat.", "")
    del graph.nodes[graph.conditioning.id]["inputs"]["negative"]
    graph.save(graph.sample())
    for record, step in run(host, graph):
        for index, text in enumerate(("A red cat.", "")):
            (row,) = rows(record, index)
            assert relative_error(row, host.reference(text).at(step)) < TOLERANCE


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_strength(host, strength):
    graph = EllaGraph()
    positive = conditioning(graph, "A red cat.", strength=strength)
    graph.save(graph.sample(positive=positive))
    empty, prompt = host.reference(""), host.reference("A red cat.")
    for record, step in run(host, graph):
        expected = empty.at(step) + strength * (prompt.at(step) - empty.at(step))
        assert relative_error(rows(record, 0)[0], expected) < TOLERANCE


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_blend(host, factor):
    graph = EllaGraph()
    blend = graph.add(
        "ELLABlendEmbeds",
        embeds_a=graph.encode("A red cat."),
        embeds_b=graph.encode("Two blue dogs run on a beach."),
        factor=factor,
    )
    graph.nodes[graph.conditioning.id]["inputs"]["positive"] = blend[0]
    graph.save(graph.sample())
    a, b = host.reference("A red cat."), host.reference("Two blue dogs run on a beach.")
    for record, step in run(host, graph):
        expected = (1 - factor) * a.at(step) + factor * b.at(step)
        assert relative_error(rows(record, 0)[0], expected) < TOLERANCE


def test_a_strength_of_one_changes_nothing_by_a_bit(host):
    graph = EllaGraph("A red cat.", "blurry")
    positive = graph.nodes[graph.conditioning.id]["inputs"]["positive"]
    same = graph.add("ELLAConditioning", ella=graph.ella, embeds=positive, strength=1.0)
    saved = [graph.save(graph.sample(record=False, positive=p)).id for p in
             (graph.conditioning[1], same)]  # fmt: skip
    result = host.run(graph)
    a, b = (host.latent(result, node) for node in saved)
    assert torch.equal(a, b)


def test_clip_beside_ella_on_both_sides_is_one_model_call_a_step(host):
    graph = EllaGraph("A red cat.", "blurry")
    inputs = graph.nodes[graph.conditioning.id]["inputs"]
    inputs["clip_positive"], inputs["clip_negative"] = graph.plain(1)[0], graph.plain(2)[0]
    graph.save(graph.sample())
    records = run(host, graph)
    assert len(records) == 6
    for record, step in records:
        for index, text in enumerate(("A red cat.", "blurry")):
            (row,) = rows(record, index)
            assert row.shape == (64 + 77, 768)
            assert relative_error(row[:64], host.reference(text).at(step)) < TOLERANCE
            assert torch.equal(row[64:], plain_tokens(index + 1)[0])


def test_options_of_the_clip_conditioning_are_kept(host):
    """Two CLIP conditionings, one for each half of the schedule, give two conditionings."""
    graph = EllaGraph("A red cat.", "blurry")
    halves = [
        graph.add("ConditioningSetTimestepRange", conditioning=graph.plain(i), start=a, end=b)
        for i, (a, b) in enumerate([(0.0, 0.5), (0.5, 1.0)], start=1)
    ]
    both = graph.add("ConditioningCombine", conditioning_1=halves[0], conditioning_2=halves[1])
    graph.save(graph.sample(positive=conditioning(graph, "A red cat.", clip=both)))
    early, late = [], []
    for record, step in run(host, graph):
        if 0 in record["cond_or_uncond"]:
            (row,) = rows(record, 0)
            assert relative_error(row[:64], host.reference("A red cat.").at(step)) < TOLERANCE
            for i, steps in ((1, early), (2, late)):
                if torch.equal(row[64:], plain_tokens(i)[0]):
                    steps.append(step)
    assert early
    assert late
    assert min(early) > max(late)


def test_a_batch_of_clip_tokens_keeps_its_samples_apart(host):
    graph = EllaGraph("A red cat.", "blurry")
    positive = conditioning(graph, "A red cat.", clip=graph.plain(5, batch=2))
    graph.save(graph.sample(positive=positive, batch=2))
    reference, seen = host.reference("A red cat."), 0
    for record, step in run(host, graph):
        if 0 in record["cond_or_uncond"]:
            seen += 1
            found = rows(record, 0)
            assert torch.equal(found[:, 64:], plain_tokens(5, batch=2))
            for row in found:
                assert relative_error(row[:64], reference.at(step)) < TOLERANCE
    assert seen == 6


def test_a_connector_without_timestep(host):
    graph = EllaGraph("A red cat.", "blurry", ella="mlp.safetensors")
    graph.save(graph.sample())
    weights = load_file(host.models / "ella/mlp.safetensors")
    records = run(host, graph)
    assert len(records) >= 6
    for record, _ in records:
        for index in record["cond_or_uncond"].tolist():
            x = host.reference(("A red cat.", "blurry")[index]).features[0]
            for name in ("proj_in", "proj_out"):
                x = torch.nn.functional.gelu(x) if name == "proj_out" else x
                x = x @ weights[f"connector.{name}.weight"].T + weights[f"connector.{name}.bias"]
            found = rows(record, index)[0]
            # Where positive and negative batch, ComfyUI repeats the shorter one's tokens.
            x = x.repeat(len(found) // len(x), 1)
            assert relative_error(found, x) < TOLERANCE


def test_strength_of_a_blend_starts_from_the_blend_of_the_empty_prompts(host):
    """Of two lengths: one prompt at its own, one padded to 16 tokens."""
    graph = EllaGraph()
    padded = graph.add("ELLALLMTextEncode", llm=graph.llm, text="A blue dog.", max_length=16)
    blend = graph.add(
        "ELLABlendEmbeds", embeds_a=graph.encode("A red cat."), embeds_b=padded, factor=1.0
    )
    only_b = conditioning(graph, "", embeds=padded, strength=0.5)
    blended = conditioning(graph, "", embeds=blend, strength=0.5)
    saved = [
        graph.save(graph.sample(record=False, positive=positive)).id
        for positive in (only_b, blended)
    ]
    result = host.run(graph)
    assert result.error is None, result.error
    a, b = (host.latent(result, node) for node in saved)
    assert torch.equal(a, b)
