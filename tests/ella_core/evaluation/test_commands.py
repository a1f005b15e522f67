"""fetch, questions, statistics and agreement."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bootstrap import ROOT, host_dir
from ella_core.errors import EllaError
from ella_core.evaluation.agreement import agreement
from ella_core.evaluation.answers import Answer, read_answers, write_answers
from ella_core.evaluation.benchmarks import BENCHMARKS, BenchmarkFile
from ella_core.evaluation.cli import main
from ella_core.evaluation.fetch import fetch
from ella_core.evaluation.questions import load_items

DPG = ROOT / "tests/data/dpg"
CONTENT = b"item_id,text\n"
BLOB = hashlib.sha1(b"blob 13\0" + CONTENT).hexdigest()


@pytest.fixture
def server():
    """A file server with one file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/there.csv"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(CONTENT if found else b"")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("checksum", [f"git:{BLOB}", "md5:" + hashlib.md5(CONTENT).hexdigest()])
def test_a_file_is_downloaded_once_and_compared(checksum, server, tmp_path):
    file = BenchmarkFile(f"{server}/there.csv", "own.csv", checksum)
    assert "downloaded 13 bytes" in fetch(file, tmp_path / "new")
    assert (tmp_path / "new/own.csv").read_bytes() == CONTENT
    assert "was there" in fetch(
        BenchmarkFile("http://nowhere", "own.csv", checksum), tmp_path / "new"
    )


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    file = BenchmarkFile(f"{server}/there.csv", "own.csv", f"git:{'0' * 40}")
    with pytest.raises(EllaError, match=f"checksum {BLOB}, and 0000"):
        fetch(file, tmp_path)
    assert not (tmp_path / "own.csv").exists()
    (tmp_path / "own.csv").write_text("mine")
    with pytest.raises(EllaError, match=r"own.csv, which is there, has the git checksum"):
        fetch(file, tmp_path)
    assert (tmp_path / "own.csv").read_text() == "mine"


def test_a_server_that_refuses(server, tmp_path):
    with pytest.raises(EllaError, match="can't be downloaded: HTTP Error 404"):
        fetch(BenchmarkFile(f"{server}/gone.csv", "own.csv", "git:0"), tmp_path)


def test_the_hub_may_be_a_mirror(server, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server)
    fetch(BenchmarkFile("{hub}/there.csv", "own.csv", f"git:{BLOB}"), tmp_path)


def test_every_file_is_pinned():
    for files in BENCHMARKS.values():
        for file in files:
            kind, _, digest = file.checksum.partition(":")
            assert len(digest) == {"git": 40, "md5": 32}[kind]
            assert kind == "md5" or any(len(part) == 40 for part in file.url.split("/"))


def test_a_question_about_each_whole_prompt(tmp_path):
    prompts, out = tmp_path / "spatial_val.txt", tmp_path / "q.csv"
    prompts.write_text("a giraffe next to a lamp\n\na girl on the top of a frog\n")
    options = ["--category", "spatial", "--ask", "whole", "--out", str(out)]
    assert main(["questions", str(prompts), *options]) == 0
    items = load_items(out)
    assert [(item.item_id, item.prompt) for item in items] == [
        ("spatial-0000", "a giraffe next to a lamp"),
        ("spatial-0001", "a girl on the top of a frog"),
    ]
    (question,) = items[0].questions
    assert question.text == 'Does this figure show "a giraffe next to a lamp"?'
    assert (question.category, question.level1) == ("spatial", "spatial")


def test_statistics_of_a_question_file(capsys, tmp_path):
    tokenizer = str(host_dir() / "comfy/sd1_tokenizer")
    assert main(["statistics", str(DPG / "questions.csv"), "--tokenizer", tokenizer]) == 0
    printed = capsys.readouterr().out
    assert "prompts        14\nwords          8.00\nCLIP tokens    1" in printed
    (tmp_path / "empty.txt").touch()
    assert main(["statistics", str(tmp_path / "empty.txt")]) == 1
    assert "has no prompt. Expected one a line" in capsys.readouterr().err


def answers(*texts):
    given = [Answer("x", number, 0, text) for number, text in enumerate(texts)]
    return {answer.key: answer for answer in given}


def test_agreement_and_kappa():
    # Both yes 2, both no 1, the first alone 1: 0.75 the same, 3/4 * 2/4 + 1/4 * 2/4 by chance.
    found = agreement(answers("yes", "Yes.", "no", "yes"), answers("yes", "yes ", "maybe", "no"))
    assert found.count == 4
    assert found.percent == 75
    assert found.kappa == pytest.approx((0.75 - 0.5) / 0.5)


def test_kappa_is_undefined_if_there_is_nothing_to_tell_apart():
    found = agreement(answers("yes", "yes"), answers("yes", "yes"))
    assert (found.percent, found.kappa) == (100, None)


def test_only_what_both_were_asked_is_compared():
    assert agreement(answers("yes", "no", "no"), answers("yes")).count == 1
    with pytest.raises(EllaError, match="no question about the same picture in common"):
        agreement(answers("yes"), {("y", 0, 0): Answer("y", 0, 0, "no")})


def test_agreement_as_a_command(capsys, tmp_path):
    given = read_answers(DPG / "answers.jsonl")
    write_answers(tmp_path / "other.jsonl", list(given.values())[:100])
    files = [str(DPG / "answers.jsonl"), str(tmp_path / "other.jsonl")]
    assert main(["agreement", *files]) == 0
    assert "100 answers in common\nagreement      100.00 %" in capsys.readouterr().out
