"""Folders and tars of pictures: what makes a sample, captions, orientation, what is damaged."""

import json
import tarfile

import pytest
from PIL import ExifTags, Image, ImageOps

from ella_core.training.pictures import Problems, picture_shards


def decoded(folder):
    """Key -> picture of all that can be read, and the names of the rest."""
    problems = Problems()
    shards = picture_shards(folder, 100, problems)
    found = {picture.key: picture for shard in shards for picture in shard.read(problems)}
    return found, problems.skipped


def draw(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (24, 16), "blue")
    image.paste("red", (0, 0, 8, 8))
    image.save(path, **options)
    return image


def test_captions_stand_in_the_json_or_else_in_the_txt(tmp_path):
    """img2dataset writes both, and only its .txt has the caption."""
    for key, content in (
        ("both", {"captions": {"long": ["a", "b"], "short": "c"}}),
        ("img2dataset", {"caption": "other", "url": "https://example.org", "status": "success"}),
        ("emptied", {"captions": {"long": []}}),
        ("none", {"captions": {"long": None}}),
        ("numbers", {"captions": {"long": [1]}}),
    ):
        draw(tmp_path / f"{key}.png")
        (tmp_path / f"{key}.json").write_text(json.dumps(content))
        (tmp_path / f"{key}.txt").write_text(" of the txt\n")
    found, skipped = decoded(tmp_path)
    assert {key: picture.captions for key, picture in found.items()} == {
        "both": {"long": ["a", "b"], "short": ["c"]},
        "img2dataset": {"caption": ["of the txt"]},
        "emptied": {"caption": ["of the txt"]},
    }
    assert skipped == ["000000/none", "000000/numbers"]


def test_names_may_have_dots_and_hidden_files_are_no_pictures(tmp_path):
    for name in ("2024.05.01 at noon.JPG", "deeper.one/a.png"):
        draw(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(name)
    (tmp_path / "._a.png").write_bytes(b"what macOS puts beside a file in a tar")
    found, skipped = decoded(tmp_path)
    assert found.keys() == {"2024.05.01 at noon", "deeper.one/a"}
    assert not skipped


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_the_camera_was_held(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    draw(tmp_path / "a.png", exif=exif)
    (tmp_path / "a.txt").write_text("a")
    found, _ = decoded(tmp_path)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    assert found["a"].image.tobytes() == expected.tobytes()
    (shard,) = picture_shards(tmp_path, 100, problems := Problems())
    assert list(shard.sizes(problems)) == [("a", (expected.height, expected.width))]


def test_damaged_exif_data_cost_no_picture(tmp_path):
    draw(tmp_path / "a.jpg", exif=b"Exif\x00\x00no header of a TIFF")
    (tmp_path / "a.txt").write_text("a")
    found, skipped = decoded(tmp_path)
    assert found["a"].image.size == (24, 16)
    assert not skipped


@pytest.mark.parametrize("kept", [2, 3.5, 4])
def test_a_tar_that_was_cut_is_named_wherever_it_was(tmp_path, kept):
    """In the middle of a file, or right between two."""
    draw(tmp_path / "loose/a.png")
    (tmp_path / "loose/a.txt").write_text("a")
    path = tmp_path / "pictures/a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            for extension in ("png", "txt"):
                tar.add(tmp_path / f"loose/a.{extension}", f"{number}.{extension}")
    with tarfile.open(path) as tar:
        starts = [member.offset for member in tar]
    found, skipped = decoded(path.parent)
    assert len(found) == 3
    assert not skipped
    whole = path.read_bytes()
    middle = (starts[int(kept)] + starts[int(kept) + 1]) // 2
    path.write_bytes(whole[: starts[kept] if kept == int(kept) else middle])
    found, skipped = decoded(path.parent)
    assert len(found) == int(kept) // 2
    assert skipped[0] == "a.tar"
