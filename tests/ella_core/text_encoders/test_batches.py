"""Raw texts in batches against each text read by itself, and against transformers."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, T5EncoderModel

from ella_core.text_encoders import encode_prompt, load_text_encoder

TEXTS = [
    "",
    "a",
    "A red cat sits on a blue chair.",
    "A blue dog sits on a red table.",
    "snow " * 40,
    "(red:1.3) is no weight here",
    "a \ud800 cat",
    "A red cat sits on a blue chair.",
    "b",
]
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(params=["t5", "llama"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def encoder(folder):
    return load_text_encoder(folder, torch.float32)


@pytest.mark.parametrize("max_length", [0, 16])
def test_a_batch_is_equal_to_its_texts_one_by_one(encoder, max_length):
    together = encoder.encode(TEXTS, max_length)
    assert len(together) == len(TEXTS)
    for text, found in zip(TEXTS, together, strict=True):
        (alone,) = encoder.encode([text], max_length)
        torch.testing.assert_close(found.features, alone.features, **TOLERANCE)
        assert (found.tokens, found.dropped) == (alone.tokens, alone.dropped)
        assert found.llm == encoder.identity


def test_texts_of_a_window_and_beyond(llama):
    encoder = load_text_encoder(llama, torch.float32)
    texts = ["a" * 255, "b" * 300, "c" * 255, "d" * 300]
    for text, found in zip(texts, encoder.encode(texts), strict=True):
        (alone,) = encoder.encode([text])
        torch.testing.assert_close(found.features, alone.features, **TOLERANCE)
        assert found.windows == alone.windows == (1 if len(text) == 255 else 2)


def test_nothing_is_padded_and_equal_lengths_are_read_together(encoder):
    shapes = []
    encoder.model.register_forward_pre_hook(
        lambda _, __, inputs: shapes.append(inputs["attention_mask"]), with_kwargs=True
    )
    prompts = encoder.encode(TEXTS)
    assert all(mask.all() for mask in shapes)
    lengths = [prompt.features.shape[1] for prompt in prompts]
    expected = sorted((lengths.count(length), length) for length in set(lengths))
    assert sorted(tuple(mask.shape) for mask in shapes) == expected


def test_a_huge_batch_is_read_in_parts_of_a_window(encoder):
    shapes = []
    encoder.model.register_forward_pre_hook(
        lambda _, __, inputs: shapes.append(inputs["input_ids"].shape), with_kwargs=True
    )
    length = encoder.encode(["snow"])[0].tokens
    encoder.encode(["snow"] * 1500)
    rows = 2048 // length
    assert shapes[1:] == [(rows, length)] * (1500 // rows) + [(1500 % rows, length)]


def test_raw_text_is_read_as_transformers_reads_it(folder):
    model_class = T5EncoderModel if folder.name == "an odd name" else AutoModel
    model, tokenizer = model_class.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = r"(a (red:1.3) cat:0.5) \(x\)"
    with torch.no_grad():
        expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
    encoder = load_text_encoder(folder, torch.float32)
    assert torch.equal(encoder.encode([text])[0].features, expected)
    assert not torch.equal(encode_prompt(encoder, text).features, expected)


def test_prompts_are_compared_by_identity_and_own_their_features(encoder):
    one, other = encoder.encode(["a", "a"])
    assert one != other
    assert len({one, other}) == 2
    assert one.features.untyped_storage().nbytes() == one.features.nbytes


def test_no_text_at_all(encoder):
    assert encoder.encode([]) == []
