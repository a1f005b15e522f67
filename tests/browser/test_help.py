"""The nodes in the editor's languages: titles, tooltips, and the help panel."""

import re

import pytest

from comfyui import PACK_NAME
from support.browser import Editor

NODE = "ELLATimestepConditioning"
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
    assert not editor.errors, editor.errors
    editor.page.close()
    host.server.post("/settings", {"Comfy.Locale": "en"})


def test_title_and_labels(page, texts):
    assert page.evaluate("node.title") == texts["display_name"]
    labels = page.evaluate("node.inputs.map(slot => slot.localized_name)")
    assert labels == [texts["inputs"][name]["name"] for name in texts["inputs"]]
    labels = page.evaluate("node.outputs.map(slot => slot.localized_name)")
    assert labels[1:] == [texts["outputs"][i]["name"] for i in "12"]


def hover(page, x, y):
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    tooltip = page.locator(".node-tooltip")
    tooltip.wait_for()
    return tooltip.inner_text()


def test_tooltips(page, texts):
    assert hover(page, 800, 285) == texts["description"]
    for i, name in enumerate(texts["inputs"]):
        x, y = page.evaluate("i => [...node.getInputPos(i)]", i)
        assert hover(page, x, y) == texts["inputs"][name]["tooltip"]
    for i, output in texts["outputs"].items():
        x, y = page.evaluate("i => [...node.getOutputPos(i)]", int(i))
        assert hover(page, x, y) == output["tooltip"]


def open_help(page, host, node_id, language):
    """The help panel with a node's page, opened by the button above the selected node."""
    path = f"{node_id}.md" if language == "en" else f"{node_id}/{language}.md"
    title = host.server.text(f"/extensions/{PACK_NAME}/docs/{path}").splitlines()[0]
    page.evaluate(
        """type => {
          app.graph.clear()
          const node = LiteGraph.createNode(type)
          app.graph.add(node)
          node.pos = [700, 300]
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
    width = "async image => (await image.decode(), image.naturalWidth)"
    assert panel.locator("img").evaluate(width) > 500


def test_no_page_has_markup_that_is_shown_as_it_is(page, host, language):
    """Bold text beside Chinese or Japanese punctuation is where Markdown gives up."""
    for node_id, info in host.server.get("/object_info").items():
        if info["python_module"].endswith(PACK_NAME) and "#" not in node_id:
            text = open_help(page, host, node_id, language).inner_text()
            assert not re.search(r"\*\*|`|\]\(", text), (node_id, text)


def test_commands_and_menus_have_translations(page, host, language):
    if language == "en":
        return
    commands = page.evaluate(
        """app.extensionManager.command.commands.filter(c => c.id.startsWith("ELLA."))
           .map(c => [c.id, c.menubarLabel])"""
    )
    assert commands
    translated = host.server.get("/i18n")[language]
    ids = {command_id.replace(".", "_") for command_id, _ in commands}
    assert translated["commands"].keys() == ids
    assert translated["menuLabels"].keys() == {label for _, label in commands}


def test_the_language_can_be_changed_while_the_editor_is_open(page, host, language):
    if language != "en":
        return
    page.evaluate("app.extensionManager.setting.set('Comfy.Locale', 'ja')")
    expected = host.server.get("/i18n")["ja"]["nodeDefs"][NODE]["display_name"]
    page.wait_for_function("title => app.graph.nodes[0]?.title === title", arg=expected)
