"""Count the words, tokens and parts of speech of prompts, as in Table 2 of the paper."""

import argparse
from pathlib import Path

from ...prompt_statistics import clip_token_counter, nltk_tagger, prompt_statistics, rows
from ..questions import load_items, read_prompts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("prompts", type=Path, help="a question file, or a .txt with one a line")
    parser.add_argument(
        "--tokenizer", type=Path, help="folder of CLIP's: comfy/sd1_tokenizer in a ComfyUI"
    )
    parser.add_argument("--parts-of-speech", action="store_true", help="count these too, with NLTK")


def run(arguments: argparse.Namespace) -> None:
    """Count and print."""
    found = prompt_statistics(
        _read(arguments.prompts),
        clip_token_counter(arguments.tokenizer) if arguments.tokenizer else None,
        nltk_tagger() if arguments.parts_of_speech else None,
    )
    print(f"prompts        {found.count}")
    for name, value in rows(found):
        print(f"{name:<15}{value}")


def _read(path: Path) -> list[str]:
    if path.suffix == ".txt":
        return read_prompts(path)
    return [item.prompt for item in load_items(path)]
