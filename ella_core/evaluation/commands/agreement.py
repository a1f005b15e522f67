"""Compare two judges, or a judge with the marks of a person: percent and Cohen's kappa.

Both files hold answers about the same pictures. What isn't a yes counts as a no, as in the score.
"""

import argparse
from pathlib import Path

from ..agreement import agreement
from ..answers import read_answers
from ..files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("first", type=Path, help="an answer file")
    parser.add_argument("second", type=Path, help="another, such as marks.jsonl of the report")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")


def run(arguments: argparse.Namespace) -> None:
    """Compare and print."""
    found = agreement(read_answers(arguments.first), read_answers(arguments.second))
    kappa = "undefined: both always say the same" if found.kappa is None else f"{found.kappa:.3f}"
    print(f"{found.count} answers in common")
    print(f"agreement      {found.percent:.2f} %")
    print(f"Cohen's kappa  {kappa}")
    print(f"both yes {found.table[True, True]}, both no {found.table[False, False]}")
    print(f"only {arguments.first} yes {found.table[True, False]}")
    print(f"only {arguments.second} yes {found.table[False, True]}")
    if arguments.json:
        figures = {"count": found.count, "percent": found.percent, "kappa": found.kappa}
        write_json(arguments.json, figures)
