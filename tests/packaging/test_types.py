"""mypy --strict over the nodes.

They import the library relative to the pack, whose folder may have any name. mypy needs a name
that Python could import, so the check runs on a link that has one.
"""

import os
import subprocess
import sys

from bootstrap import ROOT
from comfyui import link


def test_nodes_are_typed(tmp_path):
    link(ROOT, tmp_path / "ella_nodes")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    result = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), "-p", "ella_nodes.nodes"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no issues found in 15 source files" in result.stdout, result.stdout
