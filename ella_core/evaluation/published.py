"""Published scores, shown beside the user's with their judge and protocol."""

import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Published:
    """A model's scores as somebody published them.

    Attributes:
        scores: "score" for the total, and the categories.
        judge, protocol: what they were made with; "not stated" if the source doesn't say.
        source: where they stand.
    """

    benchmark: str
    model: str
    scores: dict[str, float]
    judge: str
    protocol: str
    source: str


def published_scores(benchmark: str) -> list[Published]:
    """Return what is known for "DPG-Bench", "T2I-CompBench" or "GenEval"."""
    text = files(__package__).joinpath("published_scores.json").read_text(encoding="utf-8")
    entries = [Published(**entry) for entry in json.loads(text)]
    return [entry for entry in entries if entry.benchmark == benchmark]
