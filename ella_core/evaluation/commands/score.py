"""Score a judge's answers.

Protocols: `official` is DPG-Bench's published script to the letter, its faults included; `fixed` is
DPG-Bench with each of them mended.
"""

import argparse
from pathlib import Path

from ..answers import read_answers
from ..dpg import PROTOCOLS, DpgScore, score_dpg
from ..files import write_json
from ..questions import read_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--questions", type=Path, required=True, help="the benchmark's questions")
    parser.add_argument("--answers", type=Path, required=True, help="what the judge answered")
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--pictures", type=int, default=4, help="pictures per prompt (4)")
    parser.add_argument("--json", type=Path, help="write the scores to this file too")


def run(arguments: argparse.Namespace) -> None:
    """Score and print."""
    rows = read_rows(arguments.questions)
    answers = read_answers(arguments.answers)
    result = score_dpg(rows, answers, arguments.protocol, arguments.pictures)
    print(f"DPG-Bench, {arguments.protocol}: {result.score:.2f}")
    if arguments.json:
        write_json(arguments.json, _as_json(result))


def _as_json(result: DpgScore) -> dict[str, object]:
    return {
        "score": result.score,
        "l1": result.l1,
        "l2": result.l2,
        "per_prompt": {
            item: {"pictures": score.pictures, "mean": score.mean}
            for item, score in result.items.items()
        },
        "failed": list(result.failed),
    }
