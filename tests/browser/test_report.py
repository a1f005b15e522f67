"""Reports of a run on a prompt's node, in ComfyUI's own editor."""

import uuid

import pytest

from bootstrap import ROOT
from support.host import T5
from support.prompts import (
    LINE,
    follow_reports,
    prompt_node,
    report,
    said,
    say,
    small_workflow,
    tokens,
)
from support.workflows import small

LIST = ROOT / "workflows/ella-prompt-list.json"
SENTENCE = "A red cat sits on a blue chair, and it does not look at us."


@pytest.fixture
def workflow():
    workflow = small_workflow()
    prompt_node(workflow)["size"][1] = 170  # no room to spare
    return workflow


@pytest.fixture
def node(workflow):
    """The prompt's node as a JavaScript expression."""
    return f"app.graph.getNodeById({prompt_node(workflow)['id']})"


def write(editor, node, text):
    editor.page.evaluate(f"text => {{ {node}.widgets[0].value = text }}", text)


def wait_for(editor, node, start):
    """Until the node's line about its present text begins with that; the line and its title."""
    found = f"(({LINE})({node}))"
    editor.page.wait_for_function(
        f"s => {found}.innerText.startsWith(s) && !{found}.matches('.stale')", arg=start
    )
    return editor.page.evaluate(f"[{found}.innerText, {found}.querySelector('p').title]")


def room(editor, node, renderer):
    """Height of the node and of its text box, in pixels of the canvas."""
    editor.page.wait_for_timeout(300)
    root = f"document.querySelector(`[data-node-id='${{{node}.id}}']`)"
    box = f"{root}.querySelector('textarea')" if renderer == "vue" else f"{node}.widgets[0].element"
    return editor.page.evaluate(f"[{node}.size[1], {box}.offsetHeight]")


@pytest.mark.parametrize(
    "prompt",
    [
        {"text": SENTENCE},
        {"text": f"{SENTENCE} " * 12},
        {"text": SENTENCE.replace("red", "(red:1.2)")},
        {"text": f"{SENTENCE} " * 12, "max_length": 100, "long_prompt": "chunk"},
        {"text": SENTENCE, "max_length": 5},
    ],
    ids=["short", "long", "weighted", "chunk", "max_length"],
)
def test_the_line_stays_and_takes_no_room(editor, host, renderer, workflow, node, prompt):
    editor.load(workflow)
    write(editor, node, f"{uuid.uuid4().hex} {prompt['text']}")
    for name, value in list(prompt.items())[1:]:
        widget = f"{node}.widgets.find(w => w.name === '{name}')"
        editor.page.evaluate(f"value => {{ {widget}.value = value }}", value)
    editor.page.wait_for_timeout(700)
    editor.page.wait_for_function(f"!({LINE})({node}).matches('.stale, .muted')")
    line, title = wait_for(editor, node, "")
    before = room(editor, node, renderer)
    follow_reports(editor)
    assert editor.run().error is None
    assert report(editor, node) is None
    counted = said(editor, prompt_node(workflow)["id"])[-1]["tokens"]
    after, title_after = wait_for(editor, node, "")
    assert after == line
    assert title_after.startswith(f"{title}\nlast run: {counted} tokens")
    assert room(editor, node, renderer) == before
    write(editor, node, "A cat.")
    n = tokens(host, T5, "A cat.")
    line, title = wait_for(editor, node, f"{n} ")
    assert title == line


def test_says_what_the_run_found_where_it_could_not_be_known(
    editor, host, renderer, workflow, node
):
    editor.load(workflow)
    text = f"A {renderer} {uuid.uuid4().hex}"
    n = tokens(host, T5, f"{text} cat")
    write(editor, node, f"{text} {{cat|cat}}")
    wait_for(editor, node, "about ")
    before = room(editor, node, renderer)
    assert editor.run().error is None
    wait_for(editor, node, f"last run: {n} tokens")
    assert room(editor, node, renderer) == before
    write(editor, node, f"{text} {{dog|dog}}")
    wait_for(editor, node, "about ")


def test_the_count_goes_first_also_if_it_comes_late(editor, host, workflow, node):
    editor.page.route("**/ella/tokens", lambda route: None)  # held until it is taken away
    editor.load(workflow)
    text = f"A cat that is quick. {uuid.uuid4().hex}"
    n = tokens(host, T5, text)
    write(editor, node, text)
    assert editor.run().error is None
    found = f"({LINE})({node}).innerText"
    assert editor.page.evaluate(found) == f"last run: {n} tokens"
    editor.page.unroute("**/ella/tokens")
    editor.page.wait_for_function(f"line => {found} === line", arg=f"{n} of 128 tokens")


def test_a_drawn_prompt_of_several_lines_takes_one(editor, workflow, node):
    editor.load(workflow)
    write(editor, node, "A cat\n\nand {a dog|a dog}")
    wait_for(editor, node, "about ")
    before = room(editor, node, "canvas")
    say(editor, prompt_node(workflow)["id"], kind="prompt", tokens=8, read="A cat\n\nand a dog")
    wait_for(editor, node, "last run: 8 tokens · “A cat and a dog”")
    assert room(editor, node, "canvas") == before


def test_reports_stay_with_the_workflow_that_was_queued(editor, workflow, node):
    """In another with the same nodes, as the templates have them, nothing is shown."""
    conditioning = next(n for n in workflow["nodes"] if n["type"] == "ELLATimestepConditioning")
    shown = f"app.graph.getNodeById({conditioning['id']})"
    editor.load(workflow)
    write(editor, node, f"A cat. {uuid.uuid4().hex}")
    follow_reports(editor)
    assert editor.run().error is None
    words = report(editor, shown)
    assert words.startswith("positive ")
    (heard,) = said(editor, conditioning["id"])
    queued = editor.serialize()
    editor.load({**queued, "id": str(uuid.uuid4())})
    say(editor, heard["node"], **heard)
    assert report(editor, shown) is None
    editor.load(queued)
    say(editor, heard["node"], **heard)
    assert report(editor, shown) == words


def test_progress_goes_with_a_run_that_breaks_off(editor, workflow, node):
    editor.load(workflow)
    line, _ = wait_for(editor, node, "")
    say(editor, prompt_node(workflow)["id"], kind="loading", llm="T5")
    found = f"({LINE})({node}).innerText"
    assert editor.page.evaluate(found) == "loading the LLM T5 ..."
    editor.page.evaluate("app.api.dispatchCustomEvent('executing', null)")
    assert editor.page.evaluate(found) == line


def test_the_names_of_saved_embeds_are_on_the_node(editor, host, renderer):
    editor.load(small(host, LIST))
    node = "app.graph.nodes.find((node) => node.type === 'ELLASaveEmbeds')"
    height = editor.page.evaluate(f"{node}.size[1]")
    run = editor.run()
    assert run.error is None
    names = run.outputs[str(editor.page.evaluate(f"{node}.id"))]["text"]
    assert len(names) > 1
    assert report(editor, node).splitlines() == names
    editor.page.wait_for_timeout(500)
    assert editor.page.evaluate(f"{node}.size[1]") == height, "the template has room for them"


@pytest.mark.parametrize("type_", ["ELLASaveEmbeds", "ELLADownloadModels"])
def test_a_node_that_was_blocked_shows_nothing(editor, type_):
    """ComfyUI keeps the output of a node that an ExecutionBlocker stopped, and sends null."""
    node = "app.graph.nodes[0]"
    editor.page.evaluate(f"app.graph.add(LiteGraph.createNode('{type_}')), 0")
    detail = f"{{ node: {node}.id, display_node: {node}.id, output: null }}"
    editor.page.evaluate(f"app.api.dispatchCustomEvent('executed', {detail})")
    editor.page.wait_for_timeout(300)
    assert editor.errors == []
    assert report(editor, node) is None
