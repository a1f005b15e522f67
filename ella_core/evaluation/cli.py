"""The command line: `python scripts/evaluate.py`, `ella-eval`, `python -m ella_core.evaluation`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from ..errors import EllaError
from .commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status: 0, 1 after an `EllaError`, 130 on Ctrl+C."""
    logging.basicConfig(level=logging.INFO, format="[%(name)s] %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the hub's client logs every request
    arguments = _parser().parse_args(argv)
    try:
        COMMANDS[arguments.command].run(arguments)
    except EllaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ella-eval", description="Measure text-to-image models with published benchmarks."
    )
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = (module.__doc__ or "").replace("%", "%%")
        own = subcommands.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(own)
    return parser
