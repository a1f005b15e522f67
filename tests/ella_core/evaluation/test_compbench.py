"""T2I-CompBench's arithmetic against cases worked by hand."""

from dataclasses import dataclass

import pytest

from ella_core.errors import EllaError
from ella_core.evaluation.answers import Answer
from ella_core.evaluation.compbench import (
    ask_about_chunks,
    load_parser,
    noun_chunks,
    score_blip_vqa,
)
from ella_core.evaluation.questions import Question, Row
from ella_core.evaluation.spatial import (
    Box,
    objects_of,
    position_score,
    relation_of,
    spatial_score,
)


@dataclass
class Token:
    """The parts of spaCy's Token and Span that are read."""

    text: str
    pos_: str = "NOUN"


class Parse(list):
    """The parts of spaCy's Doc that are read: tokens and noun chunks, made by hand."""

    def __init__(self, text, chunks=(), nouns=()):
        super().__init__(Token(word, "NOUN" if word in nouns else "X") for word in text.split())
        self.text = text
        self.noun_chunks = [Token(chunk) for chunk in chunks]


@pytest.mark.parametrize(
    ("chunks", "asked"),
    [
        (["a green bench", "a blue bowl"], ["a green bench", "a blue bowl"]),
        (["a girl", "top", "a frog"], ["a girl", "a frog"]),
        (["a bee", "the right", "a car"], ["a bee", "a car"]),
        (["the left", "the side", "the top"], ["the top"]),  # "top" is left out, "the top" is not
        ([f"thing {n}" for n in range(10)], [f"thing {n}" for n in range(8)]),
    ],
)
def test_noun_chunks_that_are_asked_about(chunks, asked):
    assert noun_chunks(Parse("", chunks)) == asked


def test_the_chunks_left_out_make_room_before_the_limit_of_eight():
    chunks = ["top", *(f"thing {n}" for n in range(8))]
    assert noun_chunks(Parse("", chunks)) == [f"thing {n}" for n in range(8)]


def test_each_chunk_is_a_question():
    (item,) = ask_about_chunks(
        [("color-1", "a green bench and a blue bowl")],
        lambda text: Parse(text, ["a green bench", "a blue bowl"]),
        "color",
    )
    assert [question.text for question in item.questions] == ["a green bench?", "a blue bowl?"]
    assert {question.category for question in item.questions} == {"color"}


def test_a_prompt_without_a_noun_chunk_is_an_error():
    with pytest.raises(EllaError, match="'red' has no noun chunk"):
        ask_about_chunks([("color-1", "red")], Parse, "color")


def test_without_spacy_the_remedy_is_named():
    with pytest.raises(EllaError, match=r"pip install spacy|python -m spacy download"):
        load_parser("no_such_model")


ROWS = [
    Row("a", "a prompt", Question(1, "a dog?", (), "color")),
    Row("a", "", Question(2, "a cat?", (), "color")),
    Row("b", "another", Question(1, "a box?", (), "shape")),
]


def answer(item, number, crop, p_yes, p_no):
    return {(item, number, crop): Answer(item, number, crop, "", p_yes=p_yes, p_no=p_no)}


def test_a_pictures_score_is_the_product_of_the_shares_of_yes():
    answers = (
        answer("a", 1, 0, 0.6, 0.2)  # 3/4
        | answer("a", 2, 0, 0.1, 0.3)  # 1/4
        | answer("a", 1, 1, 0.5, 0.5)
        | answer("a", 2, 1, 0.25, 0.0)
        | answer("b", 1, 0, 0.2, 0.3)  # 2/5
        | answer("b", 1, 1, 0.0, 1.0)
    )
    result = score_blip_vqa(ROWS, answers, 2)
    pictures = {item: [p.value for p in score.pictures] for item, score in result.items.items()}
    assert pictures == {"a": pytest.approx([3 / 16, 1 / 2]), "b": pytest.approx([2 / 5, 0])}
    assert result.score == pytest.approx((11 / 32 + 1 / 5) / 2)
    assert result.as_json()["l1"] == pytest.approx({"color": 11 / 32, "shape": 1 / 5})


@pytest.mark.parametrize("probabilities", [(None, None), (0.0, 0.0)])
def test_answers_without_probabilities_are_an_error(probabilities):
    answers = answer("b", 1, 0, *probabilities)
    with pytest.raises(EllaError, match="choose a judge that gives them"):
        score_blip_vqa(ROWS[2:], answers, 1)


@pytest.mark.parametrize(
    ("prompt", "relation"),
    [
        ("a giraffe next to a lamp", "next to"),
        ("a girl on the top of a frog", "on the top of"),
        ("a mouse on side of a key", "on side of"),
        ("a balloon on the right of a person", "on the right of"),
        ("a cat on top of a box", "on top of"),
        ("a dog and a cat", None),
    ],
)
def test_the_relation_of_a_prompt(prompt, relation):
    assert relation_of(prompt) == relation


def test_the_objects_of_a_prompt_are_its_first_and_last_noun():
    text = "a girl on the top of a frog"
    assert objects_of(Parse(text, nouns=("girl", "top", "frog"))) == ("person", "frog")
    with pytest.raises(EllaError, match="has no noun"):
        objects_of(Parse("on the left"))


def box(label, center, size=(20, 20), confidence=1.0):
    (x, y), (width, height) = center, size
    left, top = x - width / 2, y - height / 2
    return Box(label, confidence, left, top, left + width, top + height)


@pytest.mark.parametrize(
    ("relation", "center", "score"),
    [  # of a box at 300, 300 to one at `center`
        ("on the left of", (400, 320), 1),
        ("on the left of", (200, 300), 0),
        ("on the left of", (400, 400), 0),  # as far down as to the side
        ("on the right of", (200, 320), 1),
        ("on the right of", (400, 300), 0),
        ("on the top of", (320, 400), 1),
        ("on the top of", (320, 200), 0),
        ("on the bottom of", (320, 200), 1),
        ("on the bottom of", (420, 290), 0),
        ("on top of", (300, 400), 0),  # the published script has no rule for it
        (None, (400, 300), 0),
        ("next to", (400, 600), 1),  # near in one direction is enough
        ("near", (600, 700), 150 / 400),
        ("on side of", (450, 450), 1),  # 150 / 150
    ],
)
def test_position(relation, center, score):
    assert position_score(relation, box("a", (300, 300)), box("b", center)) == pytest.approx(score)


def test_boxes_that_overlap_count_less():
    first, second = box("a", (100, 100), (40, 40)), box("b", (120, 100), (40, 40))
    # 20 x 40 of 2 x 1600 - 800
    assert position_score("on the left of", first, second) == pytest.approx(0.1 / (1 / 3))


def test_a_pictures_score_is_of_both_confidences_and_the_position():
    dog, cat = box("dog", (100, 100), confidence=0.8), box("cat", (300, 100), confidence=0.6)
    second_dog = box("dog", (400, 100), confidence=0.7)
    found = [dog, second_dog, cat]
    assert spatial_score("on the left of", "dog", "cat", found) == pytest.approx(0.35 + 0.5)
    assert spatial_score("on the right of", "dog", "cat", found) == 0  # 0.35 is below a half
    sure = [box("dog", (100, 100)), box("cat", (300, 100))]
    assert spatial_score("on the right of", "dog", "cat", sure) == 0.5
    assert spatial_score("on the left of", "dog", "cow", found) == 0
    assert spatial_score("on the left of", "dog", "cat", []) == 0
