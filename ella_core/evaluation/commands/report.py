"""Write a report that a browser opens: scores, categories, every prompt's pictures and answers.

Give --run once, or twice to see two runs side by side with the prompts that changed most. The
report also offers a page where a person can answer the judge's questions; `agreement` compares.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...errors import EllaError
from ..answers import read_answers
from ..pictures import find_pictures
from ..questions import Row, read_rows
from ..report import Run, write_report
from ..scoring import PROTOCOLS, score_answers
from .options import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--questions", type=Path, required=True, help="the benchmark's questions")
    parser.add_argument(
        "--run",
        nargs=3,
        action="append",
        required=True,
        metavar=("NAME", "ANSWERS", "FOLDER"),
        help="a name, the answer file and the folder of the pictures; once or twice",
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--pictures", type=count, default=4, help="of each prompt (default: 4)")
    parser.add_argument("--resolution", type=count, help="side of a picture, if they are in grids")
    parser.add_argument("--out", type=Path, required=True, help="the report's folder")


def run(arguments: argparse.Namespace) -> None:
    """Score and write."""
    if len(arguments.run) > 2:
        raise EllaError(f"A report shows one run or two, and --run was given {len(arguments.run)}.")
    rows = read_rows(arguments.questions)
    runs = [_read(name, given, rows, arguments) for name, *given in arguments.run]
    report = write_report(arguments.out, runs)
    for each in report["runs"]:
        print(f"{each['name']}: {_with_interval(each['score'])}")
    if difference := report["difference"]:
        first, second = (each["name"] for each in report["runs"])
        print(f"{second} minus {first}: {_with_interval(difference)}, paired by prompt")
    print(f"open {arguments.out / 'index.html'}")


def _with_interval(entry: dict[str, float]) -> str:
    return f"{entry['value']:.4g} ({entry['low']:.4g} to {entry['high']:.4g})"


def _read(
    name: str, given: Sequence[str], rows: Sequence[Row], arguments: argparse.Namespace
) -> Run:
    answer_file, folder = map(Path, given)
    answers = read_answers(answer_file)
    score = score_answers(rows, answers, arguments.protocol, arguments.pictures)
    pictures = find_pictures(folder, list(score.items), arguments.pictures, arguments.resolution)
    by_place = {(picture.item_id, picture.crop): picture for picture in pictures}
    return Run(name, next(iter(answers.values())).judge, score, by_place)
