"""The command line: `python scripts/evaluate.py`, `ella-eval`, `python -m ella_core.evaluation`."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from ..errors import EllaError
from .commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status.

    It is 0, 1 after an `EllaError`, 130 on Ctrl+C, and 141 if what reads the output has ended.
    """
    logging.basicConfig(level=logging.INFO, format="[%(name)s] %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the hub's client logs every request
    arguments = _parser().parse_args(argv)
    try:
        COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
    except EllaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # of `head`, say. Python would complain again at its own last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
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
