"""Prompt weights and long prompts through the node, on a real server."""

import re

import pytest
import torch
from transformers import AutoTokenizer

from support.faults import assert_refuses_choice
from support.host import T5, EllaGraph, relative_error, rows

TOLERANCE = 1e-3  # relative, L2
SENTENCES = [
    "A tall lighthouse of white stone stands on a black cliff above the sea.",
    "It is night there, and the keeper sleeps.",
] * 9


def tokens_match(host, graph, reference):
    """Compare the positive's rows of every call; returns the lines that the nodes showed."""
    graph.save(graph.sample(steps=3))
    result = host.run(graph)
    assert result.error is None, result.error
    records = host.records(graph.record)
    assert len(records) == 3
    for record in records:
        expected = reference.at(record["timesteps"][0].item())
        assert relative_error(rows(record, 0)[0], expected) < TOLERANCE
    return list(result.texts.values())


def positive(graph):
    return graph.nodes[graph.nodes[graph.conditioning.id]["inputs"]["positive"][0]]["inputs"]


def latents(host, *texts):
    graph = EllaGraph()
    saved = []
    for text in texts:
        conditioning = graph.condition(text, "blurry")
        changes = {"positive": conditioning[1], "negative": conditioning[2], "steps": 3}
        saved.append(graph.save(graph.sample(record=False, **changes)).id)
    result = host.run(graph)
    assert result.error is None, result.error
    return [host.latent(result, node) for node in saved]


def test_weighted_words(host):
    reference = host.reference("A red cat sits.")
    pieces = AutoTokenizer.from_pretrained(host.models / "text_encoders" / T5).tokenize(
        "A red cat sits."
    )
    assert pieces == ["▁A", "▁red", "▁cat", "▁sit", "s", "."]
    (empty,) = host.reference("").features[0]
    for i, weight in ((1, 1.4), (2, 1.4), (3, 0.5), (4, 0.5)):
        reference.features[0, i] = empty + weight * (reference.features[0, i] - empty)
    lines = tokens_match(host, EllaGraph("A (red cat:1.4) (sits:0.5).", "blurry"), reference)
    assert "7 tokens; 4 of them weighted" in lines


def test_a_weight_changes_the_picture_and_a_weight_of_one_does_not(host):
    plain, one, more = latents(host, "A red cat.", "A (red cat:1.0).", "A (red cat:1.5).")
    assert torch.equal(plain, one)
    assert (plain - more).abs().max() > 1e-3


def test_a_long_prompt_in_chunks(host):
    expected = [SENTENCES[0]]
    for sentence in SENTENCES[1:]:
        longer = f"{expected[-1]} {sentence}"
        if host.reference(longer).tokens <= 128:
            expected[-1] = longer
        else:
            expected.append(f" {sentence}")
    features = [host.reference(chunk).features for chunk in expected]
    assert len(features) > 1
    reference = host.reference("")
    reference.features = torch.cat(features, dim=1)
    graph = EllaGraph(" ".join(SENTENCES), "blurry")
    positive(graph)["long_prompt"] = "chunk"
    lines = tokens_match(host, graph, reference)
    assert f"{reference.tokens} tokens in {len(expected)} chunks of at most 128" in lines


def test_long_prompts_are_read_whole_where_nothing_is_said(host):
    text = " ".join(SENTENCES)
    reference = host.reference(text)
    assert reference.tokens > 128
    lines = tokens_match(host, EllaGraph(text, "blurry"), reference)
    assert f"{reference.tokens} tokens" in lines
    warning = f"{reference.tokens} tokens: the connector .* was trained on 128 and has not seen"
    assert re.search(warning, host.server.log_tail())


@pytest.mark.parametrize("value", ["pieces", ""])
def test_no_such_mode(host, value):
    graph = EllaGraph()
    positive(graph)["long_prompt"] = value
    assert_refuses_choice(host, graph, "long_prompt", value, "whole", "chunk")
