"""Conditioning (Concat): ELLA's tokens are recomputed wherever they stand."""

import pytest
import torch

from support.exactness import NEGATIVE, POSITIVE, WIDTH
from support.host import plain_tokens
from support.wait import free

OTHER = "A blue dog."


def concat(graph, to, source):
    return graph.add("ConditioningConcat", conditioning_to=to, conditioning_from=source)


@pytest.mark.parametrize("first", [True, False])
def test_plain_tokens_after_and_before_ella(exact, new_graph, first):
    graph = new_graph()
    plain = graph.plain(3)
    sides = [
        concat(graph, side, plain) if first else concat(graph, plain, side)
        for side in (graph.conditioning[1], graph.conditioning[2])
    ]
    name = graph.sampled(positive=sides[0], negative=sides[1], scheduler="karras")
    exact.run(graph)
    for row in exact.rows(name):
        assert row.tokens.shape == (1, WIDTH + 77, 768)
        ella, static = row.tokens[:, :WIDTH], row.tokens[:, WIDTH:]
        if not first:
            static, ella = row.tokens[:, :77], row.tokens[:, 77:]
        assert torch.equal(static, plain_tokens(3))
        exact.assert_exact(ella, (POSITIVE, NEGATIVE)[row.index], row.timestep)


def test_a_connector_whose_options_concat_dropped_is_loaded_beside_the_unet(exact, new_graph):
    graph = new_graph()
    plain = graph.plain(3)
    sides = [concat(graph, plain, side) for side in (graph.conditioning[1], graph.conditioning[2])]
    model, name = graph.recorder()
    sampler = graph.sample(record=False, model=model, positive=sides[0], negative=sides[1])
    graph.save(sampler)
    exact.run(graph)
    server = exact.host.server
    free(server, lambda: not server.get("/ella_test/state")["loaded"], unload_models=True)
    graph.nodes[sampler.id]["inputs"]["seed"] = 2
    exact.run(graph)
    records = exact.host.records(name)
    assert len(records) == 12
    assert all(record["loaded_connectors"] == 1 for record in records[6:])


def test_ella_after_ella(exact, new_graph):
    graph = new_graph()
    other = graph.condition(OTHER, "", model=graph.conditioning)
    both = concat(graph, graph.conditioning[1], other[1])
    name = graph.sampled(positive=both, scheduler="karras")
    exact.run(graph)
    for row in exact.rows(name):
        assert row.tokens.shape == (1, 2 * WIDTH, 768)
        halves = row.tokens.split(WIDTH, dim=1)
        # ComfyUI repeats the negative's tokens to the positive's length.
        texts = (POSITIVE, OTHER) if row.index == 0 else (NEGATIVE, NEGATIVE)
        for half, text in zip(halves, texts, strict=True):
            exact.assert_exact(half, text, row.timestep)
