"""The cache of encoded prompts in a real ComfyUI: across restarts, files replaced, no disk."""

import os
import shutil
import sys
import threading
from contextlib import contextmanager

import psutil
import pytest
import requests
import torch
from safetensors.torch import load

from comfyui import Server
from support.host import LLM_DIM, T5, EllaGraph, Host, relative_error
from support.models import write_tsc
from support.wait import free
from tiny_models import draw_checkpoint, write_t5

LLM = "t5"
LOADING = "loading the LLM t5"
PROMPT = "A violet owl reads a newspaper on a wooden bench."


@pytest.fixture
def base(tmp_path):
    models = tmp_path / "models"
    draw_checkpoint(models / "checkpoints/sd15.safetensors")
    write_t5(models / "text_encoders" / LLM, width=LLM_DIM)
    write_tsc(models / "ella/tsc.safetensors", layers=2, llm_dim=LLM_DIM)
    return tmp_path


@contextmanager
def comfyui(base):
    with Server(base, ["--cpu"]) as server:
        yield Host(server, {})


def features(base):
    return base / "user/__ella/features"


def run(host, positive=PROMPT, negative="", llm=LLM, dtype="fp32"):
    """A graph, its node that saves the latent, and a run of it."""
    graph = EllaGraph(positive, negative, llm=llm)
    graph.nodes[graph.llm.id]["inputs"]["dtype"] = dtype
    saved = graph.save(graph.sample(record=False, steps=2))
    return graph, saved, host.run(graph)


def sample(host, *prompts, **llm):
    """The latent of a run, and the lines that its LLM Text Encode nodes showed."""
    graph, saved, result = run(host, *prompts, **llm)
    assert result.error is None, result.error
    texts = [text for node, text in result.texts.items() if node != graph.conditioning.id]
    return host.latent(result, saved.id), sorted(texts)


def replace_file(file, content):
    """Other content of the same size under the same time of change."""
    stat = file.stat()
    assert len(content) == stat.st_size
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def clear(host):
    response = requests.post(f"{host.server.address}/ella/cache/clear", timeout=60)
    response.raise_for_status()
    return response.json()


def test_after_a_restart_prompts_need_no_llm(base):
    with comfyui(base) as host:
        first, shown = sample(host)
        assert LOADING in host.server.log_text()
    entries = list(features(base).glob("*.safetensors"))
    assert len(entries) == 2  # the prompt and the empty one
    assert not any(PROMPT.encode() in file.read_bytes() for file in entries)
    weights = base / "models/text_encoders" / LLM / "model.safetensors"
    content = weights.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    replace_file(weights, content[:header] + b"\xff" * (len(content) - header))  # all NaN
    with comfyui(base) as host:
        again, shown_again = sample(host)
        assert LOADING not in host.server.log_text()
        assert torch.equal(first, again)
        assert shown == shown_again != []
        sizes = sum(file.stat().st_size for file in entries)
        assert clear(host) == {"entries": 2, "bytes": sizes}
        assert list(features(base).iterdir()) == []
        # Without the cache the spoilt weights are read, so that they would have been noticed.
        results = []

        def loads():
            results.append(run(host)[2])
            return LOADING in host.server.log_text()

        free(host.server, loads, free_memory=True)
        result = results[-1]
        assert "The LLM makes NaN or infinite numbers" in result.error["exception_message"]


def test_replaced_files_are_read_again(base):
    """Of the LLM and of the connector, without a restart; and back again from the cache."""
    llm = base / "models/text_encoders" / LLM
    connector = base / "models/ella/tsc.safetensors"
    shutil.copytree(llm, base / "llm before")
    shutil.copy2(connector, base / "connector before")
    with comfyui(base) as host:
        first, _ = sample(host)
        write_t5(llm, width=LLM_DIM, seed=1)
        other_llm, _ = sample(host)
        assert relative_error(other_llm, first) > 1e-3
        shutil.copytree(base / "llm before", llm, dirs_exist_ok=True)
        loads = host.server.log_text().count(LOADING)
        back, _ = sample(host)
        assert torch.equal(back, first)
        assert host.server.log_text().count(LOADING) == loads == 2
        write_tsc(connector, layers=1, llm_dim=LLM_DIM)
        other_connector, _ = sample(host)
        assert relative_error(other_connector, first) > 1e-3
        shutil.copy2(base / "connector before", connector)
        assert torch.equal(sample(host)[0], first)


def test_what_transformers_finds_wrong_fails_at_the_encoder(base):
    llm = base / "models/text_encoders" / LLM
    (llm / "tokenizer.json").write_text("<html>")
    with comfyui(base) as host:
        graph = EllaGraph(PROMPT, "", llm=LLM)
        graph.save(graph.sample(record=False, steps=1))
        error = host.run(graph).error
        assert error["node_type"] == "ELLALLMTextEncode"
        assert error["exception_type"].endswith("EllaError")
        assert "The LLM t5 can't be loaded" in error["exception_message"]
        assert "download them again" in error["exception_message"]


def test_a_folder_that_can_not_be_written(base):
    (base / "user").mkdir()
    (base / "user/__ella").write_text("a file where the folder should be")
    with comfyui(base) as host:
        first, _ = sample(host)
        again, _ = sample(host, "Another prompt.")
        log = host.server.log_text()
        assert log.count("can't be kept in") == 1
        assert str(features(base)) in log
        assert not torch.equal(first, again)
        assert clear(host) == {"entries": 0, "bytes": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that root can't write to")
def test_a_folder_that_root_can_not_write_to(host):
    sample(host, llm=T5)
    folder = features(host.server.base)
    kept = folder.rename(folder.with_name("kept"))
    folder.symlink_to("/sys", target_is_directory=True)
    try:
        first, _ = sample(host, "An orange fox.", llm=T5)
        again, _ = sample(host, "A green fox.", llm=T5)
    finally:
        folder.unlink()
        kept.rename(folder)
    assert host.server.log_text().count(f"can't be kept in {folder}") == 1
    assert not torch.equal(first, again)


@pytest.mark.skipif(sys.platform != "linux", reason="needs to limit the files of another process")
def test_a_disk_that_is_full_while_running(base):
    """A limit on the size of files looks like a full disk to a process."""
    long = "A violet owl reads a newspaper on a wooden bench. " * 1000
    with comfyui(base) as host:
        short, _ = sample(host)
        process = psutil.Process(host.server.pid)
        soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (2**20, hard))
        sample(host, long)
        full = host.server.log_text()
        process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
        assert full.count(f"can't be kept in {features(base)}") == 1
        assert len(list(features(base).iterdir())) == 2  # no half of a file either
        again, _ = sample(host)
        assert torch.equal(again, short)
        sample(host, f"Once more. {long}")  # there is room again
        assert max(f.stat().st_size for f in features(base).iterdir()) > 2**20


def test_a_folder_deleted_while_running(host):
    sample(host, llm=T5)
    folder = features(host.server.base)
    shutil.rmtree(folder)
    sample(host, "A boat of paper.", llm=T5)
    assert len(list(folder.glob("*.safetensors"))) == 1


def flip_a_byte(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def cut_short(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short])
def test_damaged_entries_are_read_anew(host, damage):
    prompts = {"positive": f"glass, {damage.__name__}", "negative": f"mud, {damage.__name__}"}
    sample(host, llm=T5)  # the LLM has now read the empty prompt, and won't again
    clear(host)
    before, _ = sample(host, llm=T5, **prompts)
    entries = list(features(host.server.base).glob("*.safetensors"))
    good = [load(file.read_bytes())["features"] for file in entries]
    assert len(entries) == 2
    for file in entries:
        file.write_bytes(damage(file.read_bytes()))
    sample(host, llm=T5)  # ComfyUI's own cache, which holds the last graph only, must not answer
    after, _ = sample(host, llm=T5, **prompts)
    assert torch.equal(after, before)
    log = host.server.log_text()
    for file, expected in zip(entries, good, strict=True):
        assert log.count(f"the prompt is read anew, {file} is unusable") == 1
        assert torch.equal(load(file.read_bytes())["features"], expected)


def test_two_prompts_queued_at_once_and_an_unloaded_llm(base):
    latents = {}
    with comfyui(base) as host:

        def run(i):
            latents[i] = sample(host)[0]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.equal(latents[0], latents[1])
        requests.post(f"{host.server.address}/free", json={"unload_models": True}, timeout=60)
        assert not torch.equal(sample(host, "Another prompt.")[0], latents[0])


def test_8_bit_weights_are_close_and_keep_their_own_entries(base):
    with comfyui(base) as host:
        exact, _ = sample(host)
        for dtype, tolerance in (("int8", 0.1), ("fp8", 0.3)):
            found, _ = sample(host, dtype=dtype)
            assert 0 < relative_error(found, exact) < tolerance
            requests.post(f"{host.server.address}/free", json={"unload_models": True}, timeout=60)
            sample(host, "Another prompt.", dtype=dtype)
        # One prompt in fp32, two in each other dtype, and the empty one of each.
        assert len(list(features(base).glob("*.safetensors"))) == 2 + 3 + 3
