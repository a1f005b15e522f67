"""The markup of prompt weights, on its own."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ella_core.text_encoders.weights import parse, token_weights

SETTINGS = settings(max_examples=100)
MARKUP_LIKE = st.text("()\\:.01359 ab", max_size=40)
ANY = st.one_of(st.text(max_size=60), MARKUP_LIKE)


def escape(text):
    return text.replace("(", r"\(").replace(")", r"\)")


@pytest.mark.parametrize(
    ("text", "plain", "weights"),
    [
        ("a (red:1.3) cat", "a red cat", {"red": 1.3}),
        ("(red: 1.3 )", "red", {"red": 1.3}),
        ("(red:.5)(cat:0)(dog:10)", "redcatdog", {"red": 0.5, "cat": 0, "dog": 10}),
        ("(a (red:2) cat:1.5)", "a red cat", {"a ": 1.5, "red": 3, " cat": 1.5}),
        ("((red:2):3)", "red", {"red": 6}),
        ("(a (red) cat:2)", "a (red) cat", {"a (red) cat": 2}),
        ("(x:y:2)", "x:y", {"x:y": 2}),
        (r"(a \(b\):2)", "a (b)", {"a (b)": 2}),
        ("(4k photo:2)", "4k photo", {"4k photo": 2}),
        ("(1980, :1.3)", "1980, ", {"1980, ": 1.3}),
        ("(1girl:1.2)", "1girl", {"1girl": 1.2}),
        ("(red:1)", "red", {}),
        ("(:2)red", "red", {}),
    ],
)
def test_weighted(text, plain, weights):
    found, per_character = parse(text)
    assert found == plain
    expected = [1.0] * len(plain)
    for words, weight in weights.items():
        start = plain.index(words)
        expected[start : start + len(words)] = [weight] * len(words)
    assert per_character == expected


@pytest.mark.parametrize(
    "text",
    [
        "a (red) cat",
        "(at 10:30)",
        "(at 7:05)",
        "(scale 1:5)",
        "(ratio 16:9)",
        "(ratio 16 : 9)",
        "(ratio 1:1.85)",
        "a model (scale 1:5, from a kit) of a ship (ratio 2:1)",
        "(note: 3)",
        "(apples: 3)",
        "(Psalm 23: 4)",
        "(red: 1)",
        "(at 10:05)",
        "(red:11)",
        "(red:10.5)",
        "(red:-1)",
        "(red:+1)",
        "(red:1e1)",
        "(red:1.)",
        "(red:1,5)",
        "(red:1 5)",
        "(red:\u0663)",  # an Arabic-Indic digit
        "(red:)",
        "(red 1.3)",
        "(red:1.3",
        "red:1.3)",
        ")red:1.3(",
        "[red:1.3]",
        r"C:\cats \ \n",
    ],
)
def test_prose(text):
    assert parse(text) == (text, [1.0] * len(text))


PROSE = (Path(__file__).parents[2] / "data/prose.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("sentence", PROSE)
def test_sentences_of_prose(sentence):
    assert parse(sentence) == (sentence, [1.0] * len(sentence))


def test_what_is_unclosed_does_not_keep_others_from_counting():
    assert parse("((red:2)") == ("(red", [1.0, 2.0, 2.0, 2.0])
    assert parse("(red:2) cat)") == ("red cat)", [2.0] * 3 + [1.0] * 5)


def test_escaped():
    assert parse(r"\(red:1.3\)") == ("(red:1.3)", [1.0] * 9)
    assert parse(r"\\(") == (r"\(", [1.0, 1.0])


@SETTINGS
@given(ANY)
def test_nothing_is_an_error_and_each_character_has_its_weight(text):
    plain, weights = parse(text)
    assert len(plain) == len(weights)
    assert all(weight >= 0 for weight in weights)


@SETTINGS
@given(st.text(max_size=60).filter(lambda text: not set(text) & set("()\\")))
def test_without_parentheses_or_backslashes_nothing_happens(text):
    assert parse(text) == (text, [1.0] * len(text))


@SETTINGS
@given(ANY)
def test_any_text_can_be_escaped(text):
    assert parse(escape(text)) == (text, [1.0] * len(text))


# A backslash right before a group would escape it, a digit at its end would make it prose.
LEAVES = ANY.filter(lambda text: not text.endswith("\\") and not text.rstrip()[-1:].isdecimal())
NUMBERS = st.integers(0, 1000).map(lambda hundredths: f"{hundredths / 100:.2f}")
PADDED = st.tuples(NUMBERS, st.sampled_from(["", " ", "\n "])).map(lambda t: t[1] + t[0] + t[1])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(st.one_of(inner, st.tuples(inner, PADDED)), max_size=4),
    max_leaves=12,
)


def render(tree):
    if isinstance(tree, str):
        return escape(tree)
    if isinstance(tree, tuple):
        return f"({render(tree[0])}:{tree[1]})"
    return "".join(map(render, tree))


def characters(tree, weight=1.0):
    if isinstance(tree, str):
        return [(character, weight) for character in tree]
    if isinstance(tree, tuple):
        return characters(tree[0], weight * float(tree[1]))
    return [pair for part in tree for pair in characters(part, weight)]


@SETTINGS
@given(TREES)
def test_nested_groups(tree):
    plain, weights = parse(render(tree))
    assert list(zip(plain, weights, strict=True)) == characters(tree)


@pytest.mark.parametrize(
    "unit", ["(", ")", "(a:1.3)", "(a", ":1.3)", ": ", ":1", "\\(", "((a:2)", "."]
)
def test_a_million_characters(unit):
    """A parser of quadratic time would not come back from this."""
    text = unit * (1_000_000 // len(unit))
    plain, weights = parse(text)
    assert 0 < len(plain) == len(weights) <= len(text)


def test_a_token_has_the_weight_of_its_first_character_that_is_no_space():
    text, weights = parse("a  (red cat:2)s  (x :3) ")
    assert text == "a  red cats  x  "
    starts = {0: 1, 1: 2, 2: 2, 3: 2, 6: 2, 7: 2, 9: 2, 10: 1, 11: 3, 13: 3, 14: 1, 15: 1, 16: 1}
    assert token_weights(text, weights, starts) == list(starts.values())
