"""Tests of "Read these prompts with ELLA", which replaces CLIP Text Encodes by ELLA's nodes."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from bootstrap import ROOT
from support.graph_shapes import BUILD, SHAPES, base, sample
from support.host import T5
from support.same_graph import signatures, unpatched
from support.workflows import small

COMMAND = "Read these prompts with ELLA"
OLDER_MENUS = "typeof app.collectCanvasMenuItems !== 'function'"
# ComfyUI's own templates for SD1.5 that one or more versions of it have.
CORE = [
    *("2_pass_pose_worship", "area_composition", "area_composition_square_area_for_subject"),
    *("controlnet_example", "default", "depth_controlnet", "depth_t2i_adapter", "esrgan_example"),
    *("gligen_textbox_example", "hiresfix_esrgan_workflow", "hiresfix_latent_workflow"),
    *("image2image", "latent_upscale_different_prompt_model", "lora", "lora_multiple"),
    "mixing_controlnets",
]
CORE_SDXL = ["sdxl_simple_example", "sdxl_refiner_prompt_example", "sdxlturbo_example"]


def command(editor):
    """Choose it, and return what is said."""
    editor.page.evaluate("app.canvas.deselectAll()")
    editor.page.evaluate("app.extensionManager.command.execute('ELLA.ReadPrompts')")
    return said(editor)


def said(editor):
    toasts = editor.page.locator(".p-toast-message")
    toasts.first.wait_for(timeout=20_000)
    texts = toasts.all_inner_texts()
    editor.page.evaluate("app.extensionManager.toast.removeAll()")
    toasts.first.wait_for(state="detached", timeout=20_000)
    return "\n".join(texts)


def saved(editor):
    workflow = editor.serialize()
    workflow.get("extra", {}).pop("ds", None)
    return json.dumps(workflow, sort_keys=True)


def undo(editor):
    editor.page.evaluate("document.activeElement?.blur()")
    editor.page.keyboard.press("Control+z")
    editor.page.wait_for_function(
        """() => {
          const all = (g) => g.nodes.flatMap((n) => [n, ...(n.subgraph ? all(n.subgraph) : [])])
          return !all(app.graph).some((node) => node.type.startsWith("ELLA"))
        }""",
        timeout=20_000,
    )


def overlaps(editor):
    """Pairs of ELLA's nodes and others that cover each other."""
    return editor.page.evaluate(
        """() => {
          const boxes = app.graph.nodes.map((n) =>
            [n, n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]])
          const over = (a, b) => a[1] < b[3] && b[1] < a[3] && a[2] < b[4] && b[2] < a[4]
          return boxes.filter(([n]) => n.type.startsWith("ELLA")).flatMap((a) =>
            boxes.filter((b) => a !== b && over(a, b)).map((b) => [a[0].title, b[0].title]))
        }"""
    )


def choose_small_llm(editor):
    """The tests' host has several that fit."""
    editor.page.evaluate(
        """name => {
          const all = (g) => g.nodes.flatMap((n) => [n, ...(n.subgraph ? all(n.subgraph) : [])])
          for (const node of all(app.graph))
            if (node.type === "ELLALoadModels")
              node.widgets.find((widget) => widget.name === "llm_name").value = name
        }""",
        T5,
    )


def check(editor, before):
    """Only who reads the prompts has changed; the samplers' models are patched."""
    after = editor.api_form()
    assert signatures(after) == signatures(before)
    assert unpatched(after) == []
    assert "CLIPTextEncode" not in {node["class_type"] for node in after.values()}
    assert overlaps(editor) == []


@pytest.mark.parametrize("name", [*CORE, *CORE_SDXL])
def test_core_templates(editor, host, name):
    offered = host.server.get("/templates/index.json")
    if not any(each["name"] == name for group in offered for each in group["templates"]):
        pytest.skip("this version of ComfyUI does not have it")
    editor.load(host.server.get(f"/templates/{name}.json"))
    editor.close_dialogs()
    before, form = saved(editor), editor.api_form()
    assert re.search(r"ELLA reads \d+ prompts now", command(editor))
    check(editor, form)
    undo(editor)
    assert saved(editor) == before


@pytest.mark.parametrize("name", SHAPES)
def test_other_shapes_are_turned_and_run(editor, name):
    editor.page.evaluate(BUILD, SHAPES[name])
    editor.load(editor.serialize())  # as a user would have it: with a state to come back to
    before, form = saved(editor), editor.api_form()
    assert "Left as it was" not in command(editor)
    check(editor, form)
    undo(editor)
    assert saved(editor) == before
    command(editor)
    choose_small_llm(editor)
    assert editor.run().error is None


LOADERS = """() => app.graph.nodes.filter((node) => node.type.startsWith("ELLALoad"))
  .map((node) => [node.type, ...node.widgets.slice(0, 3).map(({ value }) => value)])"""
ADD_LOADER = """values => {
  const node = LiteGraph.createNode("ELLALoadModels")
  app.graph.add(node)
  node.widgets.forEach((widget, i) => { widget.value = values[i] })
}"""


@pytest.mark.parametrize("there", [None, "tsc.safetensors", "auto", "mlp.safetensors"])
def test_the_connector_chooses_the_llm_unless_there_is_a_loader_that_fits(editor, there):
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    command(editor)
    ((_, connector, *_),) = editor.page.evaluate(LOADERS)
    editor.clear()
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    other = [] if there is None else [["ELLALoadModels", there, T5, "fp32"]]
    for _, *values in other:
        editor.page.evaluate(ADD_LOADER, values)
    command(editor)
    # With auto a loader would take the only connector, and there are several.
    new = [] if there == connector else [["ELLALoadModels", connector, "auto", "auto"]]
    assert editor.page.evaluate(LOADERS) == [*other, *new]
    used = {
        tuple(node["inputs"]["llm"])
        for node in editor.api_form().values()
        if "llm" in node["inputs"]
    }
    assert len(used) == 1
    choose_small_llm(editor)


INSIDE = """([names, promoted]) => {
  const { subgraph, node } = app.graph.convertToSubgraph(new Set(names.map((name) => built[name])))
  for (const [title, words] of Object.entries(promoted)) {
    const inner = subgraph.nodes.find((each) => each.title === title)
    const slot = inner.inputs.find(({ name }) => name === "text")
    const input = subgraph.addInput(title, slot.type)
    input.connect(slot, inner)
    node.widgets.find(({ name }) => name === title).value = words
  }
  return node.id
}"""
TITLES = "for (const name of ['positive', 'negative']) built[name].title = name"


@pytest.mark.parametrize(
    ("inside", "promoted"),
    [
        (["positive", "negative"], {}),
        (["positive", "negative"], {"positive": "A red bird.", "negative": "a hat"}),
        (["sampler", "sampler latent"], {}),
        (["positive", "negative", "sampler", "sampler latent"], {"positive": "A red bird."}),
        (["positive"], {"positive": "A red bird."}),
    ],
)
def test_in_subgraphs(editor, inside, promoted):
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    editor.page.evaluate(TITLES)
    editor.page.evaluate(INSIDE, [inside, promoted])
    editor.load(editor.serialize())
    before, form = saved(editor), editor.api_form()
    texts = [node["inputs"].get("text") for node in form.values()]
    assert all(words in texts for words in promoted.values())
    assert "Left as it was" not in command(editor)
    check(editor, form)
    undo(editor)
    assert saved(editor) == before
    command(editor)
    choose_small_llm(editor)
    assert editor.run().error is None


SHOW = """() => {
  const { subgraph, node } = app.graph.convertToSubgraph(new Set([built.positive, built.negative]))
  const inner = subgraph.nodes.find(({ title }) => title === "positive")
  node.properties.proxyWidgets = [[String(inner.id), "text"]]
}"""
SHOWN = """() => {
  const { subgraph, properties } = app.graph.nodes.find((node) => node.subgraph)
  return properties.proxyWidgets?.map(([id, name]) => [subgraph.getNodeById(id)?.type, name])
}"""


def test_a_text_shown_on_the_node_of_a_subgraph(editor):
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    editor.page.evaluate(TITLES)
    editor.page.evaluate(SHOW)
    editor.load(editor.serialize())
    before = saved(editor)
    shown = editor.page.evaluate(SHOWN)
    if shown is None:
        pytest.skip("this editor turns it into an input, which test_in_subgraphs has")
    assert shown == [["CLIPTextEncode", "text"]]
    command(editor)
    assert editor.page.evaluate(SHOWN) == [["ELLALLMTextEncode", "text"]]
    undo(editor)
    assert saved(editor) == before


PRIMITIVE = """() => {
  const source = LiteGraph.createNode("PrimitiveNode")
  app.graph.add(source)
  source.pos = [0, 1000]
  source.connect(0, built.positive, built.positive.inputs.findIndex(({ name }) => name === "text"))
  source.widgets[0].value = "A red bird."
  const link = app.graph.getLink(built.positive.outputs[0].links[0])
  app.graph.createReroute([300, 900], link)
}"""


def test_a_primitive_node_and_points_on_links(editor):
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    editor.page.evaluate(PRIMITIVE)
    editor.load(editor.serialize())
    before, form = saved(editor), editor.api_form()
    assert "A red bird." in [node["inputs"].get("text") for node in form.values()]
    command(editor)
    check(editor, form)
    points = """() => app.graph.links.values().filter((link) => link.parentId != null).map((link) =>
      [link.type, app.graph.getNodeById(link.origin_id).type]).toArray()"""
    assert editor.page.evaluate(points) == [["CONDITIONING", "ELLATimestepConditioning"]]
    undo(editor)
    assert saved(editor) == before


LEFT = [
    *SHAPES["hires fix"][:7],
    ("old", "CheckpointLoaderSimple", {"ckpt_name": "sd2.safetensors"}, {}),
    ("two", "CLIPTextEncode", {"text": "a dog", "title": "Two"}, {"clip": ["old", 1]}),
    ("three", "CLIPTextEncode", {"text": "a hat", "title": "Three"}, {"clip": ["ckpt", 1]}),
    ("four", "CLIPTextEncode", {"text": "a cup", "title": "Four"}, {"clip": ["ckpt", 1]}),
    ("five", "CLIPTextEncodeSDXL", {"title": "Five"}, {"clip": ["ckpt", 1]}),
    ("six", "PreviewAny", {"title": "Six"}, {"source": ["four", 0]}),
    (
        *("seven", "KSampler", {"title": "Seven"}),
        {"model": ["old", 0], "positive": ["two", 0], "negative": ["two", 0]},
    ),
    ("nine", "CLIPTextEncode", {"text": "", "title": "Nine"}, {"clip": ["ckpt", 1]}),
    ("eight", "KSampler", {"title": "Eight"}, {"positive": ["nine", 0]}),
    ("ltx", "CheckpointLoaderSimple", {"ckpt_name": "ltx.safetensors"}, {}),
    ("ten", "CLIPTextEncode", {"text": "", "title": "Ten"}, {"clip": ["ltx", 1]}),
    ("eleven", "KSampler", {}, {"model": ["ltx", 0], "positive": ["ten", 0]}),
    ("twelve", "ELLAPrompt", {"title": "Twelve"}, {"clip": ["ckpt", 1]}),
]


@pytest.fixture
def ltx(host):
    """A model of another kind."""
    path = host.models / "checkpoints/ltx.safetensors"
    save_file({"transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 2048)}, path)
    yield
    path.unlink()


@pytest.mark.usefixtures("ltx")
def test_what_cannot_be_turned_is_left_and_said(editor):
    editor.page.evaluate(BUILD, LEFT)
    ids = editor.page.evaluate("Object.values(built).map(n => [n.title, n.id])")
    ids = dict(ids)
    heard = command(editor)
    assert "ELLA reads 2 prompts now. Ctrl+Z takes it back." in heard
    assert heard.split("Left as it was:\n")[1].splitlines() == [
        f"Three ({ids['Three']}): no sampler uses it",
        f"Four ({ids['Four']}): it goes into “Six”, which has no MODEL",
        f"Five ({ids['Five']}): only CLIP Text Encode is turned",
        f"Nine ({ids['Nine']}): “Eight” has no MODEL",
        f"Two ({ids['Two']}): no installed connector is for sd2.safetensors",
        f"Ten ({ids['Ten']}): ELLA is not for ltx.safetensors",
    ]
    kept = editor.page.evaluate("app.graph.nodes.map(n => n.title)")
    assert {"Two", "Three", "Four", "Five", "Nine"} <= {*kept}


NO_FILE = [
    *base(),
    ("loader", "DiffusersLoader", {"title": "A loader"}, {}),
    ("shift", "ModelSamplingDiscrete", {}, {"model": ["loader", 0]}),
    *sample(model=("shift", 0)),
]


@pytest.mark.parametrize("shape", [NO_FILE, SHAPES["hires fix"][:7]], ids=["without", "with"])
def test_a_model_from_a_loader_without_a_file_is_named(editor, shape):
    editor.page.evaluate(BUILD, shape)
    heard = command(editor)
    assert "ELLA reads 2 prompts now" in heard
    named = "Whether a connector fits A loader is not known." in heard
    assert named == (shape == NO_FILE)


def test_clip_beside_ella_is_left(editor, host):
    editor.load(small(host, ROOT / "workflows/ella-lora-with-clip.json"))
    editor.close_dialogs()
    before = saved(editor)
    heard = command(editor).splitlines()
    left = [line for line in heard if line.endswith("takes it as CLIP's part beside ELLA")]
    assert len(left) == 2
    assert not any("reads" in line for line in heard)
    assert saved(editor) == before


def test_of_several_that_are_selected_only_these_are_turned(editor):
    editor.page.evaluate(BUILD, SHAPES["areas and combine"])
    editor.page.evaluate("app.canvas.selectItems([built.positive, built.left])")
    editor.page.evaluate("app.extensionManager.command.execute('ELLA.ReadPrompts')")
    assert "ELLA reads 2 prompts now" in said(editor)
    after = editor.api_form()
    assert unpatched(after) == []
    types = [node["class_type"] for node in after.values()]
    assert types.count("CLIPTextEncode") == 1
    assert types.count("ELLAConditioning") == 2


FAIL = """() => {
  const { createNode } = LiteGraph
  LiteGraph.createNode = function (type, ...rest) {
    if (type !== "ELLATimestepConditioning") return createNode.call(this, type, ...rest)
    LiteGraph.createNode = createNode
    throw new Error("no such node")
  }
}"""


def test_a_failure_on_the_way_is_said_and_can_be_undone(editor):
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    editor.load(editor.serialize())
    before = saved(editor)
    editor.page.evaluate(FAIL)
    assert "Not all was changed: no such node. Ctrl+Z takes back what was." in command(editor)
    undo(editor)
    assert saved(editor) == before


CLEAR_MEANWHILE = """() => {
  const { fetch } = window
  window.fetch = (address, ...rest) => {
    if (String(address).includes("/ella/widths")) {
      window.fetch = fetch
      app.graph.clear()
    }
    return fetch(address, ...rest)
  }
}"""


def test_a_graph_that_was_closed_meanwhile_is_not_turned(editor):
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    editor.page.evaluate(CLEAR_MEANWHILE)
    assert "Nothing was changed: the workflow was changed meanwhile" in command(editor)
    assert editor.page.evaluate("app.graph.nodes.length") == 0


def test_says_that_there_is_none(editor):
    assert "There is no CLIP Text Encode here." in command(editor)


WHERE = """() => {
  app.canvas.ds.scale = 0.5
  app.canvas.ds.offset = [400, 400]
  app.canvas.draw(true, true)
  const { left, top } = app.canvas.canvas.getBoundingClientRect()
  const place = ([x, y]) => [left + (x + 400) * 0.5, top + (y + 400) * 0.5]
  const [x, y] = built.positive.pos
  return { node: place([x + 90, y - 12]), canvas: place([200, 900]) }
}"""


# Nodes 2.0 moves its elements some time after the canvas.
REACHED = """([x, y, onANode]) => {
  const element = document.elementFromPoint(x, y)
  const node = element.closest("[data-node-id]")
  if (onANode) return node?.dataset.nodeId === String(built.positive.id)
  return element === app.canvas.canvas
}"""


@pytest.mark.parametrize("place", ["node", "canvas"])
def test_is_in_the_menu_of_the_right_mouse_button(editor, place, renderer):
    if editor.page.evaluate(OLDER_MENUS):
        pytest.skip("this editor has no menus for extensions; the command is in its main menu")
    version = editor.page.evaluate("__COMFYUI_FRONTEND_VERSION__")
    if (renderer, place) == ("vue", "node") and version.startswith("1.32."):
        pytest.skip("Nodes 2.0 of this editor shows no extension's items in a node's menu")
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    x, y = editor.page.evaluate(WHERE)[place]
    on_a_node = (renderer, place) == ("vue", "node")
    editor.page.wait_for_function(REACHED, arg=[x, y, on_a_node])
    editor.page.mouse.click(x, y, button="right")
    editor.page.get_by_text(COMMAND, exact=True).click(timeout=20_000)
    assert "ELLA reads 2 prompts now" in said(editor)


def test_is_in_the_menu_of_the_pack(editor):
    editor.page.evaluate(BUILD, SHAPES["hires fix"][:7])
    editor.choose("ELLA", COMMAND)
    assert "ELLA reads 2 prompts now" in said(editor)
