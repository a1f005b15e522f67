"""Words, CLIP tokens and parts of speech of prompts."""

import pytest

from bootstrap import host_dir
from ella_core.errors import EllaError
from ella_core.prompt_statistics import clip_token_counter, prompt_statistics

TOKENIZER = host_dir() / "comfy/sd1_tokenizer"


def test_words_and_tokens():
    found = prompt_statistics(["a red dog", "two  cats"], clip_token_counter(TOKENIZER))
    assert (found.count, found.words, found.tokens) == (2, 2.5, 4.5)
    assert found.parts is None


def test_long_prompts_are_counted_to_their_end():
    assert clip_token_counter(TOKENIZER)(["dog " * 200, "dog"]) == [202, 3]


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(EllaError, match="comfy/sd1_tokenizer"):
        clip_token_counter(tmp_path)


TAGS = {
    "red": "JJ",
    "slowly": "RB",
    "dog": "NN",
    "Dog": "NN",
    "cats": "NNS",
    "Rome": "NNP",
    "in": "IN",
    "run": "VB",
}


def test_parts_of_speech():
    texts = ["red dog in Rome", "cats run slowly", "Dog"]
    found = prompt_statistics(texts, tag=lambda text: [(w, TAGS[w]) for w in text.split()])
    assert found.tokens is None
    assert found.parts.nouns == pytest.approx(4 / 3)
    assert found.parts.qualifiers == pytest.approx(2 / 3)
    assert found.parts.prepositions == pytest.approx(1 / 3)
    assert found.parts.distinct_nouns == 3
