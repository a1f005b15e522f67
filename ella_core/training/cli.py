"""The command `ella-train`."""

import argparse
import logging
import sys
from pathlib import Path

from ..errors import EllaError

_COMMANDS = ("train", "precompute", "export")


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
    logging.getLogger("ella").setLevel(logging.INFO)
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
    text = "write a checkpoint's connector to a file that Load ELLA opens"
    command = commands.add_parser("export", help=text, description=text)
    command.add_argument("run", type=Path, help="the run's folder")
    command.add_argument("--to", type=Path, help="the file; connector.safetensors in the run else")
    command.add_argument("--step", type=int, help="of the checkpoint; the newest else")
    command.add_argument("--half", action="store_true", help="store it in fp16")
    command.set_defaults(run_command=_export)
    return parser


def _train(parsed: argparse.Namespace) -> None:
    from .config_file import load_config
    from .trainer import Trainer

    Trainer(load_config(parsed.config, parsed.settings)).train()


def _precompute(parsed: argparse.Namespace) -> None:
    from .config_file import load_config
    from .precompute import precompute

    skipped = precompute(load_config(parsed.config, parsed.settings)).skipped
    logging.getLogger("ella").info("Done; skipped %d: %s", len(skipped), ", ".join(skipped) or "-")


def _export(parsed: argparse.Namespace) -> None:
    from .export import export

    path = export(parsed.run, parsed.to, parsed.step, parsed.half)
    logging.getLogger("ella").info("Wrote %s", path)
