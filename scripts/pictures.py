"""Writes the pictures of the templates and of the README again, in ComfyUI's own editor.

python scripts/pictures.py             all of them
python scripts/pictures.py templates   workflows/*.jpg, a picture of each graph
python scripts/pictures.py readme      docs/images/: template browser, help page, error dialog

For maintainers, after a change of a workflow or of a node. It needs a Chromium.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap import ROOT, host_dir, reexec_in_environment

if TYPE_CHECKING:
    from support.browser import Editor

IMAGES = ROOT / "docs/images"
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
LARGEST = 100_000  # bytes of a template's picture
MARGIN = 20  # around a graph, in its own units

# Nothing but the graph: no panels, no badges of the developer's, small text drawn too.
_BARE = {
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
_FRAME = """([width, margin]) => {
  const boxes = [...app.graph.nodes, ...app.graph.groups].map(item => item.boundingRect)
  const left = Math.min(...boxes.map(b => b[0])) - margin
  const top = Math.min(...boxes.map(b => b[1])) - margin
  const right = Math.max(...boxes.map(b => b[0] + b[2])) + margin
  const bottom = Math.max(...boxes.map(b => b[1] + b[3])) + margin
  app.canvas.deselectAll()
  app.canvas.ds.scale = width / (right - left)
  app.canvas.ds.offset = [-left, -top]
  app.canvas.setDirty(true, true)
  return Math.round((bottom - top) * app.canvas.ds.scale)
}"""


def main() -> int:
    """Start a ComfyUI of its own and write what was asked for."""
    wanted = sys.argv[1:] or ["templates", "readme"]
    if not set(wanted) <= {"templates", "readme"}:
        sys.exit(__doc__)
    reexec_in_environment()
    sys.path.insert(0, str(ROOT / "tests"))
    from comfyui import Server
    from support.browser import HOW_TO_GET_ONE, Chromium, Editor

    with tempfile.TemporaryDirectory() as folder, Chromium() as browser:
        if browser is None:
            sys.exit(HOW_TO_GET_ONE)
        base = Path(folder)
        _assemble(base)
        with Server(base, ["--cpu"]) as server:
            if "templates" in wanted:
                _templates(Editor(browser, server))
            if "readme" in wanted:
                _readme(Editor(browser, server, width=1280, height=800))
    return 0


def _assemble(base: Path) -> None:
    """Small random models under the names of the real ones, and ComfyUI's own picture."""
    from support.models import write_t5, write_tsc
    from tiny_models import draw_checkpoint

    models = base / "models"
    draw_checkpoint(models / "checkpoints/v1-5-pruned-emaonly-fp16.safetensors")
    write_t5(models / "text_encoders/models--google--flan-t5-xl--text_encoder")
    write_tsc(models / "ella/ella-sd1.5-tsc-t5xl.safetensors", layers=2, llm_dim=32)
    (base / "input").mkdir()
    shutil.copy(host_dir() / "input/example.png", base / "input")


def _read(workflow: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(workflow.read_text(encoding="utf-8"))
    return content


def _templates(editor: "Editor") -> None:
    editor.set_settings(_BARE)
    editor.page.evaluate("app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
    editor.page.add_style_tag(content=".comfy-menu-hamburger { display: none !important }")
    for workflow in WORKFLOWS:
        editor.load(_read(workflow))
        editor.close_dialogs()
        path = workflow.with_suffix(".jpg")
        _picture_of_graph(editor, path, width=1440)
        print(f"[pictures] {path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def _picture_of_graph(editor: "Editor", path: Path, width: int) -> None:
    height = editor.page.evaluate(_FRAME, [width, MARGIN])
    editor.page.set_viewport_size({"width": width, "height": height})
    editor.page.wait_for_timeout(800)
    for quality in range(90, 20, -10):
        editor.page.screenshot(path=path, quality=quality)
        if path.stat().st_size < LARGEST:
            return


def _readme(editor: "Editor") -> None:
    raise NotImplementedError


if __name__ == "__main__":
    sys.exit(main())
