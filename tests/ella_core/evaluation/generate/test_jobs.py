"""Missing pictures are found, and pictures say how they were made."""

import io

import pytest
from PIL import Image

from ella_core.errors import EllaError
from ella_core.evaluation.generate.jobs import (
    JobFailedError,
    decode,
    missing,
    plan,
    read_metadata,
    save,
)
from ella_core.evaluation.questions import Item


def jobs(folder, prompt="a cup", workflow="hash", seed=42):
    return plan([Item("one", prompt, ()), Item("two", "two cups", ())], folder, workflow, 2, seed)


def picture(kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(file, format=kind)
    return file.getvalue()


def test_names_and_seeds(tmp_path):
    found = [(job.path.name, job.seed, job.prompt) for job in jobs(tmp_path)]
    assert found == [
        ("one_0.png", 42, "a cup"),
        ("one_1.png", 43, "a cup"),
        ("two_0.png", 42, "two cups"),
        ("two_1.png", 43, "two cups"),
    ]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_picture_of_any_kind_becomes_a_png(tmp_path, kind):
    first, *others = jobs(tmp_path)
    save(first, decode(picture(kind)), {"comfyui": "0.3.75"})
    assert Image.open(first.path).format == "PNG"
    assert read_metadata(first.path) == {**first.metadata, "comfyui": "0.3.75"}
    assert missing(jobs(tmp_path)) == others
    assert [file.name for file in tmp_path.iterdir()] == ["one_0.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "a glass"}, "another prompt: 'a cup', and 'a glass' is wanted"),
        ({"workflow": "other"}, "another workflow"),
        ({"seed": 1}, "another seed: 42"),
    ],
)
def test_pictures_of_another_run(tmp_path, change, message):
    save(jobs(tmp_path)[0], decode(picture()), {})
    with pytest.raises(EllaError, match=message):
        missing(jobs(tmp_path, **change))


def test_files_that_are_not_ours(tmp_path):
    job = jobs(tmp_path)[0]
    job.path.write_bytes(picture())
    with pytest.raises(EllaError, match="another item_id: None"):
        missing([job])
    job.path.write_bytes(picture()[:20])
    with pytest.raises(EllaError, match="can't be read as a picture"):
        missing([job])


@pytest.mark.parametrize("content", [b"", b"<html>", picture()[:-30]])
def test_what_is_no_picture(content):
    with pytest.raises(JobFailedError, match="no picture"):
        decode(content)
