"""The token count under a prompt, in ComfyUI's own editor."""

import json

import pytest
from transformers import AutoTokenizer

from bootstrap import ROOT
from support.browser import Editor
from support.host import T5
from workflow import set_widgets

WORKFLOW = ROOT / "workflows/ella-text-to-image.json"
LLAMA = "llama-96"
SMALL = {"ckpt_name": "sd15.safetensors", "ella_name": "tsc.safetensors", "llm_name": T5}
TEXT = "A (red:1.3) cat sits on a blue chair, and it does not look at us."
REPORT = "$$node-text-preview"  # what ComfyUI calls the line that a node shows in a run

BUILD = """() => {
  const add = (type) => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return node
  }
  const [llm, reroute] = [add("ELLALoadLLM"), add("Reroute")]
  const [linked, rerouted, alone] = [1, 2, 3].map(() => add("ELLATextEncode"))
  llm.connect(0, linked, 0)
  llm.connect(0, reroute, 0)
  reroute.connect(0, rerouted, 0)
  window.built = { llm, linked, rerouted, alone }
}"""
LINE = """node => node.widgets.find((widget) => widget.name === "ella_tokens").element"""


def small_workflow():
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    set_widgets(workflow, **SMALL, width=64, height=64, steps=1)
    return workflow


def wait_for(editor, node, line):
    """Until the node, named by a JavaScript expression, shows that line about its present text."""
    editor.page.wait_for_function(
        f"""line => {{
          const element = ({LINE})({node})
          return element.innerText === line && !element.classList.contains("stale")
        }}""",
        arg=line,
    )


def tokens(host, llm, text):
    folder = host.models / ("LLM" if llm == LLAMA else "text_encoders") / llm
    return len(AutoTokenizer.from_pretrained(folder)(text).input_ids)


def prompt_node(workflow):
    return next(
        n for n in workflow["nodes"] if n["type"] == "ELLATextEncode" and n["widgets_values"][0]
    )


def test_counts_while_one_types_what_the_run_reports(editor, host):
    workflow = small_workflow()
    editor.load(workflow)
    node = f"app.graph.getNodeById({prompt_node(workflow)['id']})"
    textarea = editor.page.locator("textarea.comfy-multiline-input").nth(0)
    textarea.fill("")
    wait_for(editor, node, "1 of 128 tokens")
    textarea.press_sequentially(TEXT)
    n = tokens(host, T5, TEXT.replace("(red:1.3)", "red"))
    wait_for(editor, node, f"{n} of 128 tokens · 1 weighted")
    assert editor.run().error is None
    report = f"{node}.widgets.find(w => w.name === '{REPORT}').value"
    assert editor.page.evaluate(report) == f"{n} tokens; 1 of them weighted"
    textarea.fill(f"{TEXT} " * 20)
    editor.page.wait_for_function(f"({LINE})({node}).classList.contains('over')")
    assert "the trained 128 end before “" in editor.page.evaluate(f"({LINE})({node}).innerText")


def test_follows_the_llm_and_its_settings(editor, host):
    editor.page.evaluate(BUILD)
    editor.page.evaluate(f"built.llm.widgets[0].value = '{T5}'")
    for name in ("linked", "rerouted", "alone"):
        editor.page.evaluate(f"built.{name}.widgets[0].value = 'A red cat.'")
    for name in ("linked", "rerouted"):
        wait_for(editor, f"built.{name}", f"{tokens(host, T5, 'A red cat.')} of 128 tokens")
    wait_for(editor, "built.alone", "connect Load LLM (ELLA) to count tokens")
    editor.page.evaluate(f"built.llm.widgets[0].value = '{LLAMA}'")
    n = tokens(host, LLAMA, "A red cat.")
    for name in ("linked", "rerouted"):
        wait_for(editor, f"built.{name}", f"{n} of 128 tokens")
    editor.page.evaluate("built.linked.widgets[1].value = 8")
    wait_for(editor, "built.linked", f"8 tokens · {n - 8} cut off, from “at.”")
    editor.page.evaluate("built.linked.widgets[2].value = 'chunk'")
    wait_for(editor, "built.linked", "12 tokens in 2 chunks of at most 8")
    editor.page.evaluate("built.llm.widgets[0].value = 'no such LLM'")
    editor.page.wait_for_function(
        f"({LINE})(built.linked).innerText.startsWith(\"The LLM 'no such LLM' was not found\")"
    )
    assert not [error for error in editor.errors if "400" not in error]
    editor.errors.clear()  # the browser itself notes every answer of that kind


def test_across_subgraphs(editor, host):
    editor.page.evaluate(BUILD)
    editor.page.evaluate(f"built.llm.widgets[0].value = '{T5}'")
    inside = """name => {
      const { subgraph } = app.graph.convertToSubgraph(new Set([built[name]]))
      built.inner = subgraph.nodes[0]
      app.canvas.setGraph(subgraph)
    }"""
    editor.page.evaluate(inside, "linked")
    editor.page.evaluate("built.inner.widgets[0].value = 'A red cat.'")
    wait_for(editor, "built.inner", f"{tokens(host, T5, 'A red cat.')} of 128 tokens")
    editor.page.evaluate("app.canvas.setGraph(app.graph)")
    editor.page.evaluate(inside, "llm")
    editor.page.evaluate("app.canvas.setGraph(app.graph)")
    editor.page.evaluate("built.rerouted.widgets[0].value = 'A red cat'")
    wait_for(editor, "built.rerouted", f"{tokens(host, T5, 'A red cat')} of 128 tokens")


def saved(editor):
    """What the editor would save, without what it draws anew each time it opens a workflow."""
    workflow = editor.serialize()
    workflow.pop("id")
    workflow["extra"].pop("ds", None)
    return workflow


@pytest.fixture
def without(browser, host):
    """The editor without the count."""
    editor = Editor(browser, host.server)
    empty = {"content_type": "text/javascript", "body": ""}
    editor.page.route("**/ella-tokens.js", lambda route: route.fulfill(**empty))
    editor.page.reload()
    editor.page.wait_for_function("window.app?.extensionManager?.workflow?.activeWorkflow")
    editor.clear()
    yield editor
    editor.page.close()


def test_the_saved_workflow_is_the_same_without_it(editor, without):
    workflow, found = small_workflow(), {}
    node = f"app.graph.getNodeById({prompt_node(workflow)['id']})"
    for key, each in (("with", editor), ("without", without)):
        each.load(workflow)
        shown = each.page.evaluate(f"{node}.widgets.map(w => w.name)")
        assert ("ella_tokens" in shown) == (key == "with")
        each.page.evaluate(f"{node}.clone().serialize()")
        found[key] = [saved(each), each.api_form()]
        created = "[...LiteGraph.createNode('ELLATextEncode').size]"
        found[key].append(each.page.evaluate(created))
        each.page.evaluate(f"{node}.widgets[0].value = 'A red cat {key} a hat.'")
        assert each.run().error is None
        _, *others, report = prompt_node(each.serialize())["widgets_values"]
        assert report.endswith(" tokens")
        found[key].append(others)
    assert found["with"] == found["without"]
