"""Score a judge's answers, beside published scores.

Protocols:
  official   DPG-Bench's published script to the letter, its faults included
  fixed      DPG-Bench with each of these faults mended
  blip-vqa   T2I-CompBench's colour, shape and texture, from questions about noun chunks
"""

import argparse
from pathlib import Path

from ..answers import read_answers
from ..questions import read_rows
from ..scoring import PROTOCOLS, score_answers
from .options import count
from .output import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--questions", type=Path, required=True, help="the benchmark's questions")
    parser.add_argument("--answers", type=Path, required=True, help="what the judge answered")
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--pictures", type=count, default=4, help="of each prompt (default: 4)")
    parser.add_argument("--json", type=Path, help="write the scores to this file too")


def run(arguments: argparse.Namespace) -> None:
    """Score and print."""
    rows = read_rows(arguments.questions)
    answers = read_answers(arguments.answers)
    result = score_answers(rows, answers, arguments.protocol, arguments.pictures)
    judge = next(iter(answers.values())).judge or "not named in the answers"
    show(result, judge, arguments.pictures, arguments.json)
    asked = {(row.item_id, row.question.proposition_id) for row in rows}
    foreign = sum(key[:2] not in asked for key in answers)
    if foreign:
        print(f"\n{foreign} answers are to questions that {arguments.questions} doesn't have")
