"""The subcommand, with judges that are programs."""

import json
import shlex
import sys

import pytest

from ella_core.evaluation.answers import read_answers
from ella_core.evaluation.cli import main
from ella_core.evaluation.files import locked
from ella_core.evaluation.questions import write_csv

PROGRAM = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    replies = []
    for question in request["questions"]:
        if "item-1_1" in request["picture"] and MODE == "end":
            sys.exit("the program has no more to say")
        if "item-1_1" in request["picture"] and MODE == "error":
            replies = None
            break
        if MODE == "nonsense":
            print("Loading the model ...")
        text = "maybe" if MODE == "maybe" and question == "table ?" else "yes"
        sure = {} if MODE == "words" else {"p_yes": 0.75, "p_no": 0.125}
        replies.append({"text": text, **sure})
    answer = {"replies": replies} if replies is not None else {"error": "too dark"}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def judge(items, folder, tmp_path):
    """Run the program in one of its modes -> exit status."""
    write_csv(tmp_path / "questions.csv", items)
    common = ["judge", "--questions", str(tmp_path / "questions.csv"), "--folder", str(folder)]
    common += ["--pictures", "2", "--answers", str(tmp_path / "answers.jsonl")]

    def run(mode, *more):
        program = tmp_path / "program.py"
        program.write_text(f"MODE = {mode!r}\n{PROGRAM}")
        command = shlex.join([sys.executable, str(program)])
        own = ["--judge", "program", "--command", command, "--model", "ours", "--revision", "7"]
        return main([*common, *(more or own)])

    return run


@pytest.fixture
def answers(tmp_path):
    return lambda: read_answers(tmp_path / "answers.jsonl")


def test_a_program(judge, answers, capsys):
    assert judge("ok") == 0
    assert "18 answers: 18 yes, 0 no, 0 neither" in capsys.readouterr().out
    found = answers()
    assert len(found) == 18
    answer = found["item-2", 3, 1]
    assert (answer.answer, answer.text, answer.p_yes, answer.p_no) == ("yes", "yes", 0.75, 0.125)
    assert answer.source == ("ours", "7", "{question}")


def test_a_program_without_probabilities(judge, answers):
    assert judge("words") == 0
    assert {(answer.p_yes, answer.p_no) for answer in answers().values()} == {(None, None)}


def test_answers_that_are_neither_yes_nor_no(judge, answers, capsys):
    assert judge("maybe") == 0
    out = capsys.readouterr().out
    assert "18 answers: 12 yes, 0 no, 6 neither" in out
    assert "item-0, picture 1, question 3: 'maybe'" in out
    assert answers()["item-0", 3, 1].answer == "maybe"


def test_a_picture_that_the_program_refuses(judge, answers, capsys):
    assert judge("error") == 1
    assert "1 of 6 pictures could not be judged" in capsys.readouterr().err
    assert len(answers()) == 15
    assert judge("ok") == 0
    assert len(answers()) == 18


def test_a_program_that_ends(judge, answers, capsys):
    assert judge("end") == 1
    assert "ended with status 1" in capsys.readouterr().err
    assert len(answers()) == 9
    assert judge("ok") == 0
    assert len(answers()) == 18


def test_a_program_that_prints_something_else(judge, capsys):
    assert judge("nonsense") == 1
    assert "answered 'Loading the model ...'" in capsys.readouterr().err


def test_a_program_that_is_not_there(judge, capsys):
    assert judge("", "--judge", "program", "--command", "no-such-program") == 1
    assert "can't be started" in capsys.readouterr().err


def test_answers_from_a_file(judge, answers, tmp_path, capsys):
    assert judge("maybe") == 0
    expected = answers()
    (tmp_path / "answers.jsonl").rename(tmp_path / "other.jsonl")
    assert judge("", "--judge", "recorded", "--from", str(tmp_path / "other.jsonl")) == 0
    assert answers() == expected
    lines = (tmp_path / "other.jsonl").read_text().splitlines()
    (tmp_path / "other.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    (tmp_path / "answers.jsonl").unlink()
    assert judge("", "--judge", "recorded", "--from", str(tmp_path / "other.jsonl")) == 1
    assert "item-2_1.png, question 3 is not answered" in capsys.readouterr().err


def test_two_judges_in_one_file(judge, capsys):
    assert judge("ok") == 0
    assert judge("", "--judge", "program", "--command", "cat") == 1
    assert "holds answers of ours" in capsys.readouterr().err


def test_two_runs_at_once(judge, tmp_path, capsys):
    with locked(tmp_path / "answers.jsonl"):
        assert judge("ok") == 1
    assert "is being written by another program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judge", "chat"], "needs --model"),
        (["--judge", "server"], "needs --address"),
        (["--judge", "recorded"], "needs --from"),
    ],
)
def test_options_that_are_missing(judge, options, message, capsys):
    assert judge("", *options) == 1
    assert message in capsys.readouterr().err


def test_a_template_without_the_question(judge, capsys):
    with pytest.raises(SystemExit):
        judge("", "--judge", "chat", "--template", "Is it good?")
    assert "has no {question}" in capsys.readouterr().err


def test_lines_are_json_by_name(judge, tmp_path):
    assert judge("ok") == 0
    line = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert {"item_id", "proposition_id", "crop", "answer", "judge", "p_yes"} <= line.keys()
