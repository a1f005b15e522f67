"""DPG-Bench's score: the published script's own figures, and the mended protocol."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import ROOT
from ella_core.errors import EllaError
from ella_core.evaluation.answers import Answer, read_answers
from ella_core.evaluation.cli import main
from ella_core.evaluation.dpg import score_dpg, zero_all, zero_in_order
from ella_core.evaluation.questions import Question, Row, read_rows

FOLDER = ROOT / "tests/data/dpg"
ROWS = read_rows(FOLDER / "questions.csv")
ANSWERS = read_answers(FOLDER / "answers.jsonl")


def evaluate(protocol, pictures, out):
    command = ["score", "--protocol", protocol, "--pictures", str(pictures), "--json", str(out)]
    files = ["--questions", FOLDER / "questions.csv", "--answers", FOLDER / "answers.jsonl"]
    assert main([*command, *map(str, files)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("pictures", [4, 1])
def test_official_reproduces_every_figure_of_the_published_script(pictures, tmp_path):
    ours = evaluate("official", pictures, tmp_path / "scores.json")
    theirs = json.loads((FOLDER / "official_scores.json").read_text())[f"pictures_{pictures}"]
    assert ours["score"] == pytest.approx(theirs["score"], abs=1e-9)
    assert ours["l1"] == pytest.approx(theirs["l1"], abs=1e-9)
    assert ours["l2"] == pytest.approx(theirs["l2"], abs=1e-9)
    assert ours["failed"] == theirs["failed"] == ["made-00"]
    assert ours["per_prompt"].keys() == theirs["per_prompt"].keys()
    for item, scores in theirs["per_prompt"].items():
        assert ours["per_prompt"][item]["mean"] == pytest.approx(scores["mean"], abs=1e-9)
        assert ours["per_prompt"][item]["pictures"] == pytest.approx(scores["pictures"], abs=1e-9)


def reference(rows, answers, pictures):
    """The mended protocol once more: a question counts if it and all that it needs are yes."""
    texts = {key: answer.answer.strip().lower() for key, answer in answers.items()}
    parents = {(row.item_id, row.question.proposition_id): row.question.parents for row in rows}

    def needed(item, number, seen):
        if number not in seen and (item, number) in parents:
            seen.add(number)
            for parent in parents[item, number]:
                needed(item, parent, seen)
        return seen

    values = {
        (item, number, crop): all(
            texts[item, each, crop] == "yes" for each in needed(item, number, set())
        )
        for item, number in parents
        for crop in range(pictures)
    }
    items = dict.fromkeys(row.item_id for row in rows)
    per_prompt = {}
    for item in items:
        own = [value for key, value in values.items() if key[0] == item]
        per_prompt[item] = sum(own) / len(own)  # as many questions for each picture
    categories = {}
    for row in rows:
        for crop in range(pictures):
            value = values[row.item_id, row.question.proposition_id, crop]
            categories.setdefault(row.question.category, []).append(value)
    l2 = {name: 100 * sum(found) / len(found) for name, found in categories.items()}
    return 100 * sum(per_prompt.values()) / len(per_prompt), l2, per_prompt


@pytest.mark.parametrize("pictures", [4, 1])
def test_fixed_gives_what_a_plain_reference_gives(pictures, tmp_path):
    ours = evaluate("fixed", pictures, tmp_path / "scores.json")
    total, l2, per_prompt = reference(ROWS, ANSWERS, pictures)
    assert ours["score"] == pytest.approx(total, abs=1e-9)
    assert ours["l2"] == pytest.approx(l2, abs=1e-9)
    assert ours["failed"] == []
    means = {item: scores["mean"] for item, scores in ours["per_prompt"].items()}
    assert means == pytest.approx(per_prompt, abs=1e-9)
    low, high = ours["intervals"]["score"]
    assert 0 < low < ours["score"] < high < 100


numbers = st.integers(1, 6)
graphs = st.dictionaries(numbers, st.lists(numbers, max_size=3), min_size=1)
yeses = st.fixed_dictionaries({number: st.booleans() for number in range(1, 7)})


def questions(graph):
    return [Question(number, "?", tuple(parents)) for number, parents in graph.items()]


@given(graphs, yeses, numbers)
def test_zeroing_is_monotone_and_never_adds(graph, yes, turned):
    asked = questions(graph)
    before = {number: yes[number] for number in graph}
    counts = zero_all(asked, before)
    assert all(before[number] for number in counts if counts[number])
    after = zero_all(asked, before | ({turned: True} if turned in graph else {}))
    assert all(after[number] for number in counts if counts[number])


@given(graphs, yeses, st.randoms())
def test_the_order_of_questions_does_not_matter(graph, yes, random):
    asked = questions(graph)
    before = {number: yes[number] for number in graph}
    counts = zero_all(asked, before)
    random.shuffle(asked)
    assert zero_all(asked, before) == counts


@given(graphs, yeses)
def test_in_a_file_where_parents_stand_first_both_ways_agree(graph, yes):
    known = {n: [parent for parent in graph[n] if parent < n and parent in graph] for n in graph}
    asked = questions(dict(sorted(known.items())))
    before = {number: yes[number] for number in graph}
    assert zero_in_order(asked, before) == zero_all(asked, before)


@settings(max_examples=30)
@given(st.randoms())
def test_fixed_does_not_depend_on_the_order_of_rows_and_counts_every_prompt(random):
    rows = list(ROWS)
    random.shuffle(rows)
    keys = list(ANSWERS)
    random.shuffle(keys)
    shuffled = score_dpg(rows, {key: ANSWERS[key] for key in keys}, "fixed", 4)
    straight = score_dpg(ROWS, ANSWERS, "fixed", 4)
    assert shuffled.score == pytest.approx(straight.score, abs=1e-9)
    assert shuffled.items.keys() == {row.item_id for row in ROWS}
    ours = shuffled.as_json()
    assert ours["l1"] == pytest.approx(straight.as_json()["l1"], abs=1e-9)
    assert ours["per_prompt"].keys() == straight.as_json()["per_prompt"].keys()


def rows_of(item, graph):
    return [Row(item, "", question) for question in questions(graph)]


def answers_of(item, texts):
    return {(item, n, 0): Answer(item, n, 0, text) for n, text in texts.items()}


def test_official_drops_a_prompt_only_if_the_missing_parent_is_looked_at():
    rows = [*rows_of("first", {1: []}), *rows_of("a", {1: [], 2: [1, 9]})]
    kept = score_dpg(rows, answers_of("a", {1: "no", 2: "yes"}), "official", 1)
    assert kept.items["a"].mean == 0  # the first parent's no ends the comparison
    assert kept.failed.keys() == {"first"}
    with pytest.raises(
        EllaError, match=r"No prompt is left .* 'a': question 2 depends on question 9"
    ):
        score_dpg(rows, answers_of("a", {1: "yes", 2: "yes"}), "official", 1)


def test_official_forgets_the_earlier_rows_of_a_prompt_that_comes_up_again():
    rows = [
        *rows_of("x", {1: []}),
        *rows_of("a", {1: [], 2: []}),
        *rows_of("b", {1: []}),
        *rows_of("a", {3: []}),
    ]
    answers = answers_of("a", {1: "no", 2: "no", 3: "yes"}) | answers_of("b", {1: "no"})
    assert score_dpg(rows, answers, "official", 1).items["a"].mean == 1


def test_fixed_keeps_a_question_whose_parent_is_not_in_the_file():
    rows = rows_of("a", {1: [9], 2: []})
    assert score_dpg(rows, answers_of("a", {1: "Yes. ", 2: "no"}), "fixed", 1).score == 50


def test_answers_that_are_neither_yes_nor_no_are_counted():
    rows = [*rows_of("x", {1: []}), *rows_of("a", {1: [], 2: [], 3: [], 4: []})]
    texts = {1: "Yes", 2: "no", 3: "two", 4: "yes"}
    answers = answers_of("a", texts) | answers_of("x", {1: "yes"})
    assert score_dpg(rows, answers, "official", 1).unclear == 2
    assert score_dpg(rows, answers, "fixed", 1).unclear == 1


def test_missing_answers_are_an_error_that_counts_them():
    answers = {key: answer for key, answer in ANSWERS.items() if key != ("made-05", 2, 3)}
    with pytest.raises(EllaError, match=r"1 of 312 .* question 2 of 'made-05' about picture 3"):
        score_dpg(ROWS, answers, "fixed", 4)
    assert score_dpg(ROWS, answers, "fixed", 3).items.keys() == {row.item_id for row in ROWS}


def test_two_questions_of_one_number_are_an_error():
    twice = [*ROWS, replace(ROWS[5], prompt="again")]
    with pytest.raises(EllaError, match="'made-01' has two questions numbered 1"):
        score_dpg(twice, ANSWERS, "fixed", 4)


def test_what_is_printed_says_how_categories_and_total_differ(capsys, tmp_path):
    evaluate("official", 4, tmp_path / "scores.json")
    printed = capsys.readouterr().out
    assert "before zeroing; not comparable with the score" in printed
    assert "'made-00' is dropped, as by the published script" in printed
    assert "ELLA-SDv1.5: score 74.91" in printed
    assert "(mPLUG-large; official; arXiv 2403.05135, Table 4)" in printed


def test_two_scorings_into_one_file_at_once_leave_a_whole_one(tmp_path):
    out = tmp_path / "scores.json"
    command = [sys.executable, "-m", "ella_core.evaluation", "score", "--protocol", "fixed"]
    files = ["--questions", FOLDER / "questions.csv", "--answers", FOLDER / "answers.jsonl"]
    processes = [
        subprocess.Popen([*command, *files, "--json", out], cwd=ROOT, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    expected = score_dpg(ROWS, ANSWERS, "fixed", 4).score
    assert json.loads(out.read_text())["score"] == pytest.approx(expected, abs=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
