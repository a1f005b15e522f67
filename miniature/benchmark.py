"""The miniature as a benchmark: questions from scenes, which the rule of `judge` answers.

They are DPG-Bench's kind: whether a shape is there, and if so, of which colour, size and place.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ella_core.evaluation.questions import Item, Question, write_csv

from .evaluation import WORKFLOW, Prompt, prompts, shuffled
from .judge import read
from .templates import adapt
from .world import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scene, Thing

_QUESTION = re.compile(
    rf"Is there an? (?:(?P<size>{'|'.join(SIZES)}) )?(?:(?P<colour>{'|'.join(COLOURS)}) )?"
    rf"(?P<shape>{'|'.join(SHAPES)})(?: at the (?P<place>\w+ \w+))?\?"
    rf"|Is the background (?P<background>{'|'.join(BACKGROUNDS)})\?"
)


def write(folder: Path, scenes: int, infos: dict[str, Any]) -> None:
    """Write what `scripts/evaluate.py` takes.

    `questions.csv` asks about each held-out scene, `shuffled.csv` asks about another one, which is
    the score by chance, and `base.csv` has no prompts. `workflow.json` is the bundled workflow.

    Args:
        folder: where the files go.
        scenes: how many.
        infos: the `/object_info` of a ComfyUI that has the miniature.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = prompts("scenes", scenes, seed=0)
    own = [prompt.scene for prompt in made]
    write_csv(folder / "questions.csv", _items(made, own))
    write_csv(folder / "shuffled.csv", _items(made, shuffled(own)))
    write_csv(folder / "base.csv", _items([replace(prompt, text="") for prompt in made], own))
    graph = json.dumps(_workflow(infos), indent=1)
    (folder / "workflow.json").write_text(graph, encoding="utf-8")


def questions(scene: Scene) -> Iterator[Question]:
    """Yield each question once, whatever shares it, before those that depend on it."""
    numbers: dict[str, int] = {}
    for text, parent, category in _asked(scene):
        if text not in numbers:
            numbers[text] = len(numbers) + 1
            parents = (numbers[parent],) if parent else ()
            yield Question(numbers[text], text, parents, category)


def answer(question: str, scene: Scene) -> str:
    """Return yes or no to a question about the scene that a picture shows."""
    found = _QUESTION.fullmatch(question)
    assert found, question
    if background := found["background"]:
        return _yes(scene.background == background)
    wanted = {name: found[name] for name in ("size", "colour", "shape", "place")}
    return _yes(
        any(
            all(value in (None, _described(thing)[name]) for name, value in wanted.items())
            for thing in scene.things
        )
    )


def serve() -> None:
    """Answer lines of JSON on the standard input: a program as a judge (docs/evaluation.md)."""
    for line in sys.stdin:
        request = json.loads(line)
        with Image.open(request["picture"]) as image:
            scene = read(np.asarray(image.convert("RGB"), np.float32) / 255)
        replies = [{"text": answer(question, scene)} for question in request["questions"]]
        print(json.dumps({"replies": replies}), flush=True)


def _workflow(infos: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the bundled workflow in API format, its nodes with their titles."""
    from smollm2 import NAME
    from workflow import to_api

    workflow = adapt(WORKFLOW, NAME)
    graph = to_api(workflow, infos)
    for node in workflow["nodes"]:
        if "title" in node and str(node["id"]) in graph:
            graph[str(node["id"])]["_meta"] = {"title": node["title"]}
    return graph


def _items(made: Sequence[Prompt], asked: Sequence[Scene]) -> list[Item]:
    """Return prompts, each with the questions about a scene."""
    return [
        Item(f"scene-{number:03}", prompt.text, tuple(questions(scene)))
        for number, (prompt, scene) in enumerate(zip(made, asked, strict=True))
    ]


def _described(thing: Thing) -> dict[str, str]:
    place = " ".join(PLACES[thing.place])
    return {"size": thing.size, "colour": thing.colour, "shape": thing.shape, "place": place}


def _asked(scene: Scene) -> Iterator[tuple[str, str, str]]:
    """Yield (question, the question that it depends on, category)."""
    for thing in scene.things:
        coloured = f"{thing.colour} {thing.shape}"
        there, right = _is_there(thing.shape), _is_there(coloured)
        place = " ".join(PLACES[thing.place])
        yield there, "", "entity - whole"
        yield right, there, "attribute - color"
        yield _is_there(f"{thing.size} {coloured}"), right, "attribute - size"
        yield _is_there(f"{coloured} at the {place}"), right, "relation - spatial"
    yield f"Is the background {scene.background}?", "", "global - background"


def _is_there(noun: str) -> str:
    article = "an" if noun[0] in "aeiou" else "a"
    return f"Is there {article} {noun}?"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
