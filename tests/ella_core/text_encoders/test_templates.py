"""Templates of a user's own around prompts, against transformers alone."""

from dataclasses import replace

import pytest
import torch
import transformers

from ella_core.config import ADAPTER_RECIPES, PLAIN, PromptTemplate
from ella_core.errors import EllaError
from ella_core.text_encoders import encode_prompt, load_text_encoder
from ella_core.text_encoders.prompts import tokenise_prompt
from support.llms import write_gemma

GEMMA, T5GEMMA = ADAPTER_RECIPES["gemma3_text"], ADAPTER_RECIPES["t5gemma"]
SYSTEM = "Paint as a child would."
TEXT = "a red cat"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    write_gemma(folder := tmp_path_factory.mktemp("gemma") / "any")
    return folder


@pytest.fixture(scope="module")
def encoder(gemma):
    return load_text_encoder(gemma, torch.float32)


@torch.no_grad()
def hidden(folder, ids):
    """(1, L, D) last hidden state of a list of token ids."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, output_hidden_states=True)
    return model(input_ids=torch.tensor([ids]))["hidden_states"][-1]


def ids_of(folder, text):
    return transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]


def test_a_system_prompt_in_the_llms_own_template(gemma, encoder):
    """Without a number, all in front of the prompt is left out."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(gemma)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TEXT}]
    ids = tokenizer.apply_chat_template(messages, return_dict=True, add_generation_prompt=True)[
        "input_ids"
    ]
    front = len(ids_of(gemma, f"<start_of_turn>user\n{SYSTEM}\n\n"))
    recipe = PromptTemplate(SYSTEM, None, None).over(GEMMA)
    prompt = encode_prompt(encoder, TEXT, recipe=recipe)
    torch.testing.assert_close(prompt.features, hidden(gemma, ids)[:, front:], rtol=0, atol=1e-5)
    assert prompt.tokens == len(ids_of(gemma, TEXT)) - 1  # <bos>; a template's are not counted
    fixed = encode_prompt(encoder, TEXT, recipe=replace(recipe, skipped=5))
    torch.testing.assert_close(fixed.features, hidden(gemma, ids)[:, 5:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", [GEMMA, PLAIN])
def test_a_template_of_ones_own(gemma, encoder, recipe):
    own = PromptTemplate(SYSTEM, "<start_of_turn>%system% Now: %prompt%<end_of_turn>\n", None)
    front = f"<start_of_turn>{SYSTEM} Now:"  # a space is part of the word behind it
    prompt = encode_prompt(encoder, TEXT, recipe=own.over(recipe))
    ids = ids_of(gemma, f"{front} {TEXT}<end_of_turn>\n")
    expected = hidden(gemma, ids)[:, len(ids_of(gemma, front)) :]
    torch.testing.assert_close(prompt.features, expected, rtol=0, atol=1e-5)


def test_no_template_at_all(gemma, encoder):
    own = PromptTemplate(SYSTEM, "%prompt%", 0).over(GEMMA)
    prompt = encode_prompt(encoder, TEXT, recipe=own)
    torch.testing.assert_close(prompt.features, hidden(gemma, ids_of(gemma, TEXT)))
    empty = encode_prompt(encoder, "", recipe=replace(own, skipped=None))
    torch.testing.assert_close(empty.features, hidden(gemma, ids_of(gemma, "")))


def test_padding_stays_the_connectors(gemma, encoder):
    own = PromptTemplate(SYSTEM, "%prompt%<eos>", 0).over(T5GEMMA)
    usual = tokenise_prompt(encoder.tokenizer, TEXT, recipe=T5GEMMA)
    found = tokenise_prompt(encoder.tokenizer, TEXT, recipe=own)
    assert (found.pieces[0].ids, found.length) == (usual.pieces[0].ids, usual.length)


def test_weights_reach_the_words_within_a_template(gemma, encoder):
    recipe = PromptTemplate("", "Now: %prompt%!", None).over(GEMMA)
    plain = encode_prompt(encoder, TEXT, recipe=recipe).features
    weighted = encode_prompt(encoder, "a (red:1.5) cat", recipe=recipe)
    changed = (weighted.features - plain).abs().amax(dim=-1)[0] > 1e-4
    # The first token is "a" with the space in front of it, then come single bytes.
    assert changed.nonzero().flatten().tolist() == [1, 2, 3, 4]


def test_chunks_within_a_template(gemma, encoder):
    recipe = replace(PromptTemplate("", "Now: %prompt%", None).over(GEMMA), max_tokens=24)
    sentences = ["A red cat sleeps here.", " The dog is blue."]
    prompt = encode_prompt(encoder, "".join(sentences), chunked=True, recipe=recipe)
    assert (prompt.chunks, prompt.chunk_length, prompt.dropped) == (2, 24, 0)


@pytest.mark.parametrize("text", ["no place", "%prompt% and %prompt%", " "])
def test_a_template_without_one_place_for_the_prompt(text):
    with pytest.raises(EllaError, match="Write it once"):
        PromptTemplate("", text, None)


def test_a_system_prompt_with_a_place_for_the_prompt():
    with pytest.raises(EllaError, match="out of system_prompt"):
        PromptTemplate("Paint %prompt%.", "%system% %prompt%", None)
    PromptTemplate("Paint %prompt%.", "%prompt%", None)  # left out
    PromptTemplate("Paint %prompt%.", None, None)  # words for the LLM's own template
