"""Download a benchmark's files from where they are published. Nothing else ever downloads them.

Each is pinned by a checksum. `dpg-bench-rows` is a copy of DPG-Bench on Hugging Face.
"""

import argparse
from pathlib import Path

from ..benchmarks import BENCHMARKS
from ..fetch import fetch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--out", type=Path, required=True, help="the folder to put them in")


def run(arguments: argparse.Namespace) -> None:
    """Download and say what was done."""
    for file in BENCHMARKS[arguments.benchmark]:
        print(fetch(file, arguments.out))
