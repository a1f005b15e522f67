"""ELLA Upsample Prompt on a real server."""

import requests

from support.host import Graph
from support.wait import free
from support.workflows import chat_llm


def upsampling(host, **inputs):
    graph = Graph()
    llm = graph.add("ELLALoadLLM", llm_name=chat_llm(host), dtype="auto")
    node = graph.add("ELLAUpsamplePrompt", llm=llm, text="a cat", **inputs)
    shown = graph.add("PreviewAny", source=node)
    return graph, node, shown


def run(host, **inputs):
    graph, node, shown = upsampling(host, **inputs)
    result = host.run(graph)
    assert result.error is None, result.error
    return result, node, result.outputs[shown.id]["text"][0]


def test_streams_and_repeats(host):
    result, node, text = run(host, seed=3, tokens=9)
    said = [r["text"] for r in result.reports if r["node"] == node.id and r["kind"] == "writing"]
    assert said[-1] == text
    assert len(said) >= 3
    moves = [done for n, done, of in result.progress if n == node.id and of == 9]
    assert moves
    kept, _, same = run(host, seed=3, tokens=9)
    assert same == text
    assert kept.reports == []  # ComfyUI's cache had it

    def writes_it_again():
        again, _, same = run(host, seed=3, tokens=9)
        assert same == text
        return again.reports

    free(host.server, writes_it_again, free_memory=True, unload_models=True)
    assert run(host, seed=4, tokens=9)[2] != text


def test_is_interrupted(host):
    graph, node, _ = upsampling(host, seed=5, tokens=1000)

    def interrupt(of_node, done, of):
        if of_node == node.id and of == 1000:
            requests.post(f"{host.server.address}/interrupt", timeout=60).raise_for_status()

    result = host.run(graph, interrupt)
    assert result.error is not None
    assert "exception_message" not in result.error  # interrupted, not failed
    assert result.error["node_id"] == node.id
    said = [r for r in result.reports if r["kind"] == "writing"]
    assert len(said) < 1000


def test_an_llm_that_only_reads(host):
    graph, _, _ = upsampling(host)
    loader = next(n for n in graph.nodes.values() if n["class_type"] == "ELLALoadLLM")
    loader["inputs"]["llm_name"] = "llama-96"
    error = host.run(graph).error
    assert "no chat template" in error["exception_message"]
    assert error["node_type"] == "ELLAUpsamplePrompt"
