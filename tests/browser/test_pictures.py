"""The pictures of the README and of the help pages are those that the editor shows."""

import numpy as np
import pytest
from PIL import Image

from bootstrap import ROOT
from comfyui import Server
from help_graphs import GRAPHS, OFFICIAL_GRAPHS
from help_pictures import PICTURES as HELP_IMAGES
from help_pictures import draw, open_editor
from pictures import IMAGES, assemble, draw_readme

PICTURES = ("four-nodes.jpg", "templates.jpg", "help.jpg", "error.jpg")
TOLERANCE = 12  # of 255, over the whole picture: seeds, times and fonts differ


@pytest.fixture(scope="module")
def drawn(browser, tmp_path_factory):
    base = tmp_path_factory.mktemp("pictures")
    assemble(base)
    with Server(base, ["--cpu"]) as server:
        draw_readme(browser, server, base / "images")
    return base / "images"


def small(path):
    """(64, 64) of the picture in grey."""
    return np.asarray(Image.open(path).convert("L").resize((64, 64)), dtype=float)


@pytest.mark.parametrize("name", PICTURES)
def test_is_as_the_editor_shows_it(drawn, name):
    found, expected = drawn / name, IMAGES / name
    assert Image.open(found).size == Image.open(expected).size
    assert np.abs(small(found) - small(expected)).mean() < TOLERANCE
    others = [IMAGES / other for other in PICTURES if other != name]
    assert all(np.abs(small(found) - small(other)).mean() > TOLERANCE for other in others)


@pytest.fixture(scope="module")
def help_editor(browser, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("help"), ["--cpu"]) as server:
        yield open_editor(browser, server)


@pytest.mark.parametrize("name", [*GRAPHS, *OFFICIAL_GRAPHS])
def test_help_is_as_the_editor_shows_it(help_editor, name, tmp_path):
    found, expected = draw(help_editor, name, tmp_path), HELP_IMAGES / f"{name}.png"
    assert Image.open(found).size == Image.open(expected).size
    assert np.abs(small(found) - small(expected)).mean() < 1


@pytest.mark.parametrize("name", PICTURES)
def test_is_in_the_readme(name):
    assert f"docs/images/{name}" in (ROOT / "README.md").read_text("utf-8")
