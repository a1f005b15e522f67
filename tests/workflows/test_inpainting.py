"""The inpainting template with another picture and mask: the masked part is repainted."""

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from bootstrap import ROOT
from support.workflows import small
from workflow import set_widgets, to_api

CELL = 8  # pixels of the picture that a cell of the latent stands for
RADIUS = 80
GROW = 8


def draw(path, size, centre):
    """A white disc on black, as the mask editor saves it: transparent where it is masked."""
    y, x = np.ogrid[: size[1], : size[0]]
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < RADIUS**2
    grey = np.where(disc, 255, 0).astype(np.uint8)
    Image.fromarray(np.stack([grey, grey, grey, 255 - grey], axis=2)).save(path)


def follow_the_note(host, picture):
    """The template with MASK connected to GrowMask; saves what is encoded and both latents."""
    workflow = set_widgets(
        small(host, ROOT / "workflows/ella-inpainting.json"), image=picture, expand=GROW
    )
    set_widgets(workflow, megapixels=0.1, width=320, height=320)
    prompt = to_api(workflow, host.server.get("/object_info"))
    of = {node["class_type"]: node_id for node_id, node in prompt.items()}
    prompt[of["GrowMask"]]["inputs"]["mask"] = [of["LoadImage"], 1]
    for name, saver, inputs in [
        ("encoded", "SaveImage", {"images": prompt[of["VAEEncode"]]["inputs"]["pixels"]}),
        ("before", "SaveLatent", {"samples": [of["VAEEncode"], 0]}),
        ("after", "SaveLatent", {"samples": [of["KSampler"], 0]}),
    ]:
        prompt[name] = {"class_type": saver, "inputs": {**inputs, "filename_prefix": name}}
    return prompt


def edges(area):
    """Top, left, bottom and right of what is true in (height, width)."""
    y, x = np.nonzero(area)
    return np.array([y.min(), x.min(), y.max() + 1, x.max() + 1])


@pytest.mark.parametrize(
    ("size", "centre"),
    [((768, 256), (400, 150)), ((300, 900), (140, 700))],
    ids=["wide", "high"],
)
def test_what_is_repainted_is_what_was_masked(host, size, centre):
    (host.server.base / "input").mkdir(exist_ok=True)
    draw(host.server.base / "input/disc.png", size, centre)
    result = host.server.run(follow_the_note(host, "disc.png"))
    assert result.error is None, result.error
    output = host.server.base / "output"
    before, after = (
        load_file(output / result.outputs[name]["latents"][0]["filename"])["latent_tensor"]
        for name in ("before", "after")
    )
    changed = (before != after).any(dim=1)[0].numpy()
    with Image.open(output / result.outputs["encoded"]["images"][0]["filename"]) as encoded:
        white = np.array(encoded.convert("L")) > 127

    assert white.any(), "what was masked is cut off"
    top, _, bottom, _ = edges(white)
    grown = GROW * (bottom - top) / (2 * RADIUS)
    expected = (edges(white) + grown * np.array([-1, -1, 1, 1])) / CELL
    # Both are rounded to cells, and the VAE cuts off what is less than a cell.
    assert edges(changed) == pytest.approx(expected, abs=1.5)
    assert changed.sum() == pytest.approx(
        np.pi / 4 * np.prod(np.ptp(expected.reshape(2, 2), 0)), rel=0.15
    )
