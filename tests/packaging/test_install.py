"""Installed and removed as ComfyUI-Manager does it: a clone, its requirements, a folder deleted."""

import json
import shutil
import subprocess
import sys

import pytest

from bootstrap import ROOT
from comfyui import PACK_NAME, Server
from support.host import EllaGraph

GIT = ["git", "-c", "safe.directory=*"]


@pytest.fixture
def base(tmp_path, host):
    """A fresh base directory that finds the models of the tests."""
    folders = ("checkpoints", "ella", "text_encoders")
    lines = "".join(f"  {folder}: '{host.models / folder}'\n" for folder in folders)
    (tmp_path / "paths.yaml").write_text(f"x:\n{lines}")
    return tmp_path


def start(base):
    arguments = ["--cpu", "--extra-model-paths-config", str(base / "paths.yaml")]
    return Server(base, arguments, with_pack=False)


def assert_no_errors(server):
    log = server.log.read_text()
    assert not any(sign in log for sign in ("Traceback", "IMPORT FAILED", "Cannot import"))


def test_install_run_and_remove(base):
    pack = base / "custom_nodes" / PACK_NAME
    subprocess.run([*GIT, "clone", "--quiet", ROOT, pack], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-"]
    pip += ["-r", pack / "requirements.txt"]
    report = subprocess.run(pip, check=True, capture_output=True, text=True).stdout
    assert json.loads(report)["install"] == []  # ComfyUI's own packages stay as they are

    with start(base) as server:
        assert "ELLATimestepConditioning" in server.get("/object_info")
        graph = EllaGraph()
        graph.save(graph.sample(record=False, steps=2))
        assert server.run(graph.nodes).error is None
        assert_no_errors(server)
    changed = [*GIT, "-C", pack, "status", "--porcelain"]
    assert subprocess.run(changed, check=True, capture_output=True).stdout == b""

    for path in pack.rglob("*"):  # git makes its objects read-only, and Windows then keeps them
        path.chmod(0o700)
    shutil.rmtree(pack)
    with start(base) as server:
        infos = server.get("/object_info").values()
        assert not any(PACK_NAME in info["python_module"] for info in infos)
        assert_no_errors(server)
    left = {p.relative_to(base) for p in base.rglob("*") if "ella" in p.name.lower()}
    assert [path.as_posix() for path in left] == ["user/__ella"]
