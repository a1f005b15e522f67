"""The toy world: its judge reads what is drawn, its captions keep to their words."""

import numpy as np
import pytest

from miniature.captions import caption, unknown_words
from miniature.judge import judge, read
from miniature.world import (
    HELD_OUT_LAYOUTS,
    HELD_OUT_PAIRS,
    Scene,
    Thing,
    draw_crowded_scene,
    draw_scene,
    paint,
)


@pytest.mark.parametrize("kind", ["train", "new", "pairs"])
def test_the_judge_reads_every_drawn_scene(kind):
    for seed in range(40):
        scene = draw_scene(seed, kind)
        assert read(paint(scene, seed)) == scene


def test_the_judge_counts_each_part_by_itself():
    drawn = Scene("grey", (Thing("star", "red", "large", 0), Thing("ring", "blue", "small", 8)))
    asked = Scene("black", (Thing("star", "green", "large", 0), Thing("ring", "blue", "small", 5)))
    verdict = judge(paint(drawn, 0), asked)
    assert verdict.objects_right == 0
    assert (verdict.shape, verdict.colour, verdict.size, verdict.place) == (0.5, 0, 0.5, 0.5)
    assert (verdict.background, verdict.nothing_else) == (0, 0)


def test_noise_holds_nothing_that_is_clear():
    noise = np.random.default_rng(0).random((96, 96, 3), np.float32)
    assert {thing.shape for thing in read(noise).things} == {"unclear"}


def test_what_is_held_out_is_never_in_training():
    for seed in range(500):
        for scene in (draw_scene(seed), draw_crowded_scene(seed)):
            pairs = {(thing.shape, thing.colour) for thing in scene.things}
            assert not pairs & set(HELD_OUT_PAIRS)
            assert tuple(thing.place for thing in scene.things) not in HELD_OUT_LAYOUTS


def test_held_out_scenes_are_what_they_say():
    for seed in range(100):
        pairs = {(thing.shape, thing.colour) for thing in draw_scene(seed, "pairs").things}
        assert pairs <= set(HELD_OUT_PAIRS)
        places = tuple(thing.place for thing in draw_scene(seed, "new").things)
        assert len(places) < 4 or places in HELD_OUT_LAYOUTS


def test_captions_keep_to_the_words_of_the_world():
    for seed in range(200):
        scene = draw_scene(seed, "new")
        for new_phrasing in (False, True):
            for new_words in (False, True):
                assert not unknown_words(caption(scene, seed, new_phrasing, new_words))


def test_new_words_are_in_no_training_caption():
    trained = {word for seed in range(2000) for word in caption(draw_scene(seed), seed).split()}
    assert not trained & {"crimson", "disc", "donut", "huge", "holds", "sitting", "backdrop"}


def test_unknown_words_are_named():
    assert unknown_words("A purple elephant rides a Ring") == ["elephant", "rides"]
