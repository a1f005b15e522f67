"""The bundled workflow in ComfyUI's own editor."""

import json

import pytest

from bootstrap import ROOT
from support.host import T5
from workflow import set_widgets

WORKFLOW = ROOT / "workflows/ella-text-to-image.json"
SMALL = {"ckpt_name": "sd15.safetensors", "ella_name": "tsc.safetensors", "llm_name": T5}


@pytest.fixture
def workflow():
    return json.loads(WORKFLOW.read_text(encoding="utf-8"))


def test_a_missing_node_is_seen(editor, workflow):
    set_widgets(workflow, **SMALL)
    workflow["nodes"][1]["type"] = "ELLANoSuchNode"
    editor.load(workflow)
    assert editor.red_nodes() == ["ELLANoSuchNode"]
    assert "ELLANoSuchNode" in editor.complaints()


def test_missing_models_are_offered_for_download(editor, workflow):
    editor.load(workflow)
    text = editor.complaints()
    for node in workflow["nodes"]:
        for model in node["properties"].get("models", []):
            assert model["name"] in text
            assert model["directory"] in text


def test_an_error_in_our_javascript_is_seen(editor):
    throw = "setTimeout(() => { throw new Error('/extensions/ELLA-Nodes/x.js') })"
    with editor.page.expect_event("pageerror"):
        editor.page.evaluate(throw)
    assert len(editor.errors) == 1
    editor.errors.clear()


def test_a_run_that_fails_tells_why(editor, workflow):
    set_widgets(workflow, **{**SMALL, "llm_name": "no such LLM"})
    editor.load(workflow)
    run = editor.run()
    assert "no such LLM" in str(run.error)
