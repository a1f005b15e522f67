"""The workflows that need packs of others, with these packs: what reaches the U-Net is ELLA's.

Left out where no folder of such packs is named, see `support/other_packs.py`.
"""

import uuid

import pytest

from bootstrap import ROOT
from comfyui import OTHER_PACKS
from support import other_packs
from support.exactness import Exactness
from support.workflows import FRAMES, STEPS, read, small
from workflow import bypass, set_widgets, to_api, widgets

LOADER = "ADE_AnimateDiffLoaderGen1"


@pytest.fixture
def exact(host):
    exactness = Exactness(host)
    yield exactness
    print(f"{exactness.compared} rows, at most {exactness.worst:.2g} off")


@pytest.fixture
def workflow(host, request):
    path = ROOT / f"workflows/{request.param}.json"
    if absent := other_packs.missing(host, read(path)):
        pytest.skip(f"{OTHER_PACKS} names no pack with {', '.join(sorted(absent))}")
    return small(host, path)


def run(host, workflow):
    """Run it with a recorder in front of every sampler; returns the recorders' names, the result"""
    prompt = to_api(workflow, host.server.get("/object_info"))
    names = {}
    for key, node in list(prompt.items()):
        if {"model", "sampler_name"} <= node["inputs"].keys():
            names[node["class_type"]] = name = f"record-{uuid.uuid4().hex}"
            inputs = {"model": node["inputs"]["model"], "name": name}
            prompt[f"record {key}"] = {"class_type": "TestRecordUNet", "inputs": inputs}
            node["inputs"]["model"] = [f"record {key}", 0]
        if node["class_type"] == "KSampler":
            inputs = {"samples": [key, 0], "filename_prefix": uuid.uuid4().hex}
            prompt["save"] = {"class_type": "SaveLatent", "inputs": inputs}
    result = host.server.run(prompt)
    assert result.error is None, result.error
    return names, result


def texts(workflow):
    """The prompts of a workflow, the empty one last."""
    nodes = [node for node in workflow["nodes"] if node["type"] == "ELLALLMTextEncode"]
    return (*(widgets(node)["text"] for node in nodes), "")


animation = pytest.mark.parametrize("workflow", ["ella-animatediff"], indirect=True)


@animation
def test_every_frame_of_every_call_gets_both_prompts_at_its_timestep(host, exact, workflow):
    (name,) = run(host, workflow)[0].values()
    seen = {}
    for row in exact.rows(name):
        assert len(row.tokens) == FRAMES
        seen.setdefault(row.call, []).append(exact.one_of(row, texts(workflow)))
    prompts = [prompt for call in seen.values() for prompt in call]
    assert sorted(prompts) == sorted(texts(workflow) * STEPS)


@pytest.mark.parametrize("workflow", ["ella-ipadapter"], indirect=True)
def test_ella_reads_the_prompt_beside_the_picture(host, exact, workflow):
    names, result = run(host, workflow)
    for row in exact.rows(names["KSampler"]):
        exact.assert_exact(row.tokens, texts(workflow)[row.index], row.timestep)
    latent = host.latent(result, "save")
    without = host.latent(run(host, set_widgets(workflow, weight=0))[1], "save")
    assert (latent - without).abs().max() > 1e-2, "the picture changes nothing"


@pytest.mark.parametrize("workflow", ["ella-tiled-upscale"], indirect=True)
def test_every_tile_gets_the_prompt_at_its_timestep(host, exact, workflow):
    names, _ = run(host, workflow)
    calls = {}
    for kind, name in names.items():
        rows = exact.rows(name)
        calls[kind] = len({row.call for row in rows})
        for row in rows:
            exact.assert_exact(row.tokens, texts(workflow)[row.index], row.timestep)
    assert calls == {"KSampler": STEPS, "UltimateSDUpscaleNoUpscale": 4 * STEPS}


@animation
def test_the_schedule_gives_each_frame_its_prompt(host, workflow):
    """Without the motion module, through which the frames look at each other."""
    bypass(workflow, {LOADER})
    set_widgets(workflow, ckpt_name="sd15.safetensors", values="0: = 1.0, 2: = 0.0")
    changed = host.latent(run(host, workflow)[1], "save")
    for prompt, frames in zip(texts(workflow), (slice(0, 2), slice(2, 4)), strict=False):
        alone = host.latent(run(host, set_widgets(workflow, text=prompt))[1], "save")
        assert (changed[frames] - alone[frames]).abs().max() < 1e-4
        others = [i for i in range(FRAMES) if i not in range(FRAMES)[frames]]
        assert ((changed[others] - alone[others]).abs().amax(dim=(1, 2, 3)) > 1e-2).all()


@pytest.mark.parametrize("workflow", ["ella-generate-text"], indirect=True)
def test_ella_reads_what_comfyui_wrote(host, exact, workflow):
    """In a ComfyUI that has the node."""
    names, result = run(host, workflow)
    (preview,) = (n for n in workflow["nodes"] if n["type"] == "PreviewAny")
    (written,) = result.outputs[str(preview["id"])]["text"]
    (task,) = (widgets(n) for n in workflow["nodes"] if n["type"] == "StringConcatenate")
    assert written
    assert task["string_a"] not in written
    for row in exact.rows(names["KSampler"]):
        exact.assert_exact(row.tokens, (written, "")[row.index], row.timestep)
