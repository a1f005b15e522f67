"""The tokenizer of a GGUF file takes long to make and is kept on the disk."""

import os

import pytest
import torch
import transformers

from ella_core.text_encoders import TokenizerPlaces, load_text_encoder, load_tokenizer
from support.gguf_t5 import write_t5_gguf

TEXTS = ["", "A red cat.", "Ein Hund 🐕 und मेघ"]


@pytest.fixture(scope="module")
def gguf(t5, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "t5.gguf"
    write_t5_gguf(t5, path)
    return path


@pytest.fixture
def made(monkeypatch):
    """Count how often a tokenizer was made of a file."""
    calls, make = [], transformers.AutoTokenizer.from_pretrained
    monkeypatch.setattr(
        transformers.AutoTokenizer,
        "from_pretrained",
        lambda *args, **kwargs: calls.append(args) or make(*args, **kwargs),
    )
    return calls


def test_it_is_made_once_and_again_only_for_a_changed_or_damaged_file(gguf, made, tmp_path):
    places = TokenizerPlaces(cache=tmp_path)
    fresh = load_tokenizer(gguf, places)
    (kept,) = tmp_path.iterdir()
    again = load_tokenizer(gguf, places)
    assert len(made) == 1
    for text in TEXTS:
        assert again.read(text) == fresh.read(text)
    kept.write_bytes(kept.read_bytes()[:-9])
    load_tokenizer(gguf, places)
    assert len(made) == 2
    os.utime(gguf)
    load_tokenizer(gguf, places)
    assert (len(made), len(list(tmp_path.iterdir()))) == (3, 2)


def test_the_llm_reads_the_same_with_it(gguf, made, tmp_path):
    places = TokenizerPlaces(cache=tmp_path)
    fresh, kept = (load_text_encoder(gguf, torch.float32, places=places) for _ in range(2))
    assert len(made) == 1
    for one, other in zip(fresh.encode(TEXTS), kept.encode(TEXTS), strict=True):
        assert torch.equal(one.features, other.features)


def test_only_a_few_are_kept(gguf, tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.json").write_text("{}")
        os.utime(tmp_path / f"{i}.json", (i, i))
    load_tokenizer(gguf, TokenizerPlaces(cache=tmp_path))
    assert len(list(tmp_path.iterdir())) == 8
    assert not (tmp_path / "0.json").exists()


def test_a_cache_that_can_not_be_written_is_none(gguf, tmp_path):
    (tmp_path / "file").touch()
    tokenizer = load_tokenizer(gguf, TokenizerPlaces(cache=tmp_path / "file/cache"))
    assert tokenizer.read("A red cat.").tokens > 1
