"""The nodes in the editor's languages: titles, tooltips, and the help panel."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from bootstrap import ROOT
from comfyui import PACK_NAME, Server
from editor import Editor

NODE = "ELLATimestepConditioning"
PICTURE_WIDTH = "async image => (await image.decode(), image.naturalWidth)"
HEADING = {"en": "What goes wrong", "zh": "常见问题", "ja": "うまくいかないとき"}


@pytest.fixture(scope="module", params=HEADING)
def language(request):
    return request.param


@pytest.fixture(scope="module")
def texts(host, language):
    """The node's texts in that language."""
    if language != "en":
        return host.server.get("/i18n")[language]["nodeDefs"][NODE]
    info = host.server.get("/object_info")[NODE]
    inputs = {**info["input"]["required"], **info["input"]["optional"]}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            n: {"name": n, "tooltip": options["tooltip"]} for n, (_, options) in inputs.items()
        },
        "outputs": {str(i): {"name": n, "tooltip": tip} for i, (n, tip) in enumerate(outputs)},
    }


@pytest.fixture(scope="module")
def page(browser, host, language):
    """The editor started in that language, with the node on its canvas."""
    host.server.post("/settings", {"Comfy.Locale": language})
    editor = Editor(browser, host.server)
    editor.page.evaluate(
        """type => {
          const node = window.node = LiteGraph.createNode(type)
          app.graph.add(node)
          node.pos = [700, 300]
          app.canvas.ds.scale = 1
          app.canvas.ds.offset = [0, 0]
        }""",
        NODE,
    )
    yield editor.page
    # For English pages the editor asks for <id>/en.md before <id>.md.
    errors = [error for error in editor.errors if "/en.md" not in error]
    assert not errors, errors
    editor.page.close()
    host.server.post("/settings", {"Comfy.Locale": "en"})


def test_title_and_labels(page, texts):
    assert page.evaluate("node.title") == texts["display_name"]
    labels = page.evaluate("node.inputs.map(slot => slot.localized_name)")
    assert labels == [texts["inputs"][name]["name"] for name in texts["inputs"]]
    labels = page.evaluate("node.outputs.map(slot => slot.localized_name)")
    assert labels[1:] == [texts["outputs"][i]["name"] for i in "12"]


TITLES = "ids => ids.map(id => LiteGraph.registered_node_types[id].title)"


def test_the_official_pack_keeps_its_own_titles(browser, tmp_path):
    pack = ROOT / "tests/host_packs/official_standin"
    with Server(tmp_path, ["--cpu"], packs=[pack]) as server:
        server.post("/settings", {"Comfy.Locale": "ja"})
        infos = server.get("/object_info").items()
        ids = [i for i, info in infos if info["python_module"].endswith(pack.name)]
        editor = Editor(browser, server)
        assert editor.page.evaluate(TITLES, ["ELLALoad"]) != ["Load ELLA"]
        assert editor.page.evaluate(TITLES, ids) == [f"Official {node_id}" for node_id in ids]
        editor.page.close()


def hover(page, place, tooltip):
    """Point at a place of the canvas and expect a tooltip."""
    box = page.locator("#graph-canvas").bounding_box()  # older editors have a bar above it
    x, y = place[0] + box["x"], place[1] + box["y"]
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    expect(page.locator(".node-tooltip")).to_have_text(tooltip, timeout=20_000)


def test_tooltips(page, texts):
    hover(page, (800, 285), texts["description"])
    for i, name in enumerate(texts["inputs"]):
        place = page.evaluate("i => [...node.getInputPos(i)]", i)
        hover(page, place, texts["inputs"][name]["tooltip"])
    for i, output in texts["outputs"].items():
        place = page.evaluate("i => [...node.getOutputPos(i)]", int(i))
        hover(page, place, output["tooltip"])


def open_help(page, host, node_id, language):
    """The help panel with a node's page, opened by the button above the selected node."""
    path = f"{node_id}.md" if language == "en" else f"{node_id}/{language}.md"
    title = host.server.text(f"/extensions/{PACK_NAME}/docs/{quote(path)}").splitlines()[0]
    page.evaluate(
        """type => {
          app.graph.clear()
          const node = LiteGraph.createNode(type)
          app.graph.add(node)
          node.pos = [700, 300]
          app.canvas.draw(true, true) // places the node, and so the button that comes above it
          app.canvas.selectNode(node)
        }""",
        node_id,
    )
    page.get_by_test_id("info-button").click(timeout=10_000)
    panel = page.locator(".node-help-content")
    panel.get_by_role("heading", name=title.removeprefix("# "), exact=True).wait_for(timeout=10_000)
    return panel


def test_help_panel_has_the_page_of_the_language_with_its_picture(page, host, texts, language):
    panel = open_help(page, host, NODE, language)
    assert panel.locator("h1").inner_text() == texts["display_name"]
    assert panel.locator("h2").all_inner_texts()[-1] == HEADING[language]
    assert panel.locator("img").evaluate(PICTURE_WIDTH) > 500


@pytest.mark.parametrize("node_id", ["T5TextEncoderLoader #ELLA", "T5TextEncode #ELLA"])
def test_help_of_an_id_with_a_number_sign(page, host, node_id):
    panel = open_help(page, host, node_id, "en")
    assert panel.locator("h2").all_inner_texts()[-1] == HEADING["en"]
    assert panel.locator("img").evaluate(PICTURE_WIDTH) > 500


CUT = """panel => {
  const edge = panel.getBoundingClientRect().right
  const parts = [...panel.querySelectorAll("p, li, code, th, td, img")]
  const beyond = part => [...part.getClientRects()].some(line => line.right > edge + 1)
  return parts.filter(beyond).map(part => part.textContent)
}"""


def test_pages_show_no_markup_and_fit_the_panel(page, host, language):
    """Bold text beside Chinese or Japanese punctuation is where Markdown gives up."""
    for node_id, info in host.server.get("/object_info").items():
        if info["python_module"].endswith(PACK_NAME) and not info["deprecated"]:
            panel = open_help(page, host, node_id, language)
            assert not re.search(r"\*\*|`|\]\(", panel.inner_text()), node_id
            assert panel.evaluate(CUT) == [], node_id


def test_every_command_and_menu_entry_is_translated(editor, host):
    commands = editor.page.evaluate(
        """app.extensionManager.command.commands.filter(c => c.id.startsWith("ELLA."))
           .map(c => [c.id, c.menubarLabel])"""
    )
    assert commands
    for texts in host.server.get("/i18n").values():
        # The editor looks for dots as underscores.
        assert texts["commands"].keys() == {name.replace(".", "_") for name, _ in commands}
        assert texts["menuLabels"].keys() == {label.replace(".", "_") for _, label in commands}


def test_the_language_can_be_changed_while_the_editor_is_open(editor, host):
    editor.page.evaluate("type => app.graph.add(LiteGraph.createNode(type))", NODE)
    try:
        editor.page.evaluate("app.extensionManager.setting.set('Comfy.Locale', 'ja')")
        title = host.server.get("/i18n")["ja"]["nodeDefs"][NODE]["display_name"]
        changed = "title => LiteGraph.registered_node_types[title[0]].title === title[1]"
        editor.page.wait_for_function(changed, arg=[NODE, title], timeout=30_000)
        assert editor.page.evaluate("type => LiteGraph.createNode(type).title", NODE) == title
    finally:
        editor.page.evaluate("app.extensionManager.setting.set('Comfy.Locale', 'en')")
