"""Question files, answer files and pictures, right and wrong ones."""

import json
import os
import sys

import pytest
from PIL import Image

from bootstrap import ROOT
from ella_core.errors import EllaError
from ella_core.evaluation.answers import Answer, answer_log, read_answers, write_answers
from ella_core.evaluation.cli import main
from ella_core.evaluation.files import locked, write_whole
from ella_core.evaluation.pictures import Picture, find_pictures, picture_path
from ella_core.evaluation.questions import load_items, read_rows, write_csv

DPG = ROOT / "tests/data/dpg"
JUDGE = ("a judge", "1234", "{question}")


def rows_of_prompts():
    """The made-up benchmark as its copies on Hugging Face have it: a row per prompt."""
    return [
        {
            "item_id": item.item_id,
            "prompt": item.prompt,
            "questions": [
                {
                    "proposition_id": question.proposition_id,
                    "dependency": list(question.parents) or [0],
                    "category_broad": question.category.partition(" -")[0],
                    "category_detailed": question.category.partition("-")[2].strip(),
                    "question": question.text,
                }
                for question in item.questions
            ],
        }
        for item in load_items(DPG / "questions.csv")
    ]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_list(path, rows):
    path.write_text(json.dumps(rows))


def write_tsv(path, rows):
    cells = [[row["item_id"], row["prompt"], json.dumps(row["questions"])] for row in rows]
    quoted = [["item_id", "text", "questions"], *cells]
    path.write_text(
        "".join("\t".join('"' + cell.replace('"', '""') + '"' for cell in r) + "\n" for r in quoted)
    )


@pytest.mark.parametrize(
    ("name", "write"), [("q.jsonl", write_jsonl), ("q.json", write_list), ("q.tsv", write_tsv)]
)
def test_both_formats_hold_the_same_questions(name, write, tmp_path):
    write(tmp_path / name, rows_of_prompts())
    assert load_items(tmp_path / name) == load_items(DPG / "questions.csv")


def test_dependencies_as_texts_and_numbers(tmp_path):
    rows = rows_of_prompts()
    for question in (question for row in rows for question in row["questions"]):
        found = question["dependency"]
        question["dependency"] = found[0] if len(found) == 1 else ", ".join(map(str, found))
    write_jsonl(tmp_path / "q.jsonl", rows)
    assert load_items(tmp_path / "q.jsonl") == load_items(DPG / "questions.csv")


def test_a_question_file_is_written_as_it_is_read(tmp_path):
    items = load_items(DPG / "questions.csv")
    write_csv(tmp_path / "q.csv", items)
    assert load_items(tmp_path / "q.csv") == items


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.txt", "", "is no question file: expected .csv"),
        ("q.csv", "", "has no questions"),
        ("q.csv", "item_id,text\na,b\n", r"q.csv, line 2: there is no 'question'"),
        (
            "q.csv",
            "item_id,proposition_id,dependency,question_natural_language\na,1,x,b?\n",
            r"line 2: invalid literal .* Expected the columns",
        ),
        (
            "q.csv",
            "item_id,proposition_id,dependency,question_natural_language\na,1,0\n",
            r"line 2: .*Expected the columns",
        ),
        ("q.jsonl", '{"item_id": "a", "ques', "can't be read as .jsonl"),
        ("q.jsonl", '{"item_id": "a", "questions": [{}]}', "line 1: there is no 'question'"),
        (
            "q.csv",
            "item_id,proposition_id,dependency,question_natural_language\na/b,1,0,c?\n",
            "the item_id 'a/b' can't be the name of a picture",
        ),
        ("q.jsonl", "[]", r"line 1: .*Expected the columns"),
    ],
)
def test_question_files_that_are_wrong(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(EllaError, match=message):
        read_rows(tmp_path / name)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(EllaError, match="`fetch` downloads"):
        read_rows(tmp_path / "q.csv")
    with pytest.raises(EllaError, match="`judge` writes one"):
        read_answers(tmp_path / "a.jsonl")


def test_an_answer_log_goes_on_where_it_was_cut_off(tmp_path):
    path = tmp_path / "out/a.jsonl"
    first, second = (Answer("x", number, 0, "yes", *JUDGE, p_yes=0.5) for number in (1, 2))
    with answer_log(path, JUDGE) as log:
        log.append([first])
    with path.open("a") as file:
        file.write('{"item_id": "x", "propo')
    with pytest.raises(EllaError, match=r"line 2 is no answer: .* run `judge` again"):
        read_answers(path)
    with answer_log(path, JUDGE) as log:
        assert list(log.answers.values()) == [first]
        log.append([second])
        assert log.answers.keys() == {first.key, second.key}
    assert list(read_answers(path).values()) == [first, second]


def test_one_file_holds_the_answers_of_one_judge(tmp_path):
    path = tmp_path / "a.jsonl"
    write_answers(path, [Answer("x", 1, 0, "yes", *JUDGE)])
    with (
        pytest.raises(EllaError, match=r"holds answers of a judge, 1234, .* now another is asked"),
        answer_log(path, ("another", "", "")),
    ):
        pass
    write_answers(path, [Answer("x", 1, 0, "yes", *JUDGE), Answer("x", 2, 0, "yes")])
    with pytest.raises(EllaError, match="line 2: an answer of an unnamed judge among those of a"):
        read_answers(path)


def test_two_programs_cannot_write_one_file(tmp_path):
    path = tmp_path / "a.jsonl"
    with (
        answer_log(path, JUDGE) as log,
        pytest.raises(EllaError, match="is being written by another program"),
        locked(path),
    ):
        pass
    with answer_log(path, JUDGE) as log:
        log.append([Answer("x", 1, 0, "yes", *JUDGE)])
    assert len(read_answers(path)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"item_id": "x", "proposition_id": 1, "crop": 0}', "'answer'"),
        ('{"item_id": "x", "proposition_id": 1, "crop": 0, "answer": 1}', "`answer` is 1"),
        ('{"item_id": "x", "proposition_id": "1", "crop": 0, "answer": ""}', "whole numbers"),
        ("7", "no answer"),
    ],
)
def test_lines_that_are_no_answers(line, message, tmp_path):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(EllaError, match=message):
        read_answers(tmp_path / "a.jsonl")


def test_a_question_answered_twice_is_an_error(tmp_path):
    write_answers(tmp_path / "a.jsonl", [Answer("x", 1, 0, "yes"), Answer("x", 1, 0, "no")])
    with pytest.raises(EllaError, match="line 2: question 1 of 'x' is answered a second time"):
        read_answers(tmp_path / "a.jsonl")


def test_other_fields_of_an_answer_are_ignored(tmp_path):
    line = {"item_id": 7, "proposition_id": 1, "crop": 0, "answer": "no", "mood": "good"}
    write_jsonl(tmp_path / "a.jsonl", [line])
    assert list(read_answers(tmp_path / "a.jsonl").values()) == [Answer("7", 1, 0, "no")]


def test_pictures_that_are_missing_are_counted(tmp_path):
    Image.new("RGB", (8, 8)).save(picture_path(tmp_path, "a", 0))
    assert find_pictures(tmp_path, ["a"], 1)[0].open().size == (8, 8)
    with pytest.raises(EllaError, match=r"lacks 3 of the pictures, the first of them a_1.png"):
        find_pictures(tmp_path, ["a", "b"], 2)


def test_a_grid_of_another_size_than_said_is_an_error(tmp_path):
    Image.new("RGB", (1024, 512)).save(tmp_path / "a.png")
    (picture,) = find_pictures(tmp_path, ["a"], 1, resolution=512)
    with pytest.raises(EllaError, match=r"is 1024 x 512 pixels. A grid .* is 1024 x 1024"):
        picture.open()
    with pytest.raises(EllaError, match="A grid has four pictures, and 5"):
        find_pictures(tmp_path, ["a"], 5, resolution=512)


def test_a_picture_that_was_cut_off_is_an_error(tmp_path):
    path = tmp_path / "a_0.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(EllaError, match=r"a_0.png can't be read as a picture"):
        Picture("a", 0, path).open()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "x/scores.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "x/scores.json", "new \ud800")
    assert (tmp_path / "x/scores.json").read_text() == "old"


def test_the_command_line_says_what_was_wrong_and_fails(capsys, tmp_path):
    missing = str(tmp_path / "none.csv")
    command = ["score", "--protocol", "fixed", "--answers", missing, "--questions", missing]
    assert main(command) == 1
    assert capsys.readouterr().err.startswith(f"error: There is no question file {missing}")


def test_a_reader_that_has_enough_is_no_error(monkeypatch, capfd):
    """As `head` is, when it has its lines."""
    reader, writer = os.pipe()
    os.close(reader)
    files = ["--questions", str(DPG / "questions.csv"), "--answers", str(DPG / "answers.jsonl")]
    with os.fdopen(writer, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert main(["score", "--protocol", "fixed", *files]) == 141
    assert capfd.readouterr().err == ""
