"""Trains a connector; sets itself up first, from nothing but Python 3.11.

python scripts/train.py config.yaml                    trains
python scripts/train.py precompute config.yaml         encodes pictures and captions beforehand
python scripts/train.py --help                         says what else there is
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, reexec_in_environment

if __name__ == "__main__":
    reexec_in_environment()
    sys.path.insert(0, str(ROOT))
    from ella_core.training.cli import main

    sys.exit(main())
