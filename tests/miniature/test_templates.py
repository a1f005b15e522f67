"""Every bundled workflow runs on the miniature, with nothing but what `--serve` puts in place."""

import numpy as np
import pytest
from PIL import Image

from comfyui import Server
from ella_core.sheet import GAP
from miniature import evaluation, extras, templates
from miniature.world import PIXELS
from smollm2 import NAME
from support import miniature
from tiny_models import import_host
from workflow import set_widgets, to_api

ADAPTED = templates.adapt_all(NAME)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("templates")
    import_host()
    miniature.install(base / "models")
    extras.install(base / "models")
    templates.write_inputs(base / "input")
    with Server(base, ["--cpu"]) as running:
        yield running


def test_there_are_sixteen():
    assert len(ADAPTED) == 16


@pytest.mark.parametrize("name", ADAPTED)
def test_runs(server, name):
    workflow = set_widgets(ADAPTED[name], steps=2, tokens=16)
    result = server.run(to_api(workflow, server.get("/object_info")))
    assert result.error is None, result.error
    assert any(output.get("images") for output in result.outputs.values())


def picture(server, result):
    """What the only Save Image saved."""
    (file,) = (image for output in result.outputs.values() for image in output.get("images", ()))
    path = server.base / "output" / file["subfolder"] / file["filename"]
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def cells(sheet, columns, rows):
    """The pictures of a sheet, row by row: they end a gap before its edges."""
    step = PIXELS + GAP
    tops, lefts = (
        [side - n * step for n in range(count, 0, -1)]
        for side, count in zip(sheet.shape, (rows, columns), strict=False)
    )
    return [sheet[y : y + PIXELS, x : x + PIXELS] for y in tops for x in lefts]


def paint_sheet(server, name, prompt, **changes):
    workflow = set_widgets(ADAPTED[name], text=prompt.text, **changes)
    for node in workflow["nodes"]:
        if node.get("title", "").startswith("Negative"):
            set_widgets({"nodes": [node]}, text="")
        if node["type"] == "PrimitiveStringMultiline":
            set_widgets({"nodes": [node]}, value=prompt.text)
    result = server.run(to_api(workflow, server.get("/object_info")))
    assert result.error is None, result.error
    return picture(server, result)


def objects_right(pictures, prompt):
    return evaluation.judge_all(pictures, [prompt] * len(pictures))["objects_right"]


def test_a_sheet_shows_the_objects_where_strength_and_cfg_are_those_of_the_training(server):
    (prompt,) = evaluation.prompts("scenes", 1, seed=0)
    values = {"x_values": "0\n2.5", "y_values": "0\n1"}  # cfg, strength
    pictures = cells(paint_sheet(server, "ella-xy-sheet", prompt, steps=12, **values), 2, 2)
    assert [objects_right([each], prompt) for each in pictures] == [0, 0, 0, 1]


def test_a_sheet_of_seeds_shows_the_objects_in_each(server):
    """In the row without CLIP, of which the miniature knows nothing."""
    (prompt,) = evaluation.prompts("scenes", 1, seed=0)
    changes = {"x_values": "1024\n1025", "steps": 12}
    both = paint_sheet(server, "ella-xy-clip", prompt, **changes)
    alone = cells(both[: len(both) // 2], 2, 1)
    assert objects_right(alone, prompt) == 1
    assert abs(alone[0] - alone[1]).max() > 0.05  # seeds differ
