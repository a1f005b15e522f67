"""The download node and the menu's routes in a real ComfyUI, from a hub on this machine."""

import threading

import pytest
import requests

from comfyui import Server
from support.host import EllaGraph, Graph, Host
from support.hub import (
    CHUNK,
    CONNECTOR,
    MAIN,
    PINNED,
    REPO,
    T5_FOLDER,
    Hub,
    break_off_once,
    part_of,
    remove_models,
    small_repository,
    stall_after,
    status,
)
from support.wait import wait_until
from tiny_models import draw_checkpoint

FILLER = b" " * 2 * CHUNK  # makes a small model's file long enough to be interrupted in


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A repository like the released one, with small models."""
    return small_repository(tmp_path_factory.mktemp("repo"))


@pytest.fixture(scope="module")
def hub_and_host(files, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    draw_checkpoint(base / "models/checkpoints/sd15.safetensors")
    with (
        Hub(files) as hub,
        Server(base, ["--cpu"], environment=hub.environment(base / "home")) as server,
    ):
        yield hub, Host(server, {})


@pytest.fixture
def hub(hub_and_host, files):
    hub, _ = hub_and_host
    hub.heal(files)
    return hub


@pytest.fixture
def host(hub_and_host):
    """Without any model of ELLA's."""
    _, host = hub_and_host
    remove_models(host.models)
    return host


@pytest.fixture
def long_connector(hub):
    """The connector's file behind bytes that make it long. Only for downloading."""
    hub.files[CONNECTOR] = FILLER + hub.files[CONNECTOR]
    return hub.files[CONNECTOR]


def download(host, models="connector and LLM", on_progress=None):
    graph = Graph()
    node = graph.add("ELLADownloadModels", models=models)
    result = host.run(graph, on_progress)
    return result, result.texts.get(node.id), result.outputs.get(node.id)


def dropdown(host, node, name):
    info = host.server.get(f"/object_info/{node}")[node]
    return info["input"]["required"][name][1]["options"]


def dropdowns(host):
    return dropdown(host, "ELLALoad", "ella_name") + dropdown(host, "ELLALoadLLM", "llm_name")


def post(host, path, **body):
    return requests.post(f"{host.server.address}/ella/downloads{path}", json=body, timeout=60)


def finished(host):
    """The status once the menu's download is over."""
    wait_until(lambda: not host.server.get("/ella/downloads/status")["running"])
    return host.server.get("/ella/downloads/status")


def test_nothing_is_asked_of_the_hub_unbidden(hub, host):
    assert host.run(EllaGraph("a cat", ella="a", llm="b")).error is not None
    host.server.get("/object_info")
    assert hub.requests == []


def test_after_the_node_has_run_the_graph_does(hub, host):
    progress = []
    result, text, shown = download(host, on_progress=lambda *step: progress.append(step[1:]))
    assert result.error is None, result.error
    connector = host.models / "ella" / CONNECTOR
    assert shown == {"text": [text]}
    assert f"{connector}: downloaded" in text
    assert len(text.splitlines()) == 2 + len(hub.files)
    assert all(f"{REPO}, commit {commit}:" in text for commit in (PINNED, MAIN))
    assert (len(hub.files[CONNECTOR]),) * 2 in progress
    for path, content in hub.files.items():
        root = host.models / ("ella" if path == CONNECTOR else "text_encoders")
        assert (root / path).read_bytes() == content
    assert PINNED in host.server.log_text()
    graph = EllaGraph("a red cat", ella=CONNECTOR, llm=T5_FOLDER)
    graph.save(graph.sample(record=False, steps=2))
    assert host.run(graph).error is None
    hub.requests.clear()
    _, again, _ = download(host)
    assert again.count("was there, with the right checksum") == len(hub.files)
    assert not any("resolve" in path for path, _ in hub.requests)


def test_a_deleted_model_comes_again(hub, host):
    download(host, "connector")
    (host.models / "ella" / CONNECTOR).unlink()
    result, text, _ = download(host, "connector")
    assert result.error is None
    assert "downloaded" in text
    assert (host.models / "ella" / CONNECTOR).exists()


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
    assert CONNECTOR not in dropdowns(host)
    assert not any("part" in name for name in dropdowns(host))
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
    assert T5_FOLDER not in dropdowns(host)
    hub.checksums.clear()
    result, _, _ = download(host, "LLM")
    assert result.error is None
    assert T5_FOLDER in dropdowns(host)


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
    assert "models is 'everything'; set it to connector and LLM" in message


def test_the_menu_shows_what_there_is(hub, host):
    connector, llm = host.server.get("/ella/downloads")
    size = len(hub.files[CONNECTOR])
    assert connector == {
        "name": "connector",
        "label": "ELLA connector",
        "address": f"{hub.address}/{REPO}",
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


def test_the_menu_says_what_is_wrong_with_the_hub(hub, host):
    hub.status = 403
    answer = requests.get(f"{host.server.address}/ella/downloads", timeout=60)
    assert answer.status_code == 502
    assert "set HF_TOKEN" in answer.json()["error"]


def test_the_menu_downloads(hub, host):
    assert post(host, "", models=["connector", "LLM"]).json()["running"]
    end = finished(host)
    assert not end["failed"]
    assert end["text"].count(": downloaded ") == len(hub.files)
    assert {CONNECTOR, T5_FOLDER} <= set(dropdowns(host))


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
