"""Question files: which prompts there are, and what is asked about their pictures.

Two formats hold the same: a row per question (`dpg_bench.csv` of TencentQQGYLab/ELLA), and a row
per prompt with a list of questions (its copies on Hugging Face).
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EllaError

_COLUMNS = (
    "item_id",
    "text",
    "keywords",
    "proposition_id",
    "dependency",
    "category_broad",
    "category_detailed",
    "tuple",
    "question_natural_language",
)


@dataclass(frozen=True)
class Question:
    """A question that is answered with yes if the picture shows what the prompt says.

    Attributes:
        proposition_id: its number within the prompt.
        text: what the judge is asked.
        parents: numbers of the questions without whose yes this one makes no sense.
        category: level 2, such as "attribute - color".
    """

    proposition_id: int
    text: str
    parents: tuple[int, ...] = ()
    category: str = ""

    @property
    def level1(self) -> str:
        """The broad category: "attribute" of "attribute - color"."""
        return self.category.partition("-")[0].strip()


@dataclass(frozen=True)
class Row:
    """A question with its prompt, as it stands in a file. Some rows leave the prompt empty."""

    item_id: str
    prompt: str
    question: Question


@dataclass(frozen=True)
class Item:
    """A prompt and its questions."""

    item_id: str
    prompt: str
    questions: tuple[Question, ...]


def load_items(path: Path) -> list[Item]:
    """Return the prompts of a question file in its order, each with all its questions.

    Raises:
        EllaError: The file can't be read, or a prompt has two questions of one number.
    """
    return group(read_rows(path))


def group(rows: Iterable[Row]) -> list[Item]:
    """Gather the rows of each prompt, wherever they stand.

    Raises:
        EllaError: A prompt has two questions of one number.
    """
    prompts: dict[str, str] = {}
    questions: dict[str, dict[int, Question]] = {}
    for row in rows:
        prompts[row.item_id] = prompts.get(row.item_id) or row.prompt
        of_item = questions.setdefault(row.item_id, {})
        number = row.question.proposition_id
        if number in of_item:
            raise EllaError(
                f"'{row.item_id}' has two questions numbered {number}. Each needs a "
                "proposition_id of its own in the question file."
            )
        of_item[number] = row.question
    return [Item(item, prompts[item], tuple(questions[item].values())) for item in prompts]


def read_rows(path: Path) -> list[Row]:
    """Return the questions of a file in its order.

    Raises:
        EllaError: The file is missing, of an unknown kind, empty, or a row can't be understood.
    """
    rows: list[Row] = []
    for place, record in _records(path):
        rows += _parse(record, f"{path}, {place}")
    if not rows:
        raise EllaError(f"{path} has no questions. Was it downloaded or written to its end?")
    return rows


def read_prompts(path: Path) -> list[str]:
    """Return the lines of a text file, without those that are empty.

    Raises:
        EllaError: The file is missing or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise EllaError(f"There is no file {path}. `fetch` downloads those published.") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise EllaError(f"{path} has no prompt. Expected one a line.")
    return prompts


def write_csv(path: Path, items: Iterable[Item]) -> None:
    """Write items as `dpg_bench.csv` has them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for item in items:
            for index, question in enumerate(item.questions):
                broad, _, detailed = (part.strip() for part in question.category.partition("-"))
                cells = {
                    "item_id": item.item_id,
                    "text": "" if index else item.prompt,
                    "proposition_id": question.proposition_id,
                    "dependency": ", ".join(map(str, question.parents)) or "0",
                    "category_broad": broad,
                    "category_detailed": detailed,
                    "tuple": question.category,
                    "question_natural_language": question.text,
                }
                writer.writerow(cells.get(column, "") for column in _COLUMNS)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each record with the place where it stands."""
    readers = {
        ".csv": _read_table,
        ".tsv": _read_table,
        ".jsonl": _read_jsonl,
        ".json": _read_json,
        ".parquet": _read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise EllaError(f"{path} is no question file: expected {', '.join(readers)}.")
    try:
        yield from readers[path.suffix.lower()](path)
    except FileNotFoundError as error:
        raise EllaError(
            f"There is no question file {path}. `fetch` downloads the benchmarks' own."
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise EllaError(f"{path} can't be read as {path.suffix}: {error}") from error


def _read_table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        for record in reader:
            yield f"line {reader.line_num}", record


def _read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"line {number}", json.loads(line)


def _read_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, record in enumerate(json.loads(path.read_text(encoding="utf-8")), 1):
        yield f"entry {number}", record


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise EllaError(f"{path} needs pyarrow to be read: pip install pyarrow") from error
    for number, record in enumerate(pyarrow.parquet.read_table(path).to_pylist(), 1):
        yield f"row {number}", record


def _parse(record: dict[str, Any], place: str) -> list[Row]:
    try:
        if not isinstance(record, dict):
            raise TypeError(f"{record!r} is no row")
        return _rows_of_prompt(record) if "questions" in record else [_row(record)]
    except (KeyError, TypeError, ValueError) as error:
        raise EllaError(
            f"{place}: {_reason(error)}. Expected the columns {', '.join(_COLUMNS)}, or a prompt "
            "with a list `questions`: see 'Files' in docs/evaluation.md."
        ) from error


def _row(record: dict[str, Any]) -> Row:
    text = record.get("question_natural_language") or record["question"]
    question = Question(
        int(record["proposition_id"]),
        text.strip(),
        _parents(record["dependency"]),
        _category(record),
    )
    prompt = record.get("text") or record.get("prompt") or ""
    item_id = str(record["item_id"]).strip()
    if not item_id or {"/", "\\"} & set(item_id):
        raise ValueError(f"the item_id '{item_id}' can't be the name of a picture")
    return Row(item_id, prompt.strip(), question)


def _rows_of_prompt(record: dict[str, Any]) -> list[Row]:
    questions = record["questions"]
    if isinstance(questions, str):  # a cell of a table
        questions = json.loads(questions)
    shared = {name: record.get(name) for name in ("item_id", "text", "prompt")}
    return [_row({**question, **shared}) for question in questions]


def _parents(dependency: Any) -> tuple[int, ...]:
    """Return the numbers in "1, 2", 1 or [1, 2]; 0 stands for none."""
    numbers = dependency if isinstance(dependency, list) else str(dependency).split(",")
    return tuple(number for number in map(int, numbers) if number)


def _category(record: dict[str, Any]) -> str:
    """Return what `tuple` says before "(", as the published script does, or the two columns."""
    if record.get("tuple"):
        return str(record["tuple"]).partition("(")[0].strip()
    broad, detailed = (record.get(name) or "" for name in ("category_broad", "category_detailed"))
    return f"{broad} - {detailed}".strip() if broad else ""


def _reason(error: Exception) -> str:
    missing = isinstance(error, KeyError)
    return f"there is no {error}" if missing else re.sub(r"\s+", " ", str(error))
