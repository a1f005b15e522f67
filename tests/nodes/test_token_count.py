"""The live token count of the editor, asked of a real server."""

import os
import shutil
import time
from dataclasses import replace

import pytest
import requests
from transformers import AutoTokenizer

from bootstrap import CACHE, smollm2_gguf
from ella_core.checkpoint import load_connector, save_connector
from smollm2 import NAME, unpack_smollm2
from support.host import T5, EllaGraph
from support.models import write_llama
from tiny_models import write_t5

CAT = "A red cat sits on a blue chair, beside a window with seven small panes."
SENTENCES = " ".join(["A tall lighthouse of white stone stands on a black cliff."] * 14)


def ask(host, text, llm_name=T5, max_length=0, long_prompt="whole", patience=300, **further):
    body = {"llm_name": llm_name, "text": text, **further}
    body |= {"max_length": max_length, "long_prompt": long_prompt}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = requests.post(f"{host.server.address}/ella/tokens", json=body, timeout=60)
        if answer.status_code != 202:
            return answer
        assert answer.json() == {"pending": True}
    raise AssertionError("the tokenizer was never open")


def count(host, *args, **kwargs):
    answer = ask(host, *args, **kwargs)
    assert answer.status_code == 200, answer.text
    return answer.json()


def without_weights(host, write, name):
    """An LLM of which nothing is there but what a tokenizer needs."""
    folder = host.models / "LLM" / name
    if not folder.exists():
        write(folder)
        (folder / "model.safetensors").unlink()
    return name, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(params=["t5", "llama"])
def llm(request, host):
    """(name, transformers' own tokenizer)."""
    write = {"t5": write_t5, "llama": write_llama}[request.param]
    return without_weights(host, write, f"{request.param} without weights")


def run_says(host, text, **inputs):
    """Return the report of LLM Text Encode after it has read `text`."""
    graph = EllaGraph(text, "")
    positive = graph.nodes[graph.conditioning.id]["inputs"]["positive"][0]
    graph.nodes[positive]["inputs"].update(inputs)
    graph.save(graph.sample(record=False, steps=1))
    result = host.run(graph)
    assert result.error is None, result.error
    return result.texts[positive]


@pytest.mark.parametrize("text", ["", "a", CAT, "Ein Hund 🐕 und मेघ", "\ud83d half"])
def test_as_many_as_transformers_counts(host, llm, text):
    name, tokenizer = llm
    expected = len(tokenizer(text.replace("\ud83d", "\ufffd")).input_ids)
    found = count(host, text, name)
    assert (found["tokens"], found["limit"], found["over"]) == (expected, 128, False)
    assert not any(found[name] for name in ("about", "beyond", "dropped", "weighted"))
    assert (found["chunks"], found["chunk_length"]) == (1, 0)


def test_markup_is_not_counted(host, llm):
    name, tokenizer = llm
    expected = len(tokenizer("a red (old) cat").input_ids)
    found = count(host, r"a (red:1.3) \(old\) cat", name)
    assert found["tokens"] == expected
    red = tokenizer("a red", add_special_tokens=False).input_ids
    assert found["weighted"] == len(red) - len(tokenizer("a", add_special_tokens=False).input_ids)


def test_where_the_trained_tokens_end(host, llm):
    name, tokenizer = llm
    words = SENTENCES.split(" ")
    beginnings = [" ".join(words[:n]) for n in range(len(words))]
    lengths = [len(tokenizer(text).input_ids) for text in beginnings]
    fits = max(n for n, length in enumerate(lengths) if length <= 128)
    assert not count(host, beginnings[fits], name)["over"]
    text = beginnings[fits + 10]
    found = count(host, text, name)
    assert (found["tokens"], found["over"]) == (lengths[fits + 10], True)
    # What is left when the first 128 tokens, special ones included, are taken away.
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    rest = text[spans[128 - len(tokenizer("").input_ids)][0] :].strip()
    assert found["dropped"] == 0
    quoted = found["beyond"].removesuffix("…")
    assert 20 < len(quoted) <= 32
    assert rest.startswith(quoted)


def test_a_connector_counts_to_what_it_was_trained_on(host, llm):
    name, _ = llm
    connector = load_connector(host.models / "ella/tsc.safetensors")
    connector.metadata = replace(connector.metadata, trained_tokens=256)
    save_connector(connector, host.models / "ella/long.safetensors")
    limits = {
        ella: count(host, CAT, name, ella_name=ella)["limit"]
        for ella in ("tsc.safetensors", "long.safetensors", "not there", None)
    }
    assert list(limits.values()) == [128, 256, 128, 128]
    found = count(host, "snow " * 130, name, ella_name="long.safetensors")
    assert found["over"] is (found["tokens"] > 256)
    assert count(host, CAT, name, max_length=12, ella_name="long.safetensors")["limit"] == 12


def test_what_max_length_cuts_off(host, llm):
    name, tokenizer = llm
    special = len(tokenizer("").input_ids)
    dropped = len(tokenizer(CAT).input_ids) - 12
    spans = tokenizer(CAT, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    found = count(host, CAT, name, max_length=12)
    assert (found["tokens"], found["limit"], found["over"]) == (12, 12, True)
    assert found["dropped"] == dropped
    rest = CAT[spans[12 - special][0] :].strip()
    assert found["beyond"]
    assert rest.startswith(found["beyond"].removesuffix("…"))
    short = count(host, "a cat", name, max_length=12)
    assert (short["limit"], short["over"], short["dropped"]) == (12, False, 0)


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        (CAT, {}),
        ("A (red:1.2) cat.", {}),
        (SENTENCES, {}),
        (CAT, {"max_length": 9}),
        (SENTENCES, {"long_prompt": "chunk"}),
        (SENTENCES, {"max_length": 40, "long_prompt": "chunk"}),
    ],
)
def test_the_run_reports_the_same_number(host, text, inputs):
    found = count(host, text, **inputs)
    shown = run_says(host, text, **inputs)
    assert shown.startswith(f"{found['tokens']} tokens")
    if inputs.get("long_prompt") == "chunk":
        assert not found["over"]
        chunks = f"in {found['chunks']} chunks of at most {found['chunk_length']}"
        assert shown.partition(";")[0] == f"{found['tokens']} tokens {chunks}"


@pytest.mark.parametrize(("text", "skipped"), [(CAT, -1), ("A (red:1.2) cat.", 3), (SENTENCES, -1)])
def test_the_run_reports_the_words_within_a_template_alone(host, text, skipped):
    tokenizer = AutoTokenizer.from_pretrained(host.models / "text_encoders" / T5)
    template = {"system_prompt": "Paint.", "template": "%system% This: %prompt%!"}
    template |= {"skip_tokens": skipped}
    found = count(host, text, template=template)
    graph = EllaGraph()
    within = graph.add("ELLAPromptTemplate", llm=graph.llm, **template)
    encoded = graph.add("ELLALLMTextEncode", llm=within, text=text)
    graph.add("ELLASaveEmbeds", embeds=encoded, filename_prefix="counted")
    result = host.run(graph)
    assert result.error is None, result.error
    assert result.texts[encoded.id].startswith(f"{found['tokens']} tokens")
    words = len(tokenizer(text.replace("(red:1.2)", "red"), add_special_tokens=False).input_ids)
    behind = found["over"], found["beyond"] != ""
    assert behind == ((True, True) if text is SENTENCES else (False, False))
    if skipped == -1:
        assert abs(found["tokens"] - words) <= 1  # the template's may join the first or the last


@pytest.mark.parametrize("text", ["a {red|green} cat", "a cat // not yet", "a /* red */ cat"])
def test_what_the_editor_changes_is_counted_about(host, text):
    assert count(host, text)["about"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"llm_name": ".."}, "The LLM '..' was not found"),
        ({"llm_name": "../../custom_nodes"}, "was not found"),
        ({"llm_name": "/etc"}, "The LLM '/etc' was not found"),
        ({"llm_name": ""}, "was not found"),
        ({"llm_name": ["x"]}, "Expected llm_name and text"),
        ({"text": None}, "Expected llm_name and text"),
        ({"max_length": -1}, "a whole number from 0 on"),
        ({"max_length": "7"}, "a whole number from 0 on"),
        ({"max_length": 4096}, "this LLM reads at most"),
        ({"long_prompt": "pieces"}, "whole or chunk"),
        ({"max_length": 1, "long_prompt": "chunk"}, "set max_length higher"),
        ({"template": {"template": "%prompt%"}}, "Expected system_prompt and template"),
        ({"template": "%prompt%"}, "Expected system_prompt and template"),
        (
            {"template": {"system_prompt": "", "template": "cat", "skip_tokens": -1}},
            "%prompt% 0 times",
        ),
    ],
)
def test_bad_questions(host, change, message):
    answer = ask(host, **{"text": CAT, **change})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff"])
def test_no_question_at_all(host, body):
    address = f"{host.server.address}/ella/tokens"
    answer = requests.post(address, data=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_replaced_tokenizer_is_opened_again(host):
    name, tokenizer = without_weights(host, write_t5, "changing")
    assert count(host, CAT, name)["tokens"] == len(tokenizer(CAT).input_ids)
    shutil.rmtree(host.models / "LLM" / name)
    write_llama(host.models / "LLM" / name)
    assert count(host, CAT, name)["tokens"] == len(CAT) + 1


def test_a_damaged_tokenizer(host):
    name, _ = without_weights(host, write_t5, "damaged")
    (host.models / "LLM" / name / "tokenizer.json").write_text("<html>")
    answer = ask(host, CAT, name)
    assert answer.status_code == 400
    assert "The LLM damaged can't be loaded" in answer.json()["error"]


def test_a_failure_is_not_kept(host):
    """A failure that passes, as on a network drive, leaves the files as they are."""
    name, tokenizer = without_weights(host, write_t5, "failing")
    file = host.models / "LLM" / name / "tokenizer.json"
    content, stat = file.read_bytes(), file.stat()
    for each in (b" " * len(content), content):
        file.write_bytes(each)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        answer = ask(host, CAT, name)
        assert answer.status_code == (200 if each == content else 400)
    assert answer.json()["tokens"] == len(tokenizer(CAT).input_ids)


def test_a_gguf_file_is_opened_elsewhere(host):
    """Its tokenizer takes Python a minute, in which the server has to go on."""
    (host.models / "LLM/smol.gguf").symlink_to(smollm2_gguf())
    body = {"llm_name": "smol.gguf", "text": CAT, "max_length": 0, "long_prompt": "whole"}
    answer = requests.post(f"{host.server.address}/ella/tokens", json=body, timeout=60)
    assert (answer.status_code, answer.json()) == (202, {"pending": True})
    assert count(host, CAT)["tokens"] == host.reference(CAT).tokens  # does not wait for it
    unpack_smollm2(CACHE / NAME)
    expected = len(AutoTokenizer.from_pretrained(CACHE / NAME)(CAT).input_ids)
    assert count(host, CAT, "smol.gguf")["tokens"] == expected


def test_a_damaged_gguf_file(host):
    (host.models / "LLM/bad.gguf").write_bytes(b"GGUF and nothing else")
    answer = ask(host, CAT, "bad.gguf")
    assert answer.status_code == 400
    assert "The LLM bad.gguf can't be loaded" in answer.json()["error"]
