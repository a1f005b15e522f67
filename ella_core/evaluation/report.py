"""The report: a folder of static files that a browser opens without a server."""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from ..errors import EllaError
from .bootstrap import difference_interval, interval
from .files import locked, write_whole
from .pictures import Picture
from .published import published_scores
from .scores import ItemScore, PictureScore, QuestionScore, Score, Tally

_MARKED = 200  # questions that a person is offered
_SIDE = 512  # pixels that a picture is shown with at most


@dataclass(frozen=True)
class Run:
    """Scored answers about a folder of pictures.

    Attributes:
        name: what the report calls it.
        judge: who answered.
        score: the scores.
        pictures: by prompt and crop.
    """

    name: str
    judge: str
    score: Score
    pictures: dict[tuple[str, int], Picture]


def write_report(folder: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """Write the report of a run, or of two beside each other, and return what it shows.

    Args:
        folder: where to. What an earlier report left there is overwritten.
        runs: one or two, scored under one protocol.

    Raises:
        EllaError: The runs have no prompt in common, a picture can't be read, or another program
            is writing there.
    """
    assert 1 <= len(runs) <= 2
    assert len({run.score.protocol for run in runs}) == 1
    shared = [item for item in runs[0].score.items if item in runs[-1].score.items]
    if not shared:
        raise EllaError(
            "The two runs have no prompt in common. Score them with the same questions."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "data.js"):
        for number, run in enumerate(runs):
            _write_pictures(folder, number, run, shared)
        report = _report(runs, shared)
        write_whole(folder / "data.js", f"window.REPORT = {json.dumps(report)};\n")
        with as_file(files(__package__) / "report_page") as page:
            shutil.copytree(page, folder, dirs_exist_ok=True)
    return report


def _report(runs: Sequence[Run], shared: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows."""
    score = runs[0].score
    items = [_item(runs, item_id) for item_id in shared]
    return {
        "protocol": score.protocol,
        "percent": score.scale == 100,
        "runs": [_scores(run) for run in runs],
        "difference": _difference(runs, shared) if len(runs) == 2 else None,
        "published": [asdict(entry) for entry in published_scores(score.benchmark)],
        "items": items,
        "marks": _sample(items),
    }


def _scores(run: Run) -> dict[str, Any]:
    score = run.score

    def entry(tally: Tally, value: float) -> dict[str, float]:
        low, high = interval(tally)
        return {"value": value, "low": score.scale * low, "high": score.scale * high}

    def level(tallies: dict[str, Tally]) -> dict[str, dict[str, float]]:
        return {name: entry(tally, score.scale * tally.mean) for name, tally in tallies.items()}

    return {
        "name": run.name,
        "judge": run.judge,
        "prompts": len(score.items),
        "score": entry(score.total, score.score),
        "l1": level(score.l1),
        "l2": level(score.l2),
        "failed": score.failed,
        "unclear": score.unclear,
        "note": score.note,
    }


def _difference(runs: Sequence[Run], shared: Sequence[str]) -> dict[str, float]:
    first, second = ([run.score.items[item].mean for item in shared] for run in runs)
    scale = runs[0].score.scale
    low, high = difference_interval(first, second)
    value = fmean(second) - fmean(first)
    return {"value": scale * value, "low": scale * low, "high": scale * high}


def _item(runs: Sequence[Run], item_id: str) -> dict[str, Any]:
    item = runs[0].score.items[item_id].item
    return {
        "id": item_id,
        "prompt": item.prompt,
        "questions": [
            {"number": q.proposition_id, "text": q.text, "category": q.category}
            for q in item.questions
        ],
        "runs": [_item_run(run.score.items[item_id], number) for number, run in enumerate(runs)],
    }


def _item_run(score: ItemScore, number: int) -> dict[str, Any]:
    return {
        "mean": score.mean,
        "pictures": [
            _picture(picture, _picture_name(number, score.item.item_id, crop))
            for crop, picture in enumerate(score.pictures)
        ],
    }


def _picture(picture: PictureScore, name: str) -> dict[str, Any]:
    answers = {str(q.question.proposition_id): _answer(q) for q in picture.questions}
    return {"file": quote(name), "value": picture.value, "answers": answers}


def _answer(score: QuestionScore) -> dict[str, Any]:
    answer = score.answer
    return {
        "answer": answer.answer,
        "text": answer.text,
        "p_yes": answer.p_yes,
        "p_no": answer.p_no,
        "before": score.before,
        "value": score.value,
        "zeroed_by": score.zeroed_by,
    }


def _sample(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return questions about pictures of the first run for a person, always the same ones."""
    everything = [
        {
            "item_id": item["id"],
            "proposition_id": question["number"],
            "crop": crop,
            "file": picture["file"],
            "question": question["text"],
        }
        for item in items
        for crop, picture in enumerate(item["runs"][0]["pictures"])
        for question in item["questions"]
    ]
    return random.Random(0).sample(everything, min(_MARKED, len(everything)))


def _picture_name(run: int, item_id: str, crop: int) -> str:
    return f"pictures/{run + 1}/{item_id}_{crop}.jpg"


def _write_pictures(folder: Path, number: int, run: Run, shared: Sequence[str]) -> None:
    (folder / f"pictures/{number + 1}").mkdir(parents=True, exist_ok=True)
    for item_id in shared:
        for crop in range(len(run.score.items[item_id].pictures)):
            image = run.pictures[item_id, crop].open()
            image.thumbnail((_SIDE, _SIDE))
            image.save(folder / _picture_name(number, item_id, crop), quality=90)
