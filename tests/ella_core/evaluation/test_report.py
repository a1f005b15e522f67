"""The report's files; tests/browser/test_evaluation_report.py opens them."""

import json

import pytest
from PIL import Image

from bootstrap import ROOT
from ella_core.evaluation.cli import main
from ella_core.evaluation.files import locked
from ella_core.evaluation.questions import load_items

DPG = ROOT / "tests/data/dpg"
COLORS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]


@pytest.fixture(scope="module")
def grids(tmp_path_factory):
    """A folder with a grid of four pictures for each prompt, in `COLORS`."""
    folder = tmp_path_factory.mktemp("grids")
    grid = Image.new("RGB", (32, 32))
    for crop, color in enumerate(COLORS):
        x, y = crop % 2 * 16, crop // 2 * 16
        grid.paste(tuple(255 * c for c in color), (x, y, x + 16, y + 16))
    for item in load_items(DPG / "questions.csv"):
        grid.save(folder / f"{item.item_id}.png")
    return folder


def report(out, *runs, resolution=16):
    command = ["report", "--questions", DPG / "questions.csv", "--protocol", "official"]
    command += [part for run in runs for part in ("--run", *run)]
    return main([*map(str, command), "--resolution", str(resolution), "--out", str(out)])


def read(folder):
    text = (folder / "data.js").read_text()
    return json.loads(text.removeprefix("window.REPORT = ").rstrip(";\n"))


def test_grids_are_cut(grids, tmp_path):
    assert report(tmp_path / "out", ("grids", DPG / "answers.jsonl", grids)) == 0
    for crop, color in enumerate(COLORS):
        with Image.open(tmp_path / f"out/pictures/1/made-01_{crop}.jpg") as picture:
            assert picture.size == (16, 16)
            assert tuple(round(c / 255) for c in picture.getpixel((8, 8))) == color
    shown = read(tmp_path / "out")
    assert shown["runs"][0]["failed"].keys() == {"made-00"}
    assert shown["difference"] is None


def test_a_grid_of_another_size_than_said(grids, tmp_path, capsys):
    run = ("grids", DPG / "answers.jsonl", grids)
    assert report(tmp_path / "out", run, resolution=512) == 1
    assert "is 32 x 32 pixels. A grid of pictures of 512 x 512" in capsys.readouterr().err


def test_the_difference_of_two_runs_is_printed(grids, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    lines = (DPG / "answers.jsonl").read_text().replace('"no"', '"yes"')
    other.write_text(lines)
    runs = [("a", DPG / "answers.jsonl", grids), ("b", other, grids)]
    assert report(tmp_path / "out", *runs) == 0
    shown = read(tmp_path / "out")
    first, second = (run["score"]["value"] for run in shown["runs"])
    assert shown["difference"]["value"] == pytest.approx(second - first)
    assert shown["difference"]["low"] > 0
    assert f"b minus a: {second - first:.4g} (" in capsys.readouterr().out
    assert report(tmp_path / "out", *runs, runs[0]) == 1
    assert "shows one run or two, and --run was given 3" in capsys.readouterr().err


def test_a_folder_that_another_program_writes_to_is_refused(grids, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out/data.js"):
        assert report(tmp_path / "out", ("grids", DPG / "answers.jsonl", grids)) == 1
    assert "is being written by another program" in capsys.readouterr().err
    assert not (tmp_path / "out/index.html").exists()
