"""docs/api.md does what it says, on the tests' ComfyUI."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from bootstrap import ROOT
from support.host import T5

PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
SMALL = {
    "ckpt_name": "sd15.safetensors",
    "ella_name": "tsc.safetensors",
    "width": 64,
    "height": 64,
    "steps": 2,
}


def block(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return code


@pytest.fixture
def folder(host, tmp_path):
    """With graph.json, set to the small models."""
    graph = json.loads(block("json"))
    for node in graph.values():
        node["inputs"] |= {k: v for k, v in SMALL.items() if k in node["inputs"]}
        if node["class_type"] == "ELLALoadModels":  # other tests leave LLMs that fit, too
            node["inputs"]["llm_name"] = T5
    (tmp_path / "graph.json").write_text(json.dumps(graph), encoding="utf-8")
    return tmp_path


def on(host, code):
    assert code.count("http://127.0.0.1:8188") == 1
    return code.replace("http://127.0.0.1:8188", host.server.address)


def run(command, folder):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python(host, folder):
    code = on(host, block("python"))
    (folder / "paint.py").write_text(code, encoding="utf-8")
    said = run([sys.executable, "paint.py"], folder)
    assert "node 5: 2 of 2" in said
    assert "connector: " in said
    with Image.open(folder / said.splitlines()[-1]) as picture:
        assert picture.size == (64, 64)


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="no curl here")
def test_curl(host, folder):
    run(["bash", "-c", on(host, block("bash"))], folder)
    with Image.open(folder / "picture.png") as picture:
        assert picture.size == (64, 64)


def test_the_inputs_that_may_be_left_out(host):
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    listed = {node: set(re.findall(r"`(\w+)`", names)) for node, names in rows}
    infos = host.server.get("/object_info")
    ours = {
        node: info
        for node, info in infos.items()
        if info["python_module"].endswith("ELLA-Nodes") and not info["deprecated"]
    }
    optional = {node: set(info["input"].get("optional", {})) for node, info in ours.items()}
    assert listed == {node: names for node, names in optional.items() if names}
