"""Reports of nodes in a subgraph, in ComfyUI's own editor."""

import re
import uuid

import pytest

from support.host import T5
from support.prompts import LINE, report, small_workflow, tokens

CONVERT = """() => {
  const types = ["ELLALLMTextEncode", "ELLATimestepConditioning"]
  const chosen = app.graph.nodes.filter((node) => types.includes(node.type))
  const { subgraph, node } = app.graph.convertToSubgraph(new Set(chosen))
  window.built = { subgraph, node, outside: app.graph }
  built.conditioning = subgraph.nodes.find((node) => node.type === types[1])
  built.prompts = subgraph.nodes.filter((node) => node.type === types[0])
  built.prompt = built.prompts.find((node) => node.widgets[0].value)
}"""
ENTER = "app.canvas.openSubgraph(built.subgraph, built.node)"
LEAVE = "app.canvas.setGraph(built.outside)"


def write(editor):
    """A prompt that has not been read; the number of its tokens and the text itself."""
    text = f"A cat. {uuid.uuid4().hex}"
    editor.page.evaluate("text => { built.prompt.widgets[0].value = text }", text)
    return text


def check_report(editor, n):
    said = re.compile(rf"positive {n}, negative 1 tokens\nconnector: 1 pass for 1 timestep, .*s")
    assert said.fullmatch(report(editor, "built.conditioning"))


@pytest.fixture
def subgraph(editor, renderer):
    editor.load(small_workflow())
    editor.page.evaluate(CONVERT)
    yield
    editor.page.evaluate(LEAVE)


def test_a_run_from_outside_is_seen_inside(editor, host, subgraph):
    n = tokens(host, T5, write(editor))
    assert editor.run().error is None
    editor.page.evaluate(ENTER)
    check_report(editor, n)


def test_a_run_from_inside_is_seen(editor, host, subgraph, renderer):
    editor.page.evaluate(ENTER)
    for _ in range(2):
        n = tokens(host, T5, write(editor))
        assert editor.run().error is None
        check_report(editor, n)
    if renderer == "vue":
        root = editor.page.locator(
            f"[data-node-id='{editor.page.evaluate('built.conditioning.id')}']"
        )
        assert "connector: 1 pass" in root.inner_text()


def test_a_prompt_in_a_subgraph(editor, host, subgraph):
    """Its line tells what the run found, where that was not known."""
    drawn = write(editor) + " red"
    n = tokens(host, T5, drawn)
    editor.page.evaluate("built.prompt.widgets[0].value += ' {red|red}'")
    assert editor.run().error is None
    editor.page.evaluate(ENTER)
    line = editor.page.evaluate(f"({LINE})(built.prompt).innerText")
    assert line == f"last run: {n} tokens · “{drawn}”"


def test_the_same_id_outside_gets_nothing(editor, host, subgraph):
    editor.page.evaluate(
        """() => {
          const node = LiteGraph.createNode("ELLALLMTextEncode")
          node.id = built.conditioning.id
          built.outside.add(node)
          built.twin = node
        }"""
    )
    assert editor.page.evaluate("built.twin.id === built.conditioning.id")
    editor.page.evaluate(ENTER)
    n = tokens(host, T5, write(editor))
    assert editor.run().error is None
    check_report(editor, n)
    assert "connector" not in editor.page.evaluate(f"({LINE})(built.twin).innerText")


def test_two_equal_prompts_both_report(editor, host, subgraph):
    text = write(editor)
    drawn = f"{text} red"
    n = tokens(host, T5, drawn)
    fill = "text => { for (const prompt of built.prompts) prompt.widgets[0].value = text }"
    editor.page.evaluate(fill, f"{text} {{red|red}}")
    assert editor.run().error is None
    editor.page.evaluate(ENTER)
    for prompt in "01":
        line = editor.page.evaluate(f"({LINE})(built.prompts[{prompt}]).innerText")
        assert line == f"last run: {n} tokens · “{drawn}”"
