"""T2I-CompBench's score of colour, shape and texture: BLIP-VQA over noun chunks.

Each noun chunk of the prompt is asked as a question, and a picture's score is the product over
them of P(yes) / (P(yes) + P(no)). The published script (Karine-Huang/T2I-CompBench) rounds each
share and each product to four digits; here nothing is rounded.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from ..errors import EllaError
from .answers import Answer, Key
from .questions import Item, Question, Row, group
from .scores import ItemScore, PictureScore, QuestionScore, Score, Tally
from .selection import select

_NO_THINGS = ("top", "the side", "the left", "the right")
_MOST_CHUNKS = 8


def noun_chunks(doc: Any) -> list[str]:
    """Return the noun chunks of a parsed prompt that are asked about.

    Args:
        doc: spaCy's `Doc`.
    """
    chunks = [chunk.text for chunk in doc.noun_chunks if chunk.text not in _NO_THINGS]
    return chunks[:_MOST_CHUNKS]


def ask_about_chunks(prompts: Iterable[tuple[str, str]], parse: Any, category: str) -> list[Item]:
    """Make the questions of a category.

    Args:
        prompts: (id, prompt).
        parse: spaCy's pipeline, or what else makes a `Doc` of a text.
        category: of all of them, such as "color".

    Raises:
        EllaError: A prompt has no noun chunk.
    """
    items = []
    for item_id, prompt in prompts:
        chunks = noun_chunks(parse(prompt))
        if not chunks:
            raise EllaError(f"'{prompt}' has no noun chunk to ask about. Take it out of the file.")
        questions = tuple(
            Question(number, f"{chunk}?", category=category)
            for number, chunk in enumerate(chunks, 1)
        )
        items.append(Item(item_id, prompt, questions))
    return items


def load_parser(name: str = "en_core_web_sm") -> Any:
    """Return spaCy's pipeline.

    Raises:
        EllaError: spaCy or its English model is not installed.
    """
    try:
        import spacy
    except ImportError as error:
        raise EllaError(
            "Noun chunks are found by spaCy, which is not installed: pip install spacy"
        ) from error
    try:
        return spacy.load(name)
    except OSError as error:
        raise EllaError(
            f"spaCy's model {name} is not installed. It is not on PyPI: python -m spacy download "
            f"{name} brings it from its own releases."
        ) from error


def score_blip_vqa(rows: Sequence[Row], answers: dict[Key, Answer], pictures: int) -> Score:
    """Score the answers to questions about noun chunks. `l1` has the categories.

    Raises:
        EllaError: Answers are missing, or have no probabilities.
    """
    items = group(rows)
    result = Score("T2I-CompBench", "blip-vqa", "mean over prompts", 1, {})
    for item, selected in select(items, answers, pictures):
        scores = tuple(_score_picture(item, of_picture) for of_picture in selected)
        result.items[item.item_id] = ItemScore(item, scores)
        tally = result.l1.setdefault(item.questions[0].category, Tally())
        tally.add(item.item_id, result.items[item.item_id].mean)
    return result


def _score_picture(item: Item, answers: dict[int, Answer]) -> PictureScore:
    scores = []
    for question in item.questions:
        answer = answers[question.proposition_id]
        value = _share_of_yes(answer)
        scores.append(QuestionScore(question, answer, value, value))
    return PictureScore(prod(score.value for score in scores), tuple(scores))


def _share_of_yes(answer: Answer) -> float:
    if answer.p_yes is None or answer.p_no is None or answer.p_yes + answer.p_no <= 0:
        raise EllaError(
            f"The answer to question {answer.proposition_id} of '{answer.item_id}' about picture "
            f"{answer.crop} has p_yes {answer.p_yes} and p_no {answer.p_no}. BLIP-VQA's score is "
            "made of these probabilities: choose a judge that gives them."
        )
    return answer.p_yes / (answer.p_yes + answer.p_no)
