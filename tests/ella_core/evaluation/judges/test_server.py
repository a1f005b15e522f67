"""A judge behind a server that is slow, fails and answers nonsense."""

import pytest
from PIL import Image

from ella_core.errors import EllaError
from ella_core.evaluation.answers import answer_log, read_answers
from ella_core.evaluation.judges import server as module
from ella_core.evaluation.judges.base import JudgeFailedError
from ella_core.evaluation.judges.run import ask_all, unanswered
from ella_core.evaluation.judges.server import ServerJudge
from support.chat_server import ChatServer

CUP, RED, TABLE = range(3)  # the questions


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    with ChatServer() as server:
        yield server


@pytest.fixture
def judge(server):
    return ServerJudge(server.address, "", "a commit", "Look: {question}", 4, timeout=1)


def redness(picture):
    return Image.open(picture.path).getpixel((0, 0))[0] / 255


def test_probabilities_are_summed_over_tokens(judge, pictures, items):
    assert (judge.name, judge.revision) == ("red-vlm", "a commit")
    for picture in pictures:
        red = redness(picture)
        for reply in judge.ask(picture, items[0].questions):
            assert reply.p_yes == pytest.approx(red, abs=1e-8)
            assert reply.p_no == pytest.approx(1 - red, abs=1e-8)
            assert (reply.answer, reply.text) == (("yes", "Yes.") if red > 0.5 else ("no", "No."))


def test_errors_are_tried_again(server, judge, pictures, items):
    server.script = {"table ?": [500, "hang", "nonsense", "empty", "ok"]}
    replies = judge.ask(pictures[0], items[0].questions[TABLE:])
    assert replies[0].p_yes == pytest.approx(redness(pictures[0]))
    assert server.asked == {"Look: table ?": 5}


@pytest.mark.parametrize(
    ("act", "message", "tries"),
    [(500, "500", 5), (400, "400", 1), ("nonsense", "no usable answer", 5)],
)
def test_a_question_that_is_never_answered(server, judge, pictures, items, act, message, tries):
    server.script = {"table ?": [act]}
    with pytest.raises(JudgeFailedError, match=message):
        judge.ask(pictures[0], items[0].questions)
    assert server.asked["Look: table ?"] == tries


@pytest.mark.parametrize(
    ("act", "message"), [(401, "401"), (404, "404"), ("no logprobs", "gives no log probabilities")]
)
def test_what_no_request_will_get_past(server, judge, pictures, items, act, message):
    server.script = {"cup": [act]}
    with pytest.raises(EllaError, match=message):
        judge.ask(pictures[0], items[0].questions)
    assert sum(server.asked.values()) == 1


def test_a_server_that_is_away(server, judge, pictures, items):
    server.__exit__()
    with pytest.raises(EllaError, match="can't be asked"):
        judge.ask(pictures[0], items[0].questions)
    server.__init__()
    server.__enter__()


def test_a_model_that_the_server_has_not(server):
    with pytest.raises(EllaError, match="has the models red-vlm, not blue-vlm"):
        ServerJudge(server.address, "blue-vlm", "", "{question}", 4)


def test_many_at_once_but_no_more_than_said(server, judge, pictures, items, tmp_path):
    with answer_log(tmp_path / "answers.jsonl", source(judge)) as log:
        assert ask_all(judge, unanswered(items, pictures, log), log, lambda: None) == {}
    assert 2 <= server.most_at_once <= 4
    found = read_answers(tmp_path / "answers.jsonl")
    assert len(found) == len(pictures) * 3
    for picture in pictures:
        for number in (1, 2, 3):
            answer = found[picture.item_id, number, picture.crop]
            assert answer.p_yes == pytest.approx(redness(picture), abs=1e-8)
            assert answer.source == ("red-vlm", "a commit", "Look: {question}")


def test_a_run_goes_on_where_it_stopped(server, judge, pictures, items, tmp_path):
    """First without the questions about the table, then the rest; a line was cut off between."""
    file = tmp_path / "answers.jsonl"
    server.script = {"table ?": [400]}
    with answer_log(file, source(judge)) as log:
        failed = ask_all(judge, unanswered(items, pictures, log)[:2], log, lambda: None)
    assert set(failed) == set(pictures[:2])
    server.script = {}
    with answer_log(file, source(judge)) as log:
        ask_all(judge, unanswered(items, pictures, log)[:2], log, lambda: None)
    text = file.read_text()
    file.write_text(text[:-20])
    server.asked.clear()
    with answer_log(file, source(judge)) as log:
        tasks = unanswered(items, pictures, log)
        assert [len(questions) for _, questions in tasks] == [1, 3, 3, 3, 3]
        assert ask_all(judge, tasks, log, lambda: None) == {}
    assert sum(server.asked.values()) == 13
    assert len(read_answers(file)) == 18


def test_a_judge_that_always_fails(server, judge, pictures, items, tmp_path):
    server.script = {"?": [400]}
    with answer_log(tmp_path / "answers.jsonl", source(judge)) as log:
        tasks = unanswered(items, pictures, log) * 3
        with pytest.raises(EllaError, match="8 pictures in a row could not be judged"):
            ask_all(judge, tasks, log, lambda: None)
    assert sum(server.asked.values()) < len(tasks)


def source(judge):
    return judge.name, judge.revision, judge.template
