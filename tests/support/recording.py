"""Hashes of every context that a test read, to compare two versions of the pack bit by bit.

ELLA_RECORD_CONTEXTS=/tmp/before.jsonl OMP_NUM_THREADS=1 PYTHONHASHSEED=0 \\
    python scripts/test.py tests/exactness
python tests/support/recording.py /tmp/before.jsonl /tmp/after.jsonl

Run both versions on the same ComfyUI with the same tests, threads and a single worker: prompts
that are computed together differ in the last digit from prompts that are computed alone. Python's
hash seed decides in which order ComfyUI runs the nodes of a graph, and so what is computed first.
"""

import hashlib
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_VARIABLE = "ELLA_RECORD_CONTEXTS"


def note(records: "list[dict[str, torch.Tensor]]") -> None:
    """Append the hashes of the contexts in `records` under the running test's name."""
    if _VARIABLE in os.environ:
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        hashes = [_hash(record["context"]) for record in records if "context" in record]
        with Path(os.environ[_VARIABLE]).open("a") as file:
            file.write(json.dumps([test, hashes]) + "\n")


def _hash(context: "torch.Tensor") -> str:
    data = context.contiguous().numpy().tobytes()
    return f"{list(context.shape)} {hashlib.sha256(data).hexdigest()}"


def read(file: Path) -> dict[str, list[str]]:
    """Test -> hashes, in the order of the calls."""
    hashes = defaultdict(list)
    for line in file.read_text().splitlines():
        test, found = json.loads(line)
        hashes[test] += found
    return hashes


def main() -> int:
    """Print what differs between two recordings; 0 if nothing does."""
    before, after = (read(Path(name)) for name in sys.argv[1:])
    both = before.keys() & after.keys()
    different = sorted(test for test in both if before[test] != after[test])
    contexts = sum(len(before[test]) for test in both)
    print(f"{contexts:,} contexts of {len(both)} tests compared, {len(different)} tests differ")
    for title, tests in (
        ("differs", different),
        ("only before", sorted(before.keys() - both)),
        ("only after", sorted(after.keys() - both)),
    ):
        for test in tests:
            print(f"{title}: {test}")
    return 1 if different or not contexts else 0


if __name__ == "__main__":
    sys.exit(main())
