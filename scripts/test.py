"""Runs the tests, those against a real ComfyUI included.

python scripts/test.py [pytest arguments]
python scripts/test.py -n 2 --dist loadfile     with two workers, each with a ComfyUI of its own
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, old_transformers, reexec_in_environment, smollm2_gguf


def main() -> int:
    """Set up, then hand over to pytest."""
    reexec_in_environment()
    smollm2_gguf()  # both here, so that two workers don't fetch them at once
    old_transformers()
    import pytest

    return int(
        pytest.main(["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *sys.argv[1:]])
    )


if __name__ == "__main__":
    sys.exit(main())
