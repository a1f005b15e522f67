"""The count line says what is read as plain words, and the run's line which words were drawn."""

import uuid

import pytest
from PIL import Image

from support.prompts import LINE, prompt_node, small_workflow

PLAIN = "is read as plain words: "
REMEDIES = {
    "<lora:x:1>": "use a LoRA loader",
    "embedding:bad": "CLIP alone reads it: clip_text, or CLIP Text Encode",
    "[a:b:0.5]": "use ConditioningSetTimestepRange",
    "BREAK": "use long_prompt chunk, or Conditioning (Concat)",
    "((red))": "write (words:1.2)",
    "__colour__": "put the words in, or use a wildcard node",
}
# On the screen: of the line, and of its node.
BOTTOMS = """id => {
  const { ds, canvas } = app.canvas
  const { pos, size, widgets } = app.graph.getNodeById(id)
  const line = widgets.find(({ name }) => name === "ella_tokens").element.querySelector("p")
  const vue = document.querySelector(`[data-node-id="${id}"]`)
  const bottom = vue ? vue.getBoundingClientRect().bottom
    : canvas.getBoundingClientRect().top + (pos[1] + size[1] + ds.offset[1]) * ds.scale
  return [line.getBoundingClientRect().bottom, bottom]
}"""
READ = "A (red:1.2) cat \\((not)\\), at 0:5 [maybe]; it BREAKs a __ line."


@pytest.fixture
def node(editor):
    workflow = small_workflow()
    editor.load(workflow)
    return f"app.graph.getNodeById({prompt_node(workflow)['id']})"


def line(editor, node, text, condition):
    """The node's line about this text, once the condition on it is true."""
    editor.page.evaluate(f"text => {{ {node}.widgets[0].value = text }}", text)
    found = f"(({LINE})({node}))"
    editor.page.wait_for_function(f"{found}.innerText && ({condition})({found}.innerText)")
    return editor.page.evaluate(f"{found}.innerText")


def test_what_is_not_read_is_said_with_its_remedy(editor, node):
    for words, remedy in REMEDIES.items():
        expected = f"“{words}” {PLAIN}{remedy}"
        said = line(editor, node, f"A cat {words}", f"s => s.startsWith(`{expected}`)")
        first, count = said.splitlines()
        assert first == expected
        assert count.endswith(" of 128 tokens")
    said = line(editor, node, READ, "s => s.endsWith('weighted')")
    assert PLAIN not in said


def test_each_has_a_line_of_its_own_within_the_node(editor, renderer, node):
    words = " ".join(REMEDIES)
    said = line(editor, node, f"A cat {words}", "s => s.includes('((red))')")
    assert len(said.splitlines()) == len(REMEDIES) + 1
    editor.page.wait_for_timeout(500)
    bottoms = editor.page.evaluate(BOTTOMS, editor.page.evaluate(f"{node}.id"))
    assert bottoms[0] <= bottoms[1] + 1
    line(editor, node, "A cat.", "s => s.split('\\n').length === 1")


def test_the_words_that_were_drawn(editor, host, node):
    name = uuid.uuid4().hex
    line(editor, node, f"A {{red|red}} cat {name}", "s => s.startsWith('about ')")
    run = editor.run()
    assert run.error is None
    drawn = f"A red cat {name}"
    said = line(editor, node, f"A {{red|red}} cat {name}", "s => s.startsWith('last run: ')")
    assert said.endswith(f" tokens · “{drawn}”")
    (image,) = next(out["images"] for out in run.outputs.values() if "images" in out)
    with Image.open(host.server.base / "output" / image["filename"]) as picture:
        assert drawn in picture.info["prompt"]
