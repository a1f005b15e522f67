"""Draws the graphs of the help pages in ComfyUI's own editor, for whoever changes a node.

python scripts/help_pictures.py [name of a picture ...]

The graphs are in help_graphs.py. Needs a Chromium, as the tests in tests/browser do.
"""

import io
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, reexec_in_environment
from help_graphs import COLUMN, GRAPHS, LLM, PACK_GRAPHS, WIDE_COLUMN

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from comfyui import Server
    from editor import Editor

PICTURES = ROOT / "web/docs/images"
MARGIN = (90, 130)  # of the window, beside the editor's bars

# Returns the graph's width and height. Titles stand above their nodes.
_BUILD = """({ graph, column, margin }) => {
  const nodes = {}
  for (const [name, { type, at, values, height }] of Object.entries(graph)) {
    const node = nodes[name] = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [at[0] * column, at[1] + LiteGraph.NODE_TITLE_HEIGHT]
    for (const widget of node.widgets ?? []) widget.value = values[widget.name] ?? widget.value
    node.setSize([column - 40, Math.max(node.computeSize()[1], height)])
  }
  for (const [name, { inputs }] of Object.entries(graph))
    for (const [input, [source, output]] of Object.entries(inputs))
      nodes[source].connect(output, nodes[name], input)
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = margin
  app.canvas.setDirty(true, true)
  const all = Object.values(nodes)
  return ["0", "1"].map(i => Math.max(...all.map(n => n.pos[i] + n.size[i])))
}"""


def draw(editor: "Editor", name: str, folder: Path) -> Path:
    """Draw a picture into a folder and return its file."""
    from PIL import Image

    editor.clear()
    nodes, column = (
        (PACK_GRAPHS[name], WIDE_COLUMN) if name in PACK_GRAPHS else (GRAPHS[name], COLUMN)
    )
    graph = {key: asdict(node) for key, node in nodes.items()}
    width, height = editor.page.evaluate(
        _BUILD, {"graph": graph, "column": column, "margin": MARGIN}
    )
    editor.wait_for_token_counts()
    border = 10
    clip = {
        "x": MARGIN[0] - border,
        "y": MARGIN[1] - border,
        "width": width + 2 * border,
        "height": height + 2 * border,
    }
    picture = Image.open(io.BytesIO(editor.page.screenshot(clip=clip)))
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(64).save(path, optimize=True)
    return path


def main() -> int:
    """Draw the pictures named, or all."""
    reexec_in_environment()
    from comfyui import Server
    from editor import HOW_TO_GET_ONE, Chromium

    with (
        tempfile.TemporaryDirectory() as base,
        Server(Path(base), ["--cpu"]) as server,
        Chromium() as browser,
    ):
        if browser is None:
            print(HOW_TO_GET_ONE)
            return 1
        editor = open_editor(browser, server)
        for name in sys.argv[1:] or [*GRAPHS, *PACK_GRAPHS]:
            print(draw(editor, name, PICTURES))
    return 0


def open_editor(browser: "Browser", server: "Server") -> "Editor":
    """Open the editor of a server as the pictures show it."""
    from editor import Editor
    from tiny_models import write_t5

    # A small LLM with T5's real tokenizer, under the released one's name.
    write_t5(server.base / "models/text_encoders" / LLM["llm_name"])
    badges = ("NodeSourceBadgeMode", "NodeLifeCycleBadgeMode")
    settings = {f"Comfy.NodeBadge.{badge}": "None" for badge in badges}
    server.post("/settings", {**settings, "Comfy.Graph.CanvasInfo": False})
    return Editor(browser, server, width=1850, height=1000)


if __name__ == "__main__":
    sys.exit(main())
