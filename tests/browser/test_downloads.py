"""The dialog "Download ELLA models" in ComfyUI's own editor, from a hub on this machine."""

import json
import threading
from contextlib import nullcontext

import pytest

from bootstrap import ROOT
from comfyui import Server
from editor import Editor
from ella_core.hub import SOURCES
from support.hub import (
    ADAPTER,
    CHUNK,
    CONNECTOR,
    GEMMA,
    MAIN,
    PINNED,
    REPO,
    SDXL_REPOS,
    T5_FOLDER,
    Hub,
    part_of,
    remove_models,
    small_repository,
    stall_after,
)
from workflow import set_widgets

WORKFLOW = ROOT / "workflows/ella-text-to-image.json"
AUTO_WORKFLOW = ROOT / "workflows/ella-prompt.json"  # its LLM is "auto"
SDXL_WORKFLOW = ROOT / "workflows/ella-sdxl-text-to-image.json"
MISSING = "LLM missing: download ..."

LABELS = {CONNECTOR: "ELLA connector", T5_FOLDER: "FLAN-T5-XL encoder"}

ADD_LOADERS = """() => {
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [0, 0]
  window.loaders = ["ELLALoad", "ELLALoadLLM"].map((type, i) => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [700, 200 + 200 * i]
    return node
  })
  app.canvas.setDirty(true, true)
}"""
MIDDLE_OF_COMBO = """i => {
  const { pos, size, widgets: [combo] } = loaders[i]
  return app.canvasPosToClientPos([pos[0] + size[0] / 2, pos[1] + combo.last_y + 10])
}"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Its connector is made long enough to be interrupted in. It is only downloaded."""
    files = small_repository(tmp_path_factory.mktemp("repo"))
    files[CONNECTOR] += b" " * 2 * CHUNK
    with Hub(files) as hub:
        yield hub


@pytest.fixture(scope="module")
def server(hub, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    with Server(base, ["--cpu"], environment=hub.environment(base / "home")) as server:
        yield server


@pytest.fixture(scope="module")
def open_editor(browser, server):
    return Editor(browser, server)


@pytest.fixture
def page(editor):
    yield editor.page
    editor.page.evaluate("document.querySelector('dialog[open]')?.close()")


@pytest.fixture
def models(server, hub):
    """ComfyUI's folder, without the models. The hub is as new."""
    hub.heal(hub.files)
    remove_models(server.base / "models")
    return server.base / "models"


@pytest.fixture
def dialog(page):
    return page.locator("dialog[open]")


@pytest.fixture
def choose(editor):
    """Choose the command in ComfyUI's menu."""
    return lambda: editor.choose("ELLA", "Download ELLA models ...")


@pytest.fixture
def release(hub):
    """The connector's first bytes come at once, the rest when this is called."""
    released = threading.Event()
    hub.fault = stall_after(CHUNK + 1, released)

    def release():
        hub.fault = None
        released.set()

    yield release
    release()


def button(dialog, name):
    return dialog.get_by_role("button", name=name, exact=True)


def buttons(dialog):
    return [b.inner_text() for b in dialog.get_by_role("button").all() if b.is_visible()]


def text(dialog, part):
    """Wait until the dialog holds a text, and return all of it."""
    line = dialog.get_by_role("status").filter(has_text=part)
    line.wait_for(timeout=60_000)
    return line.inner_text()


def escape(page, dialog):
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden", timeout=10_000)


def megabytes(size):
    return f"{size / 1e6:.0f} MB"


def offered(page, i):
    """Click the i-th loader's dropdown and return its entries."""
    page.mouse.click(*page.evaluate(MIDDLE_OF_COMBO, i))
    entries = page.locator(".litemenu-entry")
    entries.first.wait_for(timeout=10_000)
    shown = entries.all_inner_texts()
    page.evaluate("LiteGraph.closeAllContextMenus()")
    return shown


def test_shows_downloads_and_offers_the_models(page, dialog, choose, hub, models, release):
    targets = {CONNECTOR: models / "ella", T5_FOLDER: models / "text_encoders"}
    page.evaluate(ADD_LOADERS)
    page.wait_for_function("loaders.every(node => node.widgets[0].last_y)")
    for i, name in enumerate(targets):
        assert name not in offered(page, i)
    choose()
    text(dialog, "Files that are there are left as they are.")
    assert buttons(dialog) == ["Download", "Close"]
    rows = dialog.locator("label").all()
    for row, (name, folder) in zip(rows[:2], targets.items(), strict=True):
        size = sum(len(data) for path, data in hub.files.items() if path.startswith(name))
        assert row.locator("b").inner_text() == f"{LABELS[name]} ({megabytes(size)})"
        commit = PINNED if name == CONNECTOR else MAIN
        origin = f"from {hub.address}/{REPO}, commit {commit[:12]}"
        said = [origin, f"to {folder / name}", "licence: Apache-2.0"]
        assert row.locator("div").all_inner_texts() == said
        assert row.get_by_role("checkbox").is_checked()
    for row in rows[2:]:  # SDXL's, which this hub has not
        assert "(not to be had)" in row.locator("b").inner_text()
        assert row.get_by_role("checkbox").is_disabled()
    assert "licence: unknown: none was found" in rows[2].inner_text()
    assert not any("resolve" in path for path, _ in hub.requests)
    button(dialog, "Download").click()
    total = len(hub.files[CONNECTOR])
    text(dialog, f"downloading the ELLA connector: {megabytes(CHUNK)} of {megabytes(total)}")
    assert dialog.locator("progress").evaluate("bar => bar.value") == pytest.approx(CHUNK / total)
    assert buttons(dialog) == ["Stop", "Go on in the background"]
    release()
    report = text(dialog, ": downloaded")
    assert [line.partition(": ")[0] for line in report.splitlines()] == list(LABELS.values())
    assert buttons(dialog) == ["Close"]
    for path, content in hub.files.items():
        file = targets[CONNECTOR if path == CONNECTOR else T5_FOLDER] / path
        assert file.read_bytes() == content
    escape(page, dialog)
    for i, name in enumerate(targets):
        holds = "([i, name]) => loaders[i].widgets[0].options.values.includes(name)"
        page.wait_for_function(holds, arg=[i, name], timeout=20_000)
        assert name in offered(page, i)
    choose()
    text(dialog, "Everything available is there.")
    assert buttons(dialog) == ["Close"]
    expected = [f"{label} (already there)" for label in LABELS.values()]
    assert dialog.locator("label b").all_inner_texts()[:2] == expected
    assert all(box.is_disabled() for box in dialog.get_by_role("checkbox").all())


def test_goes_on_while_closed_until_it_is_stopped(page, dialog, choose, hub, models, release):
    choose()
    dialog.get_by_label(LABELS[T5_FOLDER]).uncheck()
    button(dialog, "Download").click()
    text(dialog, f"{megabytes(CHUNK)} of")
    escape(page, dialog)
    choose()
    text(dialog, f"{megabytes(CHUNK)} of")
    with page.expect_response("**/ella/downloads/stop"):
        button(dialog, "Stop").click()
    release()
    text(dialog, "The download was stopped in the menu; download again to go on.")
    assert part_of(models / "ella").stat().st_size < len(hub.files[CONNECTOR])
    assert not (models / "ella" / CONNECTOR).exists()
    assert not (models / "text_encoders" / T5_FOLDER).exists()
    button(dialog, "Try again").click()
    to_come = dialog.get_by_text("of them still to come")
    to_come.wait_for(timeout=20_000)
    assert to_come.inner_text().startswith(LABELS[CONNECTOR])


def test_a_download_that_ends_unseen_is_told_of_for_a_while(page, dialog, choose, models, release):
    choose()
    dialog.get_by_label(LABELS[T5_FOLDER]).uncheck()
    button(dialog, "Download").click()
    text(dialog, f"{megabytes(CHUNK)} of")
    button(dialog, "Go on in the background").click()
    release()
    toast = page.locator(".p-toast-message-success").filter(has_text="ELLA connector: downloaded")
    toast.wait_for(timeout=30_000)
    toast.wait_for(state="hidden", timeout=30_000)


def test_without_the_hub_it_shows_what_is_there(page, dialog, choose, hub, models):
    for path, content in hub.files.items():
        file = models / ("ella" if path == CONNECTOR else "text_encoders") / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with hub.away():
        choose()
        text(dialog, "Everything available is there.")
    assert buttons(dialog) == ["Close"]
    for row in dialog.locator("label").all()[:2]:
        assert "(already there)" in row.locator("b").inner_text()
        unreached = f"{hub.address}/{REPO} was not reached, nothing was compared: the connection to"
        assert row.locator("div").first.inner_text().startswith(unreached)


def copied(page, dialog):
    """Select and copy the dialog's text; return the clipboard's content."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog.get_by_role("status").evaluate("text => getSelection().selectAllChildren(text)")
    page.keyboard.press("Control+c")
    return page.evaluate("navigator.clipboard.readText()").strip()


def refuses(hub):
    hub.status = 403
    return nullcontext()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [(refuses, ["403", "set HF_TOKEN"]), (Hub.away, ["failed", "set HF_ENDPOINT to a mirror"])],
)
def test_says_what_is_wrong_with_the_hub(page, dialog, choose, hub, models, trouble, words):
    with trouble(hub):
        choose()
        message = text(dialog, "Can't download the ELLA connector")
    assert all(word in message for word in [*words, f"hf download {REPO} {CONNECTOR}"])
    assert copied(page, dialog) == message
    assert buttons(dialog) == ["Try again", "Close"]
    assert dialog.locator("label").count() == 0
    hub.heal(hub.files)
    button(dialog, "Try again").click()
    button(dialog, "Download").wait_for(timeout=20_000)


def open_without_models(editor, path=WORKFLOW, **widgets):
    editor.page.evaluate("sessionStorage.removeItem('ella.downloadOffered')")
    editor.page.evaluate("app.refreshComboInNodes()")  # its lists may be those before `models`
    editor.load(set_widgets(json.loads(path.read_text(encoding="utf-8")), **widgets))


@pytest.mark.parametrize("path", [WORKFLOW, AUTO_WORKFLOW], ids=lambda path: path.stem)
def test_a_graph_without_its_models_offers_them_once(editor, page, dialog, models, path):
    open_without_models(editor, path)
    text(dialog, "Files that are there are left as they are.")
    for label in LABELS.values():
        assert dialog.get_by_label(label).is_checked()
    button(dialog, "Close").click()
    dialog.wait_for(state="hidden", timeout=10_000)
    editor.close_dialogs()  # the editor's own
    editor.load(json.loads(path.read_text(encoding="utf-8")))
    page.get_by_role("button", name=MISSING).first.wait_for(timeout=20_000)
    assert dialog.count() == 0
    editor.errors.clear()  # the browser itself notes every answer that is an error


def chosen(dialog):
    """Name -> whether it is chosen, of all rows but those that can't be."""
    boxes = dialog.get_by_role("checkbox").all()
    return {box.input_value(): box.is_checked() for box in boxes if box.is_enabled()}


def test_a_graph_for_sdxl_offers_what_is_for_sdxl(editor, page, dialog, choose, hub, models):
    hub.others = SDXL_REPOS
    open_without_models(editor, SDXL_WORKFLOW)
    text(dialog, "Files that are there are left as they are.")
    sdxl = {"SDXL adapter": True, "SDXL LLM": True}
    assert chosen(dialog) == {"connector": False, "LLM": False, **sdxl}
    button(dialog, "Download").click()
    text(dialog, "Gemma 3 1B, for RouWei-Gemma: downloaded")
    assert (models / "llm_adapters" / ADAPTER).is_file()
    escape(page, dialog)
    editor.close_dialogs()  # the editor's own
    holds = (
        "name => JSON.stringify(app.graph.nodes.map(n => n.widgets?.[0]?.options)).includes(name)"
    )
    for name in (ADAPTER, GEMMA):
        page.wait_for_function(holds, arg=name, timeout=20_000)
    choose()
    text(dialog, "Files that are there are left as they are.")
    assert chosen(dialog) == {"connector": True, "LLM": True}  # as from the menu
    button(dialog, "Download").click()
    text(dialog, "FLAN-T5-XL encoder: downloaded")
    escape(page, dialog)
    choose()
    assert text(dialog, "Everything") == "Everything is there."
    escape(page, dialog)
    (models / "llm_adapters" / ADAPTER).unlink()
    open_without_models(editor, SDXL_WORKFLOW)
    text(dialog, "Files that are there are left as they are.")
    assert chosen(dialog) == {"SDXL adapter": True}
    editor.errors.clear()


def test_the_editor_knows_all_that_can_be_downloaded():
    code = (ROOT / "web/ella-offer.js").read_text(encoding="utf-8")
    assert all(f'"{source.name}"' in code for source in SOURCES.values())


def test_a_graph_that_names_an_llm_of_another_kind_offers_nothing(editor, page, dialog, models):
    open_without_models(editor, llm_name="my-llm", ella_name="mine.safetensors")
    assert page.get_by_text("is not installed. Use").count() == 0
    editor.close_dialogs()
    page.get_by_role("button", name=MISSING).first.wait_for(timeout=20_000)
    assert dialog.count() == 0
    assert page.evaluate("sessionStorage.getItem('ella.downloadOffered')") is None
    editor.errors.clear()


def test_the_line_under_a_prompt_is_a_button(editor, page, dialog, models):
    page.evaluate("sessionStorage.setItem('ella.downloadOffered', 'true')")
    editor.load(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    editor.close_dialogs()
    line = page.get_by_role("button", name=MISSING).first
    line.wait_for(timeout=20_000)
    line.click()
    text(dialog, "Files that are there are left as they are.")
    editor.errors.clear()
