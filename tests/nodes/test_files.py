"""Embeds and prompts in files, on a real server."""

import json
import math
import uuid
from functools import partial

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.faults import assert_fails, assert_refused
from support.host import T5, EllaGraph, Graph, relative_error
from support.models import write_tsc

TOLERANCE = 1e-3  # relative, L2
TEXT = "A (red:1.3) cat."


def saving(embeds_of, prefix):
    graph = EllaGraph()
    return graph, graph.add("ELLASaveEmbeds", embeds=embeds_of(graph), filename_prefix=prefix)


def save_as(host, embeds_of, prefix):
    graph, node = saving(embeds_of, prefix)
    result = host.run(graph)
    assert result.error is None, result.error
    (name,) = result.outputs[node.id]["text"]
    return name


def save(host, embeds_of):
    """Save embeds under a name of their own; returns it."""
    prefix = uuid.uuid4().hex
    name = save_as(host, embeds_of, prefix)
    assert name == f"{prefix}_00001_.safetensors"
    return name


def encode(graph, text=TEXT):
    return graph.encode(text)


def blend(graph, text="Two dogs run on a beach."):
    a, b = graph.encode(TEXT), graph.encode(text)
    return graph.add("ELLABlendEmbeds", embeds_a=a, embeds_b=b, factor=0.3)


def load(name, graph):
    return graph.add("ELLALoadEmbeds", embeds_name=name)


def latent(host, embeds_of, strength=1.0):
    graph = EllaGraph()
    inputs = {"ella": graph.ella, "embeds": embeds_of(graph), "strength": strength}
    positive = graph.add("ELLAConditioning", **inputs)
    saved = graph.save(graph.sample(record=False, positive=positive, steps=2))
    result = host.run(graph)
    assert result.error is None, result.error
    return host.latent(result, saved.id)


def test_what_comes_back_is_what_was_saved(host):
    for made in (encode, blend, partial(encode, text=""), partial(blend, text="")):
        name = save(host, made)
        for strength in (1.0, 0.5):
            direct = latent(host, made, strength)
            loaded = latent(host, partial(load, name), strength)
            # The last digits depend on which prompts the connector computes together.
            assert relative_error(loaded, direct) < TOLERANCE


def test_the_file_says_who_has_read_and_not_what(host):
    name = save(host, encode)
    path = host.server.base / "output/ella_embeds" / name
    with safe_open(path, "pt") as file:
        about = file.metadata()["about"]
    assert '"model_type": "t5"' in about
    assert '"text_sha256": "' in about
    assert "recipe" in about
    assert "cat" not in about
    infos = host.server.get("/object_info/ELLALoadEmbeds")["ELLALoadEmbeds"]
    assert name in infos["input"]["required"]["embeds_name"][1]["options"]


def recipes(host, name):
    with safe_open(host.server.base / "output/ella_embeds" / name, "pt") as file:
        about = json.loads(file.metadata()["about"])
    return [part["recipe"] for part in [*about["parts"], *about["empty"]]]


def test_a_template_of_ones_own_is_kept(host):
    """Of each prompt in the file, also when it is saved again from there."""

    def within(graph, text=TEXT):
        llm = graph.add("ELLAPromptTemplate", llm=graph.llm, template="Paint: %prompt%!")
        return graph.add("ELLALLMTextEncode", llm=llm, text=text)

    def half_of_it(graph):
        sides = {"embeds_a": within(graph), "embeds_b": graph.encode(TEXT)}
        return graph.add("ELLABlendEmbeds", **sides)

    for made, expected in (
        (within, {"Paint: %prompt%!"}),
        (half_of_it, {"Paint: %prompt%!", None}),
    ):
        name = save(host, made)
        again = save(host, partial(load, name))
        found = recipes(host, name)
        assert {recipe["template"] for recipe in found} == expected
        assert recipes(host, again) == found
        for strength in (1.0, 0.5):
            direct = latent(host, made, strength)
            loaded = latent(host, partial(load, again), strength)
            assert relative_error(loaded, direct) < TOLERANCE
            assert relative_error(loaded, latent(host, encode, strength)) > TOLERANCE


def graph_with(host, name, **changes):
    graph = EllaGraph(**changes)
    positive = graph.add("ELLALoadEmbeds", embeds_name=name)
    inputs = graph.nodes[graph.conditioning.id]["inputs"]
    inputs["positive"] = positive[0]
    del inputs["negative"]
    return graph


def test_another_llms_connector_refuses_them(host):
    name = save(host, encode)
    path = host.models / "ella/llm-96.safetensors"
    write_tsc(path, layers=1, llm_dim=96)
    try:
        graph = graph_with(host, name, ella=path.name)
        assert_fails(host, graph, "ELLATimestepConditioning", T5, "64 wide", "96 wide")
    finally:
        path.unlink()


def test_files_that_hold_no_embeds(host):
    folder = host.server.base / "output/ella_embeds"
    folder.mkdir(exist_ok=True)
    save_file({"x": torch.ones(1)}, folder / "other.safetensors")
    graph = graph_with(host, "other.safetensors")
    assert_fails(host, graph, "ELLALoadEmbeds", "not written by ELLA Save Embeds")
    (folder / "cut.safetensors").write_bytes(b"x")
    assert_fails(host, graph_with(host, "cut.safetensors"), "ELLALoadEmbeds", "no embeds")
    for name in ("none.safetensors", "../other.safetensors"):
        assert_refused(host, graph_with(host, name), "ELLALoadEmbeds", "are not in")


def damaged(about, tensors):
    """Yield what is written in a file, each time with something else wrong, and what is said."""
    features = tensors["parts.0.features"]
    yield {key: value for key, value in about.items() if key != "llm"}, tensors, "lacks 'llm'"
    yield {**about, "parts": []}, tensors, "no prompt as parts"
    weightless = [{**about["parts"][0], "weight": math.nan}]
    yield {**about, "parts": weightless}, tensors, "weight of parts 0 is nan"
    yield {**about, "recipe": []}, tensors, "no embeds"
    unknown = [{**about["parts"][0], "recipe": {"spell": ""}}]
    yield {**about, "parts": unknown}, tensors, "unexpected keyword argument 'spell'"
    yield [], tensors, "no embeds"
    for other, said in (
        (features[0], "shape (K, L, D)"),
        (features[:, :0], "shape (K, L, D)"),
        (features / 0, "not finite"),
        (features[..., 1:], "differ in width"),
    ):
        yield about, {**tensors, "parts.0.features": other.contiguous()}, said


def test_damaged_files(host):
    folder = host.server.base / "output/ella_embeds"
    name = save(host, encode)
    with safe_open(folder / name, "pt") as file:
        metadata = file.metadata()
    cases = damaged(json.loads(metadata["about"]), load_file(folder / name))
    for i, (about, tensors, said) in enumerate(cases):
        path = folder / f"damaged-{i}-{name}"
        save_file(tensors, path, {**metadata, "about": json.dumps(about)})
        assert_fails(host, graph_with(host, path.name), "ELLALoadEmbeds", "no embeds", said)


def test_a_text_with_half_a_character(host):
    save(host, partial(encode, text="A cat \ud83d"))


def test_names_to_save_under(host):
    own = uuid.uuid4().hex
    for prefix in (f"{own}/", f" {own} ", f"x/../{own}"):
        assert save_as(host, encode, prefix).startswith(f"{own}_0000")
    folder = host.server.base / "output/ella_embeds"
    assert len(list(folder.glob(f"{own}_*.safetensors"))) == 3
    assert save_as(host, encode, f"{own}\\cat") == f"{own}/cat_00001_.safetensors"
    for prefix in ("", " ", ".", "x/..", "../x", "x/../../x", "..\\x", "/x"):
        graph, _ = saving(encode, prefix)
        assert_fails(host, graph, "ELLASaveEmbeds", "filename_prefix", "names no file in")


def prompts(host, **inputs):
    graph = Graph()
    node = graph.add("ELLAPromptList", **inputs)
    shown = graph.add("PreviewAny", source=node)
    result = host.run(graph)
    if result.error:
        return result.error["exception_message"]
    return result.outputs[shown.id]["text"]


def test_prompts_of_a_text_and_of_a_file(host):
    path = host.server.base / "input/prompts.txt"
    path.write_bytes("\ufeffA dog.\r\n\r\n# not this\r\n  A \u732b. ".encode())
    assert prompts(host, text="A cat.\n\n# no\nA cow. ") == ["A cat.", "A cow."]
    assert prompts(host, file="prompts.txt") == ["A dog.", "A \u732b."]
    assert prompts(host, text="A cat.", file="prompts.txt") == ["A cat.", "A dog.", "A \u732b."]
    path.write_text("A bird.")
    assert prompts(host, text="A cat.", file="prompts.txt") == ["A cat.", "A bird."]
    path.write_bytes(b"\xff\xfe\x00")
    assert "no text in UTF-8" in prompts(host, text="A cow.", file="prompts.txt")
    path.unlink()
    assert "prompts.txt" in prompts(host, text="A sheep.", file="prompts.txt")
    assert "has no prompt" in prompts(host, text=" \n# no")


def test_one_picture_each(host):
    texts = [f"{animal} {uuid.uuid4().hex}" for animal in ("cat", "dog", "cow")]
    graph = EllaGraph()
    listed = graph.add("ELLAPromptList", text="\n".join(texts))
    inputs = {"model": graph.checkpoint, "ella": graph.ella, "llm": graph.llm}
    node = graph.add("ELLAPrompt", positive=listed, **inputs)
    model, positive, negative = (node[i] for i in range(3))
    samples = graph.sample(record=False, model=model, positive=positive, negative=negative)
    saved = graph.save(samples)
    result = host.run(graph)
    assert result.error is None, result.error
    assert len(result.outputs[saved.id]["latents"]) == len(texts)
