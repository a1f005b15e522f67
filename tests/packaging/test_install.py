"""Installed and removed as ComfyUI-Manager does it: a clone, its requirements, a folder deleted."""

import re
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from bootstrap import ROOT, host_dir
from comfyui import PACK_NAME, Server
from support.host import EllaGraph

GIT = ["git", "-c", "safe.directory=*"]
REQUIREMENTS = "requirements.txt"


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
    log = server.log_text()
    assert not any(sign in log for sign in ("Traceback", "IMPORT FAILED", "Cannot import"))


def pip(*arguments):
    """Standard output of ComfyUI's own pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(folder):
    return {normal(found.metadata["Name"]) for found in metadata.distributions(path=[str(folder)])}


def closure(names):
    """The installed packages of these names, and all that they need, extras left out."""
    found, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        try:
            needs = map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue  # for another system or Python
        found.add(name)
        applying = (r for r in needs if r.marker is None or r.marker.evaluate({"extra": ""}))
        waiting |= {normal(r.name) for r in applying} - found
    return found


def test_the_requirements_bring_one_package_and_none_of_comfyuis(tmp_path):
    """Into an empty folder, as if nothing were installed: what is there can't hide a package."""
    pip("install", "--quiet", "--no-compile", "--target", tmp_path, "-r", ROOT / REQUIREMENTS)
    brought = distributions(tmp_path)
    assert brought == {"protobuf"}
    lines = (line.partition("#")[0].strip() for line in (host_dir() / REQUIREMENTS).open())
    comfyuis = closure(normal(Requirement(line).name) for line in lines if line)
    assert {"torch", "transformers", "huggingface-hub"} <= comfyuis
    assert not brought & comfyuis


def test_install_run_and_remove(base):
    pack = base / "custom_nodes" / PACK_NAME
    subprocess.run([*GIT, "clone", "--quiet", ROOT, pack], check=True)
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
