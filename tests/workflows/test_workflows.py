"""The bundled workflows: what is in the files, what ComfyUI serves, and that they run."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from support.hub import PINNED
from support.sdxl import ADAPTER, CHECKPOINT, GEMMA, T5GEMMA, models
from support.workflows import STEPS, WORKFLOWS, is_sdxl, read, small
from workflow import from_elsewhere, set_widgets, to_api, widgets

LOADS_FILES = {  # type -> the widget that names a file with a download address
    "ADE_AnimateDiffLoaderGen1": "model_name",
    "CLIPLoader": "clip_name",
    "CLIPVisionLoader": "clip_name",
    "CheckpointLoaderSimple": "ckpt_name",
    "ControlNetLoader": "control_net_name",
    "ELLALoad": "ella_name",
    "ELLALoadModels": "ella_name",
    "IPAdapterModelLoader": "ipadapter_file",
    "LoraLoader": "lora_name",
    "LoraLoaderModelOnly": "lora_name",
}
LOADS_NONE = {"ELLALoadLLM", "LoadImage"}  # a folder of files, and ComfyUI's own picture
UNHASHED = {"animatediff_models", "clip_vision", "ipadapter", "text_encoders"}  # in these folders
SAVERS = {"SaveImage", "SaveAnimatedWEBP"}
MORE_COLUMNS = {"ella-four-dense-prompts", "ella-regional-prompts"}
TITLE = 30  # height of a node's title, drawn above its position

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def box(node):
    """Left, top, right and bottom with the title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def corners(group):
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


@pytest.fixture(scope="module", autouse=True)
def _sdxl(host):
    with models(host):
        yield


def test_there_are_twenty_six():
    assert len(WORKFLOWS) == 26


@each_workflow
def test_runs(host, path):
    workflow = small(host, path)
    steps = []
    prompt = to_api(workflow, host.server.get("/object_info"))
    result = host.server.run(prompt, lambda _, done, of: steps.append((done, of)))
    assert result.error is None, result.error
    assert (STEPS, STEPS) in steps
    savers = [str(node["id"]) for node in workflow["nodes"] if node["type"] in SAVERS]
    for node in savers:
        for image in result.outputs[node]["images"]:
            with Image.open(host.server.base / "output" / image["filename"]) as picture:
                picture.load()
                extrema = picture.convert("L").getextrema()
            assert extrema[0] < extrema[1], "a picture of one colour"
    assert savers


@pytest.mark.parametrize("llm", [GEMMA, T5GEMMA])
def test_a_graph_that_was_saved_with_the_adapter_pack_runs(host, llm):
    """Drawn and saved in an editor that had that pack (3.0.1) in this one's place."""
    workflow = read(Path(__file__).with_name(f"adapter-pack-{llm}.json"))
    set_widgets(workflow, ckpt_name=CHECKPOINT, adapter_name=ADAPTER, model_name=llm)
    set_widgets(workflow, steps=STEPS, width=64, height=64)
    result = host.server.run(to_api(workflow, host.server.get("/object_info")))
    assert result.error is None, result.error
    assert result.outputs["11"]["images"]


@each_workflow
def test_is_offered_as_a_template(host, path):
    assert path.stem in host.server.get("/workflow_templates")["ELLA-Nodes"]
    assert host.server.get(f"/api/workflow_templates/ELLA-Nodes/{path.name}") == read(path)


@each_workflow
def test_has_a_thumbnail_for_the_template_browser(path):
    picture = path.with_suffix(".jpg")
    assert picture.stat().st_size < 100_000
    with Image.open(picture) as opened:
        assert opened.format == "JPEG"


@each_workflow
def test_names_where_to_get_every_file(path):
    for node in read(path)["nodes"]:
        if node["type"] in LOADS_FILES:
            (model,) = node["properties"]["models"]
            assert model["name"] == widgets(node)[LOADS_FILES[node["type"]]]
            assert model["url"].startswith("https://")
            assert model["directory"]
            assert model["directory"] != "ella" or f"/{PINNED}/" in model["url"]
            if is_sdxl(path) or model["directory"] in UNHASHED:  # nobody publishes hashes of these
                assert "hash" not in model
                continue
            assert re.fullmatch("[0-9a-f]{64}", model["hash"])
            assert model["hash_type"] == "SHA256"
        else:
            assert "Load" not in node["type"] or node["type"] in LOADS_NONE, node["type"]


@each_workflow
def test_explains_itself(path):
    workflow = read(path)
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    text = note["widgets_values"][0]
    assert text.startswith("## ")
    assert "**Files" in text
    assert "*ELLA > Download ELLA models ...*" in text
    assert all(group["title"] and group["color"] for group in workflow["groups"])


@each_workflow
def test_says_which_node_pack_or_comfyui_it_needs(host, path):
    workflow = read(path)
    packs = {pack: kind for kind, pack in from_elsewhere(workflow).items()}
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    text = note["widgets_values"][0]
    assert ("**Needs**" in text) == bool(packs)
    for pack in packs:
        assert pack in text.lower() if pack != "comfy-core" else "ComfyUI 0." in text
    known = host.server.get("/object_info").keys() | {"MarkdownNote", *from_elsewhere(workflow)}
    assert known >= {node["type"] for node in workflow["nodes"]}


@each_workflow
def test_a_seed_from_another_node_is_not_said_to_change_by_itself(path):
    for node in read(path)["nodes"]:
        for entry in node["inputs"]:
            if entry["name"] == "seed" and entry["link"] is not None:
                assert node["widgets_values"][1] == "fixed", node["id"]


@each_workflow
def test_is_seen_whole_in_a_window_of_1600_by_900_at_70_percent(path):
    if path.stem in MORE_COLUMNS:
        pytest.skip("several prompts and samplers side by side")
    workflow = read(path)
    boxes = [*map(box, workflow["nodes"]), *map(corners, workflow["groups"])]
    left, top, right, bottom = zip(*boxes, strict=True)
    assert max(right) - min(left) <= 1600 / 0.7
    assert max(bottom) - min(top) <= 900 / 0.7


@each_workflow
def test_nothing_overlaps(path):
    workflow = read(path)
    for a, b in combinations(workflow["nodes"], 2):
        assert not overlap(box(a), box(b)), (a["type"], b["type"])
    groups = [(group["title"], corners(group)) for group in workflow["groups"]]
    for (title, a), (other, b) in combinations(groups, 2):
        assert not overlap(a, b), (title, other)
    for node in workflow["nodes"]:
        for title, group in groups:
            left, top, right, bottom = box(node)
            inside = group[0] < left and group[1] < top and right < group[2] and bottom < group[3]
            assert inside or not overlap(box(node), group), (node["type"], title)
