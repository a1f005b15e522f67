"""The command `ella-train`."""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EllaError

if TYPE_CHECKING:
    from .stages import Tally

_COMMANDS = ("train", "caption", "filter", "precompute", "export")
_LOG = logging.getLogger("ella")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; `ella-train config.yaml` trains.

    Returns:
        The exit code: 1 if something that the user gave was wrong, which is said on stderr.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] not in (*_COMMANDS, "-h", "--help"):
        words = ["train", *words]
    parsed = _parser().parse_args(words)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    _LOG.setLevel(logging.INFO)
    try:
        parsed.run_command(parsed)
    except EllaError as error:
        print(f"ella-train: {error}", file=sys.stderr)  # noqa: T201 (a command's own output)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ella-train", description="Trains a connector between an LLM and Stable Diffusion."
    )
    commands = parser.add_subparsers(required=True)
    for name, run_command, text in (
        ("train", _train, "train, or go on with a run that was interrupted"),
        ("precompute", _precompute, "encode pictures and captions into the sources' caches"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("config", type=Path, help="the run's YAML file")
        command.add_argument("settings", nargs="*", help="such as steps=1000 or data.workers=4")
        command.set_defaults(run_command=run_command)
    _add_caption(commands)
    _add_filter(commands)
    text = "write a checkpoint's connector to a file that Load ELLA opens"
    command = commands.add_parser("export", help=text, description=text)
    command.add_argument("run", type=Path, help="the run's folder")
    command.add_argument("--to", type=Path, help="the file; connector.safetensors in the run else")
    command.add_argument("--step", type=int, help="of the checkpoint; the newest else")
    command.add_argument("--half", action="store_true", help="store it in fp16")
    command.set_defaults(run_command=_export)
    return parser


def _add_stage(commands: Any, name: str, text: str, batch: int) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("pictures", type=Path, help="folder of pictures or of .tar shards")
    command.add_argument("to", type=Path, help="folder of the new shards")
    command.add_argument("--batch", type=int, default=batch, help="pictures at a time")
    command.add_argument(
        "--shard-size", type=int, default=1000, help="pictures a shard, if they are no shards yet"
    )
    return command


def _add_caption(commands: Any) -> None:
    text = "describe pictures with a vision-language model of transformers"
    command = _add_stage(commands, "caption", text, batch=8)
    command.add_argument("--model", required=True, help="folder, or name on the Hugging Face hub")
    command.add_argument("--revision", default="", help="branch or commit there")
    command.add_argument("--instruction", help="what it is told, in place of the usual")
    command.add_argument("--kind", default="synthetic", help="of the captions; others are kept")
    command.add_argument("--tokens", type=int, default=256, help="of a caption, at most")
    command.set_defaults(run_command=_caption)


def _add_filter(commands: Any) -> None:
    text = "keep beautiful and large pictures, and compare the captions before and after"
    command = _add_stage(commands, "filter", text, batch=32)
    command.add_argument("--score", type=float, default=6, help="the aesthetic score is higher")
    command.add_argument("--edge", type=int, default=512, help="the short edge is as long, pixels")
    command.add_argument("--clip", default="openai/clip-vit-large-patch14", help="of the predictor")
    command.add_argument("--head", help="file of LAION's predictor's layers")
    command.add_argument("--predictor", help="another predictor, package.module:function")
    command.add_argument("--tokenizer", type=Path, help="count tokens with CLIP's in this folder")
    command.add_argument("--parts-of-speech", action="store_true", help="count these, with NLTK")
    command.set_defaults(run_command=_filter)


def _caption(parsed: argparse.Namespace) -> None:
    from .caption import INSTRUCTION, Caption, CaptionOptions
    from .stages import run_stage

    instruction = parsed.instruction or INSTRUCTION
    options = CaptionOptions(parsed.model, parsed.revision, instruction, parsed.kind, parsed.tokens)
    _say(run_stage(Caption(options, parsed.batch), parsed.pictures, parsed.to, parsed.shard_size))


def _filter(parsed: argparse.Namespace) -> None:
    from ..prompt_statistics import clip_token_counter, nltk_tagger
    from .filter import Filter, FilterOptions, compare
    from .stages import process_state, run_stage

    count_tokens = clip_token_counter(parsed.tokenizer) if parsed.tokenizer else None
    tag = nltk_tagger() if parsed.parts_of_speech else None
    options = FilterOptions(parsed.score, parsed.edge, parsed.clip, parsed.head, parsed.predictor)
    stage = Filter(options, parsed.batch)
    report = run_stage(stage, parsed.pictures, parsed.to, parsed.shard_size)
    _say(report)
    if report.written and process_state().is_main_process:
        table = "\n".join(compare(parsed.pictures, parsed.to, count_tokens, tag))
        print(table)  # noqa: T201 (a command's own output)


def _say(report: "Tally") -> None:
    """Log what became of the pictures, once for all processes."""
    from .stages import process_state

    if process_state().is_main_process:
        for rule, count in report.dropped.items():
            _LOG.info("Left out %d: %s", count, rule)
        named = ", ".join(report.skipped) or "-"
        _LOG.info("Wrote %d; skipped %d: %s", report.written, len(report.skipped), named)


def _train(parsed: argparse.Namespace) -> None:
    from .config_file import load_config
    from .trainer import Trainer

    Trainer(load_config(parsed.config, parsed.settings)).train()


def _precompute(parsed: argparse.Namespace) -> None:
    from .config_file import load_config
    from .precompute import precompute

    skipped = precompute(load_config(parsed.config, parsed.settings)).skipped
    _LOG.info("Done; skipped %d: %s", len(skipped), ", ".join(skipped) or "-")


def _export(parsed: argparse.Namespace) -> None:
    from .export import export

    path = export(parsed.run, parsed.to, parsed.step, parsed.half)
    _LOG.info("Wrote %s", path)
