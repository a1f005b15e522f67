"""Finding a workflow's prompt and seed."""

import json

import pytest

from ella_core.errors import EllaError
from ella_core.evaluation.generate.workflow import Slot, Workflow


def node(kind, title=None, **inputs):
    meta = {} if title is None else {"_meta": {"title": title}}
    return {"class_type": kind, "inputs": inputs, **meta}


GRAPH = {
    "1": node("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name="sd15.safetensors"),
    "2": node("CLIPTextEncode", "Prompt: CLIP", text="", clip=["1", 1]),
    "3": node("ELLALLMTextEncode", "PROMPT", text="", llm=["9", 0], max_length=0),
    "4": node("CLIPTextEncode", "Negative", text="ugly", clip=["1", 1]),
    "5": node("KSampler", "First pass", seed=1, steps=20, model=["1", 0], positive=["2", 0]),
    "6": node("SamplerCustom", "Second pass", noise_seed=2, cfg=7.0, model=["1", 0]),
    "7": node("CLIPTextEncodeSDXL", "Two", text_g="", text_l="", width=1024, clip=["1", 1]),
    "8": node("PrimitiveInt", "My seed", value=3),
    "9": node("CLIPTextEncode", "Linked", text=["10", 0], clip=["1", 1]),
    "10": node("PrimitiveString", "Version 2.1", value=""),
}


@pytest.fixture
def load(tmp_path):
    def load(*prompts, seeds=(), graph=GRAPH, outputs=()):
        file = tmp_path / "workflow.json"
        file.write_text(graph if isinstance(graph, str) else json.dumps(graph))
        return Workflow.load(file, prompts, seeds, outputs)

    return load


@pytest.mark.parametrize(
    ("names", "slots"),
    [
        (["Prompt"], [("2", "text"), ("3", "text")]),
        (["prompt: clip"], [("2", "text")]),
        (["3"], [("3", "text")]),
        (["3.text"], [("3", "text")]),
        (["Two.text_g", "7.text_l"], [("7", "text_g"), ("7", "text_l")]),
        (["Version 2.1"], [("10", "value")]),
        (["Version 2.1.value"], [("10", "value")]),
    ],
)
def test_prompts(load, names, slots):
    assert load(*names).prompts == tuple(Slot(*slot) for slot in slots)


@pytest.mark.parametrize(
    ("names", "slots"),
    [
        ([], [("5", "seed"), ("6", "noise_seed")]),
        (["first pass"], [("5", "seed")]),
        (["My seed"], [("8", "value")]),
        (["5.steps"], [("5", "steps")]),
    ],
)
def test_seeds(load, names, slots):
    assert load("Prompt", seeds=names).seeds == tuple(Slot(*slot) for slot in slots)


def test_filling_leaves_the_rest(load):
    workflow = load("Prompt", seeds=["5"])
    filled = workflow.filled("a cat", 42)
    assert workflow.graph == GRAPH
    for id_ in ("2", "3"):
        assert filled[id_]["inputs"].pop("text") == "a cat"
    assert filled["5"]["inputs"].pop("seed") == 42
    expected = json.loads(json.dumps(GRAPH))
    for id_, name in (("2", "text"), ("3", "text"), ("5", "seed")):
        del expected[id_]["inputs"][name]
    assert filled == expected


def test_the_hash_knows_what_matters(load):
    plain = load("Prompt").hash
    other = json.loads(json.dumps(GRAPH))
    other["2"]["inputs"]["text"] = "a dog"
    other["5"]["inputs"]["seed"] = 7
    other["4"]["_meta"]["title"] = "Not this"
    assert load("Prompt", graph=other).hash == plain
    other["6"]["inputs"]["cfg"] = 8.0
    assert load("Prompt", graph=other).hash != plain
    assert load("2").hash != plain  # one prompt stays as it was


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Positive"], r"no node with the id or the title 'Positive'(?s:.*)4: CLIPTextEncode"),
        (["Two"], r"node 7 \(Two\).*not just one text.*text_g, text_l"),
        (["Linked"], r"node 9.*hold one: none.*text \(node 10\)"),
        (["4.clip"], r"no text 'clip'"),
        (["First pass"], r"not just one text"),
    ],
)
def test_no_prompt(load, names, message):
    with pytest.raises(EllaError, match=message):
        load(*names)


def test_no_seed(load):
    graph = {id_: GRAPH[id_] for id_ in ("1", "2", "4")}
    with pytest.raises(EllaError, match="no input called seed or noise_seed"):
        load("2", graph=graph)
    with pytest.raises(EllaError, match="not just one whole number"):
        load("2", graph=graph, seeds=["4"])


def test_outputs(load):
    assert load("2", outputs=["First pass", "6"]).outputs == ("5", "6")
    with pytest.raises(EllaError, match="'Save'"):
        load("2", outputs=["Save"])


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"nodes": [], "links": []}, r"editor's format.*Export \(API\)"),
        ({"1": {"inputs": {}}}, "not a workflow in API format"),
        ([1], "not a workflow in API format"),
        ("{", "is not JSON"),
    ],
)
def test_files_that_are_no_api_workflow(load, graph, message):
    with pytest.raises(EllaError, match=message):
        load("2", graph=graph)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EllaError, match="can't be read"):
        Workflow.load(tmp_path / "none.json", ["2"])
