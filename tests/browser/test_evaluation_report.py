"""The evaluation's report and its page for marks, opened as files."""

import random
from dataclasses import replace

import pytest
from PIL import Image

from bootstrap import ROOT
from ella_core.evaluation.agreement import agreement
from ella_core.evaluation.answers import read_answers, write_answers
from ella_core.evaluation.cli import main
from ella_core.evaluation.pictures import picture_path
from ella_core.evaluation.questions import load_items

DPG = ROOT / "tests/data/dpg"
ANSWERS = read_answers(DPG / "answers.jsonl")


def write_report(folder, runs, *options):
    """Write a report of runs (name, answers)."""
    command = ["report", "--questions", str(DPG / "questions.csv"), "--protocol", "fixed"]
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, item in enumerate(load_items(DPG / "questions.csv")):
        for crop in range(4):
            image = Image.new("RGB", (32, 32), (17 * number, 60 * crop, 90))
            image.save(picture_path(pictures, item.item_id, crop))
    for name, answers in runs.items():
        path = folder / f"{name}.jsonl"
        write_answers(path, answers.values())
        command += ["--run", name, str(path), str(pictures)]
    assert main([*command, "--out", str(folder / "report"), *options]) == 0
    return folder / "report"


def worse(answers):
    """The answers of a judge who says no more often, and of no probability in one place."""
    drawn = random.Random(1)
    changed = {
        k: replace(a, answer="no") if drawn.random() < 0.3 else a for k, a in answers.items()
    }
    return {key: replace(answer, p_yes=0.25, p_no=0.5) for key, answer in changed.items()}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_report(
        tmp_path_factory.mktemp("two"), {"first": ANSWERS, "second": worse(ANSWERS)}
    )


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1500, "height": 1000}, accept_downloads=True)
    errors = []

    def note_failed(request):
        # A picture that was still loading when the page was left is no fault of the report.
        if request.failure != "net::ERR_ABORTED":
            errors.append(f"{request.url}: {request.failure}")

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", note_failed)
    yield page
    assert not errors
    page.close()


def is_yes(answer):
    return answer.strip().lower() == "yes"


def shown(page):
    return [heading.split(":")[0] for heading in page.locator("h3").all_inner_texts()]


def test_two_runs_stand_side_by_side_the_largest_change_first(page, two):
    page.goto((two / "index.html").as_uri())
    report = page.evaluate("REPORT")
    changes = {
        item["id"]: abs(item["runs"][1]["mean"] - item["runs"][0]["mean"])
        for item in report["items"]
    }
    assert len(changes) == 14
    assert [changes[item] for item in shown(page)] == sorted(changes.values(), reverse=True)
    total = page.locator("#scores tr", has_text="score, mean").inner_text()
    first, second = report["runs"]
    assert f"{first['score']['value']:.2f}" in total
    assert f"{second['score']['value']:.2f}" in total
    assert first["score"]["value"] == pytest.approx(45.77, abs=0.005)
    assert report["difference"]["high"] < 0
    assert "second minus first, over the 14 prompts of both: -" in page.inner_text("#difference")
    assert "the score is a mean over prompts, so it is not the mean of these" in page.inner_text(
        "#categories"
    )
    assert page.locator("#categories .filled.run1").count() == 5 + 11


def test_prompts_are_sorted_and_found(page, two):
    page.goto((two / "index.html").as_uri())
    means = page.evaluate("Object.fromEntries(REPORT.items.map(i => [i.id, i.runs[0].mean]))")
    page.select_option("#sort", "lowest score")
    assert [means[item] for item in shown(page)] == sorted(means.values())
    page.select_option("#sort", "order of the file")
    assert shown(page) == list(means)
    page.fill("#filter", "NUMBER 1,")
    assert shown(page) == ["made-01"]
    assert page.inner_text("#count") == "1 of 14 prompts"


def test_a_prompt_shows_its_pictures_answers_and_who_zeroed_them(page, two):
    page.goto((two / "index.html").as_uri())
    item = page.locator("#item-made-01")
    item.scroll_into_view_if_needed()
    images = item.locator("img")
    assert images.count() == 8
    page.wait_for_function(
        "[...document.querySelectorAll('#item-made-01 img')].every(i => i.naturalWidth === 32)"
    )
    cells = item.locator("table").first.locator("tr", has_text="3. Is thing 3").locator("td")
    texts, kinds = cells.all_inner_texts(), [cell.get_attribute("class") for cell in cells.all()]
    assert texts[0] == "3. Is thing 3 of picture 1 there?"
    for crop in range(4):
        answer = ANSWERS["made-01", 3, crop].answer.strip()
        no = [parent for parent in (1, 2) if not is_yes(ANSWERS["made-01", parent, crop].answer)]
        zeroed = is_yes(answer) and no
        suffix = f", zeroed by {', '.join(map(str, no))}" if zeroed else ""
        assert texts[1 + crop] == f"{answer}{suffix}"
        assert kinds[1 + crop] == ("zeroed" if zeroed else "yes" if is_yes(answer) else "no")
    assert {"zeroed", "yes"} <= set(kinds)
    second = item.locator("table").last.locator("td", has_text="0.25")
    assert second.count() == 4 * 4


def test_one_run_has_no_comparison_and_a_prompt_is_no_html(page, tmp_path, two):
    folder = write_report(tmp_path, {"only": ANSWERS})
    data = folder / "data.js"
    data.write_text(data.read_text().replace("Prompt number 3", "<b id=bad>Prompt</b> 3"))
    page.goto((folder / "index.html").as_uri())
    assert page.locator("#difference").count() == 0
    assert "largest change" not in page.inner_text("#sort")
    assert page.locator("#bad").count() == 0
    assert "<b id=bad>Prompt</b> 3" in page.inner_text("#item-made-03")


def test_a_persons_marks_are_saved_as_answers_and_compared(page, two, tmp_path):
    page.goto((two / "marks.html").as_uri())
    assert page.inner_text("#progress") == "0 of 200 marked"
    page.keyboard.press("y")
    page.click("text=No")
    page.keyboard.press("y")
    page.keyboard.press("Backspace")
    page.reload()
    assert page.inner_text("#progress") == "2 of 200 marked"
    asked = page.evaluate("REPORT.marks")
    assert page.inner_text("#question") == asked[2]["question"]
    page.wait_for_function("document.getElementById('picture').naturalWidth === 32")
    with page.expect_download() as download:
        page.click("#save")
    path = tmp_path / "marks.jsonl"
    download.value.save_as(path)
    marks = read_answers(path)
    assert [answer.answer for answer in marks.values()] == ["yes", "no"]
    assert {answer.judge for answer in marks.values()} == {"a person"}
    expected = [(each["item_id"], each["proposition_id"], each["crop"]) for each in asked[:2]]
    assert list(marks) == expected
    assert agreement(ANSWERS, marks).count == 2
