"""The download node where the hub can't be reached, in a real ComfyUI after a restart."""

import pytest
import requests

from comfyui import Server
from support.host import EllaGraph, Graph, Host
from support.hub import CONNECTOR, REPO, T5_FOLDER, Hub, remove_models, small_repository
from tiny_models import draw_checkpoint

TARGETS = {CONNECTOR: "ella", T5_FOLDER: "text_encoders"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with Hub(small_repository(tmp_path_factory.mktemp("repo"))) as hub:
        yield hub


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """ComfyUI's folder."""
    base = tmp_path_factory.mktemp("comfyui")
    draw_checkpoint(base / "models/checkpoints/sd15.safetensors")
    return base


@pytest.fixture(scope="module")
def server(hub, base):
    with Server(base, ["--cpu"], environment=hub.environment(base / "home")) as server:
        yield server


@pytest.fixture
def models(hub, base):
    """ComfyUI's folder with the models, as an earlier download left them. The hub is as new."""
    hub.heal(hub.files)
    remove_models(base / "models")
    for path, content in hub.files.items():
        file = base / "models" / TARGETS[path.partition("/")[0]] / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return base / "models"


@pytest.fixture
def host(server, models):
    return Host(server, {})


def download(host, models="connector and LLM"):
    """A whole graph with the download node left in it -> (result, the node's report)."""
    graph = EllaGraph("a red cat", ella=CONNECTOR, llm=T5_FOLDER)
    node = graph.add("ELLADownloadModels", models=models)
    graph.save(graph.sample(record=False, steps=1))
    result = host.run(graph)
    return result, result.outputs.get(node.id, {}).get("text")


def report(address, models, reason):
    """Return the node's report, line by line."""
    lines = []
    for name, folder in TARGETS.items():
        lines.append(f"{address}/{REPO}, not reached: {reason}")
        there = "is there, and was not compared with the hub's checksums"
        lines.append(f"{models / folder / name}: {there}")
    return lines


def test_a_graph_runs_with_the_models_that_are_there(hub, host, models):
    with hub.away():
        result, (said,) = download(host)
    assert result.error is None, result.error
    first, *_ = said.splitlines()
    reason = first.partition("not reached: ")[2]
    assert reason.startswith(f"the connection to {hub.address} failed (")
    assert said.splitlines() == report(hub.address, models, reason)
    log = host.server.log_text()
    assert all(line in log for line in said.splitlines())
    assert {path.name for path in (models / "ella").iterdir()} == {CONNECTOR}


def test_the_menu_shows_the_models_that_are_there(hub, host, models):
    with hub.away():
        shown = host.server.get("/ella/downloads")
    assert all("unavailable" in entry for entry in shown[2:])
    for entry, (name, folder) in zip(shown[:2], TARGETS.items(), strict=True):
        assert entry["target"] == str(models / folder / name)
        assert (entry["missing"], entry.get("commit")) == (0, None)
        assert entry["unreached"].startswith(f"the connection to {hub.address} failed (")


def test_the_menu_says_how_to_get_by_hand_what_is_missing(hub, host, models):
    address = f"{host.server.address}/ella/downloads"
    (models / "text_encoders" / T5_FOLDER / "config.json").unlink()
    with hub.away():
        one = requests.get(address, timeout=60)
        (models / "ella" / CONNECTOR).unlink()
        both = requests.get(address, timeout=60)
    assert (one.status_code, both.status_code) == (502, 502)
    commands = [f"hf download {REPO} {what} " for what in (CONNECTOR, f'--include "{T5_FOLDER}/*"')]
    assert [command in one.json()["error"] for command in commands] == [False, True]
    assert [command in both.json()["error"] for command in commands] == [True, True]


def test_compared_once_the_hub_is_back(hub, host, models):
    with hub.away():
        assert download(host)[0].error is None
    (models / "ella" / CONNECTOR).touch()  # ComfyUI would not run the node again
    _, (said,) = download(host)
    assert said.count("was there, with the right checksum") == len(hub.files)


@pytest.mark.parametrize(
    ("missing", "label", "choice", "enough"),
    [
        (f"ella/{CONNECTOR}", "ELLA connector", "connector", "LLM"),
        (f"text_encoders/{T5_FOLDER}/config.json", "FLAN-T5-XL encoder", "LLM", "connector"),
        (f"text_encoders/{T5_FOLDER}/model.safetensors", "FLAN-T5-XL encoder", "LLM", "connector"),
    ],
)
def test_what_is_missing_is_an_error(hub, host, models, missing, label, choice, enough):
    (models / missing).unlink()
    graphs = {}
    for name in ("connector and LLM", choice, enough):
        graphs[name] = Graph()
        graphs[name].add("ELLADownloadModels", models=name)
    with hub.away():
        errors = {name: host.run(graph).error for name, graph in graphs.items()}
    assert errors.pop(enough) is None
    for error in errors.values():
        message = error["exception_message"]
        assert f"Can't download the {label}: the connection to {hub.address} failed" in message
        assert "set HF_ENDPOINT to a mirror" in message


@pytest.mark.parametrize("code", [401, 403, 404, 500])
def test_a_hub_that_refuses_is_an_error(hub, host, code):
    hub.status = code
    result, _ = download(host)
    assert f"HTTP {code}" in result.error["exception_message"]


def test_offline_by_the_users_own_wish(hub, base, models):
    offline = {**hub.environment(base / "home"), "HF_HUB_OFFLINE": "1"}
    with Server(base, ["--cpu"], environment=offline) as server:
        result, (said,) = download(Host(server, {}))
    assert result.error is None, result.error
    reason = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    assert said.splitlines() == report(hub.address, models, reason)
    assert hub.requests == []
