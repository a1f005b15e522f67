"""Which rows of the features belong to which word."""

import pytest
from transformers import AutoTokenizer

from bootstrap import host_dir
from ella_core.text_encoders.tokenizer import PromptTokenizer
from ella_core.text_encoders.tokens import SpecialTokens
from ella_core.text_encoders.words import words_of

SENTENCE = "A (red:1.3) cat,  sits on a chair."


@pytest.fixture(scope="module")
def tokenizer():
    made = AutoTokenizer.from_pretrained(host_dir() / "comfy/text_encoders/t5_tokenizer")
    return PromptTokenizer(made, SpecialTokens.of(made))


def test_words_with_their_commas_and_pieces(tokenizer):
    assert words_of(tokenizer, SENTENCE) == [
        ("A", [0]),
        ("red", [1]),
        ("cat,", [2, 3]),
        ("sits", [4, 5]),
        ("on", [6]),
        ("a", [7, 8]),
        ("chair.", [9, 10]),
    ]


def test_what_is_cut_off_and_filled_up(tokenizer):
    assert words_of(tokenizer, SENTENCE, max_length=4) == [("A", [0]), ("red", [1]), ("cat,", [2])]
    assert words_of(tokenizer, SENTENCE, max_length=40) == words_of(tokenizer, SENTENCE)
    assert words_of(tokenizer, "") == []


def test_chunks_follow_each_other_with_their_special_tokens(tokenizer):
    words = words_of(tokenizer, "A cat. A dog.", max_length=4, chunked=True)
    assert words == [("A", [0]), ("cat.", [1, 2]), ("A", [4]), ("dog.", [5, 6])]


def test_special_tokens_in_front(tokenizer):
    framed = PromptTokenizer(tokenizer.tokenizer, SpecialTokens((5, 6), (1,), 1, 0))
    assert words_of(framed, "A cat")[1] == ("cat", [3])
