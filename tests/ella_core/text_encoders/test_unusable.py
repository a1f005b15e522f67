"""LLMs that can't be used: each is refused with its name and what to do. Also under the oldest
supported transformers."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ella_core.errors import EllaError
from ella_core.text_encoders import encode_prompt, load_text_encoder


def without(source, target, *names):
    shutil.copytree(source, target)
    for name in names:
        (target / name).unlink()
    return target


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["config.json"], "holds no configuration: expected config.json"),
        (["model.safetensors"], "holds no weights in safetensors format"),
        (["tokenizer.json"], "holds no tokenizer: expected tokenizer.json or spiece.model"),
    ],
)
def test_a_missing_file_is_named(t5, tmp_path, names, message):
    folder = without(t5, tmp_path / "incomplete", *names)
    with pytest.raises(EllaError, match=f"incomplete {message}"):
        load_text_encoder(folder, torch.float32)


def test_truncated_weights(t5, tmp_path):
    folder = without(t5, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(EllaError, match="The LLM cut can't be loaded"):
        load_text_encoder(folder, torch.float32)


def test_missing_tensors_are_not_replaced_by_random_ones(t5, tmp_path):
    folder = without(t5, tmp_path / "holey")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EllaError, match=r"1 tensors are missing .*block.1.*q.weight"):
        load_text_encoder(folder, torch.float32)


def test_misshapen_tensors(t5, tmp_path):
    folder = without(t5, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "d_ff": 96}))
    with pytest.raises(EllaError, match="The LLM odd can't be loaded"):
        load_text_encoder(folder, torch.float32)


@pytest.mark.parametrize("config", ["", "{", "{}", '{"model_type": "no such type"}'])
def test_unusable_configuration(t5, tmp_path, config):
    folder = without(t5, tmp_path / "strange")
    (folder / "config.json").write_text(config)
    with pytest.raises(EllaError, match="The LLM strange can't be loaded"):
        load_text_encoder(folder, torch.float32)


def test_an_encoder_decoder_other_than_t5(tmp_path, t5):
    folder = without(t5, tmp_path / "bart")
    transformers.BartConfig(d_model=16).save_pretrained(folder)
    with pytest.raises(EllaError, match="bart is an encoder-decoder"):
        load_text_encoder(folder, torch.float32)


def test_a_model_of_text_and_images(tmp_path, t5):
    folder = without(t5, tmp_path / "llava")
    transformers.LlavaConfig().save_pretrained(folder)
    with pytest.raises(EllaError, match="llava is not a pure text model"):
        load_text_encoder(folder, torch.float32)


@pytest.mark.parametrize("content", ["", "{}", "<html>"])
def test_a_damaged_tokenizer(t5, tmp_path, content):
    folder = without(t5, tmp_path / "garbled")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(EllaError, match="The LLM garbled can't be loaded"):
        load_text_encoder(folder, torch.float32)


def test_an_empty_tokenizer_is_not_taken_for_one(t5, tmp_path):
    folder = without(t5, tmp_path / "hollow", "tokenizer.json")
    (folder / "spiece.model").touch()
    with pytest.raises(EllaError, match="The LLM hollow can't be loaded"):
        load_text_encoder(folder, torch.float32)


def test_a_gguf_that_is_not_one(tmp_path):
    (tmp_path / "no.gguf").write_bytes(b"not GGUF at all" * 100)
    with pytest.raises(EllaError, match=r"The LLM no\.gguf can't be loaded"):
        load_text_encoder(tmp_path / "no.gguf", torch.float32)


def test_numbers_that_overflow(t5, tmp_path):
    """LLMs that were trained in bf16 do so, because fp16 ends at 65504."""
    folder = without(t5, tmp_path / "loud")
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.final_layer_norm.weight"].fill_(1e5)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert encode_prompt(load_text_encoder(folder, torch.bfloat16), "A red cat.").tokens == 5
    for text in ("", "A red cat.", "A (red:1.2) cat."):
        with pytest.raises(EllaError, match=r"NaN or infinite .* in torch\.float16\. Choose fp32"):
            encode_prompt(load_text_encoder(folder, torch.float16), text)


def test_code_that_comes_with_an_llm_is_never_run(t5, tmp_path, monkeypatch):
    folder = without(t5, tmp_path / "novel")
    auto_map = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    config = {"model_type": "no such type", "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    trace = tmp_path / "trace"
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # were the user asked in a terminal
    with pytest.raises(EllaError, match="novel can't be loaded: it needs Python code from its fol"):
        load_text_encoder(folder, torch.float32)
    assert not trace.exists()


def test_too_little_memory(t5, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", exhausted)
    with pytest.raises(EllaError, match="too little main memory to load the LLM an odd name"):
        load_text_encoder(t5, torch.float32)
