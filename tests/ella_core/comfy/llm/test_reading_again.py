"""A prompt is read in the LLM's usual way, and again if the connector wants it otherwise."""

import gc
import sys
import weakref

import pytest
import torch

from ella_core.config import ADAPTER_RECIPES, PLAIN, PromptTemplate
from ella_core.errors import EllaError
from ella_core.text_encoders import encode_prompt, load_text_encoder
from support.llms import write_gemma
from support.models import write_llama
from tiny_models import import_host

import_host()

from ella_core.comfy.llm import cache
from ella_core.comfy.llm.model import LLM

GEMMA = ADAPTER_RECIPES["gemma3_text"]
TEXT = "a (red:1.3) cat"


@pytest.fixture(autouse=True)
def _outside_a_run(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "server", None)  # a report that is sent would need it
    monkeypatch.setattr(cache, "feature_cache", lambda: cache.FeatureCache(tmp_path / "features"))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    write_gemma(folder := tmp_path_factory.mktemp("llms") / "gemma")
    return folder


def features(embeds):
    ((prompt, weight),) = embeds.parts
    assert weight == 1
    return prompt.features


def expected(folder, recipe, text=TEXT):
    return encode_prompt(load_text_encoder(folder, torch.float32), text, recipe=recipe).features


def test_it_is_read_again_only_if_it_was_read_otherwise(gemma):
    llm = LLM("gemma", gemma, "fp32")
    embeds = llm.encode(TEXT, 0)
    assert embeds.recipe == GEMMA
    assert embeds.under(GEMMA) is embeds
    torch.testing.assert_close(features(embeds), expected(gemma, GEMMA))
    plain = embeds.under(PLAIN)
    torch.testing.assert_close(features(plain), expected(gemma, PLAIN))
    torch.testing.assert_close(features(plain.with_strength(0)), expected(gemma, PLAIN, ""))
    assert features(plain.under(GEMMA)) is features(embeds)


def test_strength_and_blends_are_read_again_too(gemma):
    llm = LLM("gemma", gemma, "fp32")
    one, other = llm.encode(TEXT, 0), llm.encode("a dog", 0)
    mixed = one.blended_with(other.with_strength(0.5), 0.25).under(PLAIN)
    found = dict(mixed.parts)
    wanted = [(TEXT, 0.75), ("a dog", 0.125), ("", 0.125)]
    assert list(found.values()) == [weight for _, weight in wanted]
    for prompt, (text, _) in zip(found, wanted, strict=True):
        torch.testing.assert_close(prompt.features, expected(gemma, PLAIN, text))


def test_a_prompt_does_not_keep_its_llm_and_opens_it_again(gemma):
    llm = LLM("gemma", gemma, "fp32")
    embeds, gone = llm.encode(TEXT, 0), weakref.ref(llm)
    del llm
    gc.collect()
    assert gone() is None
    torch.testing.assert_close(features(embeds.under(PLAIN)), expected(gemma, PLAIN))


def test_other_llms_read_as_it_stands(tmp_path):
    write_llama(tmp_path / "llama")
    embeds = LLM("llama", tmp_path / "llama", "fp32").encode(TEXT, 0)
    assert embeds.recipe == PLAIN
    torch.testing.assert_close(features(embeds), expected(tmp_path / "llama", PLAIN))


OWN = PromptTemplate("Paint.", "%system%\n<start_of_turn>%prompt%<end_of_turn>", None)


@pytest.mark.parametrize("recipe", [GEMMA, PLAIN])
def test_a_template_of_ones_own_stays_whatever_the_connector_wants(gemma, recipe):
    """Beside a prompt without one, too."""
    llm = LLM("gemma", gemma, "fp32")
    embeds = llm.within(PromptTemplate("", None, 3)).within(OWN).encode(TEXT, 0)  # the later one
    assert embeds.recipe == GEMMA
    own = OWN.over(recipe)
    assert own.max_tokens == recipe.max_tokens
    read = embeds.under(recipe)
    torch.testing.assert_close(features(read), expected(gemma, own))
    torch.testing.assert_close(features(read.with_strength(0)), expected(gemma, own, ""))
    mixed = llm.encode("a dog", 0).blended_with(embeds, 0.25).under(recipe)
    for (prompt, _), wanted in zip(
        mixed.parts, [expected(gemma, recipe, "a dog"), expected(gemma, own)], strict=True
    ):
        torch.testing.assert_close(prompt.features, wanted)


def test_a_text_without_markup_has_no_weights(gemma):
    prompt = LLM("gemma", gemma, "fp32").encode(TEXT, 0, markup=False)
    escaped = TEXT.replace("(", "\\(").replace(")", "\\)")
    torch.testing.assert_close(features(prompt), expected(gemma, GEMMA, escaped))
    assert features(prompt).shape[1] > expected(gemma, GEMMA).shape[1]


def test_the_name_of_an_llm_matters_only_where_nothing_else_is_known(gemma, tmp_path):
    """Embeds from a file carry the name that it has where they were saved."""
    write_llama(tmp_path / "llama")
    one, two = (LLM(name, gemma, "fp32").encode(TEXT, 0) for name in ("gemma", "another name"))
    assert one.blended_with(two, 0.5).parts
    other = LLM("gemma", tmp_path / "llama", "fp32").encode(TEXT, 0)
    with pytest.raises(EllaError, match="One prompt was read by gemma, the other by gemma"):
        one.blended_with(other, 0.5)
