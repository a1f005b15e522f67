"""Draws the graphs of the help pages in ComfyUI's own editor, for whoever changes a node.

python scripts/help_pictures.py [node id ...]

Needs a Chromium, as the tests in tests/browser do.
"""

import io
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap import ROOT, reexec_in_environment

if TYPE_CHECKING:
    from support.browser import Editor

PICTURES = ROOT / "web/docs/images"
CHECKPOINT = {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"}
CONNECTOR = {"ella_name": "ella-sd1.5-tsc-t5xl.safetensors"}
LLM = {"llm_name": "models--google--flan-t5-xl--text_encoder"}
FOX = "A red fox sleeps in the fresh snow under a pine, and the morning sun shines on its fur."
OWL = "A grey owl sits on a fence in the fog."
COLUMN, TEXT_HEIGHT = 310, 180  # pixels of the editor's canvas
MARGIN = (90, 130)  # of the window, beside the editor's bars


@dataclass
class Node:
    """A node of a picture.

    Attributes:
        type: its id.
        at: column, and y in pixels.
        values: widget name -> value.
        inputs: input name -> (name in the graph, index of the output) that feeds it.
    """

    type: str
    at: tuple[float, int]
    values: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, tuple[str, int]] = field(default_factory=dict)


def text(column: float, y: int, value: str = "") -> Node:
    """An LLM Text Encode that reads `value` with the graph's `llm`."""
    return Node("ELLATextEncode", (column, y), {"text": value}, {"llm": ("llm", 0)})


def condition(column: float, y: int, **inputs: tuple[str, int]) -> Node:
    return Node("ELLATimestepConditioning", (column, y), {}, inputs)


def one_more(column: float, y: int, embeds: str) -> Node:
    inputs = {"ella": ("ella", 0), "embeds": (embeds, 0)}
    return Node("ELLAConditioning", (column, y), {}, inputs)


def sampler(column: float, y: int, model: str, **inputs: tuple[str, int]) -> Node:
    return Node("KSampler", (column, y), {}, {"model": (model, 0), **inputs})


GRAPHS: dict[str, dict[str, Node]] = {
    "ELLALoad": {
        "ella": Node("ELLALoad", (0, 0), CONNECTOR),
        "both": condition(1, 0, ella=("ella", 0)),
    },
    "ELLALoadLLM": {
        "llm": Node("ELLALoadLLM", (0, 0), LLM),
        "positive": text(1, 0, FOX),
        "negative": text(1, 230),
    },
    "ELLATextEncode": {
        "llm": Node("ELLALoadLLM", (0, 0), LLM),
        "positive": text(1, 0, FOX),
        "negative": text(1, 230),
        "both": condition(2, 0, positive=("positive", 0), negative=("negative", 0)),
    },
    "ELLATimestepConditioning": {
        "checkpoint": Node("CheckpointLoaderSimple", (0, 0), CHECKPOINT),
        "ella": Node("ELLALoad", (0, 150), CONNECTOR),
        "llm": Node("ELLALoadLLM", (0, 260), LLM),
        "positive": text(1, 150, FOX),
        "negative": text(1, 380),
        "both": condition(
            2,
            0,
            model=("checkpoint", 0),
            ella=("ella", 0),
            positive=("positive", 0),
            negative=("negative", 0),
        ),
        "sampler": sampler(3, 0, "both", positive=("both", 1), negative=("both", 2)),
    },
    "ELLAConditioning": {
        "ella": Node("ELLALoad", (0, 0), CONNECTOR),
        "llm": Node("ELLALoadLLM", (0, 110), LLM),
        "scene": text(1, 0, "A fox and an owl look at each other in a winter forest."),
        "negative": text(1, 230),
        "left": text(1, 460, FOX),
        "both": condition(2, 0, ella=("ella", 0), positive=("scene", 0), negative=("negative", 0)),
        "more": one_more(2, 460, "left"),
        "area": Node(
            "ConditioningSetArea",
            (3, 460),
            {"width": 256, "height": 512},
            {"conditioning": ("more", 0)},
        ),
        "joined": Node(
            "ConditioningCombine",
            (4, 200),
            {},
            {"conditioning_1": ("both", 1), "conditioning_2": ("area", 0)},
        ),
    },
    "ELLAPatchModel": {
        "checkpoint": Node("CheckpointLoaderSimple", (0, 0), CHECKPOINT),
        "patched": Node("ELLAPatchModel", (1, 0), {}, {"model": ("checkpoint", 0)}),
        "positive": Node("ELLAConditioning", (1, 90)),
        "negative": Node("ELLAConditioning", (1, 240)),
        "sampler": sampler(2, 0, "patched", positive=("positive", 0), negative=("negative", 0)),
    },
    "ELLABlendEmbeds": {
        "llm": Node("ELLALoadLLM", (0, 0), LLM),
        "a": text(1, 0, FOX),
        "b": text(1, 230, OWL),
        "blend": Node("ELLABlendEmbeds", (2, 0), {}, {"embeds_a": ("a", 0), "embeds_b": ("b", 0)}),
        "both": condition(3, 0, positive=("blend", 0)),
    },
    "ELLADownloadModels": {
        "download": Node("ELLADownloadModels", (0, 0)),
        "report": Node("PreviewAny", (1, 0), {}, {"source": ("download", 0)}),
    },
}

# Returns the graph's width and height. Titles stand above their nodes.
_BUILD = """({ graph, column, textHeight, margin }) => {
  const nodes = {}
  for (const [name, { type, at, values }] of Object.entries(graph)) {
    const node = nodes[name] = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [at[0] * column, at[1] + LiteGraph.NODE_TITLE_HEIGHT]
    for (const widget of node.widgets ?? []) widget.value = values[widget.name] ?? widget.value
    const height = Math.max(node.computeSize()[1], type === "ELLATextEncode" ? textHeight : 0)
    node.setSize([column - 40, height])
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


def draw(editor: "Editor", node_id: str) -> Path:
    """Draw the graph of a node's help page and return its file."""
    from PIL import Image

    editor.clear()
    graph = {name: asdict(node) for name, node in GRAPHS[node_id].items()}
    sizes = {"column": COLUMN, "textHeight": TEXT_HEIGHT, "margin": MARGIN}
    width, height = editor.page.evaluate(_BUILD, {"graph": graph, **sizes})
    editor.wait_for_token_counts()
    border = 10
    clip = {
        "x": MARGIN[0] - border,
        "y": MARGIN[1] - border,
        "width": width + 2 * border,
        "height": height + 2 * border,
    }
    picture = Image.open(io.BytesIO(editor.page.screenshot(clip=clip)))
    path = PICTURES / f"{node_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(64).save(path, optimize=True)
    return path


def main() -> int:
    """Draw the pictures of the nodes named, or of all."""
    reexec_in_environment()
    sys.path.insert(0, str(ROOT / "tests"))
    from comfyui import Server
    from support.browser import HOW_TO_GET_ONE, Chromium, Editor
    from support.models import write_t5

    with (
        tempfile.TemporaryDirectory() as base,
        Server(Path(base), ["--cpu"]) as server,
        Chromium() as browser,
    ):
        if browser is None:
            print(HOW_TO_GET_ONE)
            return 1
        # A small LLM with T5's real tokenizer, under the released one's name.
        write_t5(Path(base) / "models/text_encoders" / LLM["llm_name"])
        server.post("/settings", {"Comfy.NodeBadge.NodeSourceBadgeMode": "None"})
        editor = Editor(browser, server, width=1800, height=900)
        for node_id in sys.argv[1:] or GRAPHS:
            print(draw(editor, node_id))
    return 0


if __name__ == "__main__":
    sys.exit(main())
