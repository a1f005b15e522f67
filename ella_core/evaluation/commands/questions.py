"""Make a question file out of prompts, one a line, for T2I-CompBench and for prompts of your own.

--ask chunks   a question for each noun chunk, as BLIP-VQA is asked for colour, shape and texture;
               needs spaCy and its English model
--ask whole    one question for each prompt: whether the picture shows it
"""

import argparse
from pathlib import Path

from ..compbench import ask_about_chunks, load_parser
from ..questions import Item, Question, read_prompts, write_csv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("prompts", type=Path, help="a text file, such as color_val.txt")
    parser.add_argument("--category", required=True, help="of all of them, such as color")
    parser.add_argument("--ask", choices=("chunks", "whole"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="the question file, a .csv")


def run(arguments: argparse.Namespace) -> None:
    """Read, ask, write."""
    category = arguments.category
    prompts = [
        (f"{category}-{number:04}", prompt)
        for number, prompt in enumerate(read_prompts(arguments.prompts))
    ]
    if arguments.ask == "chunks":
        items = ask_about_chunks(prompts, load_parser(), category)
    else:
        items = [Item(item_id, prompt, (_ask(prompt, category),)) for item_id, prompt in prompts]
    write_csv(arguments.out, items)
    count = sum(len(item.questions) for item in items)
    print(f"{arguments.out}: {len(items)} prompts, {count} questions")


def _ask(prompt: str, category: str) -> Question:
    """Ask as VQAScore does."""
    return Question(1, f'Does this figure show "{prompt}"?', category=category)
