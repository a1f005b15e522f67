"""ComfyUI's editor in a real browser."""

import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Playwright, sync_playwright

from comfyui import PACK_NAME, Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
HOW_TO_GET_ONE = (
    "no Chromium was found. Debian: apt-get install chromium. Anywhere: "
    f"{sys.executable} -m playwright install chromium. Or name one in the variable CHROMIUM."
)
# Nothing that phones home, and no sandbox, which needs rights that containers don't give.
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"]
_TIMEOUT = 120_000  # ms; small machines take their time

#: The button of ComfyUI's menu; the second is that of 0.3.64's editor.
MENU = ".comfy-menu-button-wrapper, .comfyui-logo-wrapper"

_DIALOG = ".global-dialog, [role=dialog][data-dismissable-layer]"
_ERRORS = "[data-testid=error-overlay]"  # what newer editors show in place of some dialogs

_FOLLOW = """() => {
  const run = window.followedRun = { outputs: {}, end: null, error: null }
  const listening = new AbortController()
  const on = (kind, react) => app.api.addEventListener(kind, react, { signal: listening.signal })
  on("executed", ({ detail }) => { run.outputs[detail.node] = detail.output })
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
    on(kind, ({ detail }) => {
      run.end = kind
      if (kind !== "execution_success") run.error = detail
      listening.abort()
    })
}"""


def find_chromium(playwright: Playwright) -> str | None:
    """The path of a Chromium: $CHROMIUM, one on the PATH, or Playwright's own."""
    named = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else NAMES
    found = next((path for path in map(shutil.which, named) if path), None)
    own = playwright.chromium.executable_path
    return found or (own if Path(own).is_file() else None)


class Chromium:
    """A browser in a `with`. As long as it is open, `asyncio.run` fails in the same thread."""

    def __enter__(self) -> Browser | None:
        """Start it; None if there is none on this machine."""
        self._playwright = sync_playwright().start()
        path = find_chromium(self._playwright)
        if path is None:
            return None
        return self._playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)

    def __exit__(self, *_: object) -> None:
        self._playwright.stop()


@dataclass
class Run:
    """Events about a queued prompt that the editor got.

    Attributes:
        outputs: node id -> what the node showed or saved.
        error: ComfyUI's report, or the text of the dialog that came instead of a run.
    """

    outputs: dict[str, Any] = field(default_factory=dict)
    error: Any = None


class Editor:
    """The editor on a page of its own, ready for use: no tour, dialog or banner, an empty canvas.

    Attributes:
        page: Playwright's page, for what is not here.
        errors: uncaught errors and console errors out of this pack's own JavaScript.
    """

    def __init__(
        self, browser: Browser, server: Server, width: int = 1600, height: int = 900
    ) -> None:
        server.post("/settings", {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False})
        self.errors: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(_TIMEOUT)
        self.page.on("pageerror", lambda error: self._collect(str(error.stack)))
        self.page.on("console", self._read_console)
        self.page.add_init_script("localStorage.vueNodesBannerDismissed = 'true'")
        # A workflow with our models missing brings no dialog over what a test clicks on.
        self.page.add_init_script("sessionStorage['ella.downloadOffered'] ??= 'true'")
        self.page.goto(server.address)
        self.page.wait_for_function("window.app?.extensionManager?.workflow?.activeWorkflow")
        self.clear()

    def _read_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._collect(f"{message.text} ({message.location['url']})")

    def _collect(self, text: str) -> None:
        if f"/extensions/{PACK_NAME}/" in text:
            self.errors.append(text)

    def clear(self) -> None:
        """Close all dialogs, empty the canvas and forget errors."""
        self.close_dialogs()
        # An id, as every opened workflow has: the editor keeps the values of widgets by it.
        self.page.evaluate("app.graph.clear(); app.graph.id = crypto.randomUUID()")
        self.errors.clear()

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Change settings of the editor by their ids."""
        self.page.evaluate(
            """async settings => {
              for (const [id, value] of Object.entries(settings))
                await app.extensionManager.setting.set(id, value)
            }""",
            settings,
        )

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow in the editor's own format, as File > Open does."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_timeout(300)  # dialogs are drawn after that

    def choose(self, menu: str, item: str) -> None:
        """Choose an item of a submenu of ComfyUI's menu, with the mouse."""
        self.page.mouse.move(800, 450)  # off a tab, whose preview would cover the menu
        self.page.locator(MENU).click()
        entries = self.page.locator(".comfy-command-menu")
        entry = entries.get_by_text(item, exact=True)
        # A submenu opens when the mouse comes in, but not while the menu is still being drawn.
        for _ in range(10):
            entries.get_by_text(menu, exact=True).hover()
            self.page.wait_for_timeout(500)
            if entry.is_visible():
                break
            self.page.mouse.move(3, 3)
        entry.click()

    def browse_templates(self, source: str) -> None:
        """Open the template browser on the templates of one node pack."""
        self.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        self.page.locator(_DIALOG).get_by_text(source, exact=True).first.click()
        self.page.get_by_test_id("template-workflows-content").wait_for()

    def complaints(self) -> str:
        """Return what the editor says is wrong: its dialogs, or the details behind its overlay."""
        texts = self.page.locator(_DIALOG).all_inner_texts()
        if self.page.locator(_ERRORS).count():
            texts += self.page.locator(_ERRORS).all_inner_texts()
            self.page.get_by_test_id("error-overlay-see-errors").click()
            panel = self.page.get_by_test_id("properties-panel")
            panel.locator("[data-testid^=error-group]").first.wait_for()
            for info in panel.get_by_label("Info for", exact=False).all():
                info.click()
            texts.append(panel.inner_text())
            panel.get_by_label("Toggle properties panel").click()
        return "\n".join(texts)

    def close_dialogs(self) -> None:
        """Close whatever dialogs and error overlay are open."""
        while before := self.page.locator(_DIALOG).count():
            self.page.mouse.click(3, 3)  # beside it; not every dialog heeds Escape
            self.page.wait_for_function(
                "([dialog, n]) => document.querySelectorAll(dialog).length < n",
                arg=[_DIALOG, before],
            )
        # After the dialogs, which cover it.
        if self.page.locator(_ERRORS).count():
            self.page.get_by_test_id("error-overlay-dismiss").click()

    def red_nodes(self) -> list[str]:
        """Types of the nodes that the editor does not know or marks as wrong."""
        return self.page.evaluate(
            """() => app.graph.nodes
              .filter(n => n.has_errors || !(n.type in LiteGraph.registered_node_types))
              .map(n => n.type)"""
        )

    def knows(self, types: Iterable[str]) -> bool:
        """Return True if the editor has all these types of nodes."""
        known: bool = self.page.evaluate(
            "types => types.every(type => type in LiteGraph.registered_node_types)", [*types]
        )
        return known

    def serialize(self) -> dict[str, Any]:
        """The open workflow as the editor would save it."""
        saved: dict[str, Any] = json.loads(
            self.page.evaluate("JSON.stringify(app.graph.serialize())")
        )
        return saved

    def boxes(self) -> dict[str, list[float]]:
        """Return id -> x, y, width and height (with the title) of the nodes."""
        return self.page.evaluate(
            "() => Object.fromEntries(app.graph.nodes.map(n => [n.id, [...n.boundingRect]]))"
        )

    def api_form(self) -> dict[str, Any]:
        """The open workflow as the editor would queue it, without titles."""
        prompt = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        for node in prompt.values():
            node.pop("_meta", None)
        return prompt

    def run(self) -> Run:
        """Press Run and wait for the end, or for the dialog that tells why there is no run."""
        self.page.evaluate(_FOLLOW)
        button = "button[data-testid=queue-button], [data-testid=queue-button] button"
        self.page.locator(button).first.click()
        self.page.wait_for_function(
            "complaint => followedRun.end || document.querySelector(complaint)",
            arg=f"{_DIALOG}, {_ERRORS}",
            timeout=2 * _TIMEOUT,
        )
        self.page.wait_for_timeout(300)
        followed = self.page.evaluate("followedRun")
        error = followed["error"]
        if followed["end"] is None:
            error = self.complaints()
        return Run(followed["outputs"], error)

    def wait_for_token_counts(self) -> None:
        """Return when every prompt shows its number of tokens, or that the run will."""
        self.page.wait_for_function(
            """[...document.querySelectorAll(".ella-tokens p")]
              .every(line => / tokens?$| weighted$| counted in the run$/.test(line.textContent))"""
        )
        self.page.wait_for_timeout(500)  # the bar below moves to its place

    def screenshot(self, path: Path) -> None:
        """Write a picture of the window, as PNG or JPEG by the file's name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
