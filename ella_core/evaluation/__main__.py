"""`python -m ella_core.evaluation`."""

import sys

from .cli import main

sys.exit(main())
