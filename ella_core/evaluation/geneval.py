"""GenEval's arithmetic (djghosh13/geneval): right objects, number, colours, places?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from .spatial import Box

THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9
MOST_OBJECTS = 16
COLORS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)
_POSITION_THRESHOLD = 0.1


@dataclass(frozen=True)
class Task:
    """A line of `evaluation_metadata.jsonl`.

    Attributes:
        tag: which of the six tasks.
        include: each with class, count, and perhaps color or position ([relation, index of the
            entry that it is relative to]).
        exclude: each with class and count, which must not be reached.
    """

    tag: str
    prompt: str
    include: Sequence[dict[str, Any]]
    exclude: Sequence[dict[str, Any]] = field(default_factory=tuple)


#: The color of each of the boxes, one of `COLORS`.
Classify = Callable[[Sequence[Box]], list[str]]


def keep_confident(boxes: Sequence[Box], tag: str) -> dict[str, list[Box]]:
    """Return the boxes that count by label, the most confident first."""
    threshold = COUNTING_THRESHOLD if tag == "counting" else THRESHOLD
    kept: dict[str, list[Box]] = {}
    for box in sorted(boxes, key=lambda box: -box.confidence):
        of_label = kept.setdefault(box.label, []) if box.confidence > threshold else []
        if len(of_label) < MOST_OBJECTS:
            of_label.append(box)
    return kept


def is_correct(task: Task, boxes: Sequence[Box], classify: Classify) -> bool:
    """Return whether a picture shows what its task asks for."""
    found = keep_confident(boxes, task.tag)
    groups: list[list[Box] | None] = []
    for wanted in task.include:
        group = found.get(wanted["class"], [])[: wanted["count"]]
        matched = len(group) == wanted["count"] and _has_color(wanted, group, classify)
        if matched and "position" in wanted:
            relation, index = wanted["position"]
            matched = _all_placed(relation, group, groups[index])
        groups.append(group if matched else None)
    excess = any(len(found.get(e["class"], ())) >= e["count"] for e in task.exclude)
    return None not in groups and not excess


def relative_position(box: Box, target: Box) -> set[str]:
    """Return where a box lies relative to another: "left of", "right of", "above", "below".

    An offset counts as far as it exceeds a tenth of both sizes, and a direction if it makes up
    more than half of the distance.
    """
    offset = [a - b for a, b in zip(box.center, target.center, strict=True)]
    sizes = [
        box.right - box.left + target.right - target.left,
        box.bottom - box.top + target.bottom - target.top,
    ]
    distance = (offset[0] ** 2 + offset[1] ** 2) ** 0.5
    beyond = [
        max(abs(o) - _POSITION_THRESHOLD * size, 0) * (1 if o > 0 else -1)
        for o, size in zip(offset, sizes, strict=True)
    ]
    if all(abs(value) < 1e-3 for value in beyond):
        return set()
    dx, dy = (value / distance for value in beyond)
    directions = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {name for name, share in directions.items() if share > 0.5}


def overall(correct: dict[str, list[bool]]) -> float:
    """Return the benchmark's score: the mean over tasks of the share of correct pictures.

    Args:
        correct: for each tag, its pictures.
    """
    return fmean(fmean(values) for values in correct.values())


def _has_color(wanted: dict[str, Any], group: Sequence[Box], classify: Classify) -> bool:
    if "color" not in wanted:
        return True
    return all(color == wanted["color"] for color in classify(group))


def _all_placed(relation: str, group: Sequence[Box], targets: Sequence[Box] | None) -> bool:
    if targets is None:
        return False
    return all(relation in relative_position(box, target) for box in group for target in targets)
