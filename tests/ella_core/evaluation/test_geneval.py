"""GenEval's arithmetic against cases worked by hand."""

import pytest

from ella_core.evaluation.geneval import (
    Task,
    is_correct,
    keep_confident,
    overall,
    relative_position,
)
from ella_core.evaluation.spatial import Box


def box(label, x=100, y=100, size=20, confidence=0.95):
    return Box(label, confidence, x - size / 2, y - size / 2, x + size / 2, y + size / 2)


def painted(*colors):
    """A classifier that says these."""
    return lambda boxes: list(colors)[: len(boxes)]


def task(tag, *include, exclude=()):
    return Task(tag, "a prompt", include, exclude)


BENCH = {"class": "bench", "count": 1}


def test_an_object_has_to_be_there_with_enough_confidence():
    assert is_correct(task("single_object", BENCH), [box("bench", confidence=0.31)], painted())
    assert not is_correct(task("single_object", BENCH), [box("bench", confidence=0.3)], painted())
    assert not is_correct(task("single_object", BENCH), [box("cow")], painted())


def test_counting_wants_more_confidence_and_no_more_than_asked():
    three = {"class": "clock", "count": 3}
    counting = task("counting", three, exclude=[{"class": "clock", "count": 4}])
    clocks = [box("clock") for _ in range(3)]
    assert is_correct(counting, clocks, painted())
    assert not is_correct(counting, clocks[:2], painted())
    assert not is_correct(counting, [*clocks, box("clock")], painted())
    assert is_correct(counting, [*clocks, box("clock", confidence=0.9)], painted())


def test_no_more_than_sixteen_of_a_kind_are_kept_the_most_confident_first():
    boxes = [box("bird", confidence=0.4 + index / 100) for index in range(20)]
    (kept,) = keep_confident(boxes, "single_object").values()
    assert [found.confidence for found in kept] == pytest.approx(
        [0.59 - index / 100 for index in range(16)]
    )


def test_colors_are_those_of_the_most_confident():
    red = task("colors", {**BENCH, "color": "red"})
    benches = [box("bench", confidence=0.4), box("bench", confidence=0.8)]
    assert is_correct(red, benches, painted("red"))
    assert not is_correct(red, benches, painted("blue", "red"))


@pytest.mark.parametrize(
    ("x", "y", "directions"),
    [  # of a box of 20 at x, y to one of 20 at 100, 100: 4 pixels of an offset don't count
        (80, 100, {"left of"}),
        (120, 100, {"right of"}),
        (100, 80, {"above"}),
        (100, 120, {"below"}),
        (80, 80, {"left of", "above"}),  # 16 of 28.3 each
        (96, 104, set()),
        (92, 100, set()),  # 4 of 8 is not more than half
        (91, 100, {"left of"}),
        (130, 110, {"right of"}),  # down 6 of 31.6
        (100, 100, set()),
    ],
)
def test_relative_position(x, y, directions):
    assert relative_position(box("a", x, y), box("b")) == directions


def test_a_position_is_that_to_all_objects_of_the_entry_it_names():
    left = task("position", BENCH, {"class": "cow", "count": 1, "position": ["left of", 0]})
    assert is_correct(left, [box("bench", 200), box("cow", 100)], painted())
    assert not is_correct(left, [box("bench", 100), box("cow", 200)], painted())
    assert not is_correct(left, [box("cow", 100)], painted())


def test_the_score_is_the_mean_over_tasks():
    assert overall({"colors": [True, False], "counting": [True]}) == 0.75
