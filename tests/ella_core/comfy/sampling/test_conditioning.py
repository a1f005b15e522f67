"""In a real ComfyUI, the U-Net gets the reference's context at the timestep of each call."""

import pytest
import torch

from support.host import EllaGraph, relative_error, rows
from tiny_models import draw_checkpoint

TOLERANCE = 1e-3  # relative, L2
SHORT = "no text"  # 3 tokens with </s>
LONG = (
    "A tall lighthouse of white stone stands on a black cliff above the sea. " * 3
    + "It is night there."
)


def check(host, graph, prompts):
    """Compare every row of every recorded call; `prompts` by cond_or_uncond index."""
    result = host.run(graph)
    assert result.error is None, result.error
    references = [host.reference(text) for text in prompts]
    records = host.records(graph.record)
    assert {i for record in records for i in record["cond_or_uncond"].tolist()} == set(
        range(len(prompts))
    )
    for record in records:
        assert record["loaded_connectors"] == 1
        (step,) = set(record["timesteps"].tolist())
        for index in record["cond_or_uncond"].tolist():
            (row,) = rows(record, index)
            assert relative_error(row, references[index].at(step)) < TOLERANCE
    return records


def test_the_reference_itself_tells_timesteps_and_prompts_apart(host):
    a, b = host.reference("A red cat."), host.reference("A blue dog.")
    assert relative_error(a.at(500), a.at(550)) > 30 * TOLERANCE
    assert relative_error(a.at(500), b.at(500)) > 30 * TOLERANCE


@pytest.mark.parametrize("steps", [6, 20])
def test_euler_normal(host, steps):
    graph = EllaGraph("A red cat.", "blurry")
    graph.save(graph.sample(steps=steps))
    records = check(host, graph, ["A red cat.", "blurry"])
    found = torch.tensor([record["timesteps"][0] for record in records])
    torch.testing.assert_close(found, torch.linspace(999, 0, steps), rtol=0, atol=1)
    assert all(len(record["cond_or_uncond"]) == 2 for record in records)  # one call a step


def test_a_short_negative_beside_a_long_positive(host):
    assert (host.reference(SHORT).tokens, host.reference(LONG).tokens) == (3, 60)
    graph = EllaGraph(LONG, SHORT)
    graph.save(graph.sample())
    records = check(host, graph, [LONG, SHORT])
    assert all(len(record["cond_or_uncond"]) == 2 for record in records)


def test_an_empty_negative(host):
    graph = EllaGraph("A red cat.", "")
    graph.save(graph.sample())
    check(host, graph, ["A red cat.", ""])


def test_samples_at_different_sigmas_each_get_their_own_tokens(host):
    graph = EllaGraph("A red cat.", "blurry")
    split = graph.add("TestSigmaPerSample", model=graph.conditioning)
    graph.save(graph.sample(model=split, batch=3))
    assert host.run(graph).error is None
    records = host.records(graph.record)
    assert len(records) == 6
    for record in records:
        steps = record["timesteps"].chunk(2)[record["cond_or_uncond"].tolist().index(0)].tolist()
        assert len(set(steps)) > 1 or steps == [0, 0, 0]
        for row, step in zip(rows(record, 0), steps, strict=True):
            assert relative_error(row, host.reference("A red cat.").at(step)) < TOLERANCE


def test_a_context_that_was_replaced_is_warned_about(host):
    graph = EllaGraph("A red cat.", "blurry")
    sides = {"conditioning_1": graph.conditioning[1], "conditioning_2": graph.conditioning[2]}
    options = {"how": "numpy", "repeat": 1, "keep_options": True}
    sampler = graph.sample(positive=graph.add("TestEditConditioning", **sides, **options))
    graph.save(sampler)
    result = host.run(graph)
    assert result.error is None
    note = result.texts[sampler.id]
    assert note.startswith("An ELLA conditioning stays at one timestep for this whole run: a node ")
    assert note in host.server.log_tail()


def lost_options(graph):
    """ELLA's conditioning with its tensor alone, in three ways."""
    ella, plain = graph.conditioning[1], graph.plain(3)
    yield graph.add("ConditioningConcat", conditioning_to=plain, conditioning_from=ella)
    inputs = {"conditioning_to": plain, "conditioning_from": ella}
    yield graph.add("ConditioningAverage", conditioning_to_strength=0.5, **inputs)
    sides = {"conditioning_1": ella, "conditioning_2": graph.conditioning[2]}
    options = {"how": "padded", "repeat": 1, "keep_options": False}
    yield graph.add("TestEditConditioning", **sides, **options)


@pytest.mark.parametrize("kept", ["all", "beside plain tokens", "average", "tensor"])
def test_an_unpatched_model_is_said_to_be_unpatched(host, kept):
    graph = EllaGraph()
    pairs = [(graph.conditioning[1], graph.conditioning[2])]
    pairs += [(lost, graph.plain(1)) for lost in lost_options(graph)]
    index = ["all", "beside plain tokens", "average", "tensor"].index(kept)
    positive, negative = pairs[index]
    sides = {"positive": positive, "negative": negative}
    graph.save(graph.sample(model=graph.checkpoint, record=False, **sides))
    result = host.run(graph)
    assert result.error is not None
    message = result.error["exception_message"]
    assert "a MODEL that was not prepared for it" in message
    assert "Connect the MODEL output of ELLA Timestep Conditioning" in message


def test_a_model_that_a_sampler_built_anew(host):
    # Its patcher dies before its model, which ComfyUI then takes for a leak: no other test's model.
    smallest = {"transformer_depth_output": [0, 0], "transformer_depth_middle": -2}
    draw_checkpoint(host.models / "checkpoints/rebuilt.safetensors", **smallest)
    graph = EllaGraph(ckpt="rebuilt.safetensors")
    rebuilt = graph.add("TestRebuildModel", model=graph.conditioning)
    graph.save(graph.sample(model=rebuilt, record=False))
    result = host.run(graph)
    assert result.error is not None
    message = result.error["exception_message"]
    assert "this sampler node builds a model of its own" in message
    assert "use another sampler node" in message


def test_a_pooled_output_is_there_as_in_clips_conditionings(host):
    graph = EllaGraph("A red cat.", "blurry")
    scaled = graph.add("TestPooledOutput", conditioning=graph.conditioning[1])
    graph.save(graph.sample(positive=scaled))
    check(host, graph, ["A red cat.", "blurry"])


def test_the_model_is_left_as_it_was(host):
    """Sampled before, after and with ELLA patched in: to the last bit the same without ELLA."""
    graph = EllaGraph("A red cat.", "blurry")
    plain = {
        "positive": graph.plain(1),
        "negative": graph.plain(2),
        "record": False,
    }
    before = graph.sample(model=graph.checkpoint, **plain)
    # Zero times a latent ties the order of the runs down and adds nothing.
    ella = graph.sample(latent_image=graph.add("LatentMultiply", samples=before, multiplier=0.0))
    nothing = graph.add("LatentMultiply", samples=ella, multiplier=0.0)
    after = graph.sample(model=graph.checkpoint, latent_image=nothing, **plain)
    patched = graph.sample(latent_image=nothing, **plain)
    saved = [graph.save(node).id for node in (before, ella, after, patched)]
    result = host.run(graph)
    assert result.error is None, result.error
    before, ella, after, patched = (host.latent(result, node) for node in saved)
    assert before.isfinite().all()
    assert (before - after).abs().max() == 0.0
    assert (before - patched).abs().max() == 0.0
    assert (before - ella).abs().max() > 0.1
