"""A prompt's node in the editor: the bundled workflow with small models, and its texts."""

import json

from transformers import AutoTokenizer

from bootstrap import ROOT
from workflow import set_widgets

from .host import T5

LLAMA = "llama-96"
REPORT = "ella_report"  # the widget of web/ella-report.js
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
    """Return the report of the run below the node's widgets, or None."""
    return editor.page.evaluate(
        f"{node}.widgets?.find(({{ name }}) => name === '{REPORT}')?.element.textContent"
    )


_FOLLOW_REPORTS = """() => {
  if (!window.saidInRuns)
    app.api.addEventListener("ella.report", ({ detail }) => saidInRuns.push(detail))
  window.saidInRuns = []
}"""


def follow_reports(editor):
    """Listen to what the server says about nodes, whatever becomes of it in the editor."""
    editor.page.evaluate(_FOLLOW_REPORTS)


def said(editor, node_id):
    """The reports about a node, named as in the run, since `follow_reports`."""
    return editor.page.evaluate("id => saidInRuns.filter(({ node }) => node === id)", str(node_id))


def say(editor, node_id, **report):
    """Have the editor hear a report as if the server had sent it."""
    editor.page.evaluate(
        "detail => app.api.dispatchEvent(new CustomEvent('ella.report', { detail }))",
        {"node": str(node_id), **report},
    )
