"""Printing and writing of scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bootstrap import interval
from ..files import write_json
from ..published import published_scores
from ..scores import Score, Tally


def show(result: Score, judge: str, pictures: int, path: Path | None) -> None:
    """Print scores beside published ones, and write them to a file if one is given.

    Args:
        result: the scores.
        judge: who answered, or what measured.
        pictures: how many of each prompt.
        path: the file, which is JSON.
    """
    intervals = _intervals(result)
    if path:
        about = {"judge": judge, "pictures": pictures, "intervals": intervals}
        write_json(path, result.as_json() | about)
    _print_scores(result, intervals, judge, pictures)
    _print_remarks(result)
    _print_published(result.benchmark)


def _intervals(result: Score) -> dict[str, Any]:
    """Return the 95 % interval of each score, by the names that `Score.as_json` has."""

    def scaled(tally: Tally) -> list[float]:
        return [result.scale * end for end in interval(tally)]

    return {
        "score": scaled(result.total),
        "l1": {name: scaled(tally) for name, tally in result.l1.items()},
        "l2": {name: scaled(tally) for name, tally in result.l2.items()},
    }


def _print_scores(result: Score, intervals: dict[str, Any], judge: str, pictures: int) -> None:
    digits = 2 if result.scale == 100 else 4
    print(f"protocol {result.protocol}, judge {judge}, {len(result.items)} prompts of {pictures}")
    print("with 95 % intervals over prompts\n")

    def line(name: str, value: float, ends: Sequence[float]) -> None:
        low, high = ends
        print(f"{name:<34}{value:>9.{digits}f}   {low:.{digits}f} to {high:.{digits}f}")

    line("score (mean over prompts)", result.score, intervals["score"])
    for level, tallies in (("l1", result.l1), ("l2", result.l2)):
        if tallies:
            print(f"\n{level}: {result.note}")
        for name, tally in tallies.items():
            line(name or "no category", result.scale * tally.mean, intervals[level][name])


def _print_remarks(result: Score) -> None:
    for item_id, reason in result.failed.items():
        print(f"\n'{item_id}' is dropped, as by the published script: {reason}")
    if result.unclear:
        print(
            f"\n{result.unclear} answers are neither yes nor no to this protocol: they count as no"
        )


def _print_published(benchmark: str) -> None:
    print(f"\nPublished for {benchmark}. Compare only what has the same judge and protocol:")
    for entry in published_scores(benchmark):
        scores = ", ".join(f"{name} {value}" for name, value in entry.scores.items())
        print(f"  {entry.model}: {scores} ({entry.judge}; {entry.protocol}; {entry.source})")
