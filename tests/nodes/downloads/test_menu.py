"""The routes behind the menu's downloads in a real ComfyUI, from a hub on this machine."""

import threading

import pytest
import requests

from support.downloads import download, offered
from support.hub import (
    ADAPTER,
    CHUNK,
    CONNECTOR,
    GEMMA,
    PINNED,
    REPO,
    SDXL_REPOS,
    T5_FOLDER,
    part_of,
    stall_after,
)
from support.wait import wait_until


def post(host, path, **body):
    return requests.post(f"{host.server.address}/ella/downloads{path}", json=body, timeout=60)


def finished(host):
    """The status once the menu's download is over."""
    wait_until(lambda: not host.server.get("/ella/downloads/status")["running"])
    return host.server.get("/ella/downloads/status")


def test_the_menu_shows_what_there_is(hub, host):
    connector, llm, *_ = host.server.get("/ella/downloads")
    size = len(hub.files[CONNECTOR])
    assert connector == {
        "name": "connector",
        "label": "ELLA connector",
        "address": f"{hub.address}/{REPO}",
        "licence": "Apache-2.0",
        "optional": False,
        "commit": PINNED,
        "target": str(host.models / "ella" / CONNECTOR),
        "size": size,
        "missing": size,
    }
    assert llm["target"] == str(host.models / "text_encoders" / T5_FOLDER)
    assert not any("resolve" in path for path, _ in hub.requests)
    assert not (host.models / "ella" / CONNECTOR).exists()
    download(host, "connector")
    assert host.server.get("/ella/downloads")[0]["missing"] == 0


def test_sdxls_models_come_if_they_are_chosen(hub, host):
    """Of two more repositories; one has its files at its root."""
    hub.others = SDXL_REPOS
    weights = {"config.json": b"{}", "model.safetensors": b"weights"}
    first, second = host.server.get("/ella/downloads")[2:]
    assert [each["optional"] for each in (first, second)] == [True, True]
    assert [each["licence"] for each in (first, second)] == [None, "Gemma Terms of Use"]
    assert first["target"] == str(host.models / "llm_adapters" / ADAPTER)
    assert second["target"] == str(host.models / "text_encoders" / GEMMA)
    assert second["missing"] == second["size"] == sum(map(len, weights.values()))
    assert post(host, "", models=["SDXL adapter", "SDXL LLM"]).json()["running"]
    end = finished(host)
    assert not end["failed"], end
    assert (host.models / "llm_adapters" / ADAPTER).read_bytes() == b"adapter"
    come = host.models / "text_encoders" / GEMMA
    shown = [file for file in come.iterdir() if file.name[0] != "."]
    assert {file.name: file.read_bytes() for file in shown} == weights
    assert [each["missing"] for each in host.server.get("/ella/downloads")[2:]] == [0, 0]


def test_what_is_optional_and_not_to_be_had_stops_nothing(hub, host):
    *needed, adapter, llm = host.server.get("/ella/downloads")
    assert all("unavailable" not in each for each in needed)
    assert "there is no rouweiGemma_g31b27k.safetensors in Minthy/" in adapter["unavailable"]
    assert '--exclude "*/*" --revision main' in llm["unavailable"]


def test_the_menu_says_what_is_wrong_with_the_hub(hub, host):
    hub.status = 403
    answer = requests.get(f"{host.server.address}/ella/downloads", timeout=60)
    assert answer.status_code == 502
    assert "set HF_TOKEN" in answer.json()["error"]


def test_the_menu_downloads(hub, host):
    assert post(host, "", models=["connector", "LLM"]).json()["running"]
    end = finished(host)
    assert not end["failed"]
    connector, llm = end["text"].splitlines()
    assert connector.startswith("ELLA connector: downloaded ")
    assert llm.startswith("FLAN-T5-XL encoder: downloaded ")
    assert all(f"{path}: downloaded " in host.server.log_text() for path in hub.files)
    assert {CONNECTOR, T5_FOLDER} <= set(offered(host))


def test_the_menu_stops_a_download_and_only_one_runs(hub, host, long_connector):
    released = threading.Event()
    hub.fault = stall_after(CHUNK + 1, released)
    post(host, "", models=["connector"])
    wait_until(lambda: host.server.get("/ella/downloads/status")["done"] == CHUNK)
    second = post(host, "", models=["LLM"])
    assert second.status_code == 409
    assert "running already" in second.json()["error"]
    result, _, _ = download(host, "LLM")
    assert "running already" in result.error["exception_message"]
    post(host, "/stop")
    released.set()
    end = finished(host)
    assert end["failed"]
    assert "stopped" in end["text"]
    assert part_of(host.models / "ella").stat().st_size < len(long_connector)
    hub.fault = None
    post(host, "", models=["connector"])
    assert not finished(host)["failed"]
    assert (host.models / "ella" / CONNECTOR).read_bytes() == long_connector


def test_the_menu_tells_of_a_failure(hub, host):
    hub.checksums[CONNECTOR] = "0" * 64
    post(host, "", models=["connector"])
    end = finished(host)
    assert end["failed"]
    assert "came with the checksum" in end["text"]
    assert end["text"] in host.server.log_text()


MODELS = (b"7", b'"LLM"', b"[]", b'["LLM", {}]', b'["LLM", "../up"]')
MALFORMED = [b"", b"{", b"\xff", b"null", b"[]", b"{}", *(b'{"models": %s}' % m for m in MODELS)]


@pytest.mark.parametrize("body", MALFORMED)
def test_the_menu_takes_known_names_only(hub, host, body):
    answer = requests.post(f"{host.server.address}/ella/downloads", data=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Expected ")
    assert not host.server.get("/ella/downloads/status")["running"]
    assert hub.requests == []
