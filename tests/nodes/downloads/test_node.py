"""The download node in a real ComfyUI, from a hub on this machine."""

import re
import threading

import pytest

from support.downloads import download, offered
from support.host import EllaGraph
from support.hub import (
    ADAPTER,
    CHUNK,
    CONNECTOR,
    GEMMA,
    MAIN,
    PINNED,
    REPO,
    SDXL_REPOS,
    T5_FOLDER,
    break_off_once,
    part_of,
    stall_after,
    status,
)


def test_nothing_is_asked_of_the_hub_unbidden(hub, host):
    assert host.run(EllaGraph("a cat", ella="a", llm="b")).error is not None
    host.server.get("/object_info")
    assert hub.requests == []


def test_after_the_node_has_run_the_graph_does(hub, host):
    progress = []
    result, text, shown = download(host, on_progress=lambda *step: progress.append(step[1:]))
    assert result.error is None, result.error
    connector = host.models / "ella" / CONNECTOR
    short = re.compile(r"ELLA connector: downloaded [\d.]+ MB\nFLAN-T5-XL encoder: downloaded .*")
    assert short.fullmatch(text)
    (report,) = shown["text"]
    assert f"{connector}: downloaded" in report
    assert len(report.splitlines()) == 2 + len(hub.files)
    assert all(f"{REPO}, commit {commit}:" in report for commit in (PINNED, MAIN))
    assert (len(hub.files[CONNECTOR]),) * 2 in progress
    for path, content in hub.files.items():
        root = host.models / ("ella" if path == CONNECTOR else "text_encoders")
        assert (root / path).read_bytes() == content
    assert PINNED in host.server.log_text()
    graph = EllaGraph("a red cat", ella=CONNECTOR, llm=T5_FOLDER)
    graph.save(graph.sample(record=False, steps=2))
    assert host.run(graph).error is None
    hub.requests.clear()
    _, text, again = download(host)
    assert text.count(": was there, with the right checksums") == 2
    assert again["text"][0].count("was there, with the right checksum") == len(hub.files)
    assert not any("resolve" in path for path, _ in hub.requests)


def test_a_deleted_model_comes_again(hub, host):
    download(host, "connector")
    (host.models / "ella" / CONNECTOR).unlink()
    result, text, _ = download(host, "connector")
    assert result.error is None
    assert "downloaded" in text
    assert (host.models / "ella" / CONNECTOR).exists()


@pytest.mark.parametrize(
    ("choice", "come"),
    [
        ("SDXL adapter and LLM", [ADAPTER, GEMMA]),
        ("SDXL adapter", [ADAPTER]),
        ("SDXL LLM", [GEMMA]),
    ],
)
def test_sdxls_models(hub, host, choice, come):
    hub.others = SDXL_REPOS
    result, text, _ = download(host, choice)
    assert result.error is None, result.error
    assert text.count(": downloaded") == len(come)
    assert set(come) <= set(offered(host))
    assert {ADAPTER, GEMMA, CONNECTOR, T5_FOLDER} & set(offered(host)) == set(come)


def test_an_interrupted_download_goes_on(hub, host, long_connector):
    released = threading.Event()
    hub.fault = stall_after(CHUNK + 1, released)
    interrupted = []

    def interrupt(_, done, total):
        if done >= CHUNK:
            interrupted.append((done, total))
            host.server.post("/interrupt", {})
            released.set()

    result, _, _ = download(host, "connector", interrupt)
    assert "exception_message" not in result.error  # ComfyUI shows no error, it was asked for
    assert (CHUNK, len(long_connector)) in interrupted
    folder = host.models / "ella"
    assert part_of(folder).stat().st_size < len(long_connector)
    assert CONNECTOR not in offered(host)
    assert not any("part" in name for name in offered(host))
    hub.fault = None
    hub.requests.clear()
    begun = part_of(folder).stat().st_size
    result, _, _ = download(host, "connector")
    assert result.error is None, result.error
    assert hub.ranges(CONNECTOR) == [f"bytes={begun}-"]
    assert (folder / CONNECTOR).read_bytes() == long_connector
    assert list(folder.glob("*.part")) == []


def test_a_broken_connection_is_taken_up_again(hub, host, long_connector):
    hub.fault = break_off_once(CHUNK + 1)
    result, _, _ = download(host, "connector")
    assert result.error is None, result.error
    assert hub.ranges(CONNECTOR) == ["bytes=0-", f"bytes={CHUNK}-"]
    assert (host.models / "ella" / CONNECTOR).read_bytes() == long_connector


def test_an_llm_is_listed_when_all_of_it_is_there(hub, host):
    hub.checksums[f"{T5_FOLDER}/model.safetensors"] = "0" * 64
    result, _, _ = download(host, "LLM")
    assert "came with the checksum" in result.error["exception_message"]
    assert T5_FOLDER not in offered(host)
    hub.checksums.clear()
    result, _, _ = download(host, "LLM")
    assert result.error is None
    assert T5_FOLDER in offered(host)


def damaged(hub, host):
    file = host.models / "ella" / CONNECTOR
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\0" * len(hub.files[CONNECTOR]))


def too_large(hub, _):
    hub.sizes[CONNECTOR] = 10**17


def refused(hub, _):
    hub.status = 401


def gone(hub, _):
    hub.fault = status(404)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (damaged, "is there already and is not the file that QQGYLab/ELLA publishes"),
        (too_large, "Make room on that disk"),
        (refused, "set HF_TOKEN"),
        (gone, "HTTP 404"),
    ],
)
def test_an_error_says_what_to_do(hub, host, prepare, words):
    prepare(hub, host)
    result, _, _ = download(host, "connector")
    assert result.error["node_type"] == "ELLADownloadModels"
    assert result.error["exception_type"].endswith("EllaError")
    assert words in result.error["exception_message"]
    assert (
        f"hf download {REPO} {CONNECTOR} --revision {PINNED} --local-dir"
        in result.error["exception_message"]
    )
    hub.heal(hub.files)
    (host.models / "ella" / CONNECTOR).unlink(missing_ok=True)
    assert download(host, "connector")[0].error is None


def test_another_choice_than_the_nodes(host):
    result, _, _ = download(host, "everything")
    message = result.error["exception_message"]
    for part in ("models", "'everything'", "connector and LLM"):
        assert part in message
