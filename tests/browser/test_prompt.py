"""ELLA Prompt in the editor: its template, its count, what it shows after a run."""

import uuid

import pytest

from comfyui import Server
from support.host import HOST_PACKS, T5, Host, link_few
from support.prompts import LINE, report, tokens
from support.workflows import WORKFLOWS, small

(TEMPLATE,) = (path for path in WORKFLOWS if path.stem == "ella-prompt")
NODE = "app.graph.nodes.find((node) => node.type === 'ELLAPrompt')"
SENTENCE = "A red cat sits on a blue chair."


def wait_for_line(editor, line):
    found = f"(({LINE})({NODE}))"
    editor.page.wait_for_function(
        f"line => {found}.innerText === line && !{found}.matches('.stale')", arg=line
    )


@pytest.fixture(scope="module")
def host(host, tmp_path_factory):
    """One with few models, so that only one LLM fits: the shared one has those of other tests."""
    base = tmp_path_factory.mktemp("few")
    link_few(host.models, base / "models")
    with Server(base, ["--cpu"], [HOST_PACKS / "ella_test_nodes"]) as server:
        yield Host(server, host.tsc_weights)


@pytest.mark.parametrize("llm", ["auto", T5])
def test_counts_the_positive_and_reports_both(editor, host, renderer, llm):
    workflow = small(host, TEMPLATE)
    editor.load(workflow)
    text = f"{SENTENCE} {uuid.uuid4().hex}"
    editor.page.evaluate(
        f"""([text, llm]) => {{
          const set = (node, name, value) =>
            node.widgets.find((widget) => widget.name === name).value = value
          set({NODE}, "positive", text)
          set({NODE}, "negative", "blurry")
          set(app.graph.nodes.find((n) => n.type === "ELLALoadModels"), "llm_name", llm)
        }}""",
        [text, llm],
    )
    n = tokens(host, T5, text)
    wait_for_line(editor, f"positive: {n} of 128 tokens")
    assert editor.run().error is None
    wait_for_line(editor, f"positive: {n} of 128 tokens")
    said = report(editor, NODE)
    assert said.startswith(f"positive {n}, negative {tokens(host, T5, 'blurry')} tokens")
    saved = editor.page.evaluate(f"{NODE}.serialize().widgets_values")
    assert saved == [text, "", "blurry"]
