"""ELLA Attention Map: its table against the attention of the connector, its picture, its errors."""

import csv
import sys

import pytest
import torch
from PIL import Image

from ella_core.checkpoint import load_connector
from ella_core.connectors.attention import attention_to_text
from ella_core.errors import EllaError
from ella_core.heat_map import draw_heat_map
from support.faults import assert_fails
from support.host import EllaGraph

TEXT = "A (red:1.5) cat, a blue $chair$."
WORDS = ["A", "red", "cat,", "a", "blue", "$chair$."]


def attention_map(graph, embeds=None, **inputs):
    return graph.add(
        "ELLAAttentionMap", ella=graph.ella, embeds=embeds or graph.encode(TEXT), **inputs
    )


def shown(host, graph, node):
    picture = graph.add("SaveImage", images=node, filename_prefix="attention")
    table = graph.add("PreviewAny", source=node[1])
    result = host.run(graph)
    assert result.error is None, result.error
    (text,) = result.outputs[table.id]["text"]
    (image,) = result.outputs[picture.id]["images"]
    rows = list(csv.reader(text.splitlines()))
    values = torch.tensor([[float(value) for value in row[1:]] for row in rows[1:]])
    path = host.server.base / "output" / image["filename"]
    return [row[0] for row in rows], list(map(int, rows[0][1:])), values, path


@pytest.mark.parametrize("chosen", [{}, {"block": 2, "head": 3, "latent": 5}])
def test_the_table_is_the_connectors_attention(host, chosen):
    graph = EllaGraph()
    plain = graph.encode(TEXT.replace("(red:1.5)", "red"))
    node = attention_map(graph, plain, timesteps=4, **chosen)
    words, timesteps, values, path = shown(host, graph, node)
    assert words == ["word", *WORDS]
    assert timesteps == [999, 666, 333, 0]
    connector = load_connector(host.models / "ella/tsc.safetensors")
    features = host.reference(TEXT.replace("(red:1.5)", "red")).features
    indices = {name: number - 1 for name, number in chosen.items()}
    expected = attention_to_text(connector, features, timesteps, **indices)  # (T, L)
    assert (values[:2] - expected[:, :2].T).abs().max() < 1e-5
    everything = expected[:, :-1].sum(dim=1)  # all but the special token behind
    assert (values.sum(dim=0) - everything).abs().max() < 1e-5
    with Image.open(path) as picture:
        assert picture.width > 500
        assert len(picture.convert("L").getcolors()) > 50


def test_weights_are_read_and_not_shown(host):
    graph = EllaGraph()
    weighted, plain = (
        attention_map(graph),
        attention_map(graph, graph.encode("A red cat, a blue $chair$.")),
    )
    words, _, values, _ = shown(host, graph, weighted)
    other_words, _, other, _ = shown(host, graph, plain)
    assert words == other_words
    assert not torch.allclose(values, other, atol=1e-5)


def fails(host, node_of, *parts):
    graph = EllaGraph()
    image = graph.add("SaveImage", images=node_of(graph), filename_prefix="attention")
    assert image
    assert_fails(host, graph, "ELLAAttentionMap", *parts)


def test_what_cannot_be_shown(host):
    fails(host, lambda g: attention_map(g, block=3), "block is 3", "has 2")
    fails(host, lambda g: attention_map(g, g.encode(" ")), "has no words")

    def blended(g):
        embeds = [g.encode("A cat."), g.encode("A dog.")]
        return attention_map(
            g, g.add("ELLABlendEmbeds", embeds_a=embeds[0], embeds_b=embeds[1], factor=0.5)
        )

    fails(host, blended, "mix of several prompts")

    def of_an_mlp(g):
        node = attention_map(g)
        g.nodes[node.id]["inputs"]["ella"] = g.add("ELLALoad", ella_name="mlp.safetensors")[0]
        return node

    fails(host, of_an_mlp, "mlp.safetensors is no resampler")


def test_more_words_than_a_picture_shows(host):
    graph = EllaGraph()
    words = " ".join(["cat"] * 501)
    image = attention_map(graph, graph.encode(words), timesteps=2)
    graph.add("SaveImage", images=image, filename_prefix="attention")
    message = host.run(graph).error["exception_message"]
    assert "501 rows" in message
    assert "at most 500" in message


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EllaError, match="pip install matplotlib"):
        draw_heat_map(torch.ones(1, 1), ["a"], [0], "", "")
