"""What auto stands for in Load ELLA Models."""

import json
import struct

import pytest

from tiny_models import draw_connector, import_host

import_host()
import folder_paths

from ella_core.comfy.files import folders, preset
from ella_core.config import ResamplerConfig
from ella_core.errors import EllaError
from ella_core.text_encoders.model_type import LLMKind, kind_of

ELLA = "a.safetensors"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A connector for an LLM that is 32 wide, and no LLM."""
    names = {name: ([str(tmp_path / "llms")], set()) for name in folders.LLM_FOLDERS}
    names |= {n: ([str(tmp_path / "ella")], {".safetensors"}) for n in folders.CONNECTOR_FOLDERS}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    (tmp_path / "llms").mkdir()
    draw_connector(tmp_path / "ella" / ELLA, ResamplerConfig(layers=1, llm_dim=32, width=64))
    return tmp_path


def add_llm(models, name, **config):
    folder = models / "llms" / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))


def test_the_only_ones(models):
    add_llm(models, "only", model_type="llama", hidden_size=7, num_hidden_layers=2)
    assert preset.choose_connector("auto") == ELLA
    assert preset.choose_llm("auto", ELLA) == "only"
    assert preset.choose_llm("another", ELLA) == "another"


def test_the_one_that_fits(models):
    add_llm(models, "wide", model_type="llama", hidden_size=64, num_hidden_layers=2)
    add_llm(models, "fits", model_type="llama", hidden_size=32, num_hidden_layers=2)
    add_llm(models, "damaged")
    (models / "llms/damaged/config.json").write_text("{")
    add_llm(models, "text", encoder="text")
    add_llm(models, "list")
    (models / "llms/list/config.json").write_text("[]")
    assert preset.choose_llm("auto", ELLA) == "fits"
    add_llm(models, "t5", model_type="t5", d_model=32, num_layers=2)
    assert preset.choose_llm("auto", ELLA) == "t5"
    add_llm(models, "t5 again", model_type="t5", d_model=32, num_layers=2)
    with pytest.raises(EllaError, match=r"2 LLMs fit .* auto takes the only one: t5, t5 again"):
        preset.choose_llm("auto", ELLA)


def test_none_fits(models):
    for name in "ab":
        add_llm(models, name, model_type="llama", hidden_size=64, num_hidden_layers=2)
    with pytest.raises(EllaError, match=r"None of the 2 LLMs installed fits .* features 32 wide"):
        preset.choose_llm("auto", ELLA)


def test_none_is_installed(models):
    with pytest.raises(EllaError, match=r"The LLM .* was not found"):
        preset.choose_llm("auto", ELLA)
    (models / "ella" / ELLA).unlink()
    folder_paths.filename_list_cache.clear()
    with pytest.raises(EllaError, match=r"The ELLA connector .* was not found"):
        preset.choose_connector("auto")


def entry(key, value):
    """A number or a text, or a list of texts, as GGUF writes it under a key."""

    def text(words):
        return struct.pack("<Q", len(words)) + words.encode()

    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    head = text(key) + struct.pack("<IIQ", 9, 8, len(value))
    return head + b"".join(map(text, value))


def test_gguf_says_its_size_in_front_of_its_vocabulary(tmp_path):
    entries = [
        entry("general.architecture", "t5encoder"),
        entry("general.tags", ["text", "to text"]),
        entry("t5encoder.block_count", 24),
        entry("t5encoder.embedding_length", 2048),
        entry("tokenizer.ggml.tokens", ["x"] * 2000),
    ]
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries)
    path = tmp_path / "x.gguf"
    path.write_bytes(header)
    assert kind_of(path) == LLMKind("t5", 2048, 24)
    path.write_bytes(header[:80])
    assert kind_of(path) == LLMKind("t5")
