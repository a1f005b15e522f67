"""The bundled workflows, with their file names set to the tests' small models."""

import json

import pytest

from bootstrap import ROOT
from support.host import T5
from workflow import set_widgets, to_api

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_runs(host, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    set_widgets(
        workflow,
        ckpt_name="sd15.safetensors",
        ella_name="tsc.safetensors",
        llm_name=T5,
        width=64,
        height=64,
        steps=3,
    )
    steps = []
    result = host.server.run(to_api(workflow), lambda _, done, of: steps.append((done, of)))
    assert result.error is None, result.error
    assert (3, 3) in steps
    ((image,),) = (output["images"] for output in result.outputs.values())
    assert (host.server.base / "output" / image["filename"]).stat().st_size > 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_is_offered_as_a_template(host, path):
    assert path.stem in host.server.get("/workflow_templates")["ELLA-Nodes"]
    served = host.server.text(f"/api/workflow_templates/ELLA-Nodes/{path.name}")
    assert json.loads(served) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_has_a_thumbnail_for_the_template_browser(path):
    assert path.with_suffix(".jpg").read_bytes()[:3] == b"\xff\xd8\xff"
