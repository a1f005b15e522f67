"""The text encoder tests once more under the oldest transformers that ComfyUI allows."""

import os
import subprocess
import sys
from pathlib import Path

from bootstrap import OLD_TRANSFORMERS, ROOT, old_transformers


def test_under_the_oldest_transformers():
    environment = {**os.environ, "PYTHONPATH": str(old_transformers())}
    python = [sys.executable, "-c", "import transformers; print(transformers.__version__)"]
    version = subprocess.run(python, env=environment, check=True, capture_output=True, text=True)
    assert f"transformers=={version.stdout.strip()}" == OLD_TRANSFORMERS[0]
    names = ("text_encoders", "unusable", "quantize", "weighting", "chunks")
    tests = [Path(__file__).with_name(f"test_{name}.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), *tests]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-5000:]
