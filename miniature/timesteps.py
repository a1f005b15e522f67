"""What exact timesteps buy in pictures: the same prompts and seeds with other timesteps' tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .evaluation import Prompt, judge_all, paint
from .world import COLOURS, SHAPES, Scene, Thing
from .world import paint as draw

#: The node pack that the server needs.
PACK = Path(__file__).parent / "fixed_tokens"
WAYS = ("exact", "frozen", "windows")
SAMPLINGS: dict[str, dict[str, Any]] = {
    "euler normal": {},
    "dpmpp_2m karras": {"sampler_name": "dpmpp_2m", "scheduler": "karras"},
    "denoise 0.5": {"denoise": 0.5},
    "8 steps": {"steps": 8},
}


def compare(
    server: Any, made: Sequence[Prompt], sampling: str, **widgets: Any
) -> dict[str, dict[str, float]]:
    """Paint prompts in each of `WAYS` and judge the pictures.

    With a denoise below 1 the sampling starts from a picture that has other things in the same
    places.

    Args:
        server: a running ComfyUI that has the miniature and `PACK`.
        made: what to paint.
        sampling: one of `SAMPLINGS`.
        widgets: further values to change in the workflow.

    Returns:
        Way -> verdict, and the mean difference of its pixels (0 to 1) from those of `exact`.
    """
    settings = {**SAMPLINGS[sampling], **widgets}
    if "denoise" in settings:
        for prompt in made:
            pixels = (draw(_other_things(prompt.scene), prompt.seed) * 255).round()
            Image.fromarray(pixels.astype(np.uint8)).save(
                server.base / "input" / _name(prompt.seed)
            )
    pictures = {way: [*paint(server, [*made], edit=edit(way), **settings)] for way in WAYS}
    exact = np.stack(pictures["exact"])
    return {
        way: {
            **judge_all(painted, [*made]),
            "difference": float(np.abs(np.stack(painted) - exact).mean()),
        }
        for way, painted in pictures.items()
    }


def edit(way: str) -> Callable[[dict[str, Any]], None]:
    """Return what changes the bundled workflow's API form to one of `WAYS`."""

    def change(api: dict[str, Any]) -> None:
        sampler = _inputs(api, "KSampler")
        if sampler["denoise"] < 1:
            checkpoint = next(n for n in api if api[n]["class_type"] == "CheckpointLoaderSimple")
            picture = {"image": _name(sampler["seed"])}
            api["picture"] = {"class_type": "LoadImage", "inputs": picture}
            inputs = {"pixels": ["picture", 0], "vae": [checkpoint, 2]}
            api["start"] = {"class_type": "VAEEncode", "inputs": inputs}
            sampler["latent_image"] = ["start", 0]
        if way != "exact":
            _fix_tokens(api, sampler, way)

    return change


def _fix_tokens(api: dict[str, Any], sampler: dict[str, Any], way: str) -> None:
    ours = _inputs(api, "ELLATimestepConditioning")
    for side in ("positive", "negative"):
        inputs = {"model": ours["model"], "ella": ours["ella"], "embeds": ours[side], "way": way}
        inputs |= {name: sampler[name] for name in ("scheduler", "steps", "denoise")}
        api[side] = {"class_type": "MiniatureFixedTokens", "inputs": inputs}
        sampler[side] = [side, 0]
    sampler["model"] = ours["model"]


def _inputs(api: dict[str, Any], class_type: str) -> dict[str, Any]:
    (node,) = (node for node in api.values() if node["class_type"] == class_type)
    inputs: dict[str, Any] = node["inputs"]
    return inputs


def _name(seed: int) -> str:
    return f"ella-miniature-{seed}.png"


def _other_things(scene: Scene) -> Scene:
    """Return the scene with each thing's shape and colour exchanged for the next one's."""

    def after(values: Sequence[str], value: str) -> str:
        return values[(values.index(value) + 1) % len(values)]

    things = (
        Thing(after(SHAPES, t.shape), after(tuple(COLOURS), t.colour), t.size, t.place)
        for t in scene.things
    )
    return Scene(scene.background, tuple(things))
