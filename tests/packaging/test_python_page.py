"""The example of docs/python.md, with small models in the place of the demo's."""

import os
import re
import subprocess
import sys

from bootstrap import ROOT
from support.models import write_llama, write_tsc

WIDTH = 64


def test_the_example_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs/python.md").read_text("utf-8"), re.S)
    models = tmp_path / ".demo/models"
    write_llama(models / "text_encoders/SmolLM2-135M-Instruct", width=WIDTH)
    write_tsc(models / "ella/ella-miniature-connector.safetensors", layers=1, llm_dim=WIDTH)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    run = subprocess.run(command, check=False, **options)
    assert run.returncode == 0, run.stderr
    config, shapes = run.stdout.splitlines()
    assert config.startswith("ResamplerConfig(")
    assert re.fullmatch(r"\d+ tokens of the LLM -> \(3, 64, 768\)", shapes)
