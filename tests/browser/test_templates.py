"""Every bundled workflow in the editor: offered, opened, saved again, converted and run."""

import pytest

from comfyui import PACK_NAME
from editor import Editor
from support import other_packs
from support.sdxl import models
from support.workflows import WORKFLOWS, read, small
from workflow import to_api

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def open_editor(browser, host):
    """The editor of a host that has all the small models: it lists them when it opens."""
    with models(host):
        for path in WORKFLOWS:
            small(host, path)
        yield Editor(browser, host.server)


def content(workflow, like):
    """Return a workflow without the view and without names in the editor's language.

    Nor what newer editors and nodes add: the values of widgets by name, unlinked outputs and
    inputs, and widgets behind those that `like`, the workflow as it is bundled, has.
    """
    for node, bundled in zip(workflow["nodes"], like["nodes"], strict=True):
        node.pop("widgets_values_named", None)
        node.pop("order")  # recomputed, and another where a pack's node is missing
        for model in node["properties"].get("models", ()):
            model.pop("directory_invalid", None)  # of a pack that is not there
        values, count = node.get("widgets_values", []), len(bundled.get("widgets_values", ()))
        node["widgets_values"] = values[:count]
        if len(values) > count:  # then the node is higher too
            node["size"] = bundled["size"]
        node["inputs"] = [slot for slot in node["inputs"] if slot["link"] is not None]
        node["outputs"] = [slot for slot in node["outputs"] if slot["links"]]
        for slot in [*node["inputs"], *node["outputs"]]:
            slot.pop("localized_name", None)
    for group in workflow["groups"]:
        group.pop("font_size", None)
    return {key: workflow[key] for key in ("nodes", "links", "groups", "last_node_id")}


def test_the_template_browser_offers_them_all_with_pictures(editor):
    editor.browse_templates(PACK_NAME)
    cards = editor.page.locator("[data-testid^=template-workflow-ella]")
    assert "ella-prompt" in cards.nth(0).inner_text().splitlines()
    assert "ella-text-to-image" in cards.nth(1).inner_text().splitlines()
    for path in WORKFLOWS:
        card = editor.page.get_by_test_id(f"template-workflow-{path.stem}")
        while not card.count():  # ComfyUI 0.3.64 adds cards when the last one is seen
            shown = cards.count()
            cards.last.scroll_into_view_if_needed()
            cards.nth(shown).wait_for(timeout=20_000)
        card.scroll_into_view_if_needed()
        assert path.stem in card.inner_text()
        picture = card.locator("img").first.element_handle()
        editor.page.wait_for_function("img => img.complete && img.naturalWidth > 0", arg=picture)


def test_a_template_opens_by_a_click(editor):
    editor.browse_templates(PACK_NAME)
    editor.page.get_by_test_id(f"template-workflow-{WORKFLOWS[0].stem}").click()
    nodes = len(read(WORKFLOWS[0])["nodes"])
    editor.page.wait_for_function("n => app.graph.nodes.length === n", arg=nodes)


NAMES = {"ELLA", "ControlNet", "IPAdapter"}  # the same in every language
NOTE = """() => app.graph.nodes.find(({ type }) => type === "MarkdownNote").widgets[0].value"""


@pytest.mark.parametrize("language", ["zh", "ja"])
@pytest.mark.usefixtures("open_editor")  # for the small models
def test_notes_groups_and_titles_are_in_the_language_of_the_editor(browser, host, language):
    """Those of a note that somebody changed are theirs."""
    host.server.post("/settings", {"Comfy.Locale": language})
    editor = Editor(browser, host.server)
    try:
        for path in WORKFLOWS:
            workflow = small(host, path)
            editor.load(workflow)
            shown = editor.serialize()
            english = [(n["id"], n["title"]) for n in workflow["nodes"] if "title" in n]
            titles = {(node["id"], node.get("title")) for node in shown["nodes"]}
            assert titles.isdisjoint(english), path.stem
            groups = {group["title"] for group in shown["groups"]} - NAMES
            assert groups.isdisjoint(group["title"] for group in workflow["groups"]), path.stem
            assert "**Files" not in editor.page.evaluate(NOTE), path.stem
        (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
        note["widgets_values"][0] += " And mine."
        editor.load(workflow)
        assert editor.page.evaluate(NOTE) == note["widgets_values"][0]
        assert editor.serialize()["groups"][0]["title"] == workflow["groups"][0]["title"]
        assert not editor.errors, editor.errors
    finally:
        editor.page.close()
        host.server.post("/settings", {"Comfy.Locale": "en"})


# Pixels of each node that differ between links that are drawn and links that are hidden. The whole
# graph is brought into the window.
BEHIND_LINKS = """() => {
  const { canvas } = app
  const { ds, canvas: element } = canvas
  const boxes = app.graph.nodes.map((node) => [node.type, ...node.boundingRect])
  const [left, top] = [1, 2].map((i) => Math.min(...boxes.map((box) => box[i])))
  const width = Math.max(...boxes.map((box) => box[1] + box[3])) - left
  const height = Math.max(...boxes.map((box) => box[2] + box[4])) - top
  ds.scale = Math.min(element.width / width, element.height / height, 1)
  ds.offset = [-left, -top]
  const draw = (mode) => {
    canvas.links_render_mode = mode
    canvas.draw(true, true)
    const context = element.getContext("2d")
    return boxes.map(([, x, y, w, h]) => context.getImageData(
      ...[x - left + 4, y - top + 4, w - 8, h - 8].map((n) => Math.round(n * ds.scale))).data)
  }
  const mode = canvas.links_render_mode
  const [shown, hidden] = [draw(mode), draw(LiteGraph.HIDDEN_LINK)]
  canvas.links_render_mode = mode
  return boxes.map(([type], i) => [type, shown[i].filter((n, j) => n !== hidden[i][j]).length])
}"""


def test_no_node_is_hidden_behind_a_link(editor, host):
    for path in WORKFLOWS:
        workflow = small(host, path)
        for node in workflow["nodes"]:
            node["mode"] = 0  # bypassed ones are transparent
        editor.load(workflow)
        assert all(pixels == 0 for _, pixels in editor.page.evaluate(BEHIND_LINKS)), path.stem
    editor.page.evaluate("app.graph.config.links_ontop = true")  # it would be found
    assert any(pixels for _, pixels in editor.page.evaluate(BEHIND_LINKS))


@each_workflow
def test_opens_and_is_saved_unchanged(editor, host, path):
    workflow = read(path)
    absent = other_packs.missing(host, workflow)
    editor.load(workflow)
    properties = {node["type"]: node["properties"] for node in workflow["nodes"]}
    models = {kind: about.get("models", []) for kind, about in properties.items()}
    text = editor.complaints()  # of the real models, which are not there
    here = [files for kind, files in models.items() if kind not in absent]
    assert all(model["name"] in text for files in here for model in files)
    # Newer editors name the pack.
    assert all(kind in text or properties[kind]["cnr_id"] in text for kind in absent)
    assert all(models[kind] for kind in {*editor.red_nodes()} - absent)
    assert content(editor.serialize(), workflow) == content(read(path), workflow)


@each_workflow
def test_is_converted_and_runs(editor, host, path):
    workflow = small(host, path)
    editor.load(workflow)
    absent = other_packs.missing(host, workflow)
    assert absent or not editor.complaints()  # newer editors don't mind what is bypassed
    assert {*editor.red_nodes()} <= absent
    editor.close_dialogs()
    assert editor.api_form() == to_api(workflow, host.server.get("/object_info"))
    boxes = {node: pytest.approx(box) for node, box in editor.boxes().items()}
    host.server.post("/free", {"free_memory": True})  # so that every node runs and speaks
    run = editor.run()
    assert run.error is None
    assert editor.boxes() == boxes, "what a node shows after a run covers what is below it"
    kinds = ("SaveImage", "SaveAnimatedWEBP")
    savers = {str(node["id"]) for node in workflow["nodes"] if node["type"] in kinds}
    for node in savers:
        for image in run.outputs[node]["images"]:
            assert (host.server.base / "output" / image["filename"]).stat().st_size > 0
