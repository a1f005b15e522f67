"""A chat LLM writes into its node, and what it wrote is read."""

import uuid

from support.prompts import follow_reports, report, said
from support.workflows import WORKFLOWS, small

(TEMPLATE,) = (path for path in WORKFLOWS if path.stem == "ella-upsampled-prompt")
NODE = "app.graph.nodes.find((node) => node.type === 'ELLAUpsamplePrompt')"


def test_the_text_grows_on_the_node(editor, host):
    editor.load(small(host, TEMPLATE))
    text = f"a cat {uuid.uuid4().hex}"  # no earlier run's, which ComfyUI's cache would answer
    editor.page.evaluate(
        f"text => {NODE}.widgets.find((widget) => widget.name === 'text').value = text", text
    )
    follow_reports(editor)
    assert editor.run().error is None
    node = editor.page.evaluate(f"{NODE}.id")
    texts = [each["text"] for each in said(editor, node) if each["kind"] == "writing"]
    assert len(texts) > 3
    assert len(texts[0]) < len(texts[-2])
    assert report(editor, NODE) == texts[-1]
