"""How adapters have an LLM read, against the released steps with transformers alone."""

import struct
from dataclasses import replace

import pytest
import torch
import transformers

from ella_core.config import ADAPTER_RECIPES, LLMAdapterConfig, ResamplerConfig
from ella_core.connectors import build_connector
from ella_core.errors import EllaError
from ella_core.text_encoders import encode_prompt, load_text_encoder
from ella_core.text_encoders.model_type import model_type_of
from ella_core.text_encoders.prompts import text_beyond, tokenise_prompt
from support.llms import GEMMA_TEMPLATE, write_gemma, write_qwen, write_t5gemma

SYSTEM = (
    "You are expert in understanding of user prompts for image generations. "
    "Create an image according to the prompt from user."
)
GEMMA, T5GEMMA = ADAPTER_RECIPES["gemma3_text"], ADAPTER_RECIPES["t5gemma"]
TEXTS = [
    "a red cat at the theatre",
    "",
    "  spaces and lines \n\n around it \n",
    "\n\nlines first",
    "unicode: ein Bär 🐻, 赤い猫",
    "PROMPT, as the word",
    "a long one " * 60,
]
NEEDS_T5GEMMA = pytest.mark.skipif(
    not hasattr(transformers, "T5GemmaConfig"), reason="this transformers has no T5Gemma"
)
NEEDS_QWEN = pytest.mark.skipif(
    not hasattr(transformers, "Qwen3Config"), reason="this transformers has no Qwen 3"
)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    write_gemma(folder := tmp_path_factory.mktemp("gemma") / "any")
    return folder


@pytest.fixture(scope="module", params=["right", "left"])
def t5gemma(request, tmp_path_factory):
    write_t5gemma(folder := tmp_path_factory.mktemp("t5gemma") / "any", request.param)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    write_qwen(folder := tmp_path_factory.mktemp("qwen") / "any")
    return folder


def open_llm(folder):
    return load_text_encoder(folder, torch.float32)


@torch.no_grad()
def chat_steps(folder, text, content):
    """Token ids (L,) and features (1, L - 27, D) of the released node for chat LLMs."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, output_hidden_states=True)
    inputs = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": content(SYSTEM)},
            {"role": "user", "content": content(text)},
        ],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    return inputs["input_ids"][0], model(**inputs)["hidden_states"][-1][:, 27:]


@torch.no_grad()
def t5gemma_steps(folder, text, length=512):
    """The same of the released node for T5Gemma, with the mask that it hands over."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.T5GemmaEncoderModel.from_pretrained(folder, is_encoder_decoder=False)
    inputs = tokenizer(
        text + "<eos>",
        return_tensors="pt",
        padding="max_length",
        max_length=length,
        truncation=True,
    )
    output = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask)
    return inputs.input_ids[0], output.last_hidden_state, inputs.attention_mask


def parts(text):
    return [{"type": "text", "text": text}]


def check_chat(folder, text, content):
    ids, expected = chat_steps(folder, text, content)
    encoder = open_llm(folder)
    read = tokenise_prompt(encoder.tokenizer, text, recipe=GEMMA)
    assert read.pieces[0].ids == ids[: 27 + 512].tolist()
    prompt = encode_prompt(encoder, text, recipe=GEMMA)
    torch.testing.assert_close(prompt.features, expected[:, :512], rtol=0, atol=1e-5)
    assert prompt.mask is None
    return prompt


@pytest.mark.parametrize("text", TEXTS)
def test_gemma_reads_as_the_released_node_has_it(gemma, text):
    prompt = check_chat(gemma, text, parts)
    own = transformers.AutoTokenizer.from_pretrained(gemma)(text.strip(), add_special_tokens=False)
    in_front = len(chat_steps(gemma, "", parts)[0]) - 9  # of the turns behind it
    if text.startswith("a long"):
        assert prompt.dropped == len(own.input_ids) - prompt.tokens > 0
        assert prompt.tokens == 512 + 27 - in_front
    else:
        assert (prompt.tokens, prompt.dropped) == (len(own.input_ids), 0)


@NEEDS_QWEN
@pytest.mark.parametrize("text", TEXTS)
def test_qwen_reads_through_its_own_template(qwen, text):
    check_chat(qwen, text, str)


@NEEDS_T5GEMMA
@pytest.mark.parametrize("text", TEXTS)
def test_t5gemma_reads_as_the_released_node_has_it(t5gemma, text):
    ids, expected, mask = t5gemma_steps(t5gemma, text)
    encoder = open_llm(t5gemma)
    prompt = encode_prompt(encoder, text, recipe=T5GEMMA)
    read = tokenise_prompt(encoder.tokenizer, text, recipe=T5GEMMA)
    assert read.pieces[0].ids == ids[mask[0].bool()].tolist()
    assert prompt.features.shape == expected.shape
    if prompt.mask is None:
        assert mask.all()
    else:
        assert torch.equal(prompt.mask, mask.bool())
    own = mask[0].bool()
    torch.testing.assert_close(prompt.features[0, own], expected[0, own], rtol=0, atol=1e-5)
    assert prompt.tokens == int(mask.sum())
    assert (prompt.dropped > 0) == text.startswith("a long")


def test_an_llm_without_a_chat_template_gets_gemmas(gemma, tmp_path):
    write_gemma(tmp_path / "bare", template=None)
    bare, stock = open_llm(tmp_path / "bare"), open_llm(gemma)
    assert bare.tokenizer.tokenizer.chat_template is None
    for text in TEXTS:
        expected = tokenise_prompt(stock.tokenizer, text, recipe=GEMMA).pieces
        assert tokenise_prompt(bare.tokenizer, text, recipe=GEMMA).pieces == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system') }}", r"can't be used \(no system\)"),
        ("{{ messages[1]['content'] | upper }}", "does not show the prompt as it stands"),
    ],
)
def test_templates_that_are_of_no_use(tmp_path, template, message):
    write_gemma(tmp_path / "odd", template=template)
    with pytest.raises(EllaError, match=message):
        encode_prompt(open_llm(tmp_path / "odd"), "a cat", recipe=GEMMA)


def test_an_llm_that_can_not_chat(llama):
    with pytest.raises(
        EllaError, match="through the LLM's chat template, and this LLM's tokenizer"
    ):
        encode_prompt(open_llm(llama), "a cat", recipe=GEMMA)


def test_a_template_of_which_nothing_is_left(gemma):
    recipe = replace(GEMMA, skipped=200)
    with pytest.raises(EllaError, match="has 128 tokens, and the first 200 are left out"):
        encode_prompt(open_llm(gemma), "a", recipe=recipe)
    # The empty prompt is read beside every other, whether it is used or not.
    assert encode_prompt(open_llm(gemma), "", recipe=recipe).features.shape[1] == 1


def test_weights_reach_the_words_behind_a_template(gemma):
    encoder = open_llm(gemma)
    plain = encode_prompt(encoder, "a red cat", recipe=GEMMA).features
    weighted = encode_prompt(encoder, "  a (red:1.5) cat", recipe=GEMMA)
    empty = encode_prompt(encoder, "", recipe=GEMMA).features.mean(dim=(0, 1))
    read = tokenise_prompt(encoder.tokenizer, "a red cat", recipe=GEMMA).pieces[0]
    text = encoder.tokenizer.tokenizer.convert_ids_to_tokens(read.ids[27 + read.start :])
    assert text[:5] == ["a", "Ġ", "r", "e", "d"]
    changed = slice(read.start + 1, read.start + 5)  # a space belongs to the word behind it
    expected = plain.clone()
    expected[:, changed] = empty + 1.5 * (plain[:, changed] - empty)
    torch.testing.assert_close(weighted.features, expected, rtol=0, atol=1e-5)
    assert weighted.weighted == 4


@NEEDS_T5GEMMA
def test_weights_reach_the_words_behind_padding(t5gemma):
    encoder = open_llm(t5gemma)
    recipe = replace(T5GEMMA, max_tokens=32)
    plain = encode_prompt(encoder, "a red cat", recipe=recipe)
    weighted = encode_prompt(encoder, "a (red:1.5) cat", recipe=recipe)
    changed = (weighted.features - plain.features).abs().amax(dim=-1)[0] > 1e-4
    first = int(plain.mask[0].int().argmax())
    assert changed.nonzero().flatten().tolist() == [first + i for i in (2, 3, 4, 5)]


def test_chunks_are_read_like_prompts_of_their_own(gemma):
    encoder = open_llm(gemma)
    recipe = replace(GEMMA, skipped=118, max_tokens=40)
    sentences = ["A red cat sleeps here.", " The dog is blue.", " Nobody sees (them:1.2)."]
    prompt = encode_prompt(encoder, "".join(sentences), chunked=True, recipe=recipe)
    alone = [encode_prompt(encoder, each, recipe=recipe).features for each in sentences]
    assert (prompt.chunks, prompt.chunk_length, prompt.dropped) == (3, 40, 0)
    for i, expected in enumerate(alone):
        assert int(prompt.mask[i].sum()) == expected.shape[1]
        torch.testing.assert_close(prompt.features[i, prompt.mask[i]], expected[0])


@NEEDS_T5GEMMA
def test_a_fixed_length_cuts_and_pads_less(t5gemma):
    text = "a red cat at the theatre"
    ids, expected, mask = t5gemma_steps(t5gemma, text, length=16)
    encoder = open_llm(t5gemma)
    prompt = encode_prompt(encoder, text, max_length=16, recipe=T5GEMMA)
    assert (
        tokenise_prompt(encoder.tokenizer, text, 16, recipe=T5GEMMA).pieces[0].ids == ids.tolist()
    )
    torch.testing.assert_close(prompt.features, expected, rtol=0, atol=1e-5)
    assert mask.all()
    own = encoder.tokenizer.tokenise(text, T5GEMMA).ids
    assert prompt.dropped == len(own) - 15  # <bos>
    short = encode_prompt(encoder, "a", max_length=16, recipe=T5GEMMA)
    assert (short.features.shape[1], int(short.mask.sum())) == (16, 3)


def test_where_a_prompt_ends_that_is_too_long(gemma):
    encoder = open_llm(gemma)
    recipe = replace(GEMMA, skipped=100, max_tokens=64)
    room = encoder.tokenizer.room(recipe, 64)
    words = "x" * room + " rest"
    assert text_beyond(encoder.tokenizer, words, 64, recipe) == " rest"


@NEEDS_T5GEMMA
def test_the_kind_of_an_llm_is_told_without_opening_it(gemma, qwen, t5gemma, llama, tmp_path):
    kinds = [model_type_of(folder) for folder in (gemma, qwen, t5gemma, llama)]
    assert kinds == ["gemma3_text", "qwen3", "t5gemma", "llama"]
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 20)
    header += b"general.architecture" + struct.pack("<IQ", 8, 6) + b"gemma3"
    (tmp_path / "x.gguf").write_bytes(header)
    assert model_type_of(tmp_path / "x.gguf") == "gemma3_text"
    (tmp_path / "y.gguf").write_bytes(header.replace(b"architecture", b"Architecture"))
    assert model_type_of(tmp_path / "y.gguf") is None


def test_which_recipe_a_connector_owns():
    tsc = build_connector(ResamplerConfig(48, 64, 1))
    assert {tsc.recipe(kind) for kind in ("gemma3_text", "t5", None)} == {type(GEMMA)()}
    adapter = build_connector(LLMAdapterConfig(48, 64, 1, 1, max_tokens=32, pooled_dim=40))
    assert adapter.recipe("gemma3_text") == replace(GEMMA, max_tokens=32)
    assert adapter.recipe("t5gemma") == replace(T5GEMMA, max_tokens=32)
    assert adapter.recipe("qwen3") == adapter.recipe(None) == adapter.recipe("gemma3_text")


def test_the_system_prompt_is_the_released_one():
    assert GEMMA.system_prompt == SYSTEM
    assert GEMMA_TEMPLATE.startswith("{{ bos_token }}")
