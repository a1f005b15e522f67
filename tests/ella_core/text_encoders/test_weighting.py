"""Effect of prompt weights on an LLM's features and on the connector's output."""

import pytest
import torch
import transformers
from transformers import AutoTokenizer, LlamaModel, T5EncoderModel

from ella_core.errors import EllaError
from ella_core.text_encoders import PromptTokenizer, TextEncoder, encode_prompt, load_text_encoder
from ella_core.text_encoders.tokens import SpecialTokens
from ella_core.text_encoders.weights import parse, token_weights
from support import golden_weights
from support.reference import tsc

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@torch.no_grad()
def direct(model, ids):
    return model.eval()(input_ids=torch.tensor([ids])).last_hidden_state


def weighted(features, empty, weights):
    """The definition, in float64."""
    weights = torch.tensor(weights, dtype=torch.float64)[:, None]
    empty = empty.double()
    return (empty + weights * (features.double() - empty)).float()


@pytest.mark.parametrize(
    ("text", "plain", "pieces", "weights"),
    [
        (
            "a red (blue cat:1.5), sits",
            "a red blue cat, sits",
            ["▁", "a", "▁red", "▁blue", "▁cat", ",", "▁sit", "s"],
            [1, 1, 1, 1.5, 1.5, 1, 1, 1],
        ),
        ("red (a:2) red", "red a red", ["▁red", "▁", "a", "▁red"], [1, 2, 2, 1]),
        ("Ein (🐕:2) Hund", "Ein 🐕 Hund", ["▁Ein", "▁", "<unk>", "▁Hund"], [1, 2, 2, 1]),
        ("sit(s:3)", "sits", ["▁sit", "s"], [1, 3]),
        ("(si:0)ts", "sits", ["▁sit", "s"], [0, 1]),
        ("(red :2)cat", "red cat", ["▁red", "▁cat"], [2, 1]),
    ],
)
def test_t5(t5, text, plain, pieces, weights):
    tokenizer = AutoTokenizer.from_pretrained(t5)
    model = T5EncoderModel.from_pretrained(t5)
    ids = tokenizer(plain).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == [*pieces, "</s>"]
    expected = weighted(direct(model, ids), direct(model, [1])[0], [*weights, 1])
    prompt = encode_prompt(load_text_encoder(t5, torch.float32), text)
    torch.testing.assert_close(prompt.features, expected, **TOLERANCE)
    assert prompt.weighted == sum(weight != 1 for weight in weights)
    untouched = [weight == 1 for weight in [*weights, 1]]
    assert torch.equal(prompt.features[:, untouched], direct(model, ids)[:, untouched])


def test_special_tokens_and_padding_are_never_weighted(t5, llama):
    for folder, first in ((t5, 0), (llama, 1)):  # </s> is behind the words, <s> before them
        encoder = load_text_encoder(folder, torch.float32)
        plain, prompt = (encode_prompt(encoder, text, max_length=8) for text in ("cat", "(cat:3)"))
        changed = (prompt.features != plain.features).any(dim=-1)[0].nonzero().flatten()
        words = encode_prompt(encoder, "cat").tokens - 1
        assert changed.tolist() == list(range(first, first + words))
        assert (prompt.weighted, prompt.tokens) == (words, plain.tokens)


def test_pieces_of_a_prompt_longer_than_the_llm(llama):
    """The second piece's <s> is at 256: 300 is behind two of them."""
    prompt = encode_prompt(load_text_encoder(llama, torch.float32), "a" * 298 + "(b:0):" + "a" * 10)
    model = LlamaModel.from_pretrained(llama)
    assert (prompt.windows, prompt.weighted) == (2, 1)
    torch.testing.assert_close(prompt.features[:, 300], direct(model, [1])[:, 0], **TOLERANCE)


def test_what_is_cut_off_is_not_counted(llama):
    assert (
        encode_prompt(load_text_encoder(llama, torch.float32), "ab(cdef:2)", max_length=5).weighted
        == 2
    )


@pytest.mark.parametrize("text", ["a red cat", "snow " * 300, "Ein Hund 🐕", ""])
@pytest.mark.parametrize("max_length", [0, 16])
def test_a_weight_of_one_changes_nothing_by_a_bit(t5, text, max_length):
    encoder = load_text_encoder(t5, torch.float32)
    plain = encode_prompt(encoder, text, max_length)
    same = encode_prompt(encoder, f"({text}:1.0)", max_length)
    assert torch.equal(plain.features, same.features)
    assert (same.tokens, same.weighted) == (plain.tokens, 0)


def test_the_empty_prompt_is_only_read_where_it_is_needed(t5):
    encoder = load_text_encoder(t5, torch.float32)
    lengths = []
    encoder.model.register_forward_pre_hook(
        lambda _, __, inputs: lengths.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    encode_prompt(encoder, "(a red cat:1.0)")
    assert lengths == [5]
    encode_prompt(encoder, "(a red cat:1.1)")
    assert sorted(lengths) == [1, 5, 5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_is_kept(t5, dtype):
    features = encode_prompt(load_text_encoder(t5, dtype), "a (red:1.3) cat").features
    assert features.dtype == dtype
    assert features.isfinite().all()


def test_weights_that_overflow(t5):
    text = "(" * 8 + "cat" + ":10)" * 8
    with pytest.raises(
        EllaError, match=r"up to 1e\+08, are too high for features in torch.float16"
    ):
        encode_prompt(load_text_encoder(t5, torch.float16), text)
    assert encode_prompt(load_text_encoder(t5, torch.float32), text).features.isfinite().all()


@pytest.fixture
def slow():
    tokenizer = transformers.ByT5Tokenizer()
    assert not tokenizer.is_fast
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=384, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4
    )
    prompts = PromptTokenizer(tokenizer, SpecialTokens.of(tokenizer))
    return TextEncoder(T5EncoderModel(config).eval(), prompts)


def test_a_tokenizer_that_does_not_know_where_its_tokens_are(slow):
    assert encode_prompt(slow, "(cat:1)").tokens == 4
    assert encode_prompt(slow, "a cat", chunked=True).tokens == 6
    with pytest.raises(EllaError, match=r"Weights such as .* set long_prompt to whole"):
        encode_prompt(slow, "(cat:2)")
    with pytest.raises(EllaError, match=r"long_prompt chunk need"):
        encode_prompt(slow, "cat " * 100, chunked=True)


@pytest.mark.parametrize(
    "text",
    [
        "a (red cat:1.5), and (two:0.5)  (dogs :2) run",
        "Ein Hund (🐕‍⬛:2)🐕 und (मेघ:3)",
        "un(believ:2)able (half a wo:0)rd",
        "(「猫」。:2)犬 e\u0301(e\u0301:2)",
        "line\n(break:2)\n\ntab\tx",
    ],
)
def test_byte_level_bpe(smollm2, text):
    """Each character of such a token's name stands for one byte of the text."""
    plain, weights = parse(text)
    tokens = smollm2.tokenizer.tokenise(plain)
    of_bytes = [
        (None if c.isspace() else weight)
        for c, weight in zip(plain, weights, strict=True)
        for _ in c.encode()
    ]
    expected, start = [], 0
    for name in smollm2.tokenizer.tokenizer.convert_ids_to_tokens(tokens.ids):
        following = [weight for weight in of_bytes[start:] if weight is not None]
        expected.append(following[0])
        start += len(name)
    assert start == len(of_bytes)
    assert token_weights(plain, weights, tokens.starts) == expected


def relative_changes(weights, features, empty, words, weight):
    """Change of the connector's tokens, relative in L2, by two ways to weigh `words`."""
    multiplied, moved = features.clone(), features.clone()
    multiplied[:, words] *= weight
    moved[:, words] = empty + weight * (features[:, words] - empty)
    changes = []
    for changed in (multiplied, moved):
        for timestep in (999, 500, 1):
            before, after = (tsc(weights, x, timestep) for x in (features, changed))
            changes.append(((after - before).norm() / before.norm()).item())
    return changes[:3], changes[3:]


def test_the_connector_undoes_a_multiplication_but_not_a_move_from_the_empty_prompt():
    """The released size; features drawn at random: three tokens of twenty at 1.3."""
    weights = {key: torch.from_numpy(v) for key, v in golden_weights.state_dict().items()}
    features = torch.from_numpy(golden_weights.llm_features(1, 20))
    empty = torch.from_numpy(golden_weights.llm_features(1, 1, seed=1))
    multiplied, moved = relative_changes(weights, features, empty, slice(3, 6), 1.3)
    assert max(multiplied) < 0.002
    assert min(moved) > 0.04
    assert max(moved) < 0.09


def test_the_same_with_features_of_a_real_llm(smollm2):
    weights = {
        key: torch.from_numpy(v) for key, v in golden_weights.state_dict(llm_dim=576).items()
    }
    text = "A tabby cat in a yellow raincoat holds a small red lantern."
    features, empty = encode_prompt(smollm2, text).features, encode_prompt(smollm2, "").features
    multiplied, moved = relative_changes(weights, features, empty, slice(5, 9), 1.3)
    assert max(multiplied) < 0.002
    assert min(moved) > 0.04
    assert max(moved) < 0.09
