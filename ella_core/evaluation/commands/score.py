"""Score a judge's answers, beside published scores.

Protocols:
  official   DPG-Bench's published script to the letter, its faults included
  fixed      DPG-Bench with each of these faults mended
  blip-vqa   T2I-CompBench's colour, shape and texture, from questions about noun chunks
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..answers import Answer, Key, read_answers
from ..bootstrap import interval
from ..files import write_json
from ..published import published_scores
from ..questions import Row, read_rows
from ..scores import Score, Tally
from ..scoring import PROTOCOLS, score_answers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--questions", type=Path, required=True, help="the benchmark's questions")
    parser.add_argument("--answers", type=Path, required=True, help="what the judge answered")
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--pictures", type=int, default=4, help="of each prompt (default: 4)")
    parser.add_argument("--json", type=Path, help="write the scores to this file too")


def run(arguments: argparse.Namespace) -> None:
    """Score and print."""
    rows = read_rows(arguments.questions)
    answers = read_answers(arguments.answers)
    result = score_answers(rows, answers, arguments.protocol, arguments.pictures)
    intervals = _intervals(result)
    judge = next(iter(answers.values())).judge or "not named in the answers"
    _print_scores(result, intervals, judge, arguments.pictures)
    _print_remarks(result, rows, answers)
    _print_published(result)
    if arguments.json:
        about = {"judge": judge, "pictures": arguments.pictures, "intervals": intervals}
        write_json(arguments.json, result.as_json() | about)


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


def _print_remarks(result: Score, rows: Sequence[Row], answers: dict[Key, Answer]) -> None:
    for item_id, reason in result.failed.items():
        print(f"\n'{item_id}' is dropped, as by the published script: {reason}")
    if result.unclear:
        print(
            f"\n{result.unclear} answers are neither yes nor no to this protocol: they count as no"
        )
    asked = {(row.item_id, row.question.proposition_id) for row in rows}
    foreign = sum(key[:2] not in asked for key in answers)
    if foreign:
        print(f"\n{foreign} answers are to questions that the question file doesn't have: ignored")


def _print_published(result: Score) -> None:
    print(f"\nPublished for {result.benchmark}. Compare only what has the same judge and protocol:")
    for entry in published_scores(result.benchmark):
        scores = ", ".join(f"{name} {value}" for name, value in entry.scores.items())
        print(f"  {entry.model}: {scores} ({entry.judge}; {entry.protocol}; {entry.source})")
