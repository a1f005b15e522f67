"""Ask a judge the questions about the pictures.

Judges:
  chat       a vision-language model of transformers that has a chat template
  blip-vqa   BLIP-VQA, the judge of T2I-CompBench
  server     a model behind an OpenAI-compatible server that gives log probabilities, such as vLLM
  program    a program of your own that reads and writes lines of JSON
  recorded   answers from another file
The answers are added to the file picture by picture: the same command goes on where it stopped.
"""

import argparse
import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...errors import EllaError
from ..answers import answer_log
from ..pictures import find_pictures
from ..questions import load_items
from .options import count

if TYPE_CHECKING:
    from ..answers import AnswerLog
    from ..judges.base import Judge
    from ..pictures import Picture

T = TypeVar("T")

_TEMPLATE = "{question} Answer with yes or no."
_BLIP = "Salesforce/blip-vqa-capfilt-large"
_NAMED = 10  # questions and pictures that a summary names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--questions", type=Path, required=True, help="the benchmark's questions")
    add("--folder", type=Path, required=True, help="where the pictures are")
    add("--answers", type=Path, required=True, help="file that gets the answers")
    add("--pictures", type=count, default=4, help="pictures per prompt (4)")
    add("--resolution", type=count, help="side of one picture, if they are in grids of 2 x 2")
    add("--judge", choices=_JUDGES, required=True)
    add("--model", default="", help="chat, blip-vqa: folder or repository; server, program: name")
    add("--revision", default="", help="of the model: branch or commit")
    add(
        "--template",
        type=_template,
        default=_TEMPLATE,
        help=f"chat, server: ({_TEMPLATE})",
    )
    add("--device", default="", help="chat, blip-vqa: where it runs (a GPU if there is one)")
    add("--batch", type=count, default=16, help="chat: questions at a time (16)")
    add("--address", help="server: http://HOST:PORT")
    add("--parallel", type=count, default=16, help="server: pictures at a time (16)")
    add("--command", help="program: command line", dest="program")
    add("--from", type=Path, help="recorded: answer file", dest="source")


def run(arguments: argparse.Namespace) -> None:
    """Ask what is not answered yet."""
    from tqdm import tqdm

    from ..judges.run import ask_all, unanswered

    items = load_items(arguments.questions)
    ids = [item.item_id for item in items]
    pictures = find_pictures(arguments.folder, ids, arguments.pictures, arguments.resolution)
    with ExitStack() as stack:
        judge = _JUDGES[arguments.judge](arguments, stack)
        source = (judge.name, judge.revision, judge.template)
        log = stack.enter_context(answer_log(arguments.answers, source))
        tasks = unanswered(items, pictures, log)
        done = len(pictures) - len(tasks)
        with tqdm(total=len(pictures), initial=done, unit="picture") as bar:
            failed = ask_all(judge, tasks, log, bar.update)
    _summary(log, failed, len(pictures))


def _summary(log: "AnswerLog", failed: "dict[Picture, str]", pictures: int) -> None:
    """Print how often the judge said what, and name what is no yes and no no.

    Raises:
        EllaError: Pictures could not be judged.
    """
    said = Counter(answer.answer for answer in log.answers.values())
    other = [each for each in log.answers.values() if each.answer not in ("yes", "no")]
    print(f"{len(log.answers)} answers: {said['yes']} yes, {said['no']} no, {len(other)} neither")
    for answer in other[:_NAMED]:
        where = f"{answer.item_id}, picture {answer.crop}, question {answer.proposition_id}"
        print(f"  {where}: {answer.answer!r}")
    if len(other) > _NAMED:
        print(f"  and {len(other) - _NAMED} more, all in the file")
    if failed:
        reasons = [f"  {picture.path.name}, {reason}" for picture, reason in failed.items()]
        raise EllaError(
            f"{len(failed)} of {pictures} pictures could not be judged. The same command tries "
            "them again:\n" + "\n".join(reasons)
        )


def _chat(arguments: argparse.Namespace, _: ExitStack) -> "Judge":
    from ..judges.chat import ChatJudge

    model = _needed(arguments.model, "--model")
    return ChatJudge(
        model, arguments.revision, arguments.template, arguments.device, arguments.batch
    )


def _blip(arguments: argparse.Namespace, _: ExitStack) -> "Judge":
    from ..judges.blip import BlipJudge

    return BlipJudge(arguments.model or _BLIP, arguments.revision, arguments.device)


def _server(arguments: argparse.Namespace, _: ExitStack) -> "Judge":
    from ..judges.server import ServerJudge

    return ServerJudge(
        _needed(arguments.address, "--address"),
        arguments.model,
        arguments.revision,
        arguments.template,
        arguments.parallel,
    )


def _program(arguments: argparse.Namespace, stack: ExitStack) -> "Judge":
    from ..judges.program import ProgramJudge

    command = shlex.split(_needed(arguments.program, "--command"))
    return stack.enter_context(ProgramJudge(command, arguments.model, arguments.revision))


def _recorded(arguments: argparse.Namespace, _: ExitStack) -> "Judge":
    from ..judges.recorded import RecordedJudge

    return RecordedJudge(_needed(arguments.source, "--from"))


def _template(text: str) -> str:
    if "{question}" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} has no {{question}}")
    return text


def _needed(value: T | None, option: str) -> T:
    if not value:
        raise EllaError(f"This judge needs {option}.")
    return value


_JUDGES: dict[str, Callable[[argparse.Namespace, ExitStack], "Judge"]] = {
    "chat": _chat,
    "blip-vqa": _blip,
    "server": _server,
    "program": _program,
    "recorded": _recorded,
}
