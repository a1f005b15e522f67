"""What a training step costs beside U-Net and connector, and what a whole training would cost.

python benchmarks/training.py [--width 320] [--resolution 512] [--captions FILE]
python benchmarks/training.py --cost [--rate 14.8] [--caption-rate 1]

The first prints, from a cache of random features and latents: the share of a step that is spent
outside U-Net and connector; pictures a second of two processes against one; memory with and
without activation checkpointing; bytes of features a caption. The U-Net has SD1.5's layout
(`--width 320` is its size), the connector is the released one; Linux, CPU, processor time, one
thread a process. The second prints the arithmetic of docs/training.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, host_dir, reexec_in_environment

TOKENS, LLM_DIM = 128, 2048
CAPTION = (
    "A weathered fishing boat with a peeling blue hull lies on wet sand beside a coil of orange "
    "rope. Behind it three white gulls stand in shallow water, and a row of narrow brick houses "
    "with red roofs follows the curve of the harbour. The evening light is low and golden, long "
    "shadows reach to the left, and a girl in a yellow raincoat walks towards the boat."
)
PAPER = {"steps": 280_000, "batch": 256, "pictures": 34_000_000}
TWO = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
    *("--main_process_port", "0"),
)


def main() -> None:
    """Set up, measure, print."""
    arguments = _parse()
    if arguments.cost:
        _print_cost(arguments.rate, arguments.caption_rate)
        return
    reexec_in_environment()
    sys.path.insert(0, str(ROOT))
    if arguments.child:
        _measure(arguments.child, json.loads(arguments.changes))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = _token_counts(arguments.captions)
        _make(folder, arguments.width, arguments.resolution, tokens)
        _print_features(folder, tokens)
        _print_steps(folder, arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What training costs.")
    parser.add_argument(
        "--width", type=int, default=320, help="channels of the U-Net's first level"
    )
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4, help="pictures in a step; even")
    parser.add_argument("--captions", type=Path, help="a text file with one caption a line")
    parser.add_argument("--cost", action="store_true", help="print the arithmetic, measure nothing")
    parser.add_argument("--rate", type=float, default=14.8, help="pictures a second and GPU")
    parser.add_argument("--caption-rate", type=float, default=1.0, help="captions a second and GPU")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--changes", help=argparse.SUPPRESS)
    return parser.parse_args()


def _token_counts(captions: Path | None) -> list[int]:
    """T5's tokens of each caption, at most as many as training reads."""
    from transformers import AutoTokenizer

    texts = captions.read_text(encoding="utf-8").splitlines() if captions else [CAPTION]
    tokenizer = AutoTokenizer.from_pretrained(host_dir() / "comfy/text_encoders/t5_tokenizer")
    return [min(TOKENS, len(ids)) for ids in tokenizer(texts)["input_ids"]]


def _make(folder: Path, width: int, resolution: int, tokens: list[int]) -> None:
    """A base, and shards of random features: of captions' own lengths, and all padded."""
    import torch

    import tiny_models
    from ella_core.training.bases import load_base
    from ella_core.training.cache import EncodedPicture, write_shard
    from ella_core.training.config import BaseConfig
    from ella_core.training.contract import Contract, weights_identity

    path = folder / "base.safetensors"
    tiny_models.draw_checkpoint(path, model_channels=width, **tiny_models.SD15)
    vae = weights_identity(load_base(BaseConfig(path)).vae)
    edge = resolution // 8
    for name, lengths in (("flexible", tokens), ("cache", [TOKENS] * max(64, len(tokens)))):
        contract = Contract(
            "random", "", "t5", 24, LLM_DIM, "float16", TOKENS, name == "flexible", vae,
            resolution, False, 64,
        )  # fmt: skip
        pictures = [
            EncodedPicture(
                key=f"{i:03d}",
                shape=(resolution, resolution),
                latents=torch.randn(4, edge, edge),
                std=None,
                sizes=(resolution, resolution, 0, 0, resolution, resolution),
                captions=[("long", torch.randn(length, LLM_DIM).half())],
                context=None,
            )
            for i, length in enumerate(lengths)
        ]
        empty = torch.randn(1 if name == "flexible" else TOKENS, LLM_DIM).half()
        write_shard(folder / f"{name}/0.safetensors", contract, pictures, empty, None, [])


def _print_features(folder: Path, tokens: list[int]) -> None:
    from safetensors import safe_open

    print("| features of a caption | tokens | bytes |\n|---|---|---|")
    for name, text in (("cache", "padded"), ("flexible", "text.flexible")):
        with safe_open(folder / f"{name}/0.safetensors", framework="pt") as file:
            rows, width = file.get_slice("features").get_shape()
            count = len(file.get_tensor("rows")) - 1
        print(f"| {text} | {rows / count:.1f} | {2 * rows * width / count:,.0f} |")
    print(f"\n{len(tokens)} captions, {LLM_DIM} wide, 16 bit.\n")


def _print_steps(folder: Path, arguments: argparse.Namespace) -> None:
    batch = arguments.batch
    settings = {"data": {"resolution": arguments.resolution}, "batch": batch}
    half = {**settings, "micro_batch": batch // 2}
    one, two = _run(folder, half), _run(folder, half, TWO)
    plain, checkpointed = (
        _run(
            folder,
            {**settings, "micro_batch": batch, "activation_checkpointing": on},
            allocation=GIVE_BACK,
        )
        for on in (False, True)
    )
    print(f"Batches of {batch}, {arguments.resolution} pixels, U-Net {arguments.width} wide.\n")
    print("| part of a step | share of its processor time |\n|---|---|")
    print(f"| U-Net and connector, forwards and backwards | {1 - one['outside']:.1%} |")
    print(f"| all else: reading, optimiser, log | {one['outside']:.1%} |\n")
    print("| processes | pictures a second, ratio | by the clock |\n|---|---|---|")
    print("| 1 | 1 | 1 |")
    print(f"| 2 | {one['cpu'] / two['cpu']:.2f} | {one['wall'] / two['wall']:.2f} |\n")
    print("| activation checkpointing | memory of a step | processor time |\n|---|---|---|")
    print(f"| off | {plain['memory'] / 2**20:,.0f} MiB | 1 |")
    ratio = checkpointed["cpu"] / plain["cpu"]
    print(f"| on | {checkpointed['memory'] / 2**20:,.0f} MiB | {ratio:.2f} |")


# glibc keeps what is freed, which is quicker, or gives it back, so that memory can be measured.
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16), "MALLOC_TRIM_THRESHOLD_": "0"}


def _run(
    folder: Path,
    changes: dict[str, Any],
    launcher: tuple[str, ...] = (),
    allocation: dict[str, str] = KEEP,
) -> dict[str, float]:
    """Measure some steps in processes of their own."""
    command = [sys.executable, *launcher, __file__, "--child", str(folder)]
    done = subprocess.run(
        [*command, "--changes", json.dumps(changes)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **allocation, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _measure(folder: Path, changes: dict[str, Any]) -> None:
    """Make steps and print, for one of them: seconds, share outside, and memory."""
    import torch

    from ella_core.training.config_file import read_config
    from ella_core.training.trainer import Trainer

    torch.set_num_threads(1)
    inside = 0.0
    before, ends = 0, list[tuple[float, float, float]]()

    def timed(function: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            start = time.thread_time()
            result = function(*args, **kwargs)
            inside += time.thread_time() - start
            return result

        return run

    data = {**changes.pop("data"), "sources": [{"cache": str(folder / "cache")}]}
    with tempfile.TemporaryDirectory() as run:
        config = {
            "run": run, "base": {"path": str(folder / "base.safetensors")}, "data": data,
            "precision": "fp32", "steps": 3, **changes,
        }  # fmt: skip
        trainer = Trainer(read_config(config))
        trainer._loss = timed(trainer._loss)
        trainer.accelerator.backward = timed(trainer.accelerator.backward)
        for micro_batches in trainer._micro_batches():
            trainer._make_step(micro_batches)
            ends.append((time.process_time(), time.perf_counter(), inside))
            if len(ends) == 1:  # it has allocated AdamW's state
                Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
                before = _status("VmRSS")
    steps = len(ends) - 1
    cpu, wall, spent = ((b - a) / steps for a, b in zip(ends[0], ends[-1], strict=True))
    measured = {
        "cpu": cpu, "wall": wall, "outside": 1 - spent / cpu, "memory": _status("VmHWM") - before,
    }  # fmt: skip
    if trainer.accelerator.is_main_process:
        print(json.dumps(measured))


def _status(name: str) -> int:
    """Bytes of memory as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _print_cost(rate: float, caption_rate: float) -> None:
    """The arithmetic of a whole training, from rates."""
    pictures, seen = PAPER["pictures"], PAPER["steps"] * PAPER["batch"]
    day = 86_400
    print(f"{rate:g} pictures and {caption_rate:g} captions a second and GPU.\n")
    print("| | 1 GPU | 8 GPUs |\n|---|---|---|")
    rows = (
        ("1,000 captions", 1000 / caption_rate),
        ("34M captions", pictures / caption_rate),
        ("1,000 steps of 256", 1000 * 256 / rate),
        ("140,000 steps of 256", seen / 2 / rate),
        ("280,000 steps of 256", seen / rate),
    )
    for name, seconds in rows:
        print(f"| {name} | {_time(seconds)} | {_time(seconds / 8)} |")
    feature, latent = TOKENS * LLM_DIM * 2, 4 * 64 * 64 * 2 * 2
    print("\n| cache of 512 pixels | a picture with a caption | 34M of them |\n|---|---|---|")
    for name, size in (
        (f"features, {TOKENS} tokens x {LLM_DIM}", feature),
        ("latents with their deviation", latent),
    ):
        print(f"| {name} | {size / 1024:,.0f} KiB | {size * pictures / 1e12:.1f} TB |")
    print(f"\nOne epoch of 34M pictures is {pictures / 256:,.0f} steps; a day has {day:,} seconds.")


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} seconds"


if __name__ == "__main__":
    main()
