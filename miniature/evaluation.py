"""Paints held-out scenes in a real ComfyUI and judges the pictures."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .captions import caption
from .judge import mean_verdict
from .shipping import CHECKPOINT, CONNECTOR
from .world import PIXELS, Scene, draw_scene

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "workflows/ella-text-to-image.json"

#: What the miniature needs in a workflow, beside names of models.
SAMPLING = {
    "width": PIXELS,
    "height": PIXELS,
    "steps": 12,
    "cfg": 2.5,
    "sampler_name": "euler",
    "scheduler": "normal",
}


@dataclass(frozen=True)
class Prompt:
    """A scene, its caption and the seed of its picture."""

    scene: Scene
    text: str
    seed: int


#: Names of the sets of held-out prompts: new scenes, those of one thing, pairs of shape and
#: colour, phrasings, words.
SETS = ("scenes", "single", "pairs", "phrasings", "synonyms")


def prompts(name: str, number: int, seed: int) -> list[Prompt]:
    """Return held-out prompts.

    Args:
        name: one of `SETS`.
        number: how many.
        seed: of the first picture; other seeds give other scenes.
    """
    return list(islice(_held_out(name, seed * 10_000), number))


def _held_out(name: str, first: int) -> Iterator[Prompt]:
    """Yield the prompts of a set, their pictures' seeds from `first` on."""
    for i in count(first):
        scene = draw_scene(i, "pairs" if name == "pairs" else "new")
        if name == "single" and len(scene.things) > 1:
            continue
        text = caption(scene, i, new_phrasing=name == "phrasings", new_words=name == "synonyms")
        yield Prompt(scene, text, i)


def judge_all(pictures: list[np.ndarray], made: list[Prompt]) -> dict[str, float]:
    """Judge each picture by its own scene and, as chance, by the scene of another caption."""
    scenes = [prompt.scene for prompt in made]
    chance = mean_verdict(pictures, shuffled(scenes))["objects_right"]
    return {**mean_verdict(pictures, scenes), "shuffled": chance}


def shuffled(scenes: list[Scene]) -> list[Scene]:
    """Return the scenes in an order in which none is where it was."""
    order = list(range(len(scenes)))
    random.Random(0).shuffle(order)
    successor = dict(zip(order, order[1:] + order[:1], strict=True))
    return [scenes[successor[i]] for i in range(len(scenes))]


def paint(
    server: Any,
    made: list[Prompt],
    edit: Callable[[dict[str, Any]], None] = lambda prompt: None,
    **widgets: Any,
) -> Iterator[np.ndarray]:
    """Yield the pictures (P, P, 3) that the bundled workflow paints of prompts.

    Args:
        server: a running `comfyui.Server` that has the miniature.
        made: what to paint.
        edit: changes the workflow's API form in place.
        widgets: values to change in the workflow, beside those that the miniature needs.
    """
    from smollm2 import NAME
    from workflow import set_widgets, to_api

    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    names = {"ckpt_name": CHECKPOINT, "ella_name": CONNECTOR, "llm_name": NAME}
    set_widgets(workflow, **{**names, **SAMPLING, **widgets})
    node = next(n for n in workflow["nodes"] if n.get("title", "").startswith("Prompt"))
    infos = server.get("/object_info")
    for prompt in made:
        set_widgets({"nodes": [node]}, text=prompt.text)
        set_widgets(workflow, seed=prompt.seed)
        api = to_api(workflow, infos)
        edit(api)
        result = server.run(api)
        if result.error:
            raise RuntimeError(result.error.get("exception_message", "interrupted"))
        (images,) = (output["images"] for output in result.outputs.values())
        path = server.base / "output" / images[0]["subfolder"] / images[0]["filename"]
        yield np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
