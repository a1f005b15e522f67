"""Painting on real ComfyUI servers, of which some fail."""

import json
import os
import signal
import threading

import pytest
import requests
from PIL import Image

from comfyui import Server
from ella_core.errors import EllaError
from ella_core.evaluation.cli import main
from ella_core.evaluation.generate import servers
from ella_core.evaluation.generate.jobs import missing, plan, read_metadata
from ella_core.evaluation.generate.servers import paint_on_servers
from ella_core.evaluation.generate.workflow import Workflow
from ella_core.evaluation.questions import Item, Question, write_csv
from support.host import HOST_PACKS, EllaGraph
from support.relay import Relay
from support.wait import wait_until

NOBODY = "http://127.0.0.1:9"  # the port of `discard`, where nothing listens
ONE, TWO, THREE, FOUR = "a cup", "two cups", "three cups", "four cups"


def items(*prompts):
    question = Question(1, "Is it there?")
    return [Item(f"item-{i}", prompt, (question,)) for i, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def workflow_file(host, tmp_path_factory):
    """A graph whose prompt goes through the test's node, which can fail."""
    graph = EllaGraph()
    text = graph.add("TestPrompt", text="")
    graph.nodes[text.id]["_meta"] = {"title": "Prompt: the text"}
    graph.nodes[graph.conditioning.id]["inputs"]["positive"] = graph.encode(text[0])[0]
    latent = graph.sample(record=False, steps=2)
    image = graph.add("VAEDecode", samples=latent, vae=graph.checkpoint[2])
    graph.add("SaveImage", images=image, filename_prefix="evaluation")
    file = tmp_path_factory.mktemp("workflow") / "workflow.json"
    file.write_text(json.dumps(graph.nodes))
    return file


@pytest.fixture(scope="module")
def workflow(workflow_file):
    return Workflow.load(workflow_file, ["prompt"])


@pytest.fixture(scope="module")
def second(host, tmp_path_factory):
    """Another server, with the same models but the LoRA. The last test kills it."""
    base = tmp_path_factory.mktemp("second")
    (base / "models").mkdir()
    for folder in host.models.iterdir():
        if folder.name != "loras":
            (base / "models" / folder.name).symlink_to(folder, target_is_directory=True)
    with Server(base, ["--cpu"], [HOST_PACKS / "ella_test_nodes"]) as server:
        yield server


@pytest.fixture
def relay(host):
    with Relay(host.server.address) as relay:
        yield relay


@pytest.fixture
def jobs(workflow, tmp_path):
    return plan(items(ONE, TWO, THREE, FOUR), tmp_path / "out", workflow.hash, 1, 7)


def described(file):
    """Return the text and the seed in the graph that ComfyUI writes into a picture."""
    graph = json.loads(Image.open(file).info["prompt"])
    titled = next(node for node in graph.values() if node.get("_meta"))
    seed = next(n["inputs"]["seed"] for n in graph.values() if n["class_type"] == "KSampler")
    return titled["inputs"]["text"], seed


def prompts(server):
    """Return the same of each picture in a server's output folder."""
    return [described(file) for file in server.base.glob("output/evaluation*.png")]


def test_a_picture_says_how_it_was_painted(host, workflow, jobs):
    assert paint_on_servers(jobs[:1], lambda: None, workflow, [host.server.address]) == []
    found = read_metadata(jobs[0].path)
    version = host.server.get("/system_stats")["system"]["comfyui_version"]
    assert found == {
        "item_id": "item-0",
        "prompt": ONE,
        "crop": 0,
        "seed": 7,
        "workflow": workflow.hash,
        "comfyui": version,
    }
    assert described(jobs[0].path) == (ONE, 7)
    assert list(jobs[0].path.parent.iterdir()) == [jobs[0].path]


def test_a_server_is_away_for_a_while(relay, workflow, jobs):
    ends = []

    def on_end():
        ends.append(None)
        if len(ends) == 1:
            relay.down = True
            threading.Timer(1.5, setattr, (relay, "down", False)).start()

    assert paint_on_servers(jobs, on_end, workflow, [relay.address]) == []
    assert missing(jobs) == []
    assert "POST /interrupt" in relay.requests  # what was under way when it was lost


def test_all_servers_are_lost(relay, workflow, jobs, monkeypatch):
    monkeypatch.setattr(servers, "_PATIENCE", 1)

    def on_end():
        relay.down = True

    with pytest.raises(EllaError, match=r"All servers are lost.*503"):
        paint_on_servers(jobs, on_end, workflow, [relay.address], queue=1)
    assert len(missing(jobs)) == 3


def test_nonsense_from_a_server(host, relay, workflow, jobs):
    relay.nonsense = {"/prompt"}
    addresses = [relay.address, host.server.address]
    assert paint_on_servers(jobs, lambda: None, workflow, addresses) == []
    assert any("answered no JSON" in message for job in jobs for _, message in job.errors)


def test_no_server(workflow, jobs):
    with pytest.raises(EllaError, match=r"(?s)No ComfyUI is reached.*127\.0\.0\.1:9"):
        paint_on_servers(jobs, lambda: None, workflow, [NOBODY])


def test_no_server_takes_the_workflow(host, workflow_file, jobs, tmp_path):
    graph = json.loads(workflow_file.read_text())
    graph["1"]["inputs"]["ckpt_name"] = "gone.safetensors"
    (tmp_path / "workflow.json").write_text(json.dumps(graph))
    other = Workflow.load(tmp_path / "workflow.json", ["Prompt"])
    with pytest.raises(EllaError, match=r"(?s)No server takes.*CheckpointLoaderSimple.*gone"):
        paint_on_servers(jobs, lambda: None, other, [host.server.address])


def test_a_workflow_that_always_fails(host, workflow, tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "_LONGEST_PAUSE", 0.1)
    jobs = plan(items("FAIL"), tmp_path, workflow.hash, 30, 0)
    with pytest.raises(EllaError, match=r"8 pictures in a row failed.*this prompt fails"):
        paint_on_servers(jobs, lambda: None, workflow, [host.server.address])


def test_a_prompt_fails_or_is_slow(host, second, workflow_file, tmp_path, capsys):
    def generate(*texts, options=()):
        write_csv(tmp_path / "questions.csv", items(*texts))
        command = ["generate", "--questions", str(tmp_path / "questions.csv"), "--pictures", "1"]
        command += ["--workflow", str(workflow_file), "--folder", str(tmp_path / "out")]
        for address in (host.server.address, second.address, NOBODY):
            command += ["--server", address]
        assert main([*command, *options]) == 1
        return capsys.readouterr().err

    error = generate(ONE, "FAIL please", TWO)
    assert "1 of 3 pictures failed" in error
    assert f"not reached: {NOBODY}" in error
    for address in (host.server.address, second.address):
        assert f"{address}: TestPrompt: this prompt fails" in error
    assert painted(tmp_path / "out") == {"item-0_0.png", "item-2_0.png"}

    error = generate(ONE, "SLOW please", TWO, options=["--timeout", "3"])
    assert "1 of 3 pictures failed" in error
    for address in (host.server.address, second.address):
        assert f"{address}: no picture after 3 seconds" in error
    assert painted(tmp_path / "out") == {"item-0_0.png", "item-2_0.png"}
    wait_until(lambda: not host.server.get("/queue")["queue_running"])  # interrupted


def painted(folder):
    return {file.name for file in folder.glob("*.png")}


def test_a_server_lacks_a_model(host, second, workflow_file, tmp_path, caplog):
    graph = json.loads(workflow_file.read_text())
    sampler = next(node for node in graph.values() if node["class_type"] == "KSampler")
    lora = {"model": sampler["inputs"]["model"], "lora_name": "lora.safetensors"}
    graph["lora"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {**lora, "strength_model": 1.0},
    }
    sampler["inputs"]["model"] = ["lora", 0]
    (tmp_path / "workflow.json").write_text(json.dumps(graph))
    workflow = Workflow.load(tmp_path / "workflow.json", ["Prompt"])
    jobs = plan(items(ONE, TWO, THREE), tmp_path, workflow.hash, 1, 0)
    addresses = [second.address, host.server.address]
    assert paint_on_servers(jobs, lambda: None, workflow, addresses) == []
    assert missing(jobs) == []
    assert f"left out: {second.address}: LoraLoaderModelOnly: Value not in list" in caplog.text


def test_a_server_is_killed(host, second, workflow, tmp_path):
    jobs = plan(items(*(f"thing {i}" for i in range(8))), tmp_path / "out", workflow.hash, 2, 7)
    wanted = {(job.prompt, job.seed) for job in jobs}
    assert paint_on_servers(jobs[:1], lambda: None, workflow, [second.address]) == []
    ends = []

    def on_end():
        ends.append(None)
        if len(wanted.intersection(prompts(second))) >= 4:
            os.kill(second.pid, signal.SIGKILL)

    addresses = [host.server.address, second.address]
    assert paint_on_servers(missing(jobs), on_end, workflow, addresses) == []
    assert len(ends) == 15
    assert missing(jobs) == []
    with pytest.raises(requests.ConnectionError):
        second.get("/system_stats")
    first, other = (
        [each for each in prompts(server) if each in wanted] for server in (host.server, second)
    )
    assert {*first, *other} == wanted
    assert len(first) + len(other) <= 16 + 2  # of which two may not have been fetched in time
