"""Kinds of values that several subcommands take."""

import argparse


def count(text: str) -> int:
    """Return a number of things, at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
