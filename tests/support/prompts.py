"""A prompt's node in the editor: the bundled workflow with small models, and what is to be seen."""

import json

from transformers import AutoTokenizer

from bootstrap import ROOT
from workflow import set_widgets

from .host import T5

LLAMA = "llama-96"
REPORT = "$$node-text-preview"  # what ComfyUI calls the line that a node shows in a run
LINE = """node => node.widgets.find((widget) => widget.name === "ella_tokens").element"""

_WORKFLOW = ROOT / "workflows/ella-text-to-image.json"
_SMALL = {"ckpt_name": "sd15.safetensors", "ella_name": "tsc.safetensors", "llm_name": T5}


def small_workflow():
    workflow = json.loads(_WORKFLOW.read_text(encoding="utf-8"))
    set_widgets(workflow, **_SMALL, width=64, height=64, steps=1)
    return workflow


def tokens(host, llm, text):
    folder = host.models / ("text_encoders" if llm == T5 else "LLM") / llm
    return len(AutoTokenizer.from_pretrained(folder)(text).input_ids)


def prompt_node(workflow):
    return next(
        n for n in workflow["nodes"] if n["type"] == "ELLALLMTextEncode" and n["widgets_values"][0]
    )


def report(editor, node):
    """What ComfyUI's own widget on the node says of the run, or None."""
    return editor.page.evaluate(f"{node}.widgets.find(w => w.name === '{REPORT}')?.value")


_FOLLOW_TEXTS = """() => {
  window.saidInRuns ??= new Map()
  if (app.api.socket.followed) return
  app.api.socket.followed = true
  const decoder = new TextDecoder()
  app.api.socket.addEventListener("message", ({ data }) => {
    if (!(data instanceof ArrayBuffer) || new DataView(data).getUint32(0) !== 3) return
    const end = 8 + new DataView(data).getUint32(4)
    const id = decoder.decode(data.slice(8, end))
    saidInRuns.set(id, [...(saidInRuns.get(id) ?? []), decoder.decode(data.slice(end))])
  })
}"""


def follow_texts(editor):
    """Listen to what the server says about nodes, whatever becomes of it in the editor."""
    editor.page.evaluate(_FOLLOW_TEXTS)
    editor.page.evaluate("saidInRuns.clear()")


def said(editor, node_id):
    """The texts about a node, named as in the run, since `follow_texts`."""
    return editor.page.evaluate("id => saidInRuns.get(id) ?? []", str(node_id))
