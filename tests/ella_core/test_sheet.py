"""Values of a sheet's axes, and the pictures and labels in it."""

from itertools import pairwise

import pytest
import torch

from ella_core.errors import EllaError
from ella_core.sheet import GAP, Axes, cross, draw_sheet, parse_values


def test_lines_are_numbers_where_they_look_like_one():
    assert parse_values("3\n 0.5 \n\n# no value\n-2\n1e3\n.5") == [3, 0.5, -2, 1000.0, 0.5]
    for text in ("a.safetensors", "7_0", "nan", "1.2.3"):
        assert parse_values(text) == [text]
    assert [type(value) for value in parse_values("1\n1.0")] == [int, float]
    assert parse_values(" \n#1") == []


def test_a_number_among_texts_is_a_text_and_so_is_one_in_quotes():
    assert parse_values("A cat.\n1984") == ["A cat.", "1984"]
    assert parse_values('"1984"\n2001') == ["1984", "2001"]
    assert parse_values('"007"') == ["007"]
    assert parse_values('A "red" cat.\n"A dog."') == ['A "red" cat.', "A dog."]


def test_every_pair_row_by_row():
    x, y = cross([1, 2, 3], ["a", "b"])
    assert list(zip(x, y, strict=True)) == [
        *((1, "a"), (2, "a"), (3, "a")),
        *((1, "b"), (2, "b"), (3, "b")),
    ]


def pictures(*sizes):
    torch.manual_seed(0)
    return [torch.rand(1, height, width, 3) for height, width in sizes]


def find(sheet, picture):
    """Top and left corner of a picture in a sheet, exactly."""
    height, width = picture.shape[1:3]
    windows = (sheet[0, ..., 0] == picture[0, 0, 0, 0]).nonzero().tolist()
    fits = [(y, x) for y, x in windows if sheet[0, y : y + height, x : x + width].equal(picture[0])]
    (place,) = fits
    return place


def is_written_on(sheet, top, bottom, left, right):
    return bool((sheet[0, top:bottom, left:right] < 0.5).any())


def test_each_picture_is_in_its_place_under_its_label():
    made = pictures(*[(64, 64)] * 6)
    sheet = draw_sheet(made, Axes(("cfg 1", "cfg 2", "cfg 3"), ("strength 0", "strength 1")), "")
    places = [find(sheet, picture) for picture in made]
    tops, lefts = [sorted({place[i] for place in places}) for i in (0, 1)]
    assert places == [(top, left) for top in tops for left in lefts]
    assert all(b - a > 64 for axis in (tops, lefts) for a, b in pairwise(axis))
    assert all(is_written_on(sheet, 0, tops[0], left, left + 64) for left in lefts)
    assert all(is_written_on(sheet, top, top + 64, 0, lefts[0]) for top in tops)


def test_without_labels_of_rows_and_with_a_title():
    made = pictures((64, 64), (64, 64))
    plain, titled = (draw_sheet(made, Axes(("a", "b"), ("",)), title) for title in ("", "ELLA"))
    top, left = find(plain, made[0])
    assert not is_written_on(plain, 0, plain.shape[1], 0, left)
    assert find(titled, made[0])[0] > top
    assert titled.shape[2] == plain.shape[2]


def test_a_long_label_is_broken_into_lines_and_pictures_may_differ_in_size():
    made = pictures((64, 96), (128, 64))
    sheet = draw_sheet(made, Axes(("ella-sd1.5-tsc-t5xl.safetensors", "b"), ("",)), "")
    (top, first), (other, second) = [find(sheet, picture) for picture in made]
    assert top == other
    assert second - first > 96
    assert sheet.shape[1] >= top + 128
    assert is_written_on(sheet, 0, top, first, first + 96)
    assert not is_written_on(sheet, 0, top - 20, second, sheet.shape[2])


def test_no_label_covers_another_or_is_cut_off():
    made = pictures(*[(32, 64)] * 4)
    long = "a tabby cat in a yellow raincoat holds a small red lantern in a narrow street at night"
    sheet = draw_sheet(made, Axes(("WWWWWWWW MMMM", "b"), (long, long)), "")
    (first, left), (_, right), (second, _), _ = [find(sheet, picture) for picture in made]
    assert right - left == 64 + GAP
    assert not is_written_on(sheet, 0, first, left + 64, right)
    row = slice(0, left)
    written = sheet[0, first:second, row], sheet[0, second : second + second - first, row]
    assert written[0].equal(written[1])


def test_a_picture_for_each_place_is_needed():
    axes = Axes(("a", "b"), ("",))
    with pytest.raises(EllaError, match=r"2 x 1 = 2 places and got pictures of 1 runs"):
        draw_sheet(pictures((8, 8)), axes, "")
    with pytest.raises(EllaError, match=r"one picture for each place and got 2"):
        draw_sheet([torch.rand(2, 8, 8, 3), torch.rand(1, 8, 8, 3)], axes, "")
