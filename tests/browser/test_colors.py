"""The colours of the slots and links of the pack's own types, in ComfyUI's own editor."""

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from editor import Editor

TYPES = (
    *("ELLA", "ELLA_LLM", "ELLA_LLM_EMBEDS", "ELLA_XY"),
    *("ELLA_EMBEDS", "T5_TEXT_ENCODER"),
)

# An output and an input of each type, with a link between them.
BUILD = """() => {
  app.canvas.ds.scale = 0.7
  app.canvas.ds.offset = [0, 0]
  const links = [
    ["ELLALoad", "ELLATimestepConditioning"],
    ["ELLALoadLLM", "ELLALLMTextEncode"],
    ["ELLALLMTextEncode", "ELLABlendEmbeds"],
    ["T5TextEncode #ELLA", "EllaApply"],
    ["T5TextEncoderLoader #ELLA", "T5TextEncode #ELLA"],
    ["ELLAXYValues", "ELLAXYSheet"],
  ]
  window.built = {}
  links.forEach(([from, to], i) => {
    const [source, target] = [from, to].map((type, j) => {
      const node = LiteGraph.createNode(type)
      node.pos = [400 + 700 * j, 90 + 190 * i]
      app.graph.add(node)
      return node
    })
    const slot = source.outputs.findIndex(({ type }) => type !== "*")
    const { type } = source.outputs[slot]
    source.connect(slot, target, target.inputs.findIndex((input) => input.type === type))
    built[type] = { source, slot }
  })
}"""

# The middle of the output's dot, where the link begins. Nodes 2.0 has rows of its own.
PLACES = """() => Object.fromEntries(Object.entries(built).map(([type, { source, slot }]) => {
  const root = document.querySelector(`[data-node-id="${source.id}"]`)
  const dot = root?.querySelectorAll(".lg-slot--output .slot-dot")[slot]?.getBoundingClientRect()
  if (dot) return [type, [dot.x + dot.width / 2, dot.y + dot.height / 2].map(Math.round)]
  const [x, y] = app.canvas.ds.convertOffsetToCanvas(source.getConnectionPos(false, slot))
  const { left, top } = app.canvas.canvas.getBoundingClientRect()
  return [type, [Math.round(x + left), Math.round(y + top)]]
}))"""

DOTS = """() => Object.fromEntries(Object.entries(built).map(([type, { source, slot }]) => {
  const root = document.querySelector(`[data-node-id="${source.id}"]`)
  const dot = root.querySelectorAll(".lg-slot--output .slot-dot")[slot]
  return [type, getComputedStyle(dot).backgroundColor]
}))"""

BACKGROUND = {"dark": (0x35, 0x35, 0x35), "light": (0xF5, 0xF5, 0xF5)}  # of a node, by the palette


@pytest.fixture(params=["dark", "light"])
def theme(request, editor):
    editor.set_settings({"Comfy.ColorPalette": request.param})
    yield request.param
    editor.set_settings({"Comfy.ColorPalette": "dark"})


def luminance(color):
    """Return the luminance that WCAG 2.1 defines, of (r, g, b) in 0 to 255."""
    c = np.asarray(color) / 255
    return float(
        np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    )


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def pixels(picture, x, y, color):
    """Count the pixels of about that colour in a square of 16 x 16."""
    square = picture[y - 8 : y + 8, x - 8 : x + 8]
    return int((np.abs(square.astype(int) - color).max(axis=-1) <= 20).sum())


def rgb(text):
    values = [float(v) for v in text.partition("(")[2].rstrip(")").split(",")]
    assert len(values) == 3, f"{text} is not opaque"
    return tuple(int(v) for v in values)


@pytest.fixture
def colors(editor, theme, renderer):
    """Type -> the colour in which its dots and links are to be seen."""
    editor.page.evaluate(BUILD)
    editor.page.wait_for_timeout(500)
    picture = np.asarray(Image.open(io.BytesIO(editor.page.screenshot())).convert("RGB"))
    links = editor.page.evaluate("LGraphCanvas.link_type_colors")
    found = {t: tuple(bytes.fromhex(links[t].removeprefix("#"))) for t in TYPES}
    for type_, (x, y) in editor.page.evaluate(PLACES).items():
        assert pixels(picture, x, y, found[type_]) > 8, type_
        assert pixels(picture, x + 20, y, found[type_]) > 8, type_
    if renderer == "vue":
        dots = editor.page.evaluate(DOTS)
        assert {type_: rgb(text) for type_, text in dots.items()} == found
    return found


def test_are_seen_and_told_apart(colors, theme):
    assert sorted(colors) == sorted(TYPES)
    for type_, color in colors.items():
        assert contrast(color, BACKGROUND[theme]) >= 3, type_
    for a, b in combinations(colors.values(), 2):
        assert np.linalg.norm(np.subtract(a, b)) > 60


@pytest.fixture
def own_palette(browser, host):
    """An editor whose user has chosen a palette of theirs, with a colour for one of the types."""
    empty = {"litegraph_base": {}, "comfy_base": {}}
    own = {"id": "own", "name": "own", "colors": {"node_slot": {"ELLA": "#123456"}, **empty}}
    chosen = {"Comfy.CustomColorPalettes": {"own": own}, "Comfy.ColorPalette": "own"}
    host.server.post("/settings", chosen)
    editor = Editor(browser, host.server)
    yield editor
    editor.page.close()
    host.server.post("/settings", {"Comfy.CustomColorPalettes": {}, "Comfy.ColorPalette": "dark"})


def test_a_palette_of_the_users_goes_first(own_palette):
    page = own_palette.page
    page.wait_for_function("LGraphCanvas.link_type_colors.ELLA_LLM")
    colors = "[app.canvas.colourGetter.getConnectedColor(t), LGraphCanvas.link_type_colors[t]]"
    found = {t: page.evaluate(f"t => {colors}", t) for t in TYPES[:2]}
    assert found == {"ELLA": ["#123456"] * 2, "ELLA_LLM": ["#3f82ee"] * 2}
