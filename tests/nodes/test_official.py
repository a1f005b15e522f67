"""The official pack's nodes: what they offer, and what they do in wrong graphs."""

import shutil

import pytest

from comfyui import Server, link
from support.deprecated import OFFICIAL
from support.host import HOST_PACKS, T5, EllaGraph, Graph


@pytest.fixture(scope="module")
def infos(host):
    return host.server.get("/object_info")


def test_widgets(infos):
    loader = infos["T5TextEncoderLoader #ELLA"]["input"]["required"]
    assert T5 in loader["name"][1]["options"]
    max_length = {key: loader["max_length"][1][key] for key in ("default", "min", "max", "step")}
    assert max_length == {"default": 0, "min": 0, "max": 128, "step": 16}
    assert loader["dtype"][1]["options"] == ["auto", "FP32", "FP16"]
    schedule = infos["SetEllaTimesteps"]["input"]["required"]
    choices = infos["KSampler"]["input"]["required"]["scheduler"][0]
    assert schedule["scheduler"][1]["options"] == choices
    assert (schedule["steps"][1]["default"], schedule["denoise"][1]["default"]) == (20, 1.0)


def run(host, graph, node):
    graph.add("PreviewAny", source=node)
    error = host.run(graph).error
    assert error is not None
    return error["exception_message"]


def loaded(graph):
    return {
        "ella": graph.add("ELLALoader", name="tsc.safetensors"),
        "text_encoder": graph.add("T5TextEncoderLoader #ELLA", name=T5, max_length=0, dtype="auto"),
    }


def test_clip_tokens_alone(host):
    graph = EllaGraph()
    embeds = graph.add("ConditionToEllaEmbeds", cond=graph.plain(1))
    message = run(host, graph, graph.add("EllaEncode", ella=graph.ella, embeds=embeds))
    assert "hold CLIP's tokens alone" in message
    assert "ELLA Timestep Conditioning" in message


def test_a_text_for_clip_without_clip(host):
    graph = Graph()
    encoded = graph.add("EllaTextEncode", text="a", text_clip="b", **loaded(graph))
    assert "text_clip needs a CLIP" in run(host, graph, encoded)


def test_the_conditioning_of_clip_without_clip(host):
    graph = Graph()
    encoded = graph.add("EllaTextEncode", text="a", **loaded(graph))
    assert "got no CLIP" in run(host, graph, encoded[1])


def test_a_model_of_another_kind(host):
    graph = EllaGraph(ckpt="sd2.safetensors")
    inputs = loaded(graph)
    text = graph.add("T5TextEncode #ELLA", text="a", text_encoder=inputs["text_encoder"])
    encoded = graph.add("EllaEncode", ella=inputs["ella"], embeds=text)
    sampled = graph.sample(False, model=graph.checkpoint, positive=encoded, negative=encoded)
    assert "1024 wide" in run(host, graph, sampled)
    ella = {"ella": inputs["ella"], "positive": text, "negative": text}
    applied = graph.add("EllaApply", model=graph.checkpoint, **ella)
    assert "1024 wide" in run(host, graph, applied)


def text(graph, llm=T5):
    loader = graph.add("T5TextEncoderLoader #ELLA", name=llm, max_length=0, dtype="auto")
    return graph.add("T5TextEncode #ELLA", text="a", text_encoder=loader)


def applied(graph, embeds, **changes):
    inputs = {"model": graph.checkpoint, "ella": graph.ella, **changes}
    return graph.add("EllaApply", positive=embeds, negative=embeds, **inputs)


def encoded(graph, embeds, **changes):
    return graph.add("EllaEncode", embeds=embeds, **{"ella": graph.ella, **changes})


@pytest.mark.parametrize("into", [applied, encoded])
def test_another_llm_than_the_connectors(host, into):
    graph = EllaGraph()
    message = run(host, graph, into(graph, text(graph, "llama-96")))
    assert "makes features 96 wide, but the connector tsc.safetensors reads features 64" in message


@pytest.mark.parametrize("into", [applied, encoded])
def test_a_connector_of_another_pack(host, into):
    graph = EllaGraph()
    foreign = graph.add("TestForeignConnector")
    message = run(host, graph, into(graph, text(graph), ella=foreign))
    assert "The ELLA input got a dict, which another node pack made" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ella": "TestForeignConnector"}, "The ELLA input got a dict, which another node pack"),
        ({"llm": "llama-96"}, "makes features 96 wide, but the connector tsc.safetensors reads"),
    ],
)
def test_text_encode_refuses_the_same(host, changes, message):
    graph = Graph()
    inputs = loaded(graph)
    if "ella" in changes:
        inputs["ella"] = graph.add(changes["ella"])
    else:
        graph.nodes[inputs["text_encoder"].id]["inputs"]["name"] = changes["llm"]
    assert message in run(host, graph, graph.add("EllaTextEncode", text="a", **inputs))


def test_set_timesteps_wants_a_model_that_it_does_not_use(host):
    graph = Graph()
    given = {"scheduler": "normal", "steps": 20, "denoise": 1.0}
    timesteps = graph.add("SetEllaTimesteps", ella=loaded(graph)["ella"], **given)
    assert "Required input is missing" in run(host, graph, timesteps)


def converted(graph, cond, embeds):
    clip = graph.add("ConditionToEllaEmbeds", cond=cond)
    return graph.add("EllaCombineEmbeds", embeds=embeds, embeds_add=clip)


def combined(graph, cond, embeds):
    return graph.add("CombineClipEllaEmbeds", cond=cond, embeds=embeds)


def concatenated(graph, cond, embeds):
    return graph.add("ConcatConditionEllaEmbeds", cond=cond, embeds=embeds)


@pytest.mark.parametrize("into", [applied, encoded])
@pytest.mark.parametrize("join", [converted, combined, concatenated])
@pytest.mark.parametrize("wide", [True, False])
def test_what_is_joined_is_not_of_this_models_clip(host, wide, join, into):
    graph = EllaGraph()
    cond = graph.plain(1, width=1024) if wide else graph.conditioning[1]
    expected = "CLIP's tokens are 1024 wide, ELLA's 768"
    if not wide:
        expected = "A clip input got an ELLA conditioning"
    assert expected in run(host, graph, into(graph, join(graph, cond, text(graph))))


def test_a_model_that_is_no_unet(host):
    graph = EllaGraph()
    flux = graph.add("TestModelWithoutWeights", kind="Flux")
    message = run(host, graph, applied(graph, text(graph), model=flux))
    assert "The MODEL is a Flux, which is no U-Net with cross-attention" in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone", None, "The ELLA connector 'gone' was not found"),
        ("cut short.safetensors", b"a", "cannot be read as safetensors"),
        ("old.pt", b"a", "is not a .safetensors file"),
    ],
)
def test_an_unusable_connector_file(host, name, content, message):
    file = host.models / "ella" / name
    if content:
        file.write_bytes(content)
    try:
        graph = Graph()
        assert message in run(host, graph, graph.add("ELLALoader", name=name))
    finally:
        file.unlink(missing_ok=True)


def test_a_file_that_is_no_connector(host):
    file = host.models / "ella/lora.safetensors"
    shutil.copy(host.models / "loras/lora.safetensors", file)
    try:
        graph = Graph()
        message = run(host, graph, graph.add("ELLALoader", name=file.name))
        assert "is not a usable ELLA connector: this looks like" in message
    finally:
        file.unlink()


@pytest.mark.parametrize("before", [True, False])
def test_the_official_pack_keeps_its_ids(tmp_path, before):
    """The order in which ComfyUI loads the two packs does not matter."""
    packs = tmp_path / "packs"
    packs.mkdir()
    link(HOST_PACKS / "official_standin", packs / "standin")
    paths = tmp_path / "paths.yaml"  # ComfyUI loads the default folder's packs first
    paths.write_text(f"x:\n  custom_nodes: '{packs}'\n  is_default: {str(before).lower()}\n")
    arguments = ["--cpu", "--extra-model-paths-config", str(paths)]
    with Server(tmp_path / "base", arguments) as server:
        infos = server.get("/object_info")
        log = server.log_text()
    assert {infos[name]["python_module"] for name in OFFICIAL} == {"custom_nodes.standin"}
    assert all(infos[name]["display_name"] == f"Official {name}" for name in OFFICIAL)
    assert infos["ELLALoad"]["python_module"] == "custom_nodes.ELLA-Nodes"
    (line,) = [line for line in log.splitlines() if "standin has nodes with the same ids" in line]
    assert "ComfyUI uses those of standin." in line
    assert all(name in line for name in OFFICIAL)
