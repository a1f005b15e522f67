"""Measures text-to-image models with published benchmarks: docs/evaluation.md.

python scripts/evaluate.py --help             the subcommands
python scripts/evaluate.py score --help       one of them
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, reexec_in_environment


def main() -> int:
    """Set up, then hand over to the evaluation package."""
    reexec_in_environment()
    sys.path.insert(0, str(ROOT))
    from ella_core.evaluation.cli import main as evaluate

    return evaluate()


if __name__ == "__main__":
    sys.exit(main())
