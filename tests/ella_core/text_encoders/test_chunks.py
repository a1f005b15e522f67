"""Long prompts in chunks, against each chunk read by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from ella_core.errors import EllaError
from ella_core.text_encoders import encode_prompt, load_text_encoder
from ella_core.text_encoders.chunks import chunks
from ella_core.text_encoders.tokens import tokenise

SENTENCES = [
    "A tall lighthouse of white stone stands on a black cliff above the sea.",
    "Is it night there?",
    'A keeper shouts "Stop!"',
    "The lamp is 3.5 metres wide…",
    "Gulls!",
] * 12
TEXT = " ".join(SENTENCES)


@pytest.fixture(scope="module")
def encoder(t5):
    return load_text_encoder(t5, torch.float32)


@pytest.fixture(scope="module")
def t5_tokens(t5):
    tokenizer = AutoTokenizer.from_pretrained(t5)
    return lambda text: tokenise(tokenizer, text)


def count(encoder, text):
    """Tokens of a text with the special ones."""
    return encode_prompt(encoder, text).tokens


def greedy(fits, sentences):
    """Each chunk has as many whole sentences as fit; the space between goes to the later one."""
    packed = [sentences[0]]
    for sentence in sentences[1:]:
        if fits(f"{packed[-1]} {sentence}"):
            packed[-1] += f" {sentence}"
        else:
            packed.append(f" {sentence}")
    return packed


@pytest.mark.parametrize("max_length", [0, 128, 64, 30])
def test_each_chunk_is_read_like_a_prompt_of_its_own(encoder, max_length):
    limit = max_length or 128
    expected = greedy(lambda text: count(encoder, text) <= limit, SENTENCES)
    assert "".join(expected) == TEXT
    prompt = encode_prompt(encoder, TEXT, max_length, chunked=True)
    parts = [encode_prompt(encoder, text, max_length) for text in expected]
    assert torch.equal(prompt.features, torch.cat([part.features for part in parts], dim=1))
    assert (prompt.chunks, prompt.chunk_length) == (len(expected), limit)
    assert prompt.tokens == sum(part.tokens for part in parts)
    assert (prompt.dropped, prompt.windows) == (0, 1)
    if max_length:
        assert prompt.features.shape[1] == max_length * len(expected)


@pytest.mark.parametrize("max_length", [0, 128])
def test_a_prompt_that_fits_is_the_same_in_both_modes(encoder, max_length):
    for text in ("", "a", TEXT[: TEXT.index("wide…")]):
        whole, chunked = (encode_prompt(encoder, text, max_length, mode) for mode in (False, True))
        assert torch.equal(whole.features, chunked.features)
        assert (chunked.chunks, chunked.chunk_length) == (1, 0)


def test_the_last_token_that_fits(llama):
    encoder = load_text_encoder(llama, torch.float32)
    assert encode_prompt(encoder, "a" * 127, chunked=True).chunks == 1
    assert encode_prompt(encoder, "a" * 128, chunked=True).chunks == 2
    assert encode_prompt(encoder, "a" * 128, max_length=129, chunked=True).chunks == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One cat. Two cats. Three cats.", ["One cat.", " Two cats.", " Three cats."]),
        ("One 3.5 kg cat. Two.", ["One 3.5 kg", " cat. Two."]),
        ("One cat\nTwo cats\r\nSix", ["One cat\n", "Two cats\r\n", "Six"]),
        ("aaaaaaaaaaaaaaaaaaaaaaaaa b", ["aaaaaaaaaaaa", "aaaaaaaaaaaa", "a b"]),
        ('He said "a." And.', ['He said "a."', " And."]),
        ("一二三四五。六七八九十。」一二。", ["一二三四五。", "六七八九十。」", "一二。"]),
        ("قطة حمراء؟ كلب", ["قطة حمراء؟", " كلب"]),
        ("one two three four", ["one two", " three four"]),
    ],
)
def test_where_a_text_is_cut(llama, text, expected):
    """This tokenizer makes a token of each character."""
    tokenizer = AutoTokenizer.from_pretrained(llama)
    room = max(map(len, expected))
    assert list(chunks(text, lambda part: tokenise(tokenizer, part), room)) == expected


ODD = st.text(
    st.one_of(st.sampled_from("ab .!?…。！\n\t\u3000\"'()½🐕猫é"), st.characters(codec="utf-8")),  # noqa: RUF001
    max_size=120,
)


@settings(max_examples=100)
@given(text=ODD, room=st.integers(1, 12))
def test_nothing_is_lost_and_every_chunk_fits(t5_tokens, text, room):
    try:
        found = list(chunks(text, t5_tokens, room))
    except EllaError as error:
        assert "set max_length higher" in str(error)  # noqa: PT017, most texts have no error
        assert room < 20
        return
    assert "".join(found) == text
    assert all(len(t5_tokens(part).ids) <= room for part in found)
    assert all(found) or found == [""]


def test_byte_level_bpe_is_packed_greedily_too(smollm2):
    def tokens(text):
        return smollm2.tokenizer.tokenise(text)

    for room in (20, 61, 127):
        expected = greedy(lambda text: len(tokens(text).ids) <= room, SENTENCES)  # noqa: B023
        assert list(chunks(TEXT, tokens, room)) == expected
    emoji = "🐈‍⬛" * 30
    found = list(chunks(emoji, tokens, 10))
    assert "".join(found) == emoji
    assert all(len(tokens(part).ids) <= 10 for part in found)


def test_weights_in_chunks(encoder):
    """The weighted words are in the second chunk and on the border to the third."""
    first, second, third = greedy(lambda text: count(encoder, text) <= 128, SENTENCES)[:3]
    rest = TEXT[len(first + second + third) :]
    word = third[: third.index(" ", 1)]
    text = f"{first}({second}{word}:1.5){third[len(word) :]}{rest}"
    plain = encode_prompt(encoder, TEXT, chunked=True)
    prompt = encode_prompt(encoder, text, chunked=True)
    assert (prompt.chunks, prompt.tokens) == (plain.chunks, plain.tokens)
    start = count(encoder, first)
    end = start + count(encoder, second)
    words = [*range(start, end - 1), *range(end, end + count(encoder, word) - 1)]
    changed = (prompt.features != plain.features).any(dim=-1)[0].nonzero().flatten()
    assert changed.tolist() == words
    assert prompt.weighted == len(words)
    empty = encode_prompt(encoder, "").features.double()
    expected = empty + 1.5 * (plain.features[:, words].double() - empty)
    torch.testing.assert_close(prompt.features[:, words], expected.float(), rtol=1e-5, atol=1e-6)


def test_chunks_that_are_too_small_for_a_character(encoder):
    message = r"Chunks of 1 tokens .* can't hold 'a', which takes 2\. .* set max_length higher"
    with pytest.raises(EllaError, match=message):
        encode_prompt(encoder, "a cat", max_length=2, chunked=True)
    with pytest.raises(EllaError, match="Chunks of 0 tokens"):
        encode_prompt(encoder, "a cat", max_length=1, chunked=True)


def test_chunks_are_no_longer_than_the_llm_can_read(llama):
    encoder = load_text_encoder(llama, torch.float32)
    with pytest.raises(EllaError, match="max_length is 257, but this LLM reads at most 256"):
        encode_prompt(encoder, "a", max_length=257, chunked=True)


@pytest.mark.parametrize("unit", ["mountain ", "a", "x. ", "猫。", "\n "])
def test_cutting_a_million_characters(t5_tokens, unit):
    """Linear: the tokenizer reads the text a few times, however long it is."""
    text, read = unit * (1_000_000 // len(unit)), []

    def tokenise(text):
        read.append(len(text))
        return t5_tokens(text)

    assert "".join(chunks(text, tokenise, 127)) == text
    assert sum(read) < 6 * len(text)


def test_reading_a_million_characters(encoder):
    text = f"(mountain:1.2){' ' * 92}mountain{' ' * 92}" * 5000
    whole, chunked = (encode_prompt(encoder, text, chunked=mode) for mode in (False, True))
    assert whole.windows == -(-10_000 // 2047)
    assert chunked.chunks == -(-10_000 // 127)
    assert whole.weighted == chunked.weighted == 5000
    assert chunked.features.isfinite().all()
