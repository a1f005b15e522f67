"""The subcommands, a module each.

A module's docstring is the subcommand's help: its first line in the list of all, the whole in its
own. `add_arguments(parser)` declares its options. `run(arguments)` does the work and raises
`EllaError` for what the user can mend. What is heavy is imported in `run`.
"""

import argparse
from typing import Protocol

from . import (
    agreement,
    fetch,
    generate,
    judge,
    measure,
    questions,
    report,
    score,
    statistics,
)


class Command(Protocol):
    """The interface of a module here."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, arguments: argparse.Namespace) -> None:
        """Do it."""


#: Name on the command line -> module, in the order in which they are used.
COMMANDS: dict[str, Command] = {
    "fetch": fetch,
    "questions": questions,
    "statistics": statistics,
    "generate": generate,
    "judge": judge,
    "score": score,
    "measure": measure,
    "report": report,
    "agreement": agreement,
}
