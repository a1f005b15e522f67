"""Chat LLMs that write."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from ella_core.errors import EllaError
from ella_core.text_encoders.loading import TokenizerPlaces
from ella_core.text_encoders.writer import load_writer, whole_sentences, write
from support.llms import write_gemma, write_qwen, write_t5gemma

PLACES = TokenizerPlaces()


def load(folder):
    return load_writer(folder, torch.float32, PLACES)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    write_qwen(folder)
    return load(folder)


def test_the_same_seed_writes_the_same_and_another_another(qwen):
    state = torch.get_rng_state()
    first, again, other = (write(qwen, "Write.", "a cat", seed, 12) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)  # a sampler's noise is not changed by it


def test_is_asked_through_the_chat_template_and_heard_token_by_token(qwen, monkeypatch):
    asked = []
    generate = qwen.model.generate
    monkeypatch.setattr(
        qwen.model, "generate", lambda ids, **o: (asked.append(ids), generate(ids, **o))
    )
    heard = []
    write(qwen, "Write.", "a cat", 1, 6, lambda text, count: heard.append((count, text)))
    assert [count for count, _ in heard] == list(range(1, len(heard) + 1))
    assert len(heard) <= 6
    prompt = qwen.tokenizer.decode(asked[0][0])
    assert prompt.startswith("<|im_start|>user\nWrite.\n\nPrompt: a cat\nDescription:<|im_end|>")
    assert prompt.endswith("<|im_start|>assistant\n")


def test_what_the_listener_raises_stops_it(qwen):
    def stop(text, count):
        if count == 3:
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        write(qwen, "Write.", "a cat", 1, 50, stop)


def test_a_sentence_that_is_cut_off_is_left_out():
    assert whole_sentences("A cat. It is red! And th") == "A cat. It is red!"
    assert whole_sentences('She says "no." It') == 'She says "no."'
    assert whole_sentences("It is 3.5 m") == "It is 3.5 m"


def test_llms_that_do_not_write(tmp_path):
    write_gemma(tmp_path / "no template", template=None)
    with pytest.raises(EllaError, match=r"no template can't write: .* no chat template"):
        load(tmp_path / "no template")
    write_t5gemma(tmp_path / "t5gemma")
    with pytest.raises(EllaError, match="reads and does not write"):
        load(tmp_path / "t5gemma")
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(EllaError, match="a single file has no chat template"):
        load(tmp_path / "x.safetensors")
    write_qwen(tmp_path / "cut")
    (tmp_path / "cut/model.safetensors").write_bytes(b"")
    with pytest.raises(EllaError, match="cut can't be loaded"):
        load(tmp_path / "cut")
    write_qwen(tmp_path / "pickle")
    weights = tmp_path / "pickle/model.safetensors"
    torch.save(load_file(weights), tmp_path / "pickle/pytorch_model.bin")
    weights.unlink()
    with pytest.raises(EllaError, match="weights in safetensors format"):
        load(tmp_path / "pickle")
    shutil.rmtree(tmp_path)
