"""Runs the tests, those against a real ComfyUI included.

python scripts/test.py [pytest arguments]
"""

import sys

from bootstrap import ROOT, reexec_in_environment


def main() -> int:
    """Set up, then hand over to pytest."""
    reexec_in_environment()
    import pytest

    return int(
        pytest.main(["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *sys.argv[1:]])
    )


if __name__ == "__main__":
    sys.exit(main())
