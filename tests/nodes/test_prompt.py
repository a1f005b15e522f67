"""The node that does it all: the same as the single nodes; and the models it gets."""

import pytest

from comfyui import Server
from support.faults import assert_fails, assert_refused
from support.host import HOST_PACKS, T5, EllaGraph, Host, link_few, relative_error
from support.workflows import with_clip

TOLERANCE = 1e-3  # relative, L2
POSITIVE, NEGATIVE = "A (red:1.3) cat on a blue chair.", "blurry"


def one_node(graph, positive, **inputs):
    given = {"model": graph.checkpoint, "ella": graph.ella, "llm": graph.llm, **inputs}
    return graph.add("ELLAPrompt", positive=positive, **given)


def same_latents(host, graph, *conditionings):
    """Sample with each and compare the latents."""
    saved = []
    for node in conditionings:
        outputs = {name: node[i] for i, name in enumerate(("model", "positive", "negative"))}
        saved.append(graph.save(graph.sample(record=False, steps=3, **outputs)).id)
    result = host.run(graph)
    assert result.error is None, result.error
    first, *others = (host.latent(result, node) for node in saved)
    # The last digits depend on which prompts the connector computes together.
    return [relative_error(other, first) < TOLERANCE for other in others]


@pytest.mark.parametrize("negative", [{"negative": NEGATIVE}, {"negative": ""}, {}])
def test_the_four_nodes_in_one(host, negative):
    graph = EllaGraph(POSITIVE, negative.get("negative", ""))
    other = one_node(graph, "Two dogs run.", **negative)
    node = one_node(graph, POSITIVE, **negative)
    assert same_latents(host, graph, graph.conditioning, node, other) == [True, False]


@pytest.mark.parametrize("clip_text", ["pixel art", ""])
def test_beside_clip(host, clip_text):
    graph = EllaGraph(POSITIVE, NEGATIVE, ckpt=with_clip(host))
    inputs = graph.nodes[graph.conditioning.id]["inputs"]
    clip = graph.checkpoint[1]
    for name, text in (("positive", clip_text or POSITIVE), ("negative", NEGATIVE)):
        inputs[f"clip_{name}"] = graph.add("CLIPTextEncode", clip=clip, text=text)[0]
    alone = one_node(graph, POSITIVE, negative=NEGATIVE)
    node = one_node(graph, POSITIVE, negative=NEGATIVE, clip=clip, clip_text=clip_text)
    assert same_latents(host, graph, graph.conditioning, node, alone) == [True, False]


def test_says_what_it_has_read_and_what_sampling_needed(host):
    graph = EllaGraph()
    node = one_node(graph, POSITIVE, negative=NEGATIVE)
    model, positive, negative = (node[i] for i in range(3))
    graph.save(graph.sample(record=False, model=model, positive=positive, negative=negative))
    result = host.run(graph)
    n, m = (host.reference(text).tokens for text in ("A red cat on a blue chair.", NEGATIVE))
    said = [report["text"] for report in result.reports if report["node"] == node.id]
    assert said[0] == f"{m} tokens"
    assert said[1].startswith(f"{n} tokens; ")
    assert said[-1].startswith(f"positive {n}, negative {m} tokens ·\nconnector: 1 pass for 6")


def test_a_connector_of_another_pack(host):
    graph = EllaGraph()
    foreign = graph.add("TestForeignConnector")
    graph.conditioning = one_node(graph, POSITIVE, ella=foreign)
    graph.save(graph.sample(record=False, steps=1))
    assert_fails(host, graph, "ELLAPrompt", "got a dict, which another node pack made")


def test_a_checkpoint_without_clip(host):
    graph = EllaGraph()
    graph.conditioning = one_node(graph, POSITIVE, clip=graph.checkpoint[1])
    graph.save(graph.sample(record=False, steps=1))
    assert_fails(host, graph, "ELLAPrompt", "clip is connected", "U-Net alone", "Load CLIP")


def test_words_for_a_clip_that_is_not_there(host):
    graph = EllaGraph()
    graph.conditioning = one_node(graph, POSITIVE, clip_text="pixel art")
    assert_fails(host, graph, "ELLAPrompt", "clip_text", "no CLIP is connected", "Load Checkpoint")


@pytest.fixture(scope="module")
def few(host, tmp_path_factory):
    """A server with two connectors and four LLMs: the shared one has those of other tests, too."""
    base = tmp_path_factory.mktemp("few")
    link_few(host.models, base / "models")
    with Server(base, ["--cpu"], [HOST_PACKS / "ella_test_nodes"]) as server:
        yield Host(server, host.tsc_weights)


def test_auto_takes_the_llm_that_the_connector_reads(few):
    graph = EllaGraph(POSITIVE, NEGATIVE)
    models = graph.add("ELLALoadModels", ella_name="tsc.safetensors")
    node = one_node(graph, POSITIVE, negative=NEGATIVE, ella=models[0], llm=models[1])
    named = graph.add("ELLALoadModels", ella_name="tsc.safetensors", llm_name=T5, dtype="fp32")
    same = one_node(graph, POSITIVE, negative=NEGATIVE, ella=named[0], llm=named[1])
    assert same_latents(few, graph, graph.conditioning, node, same) == [True, True]


def test_auto_takes_no_connector_out_of_several(few):
    graph = EllaGraph()
    models = graph.add("ELLALoadModels", ella_name="auto")
    graph.conditioning = one_node(graph, POSITIVE, ella=models[0], llm=models[1])
    parts = ("2 connectors are installed", "tsc.safetensors", "mlp.safetensors", "ella_name")
    assert_refused(few, graph, "ELLALoadModels", *parts)
