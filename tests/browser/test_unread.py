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
        expected = f"“{words}” {PLAIN}{remedy} · "
        said = line(editor, node, f"A cat {words}", f"s => s.startsWith(`{expected}`)")
        assert said.endswith(" of 128 tokens")
    said = line(editor, node, READ, "s => s.endsWith('weighted')")
    assert PLAIN not in said


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
