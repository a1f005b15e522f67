"""Pictures and settings of training runs that take seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bootstrap import ROOT

#: Arguments for Python that start a script twice. `--multi_gpu` is accelerate's name for several
#: processes of one machine; without a GPU they exchange gradients through gloo.
TWO_PROCESSES = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
    *("--main_process_port", "0"),
)
#: The same with torchrun.
TORCHRUN_TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
#: Changes that make an SDXL of `tiny_models.UNET`.
SMALL_SDXL = {
    "channel_mult": [1, 1, 1],
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 1, 2],
    "transformer_depth_output": [0, 0, 1, 2, 2, 1],
    "transformer_depth_middle": 2,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
    "num_heads": -1,
    "num_head_channels": 64,
}
PICTURES = 12
WORDS = ("a red barn", "two cats on a wall", "fog", "a very small boat under a tall bridge")


def write_pictures(folder: Path, count: int = PICTURES) -> Path:
    """Pictures of noise with captions of two kinds, and targets of the alignment."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 255, (40, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        captions = {"long": [f"{WORDS[i % 4]}, number {i}", "no more"], "short": WORDS[i % 4]}
        (folder / f"{i:03d}.json").write_text(json.dumps({"captions": captions}))
        np.save(folder / f"{i:03d}.context.npy", rng.standard_normal((4, 768), dtype=np.float32))
    np.save(folder / "empty.context.npy", np.zeros((4, 768), dtype=np.float32))
    return folder


def settings(models: Path, data: Path, run: Path, /, **changes) -> dict:
    """A run of small parts that takes a second."""
    source = {"pictures": str(data / "pictures"), "cache": str(data / "cache")}
    time = {"channels": 32, "dim": 16}
    resampler = {"llm_dim": 64, "width": 32, "context_dim": 768, "layers": 1, "heads": 4}
    return {
        "run": str(run),
        "base": {"path": str(models / "base.safetensors")},
        "llm": {"path": str(models / "llm")},
        "connector": {"resampler": {**resampler, "num_latents": 4, "time": time}},
        "text": {"tokens": 32, "flexible": True},
        "data": {"resolution": 32, "sources": [source], "workers": 1},
        "optimiser": {"lr": 1e-3},
        "batch": 4,
        "micro_batch": 2,
        "steps": 20,
        "precision": "fp32",
        "checkpoint": {"every": 5},
        **changes,
    }


def run_python(*arguments: object, expected: int = 0) -> str:
    """Run Python in a process of its own and return what it wrote to stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: PLW1510
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == expected, done.stderr[-3000:]
    return done.stderr
