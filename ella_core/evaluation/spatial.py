"""T2I-CompBench's score of spatial relations: where a detector finds two objects.

The numbers are those of `UniDet_eval/2D_spatial_eval.py` in Karine-Huang/T2I-CompBench, which uses
the detector UniDet. With any other the score has the same meaning, but not the same values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EllaError

#: In the order in which a prompt is searched for them.
RELATIONS = (
    "on side of",
    "next to",
    "near",
    "on the left of",
    "on the right of",
    "on the bottom of",
    "on the top of",
    "on top of",
)
_PEOPLE = ("girl", "boy", "man", "woman")
_NEAR = 150  # pixels
_OVERLAP = 0.1  # intersection over union


@dataclass(frozen=True)
class Box:
    """A detector's box: corners in pixels, y downwards, and its confidence, 0 to 1."""

    label: str
    confidence: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def center(self) -> tuple[float, float]:
        """Its middle (x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def area(self) -> float:
        """In pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


def relation_of(prompt: str) -> str | None:
    """Return the relation that a prompt speaks of."""
    return next((relation for relation in RELATIONS if relation in prompt), None)


def objects_of(doc: Any) -> tuple[str, str]:
    """Return the two objects of a parsed prompt: its first and its last noun, people as "person".

    Raises:
        EllaError: It has no noun.
    """
    nouns = [token.text for token in doc if token.pos_ == "NOUN"]
    if not nouns:
        raise EllaError(f"'{doc.text}' has no noun to look for. Take it out of the file.")
    first, last = ("person" if noun in _PEOPLE else noun for noun in (nouns[0], nouns[-1]))
    return first, last


def spatial_score(relation: str | None, first: str, second: str, boxes: Sequence[Box]) -> float:
    """Return a picture's score: a quarter of each object's confidence, half for their position.

    Less than a half counts as nothing, as published.

    Args:
        relation: of the first object to the second, one of `RELATIONS`.
        first: label of the one object.
        second: label of the other.
        boxes: what the detector found; of several with one label the first is taken.
    """
    found = {box.label: box for box in reversed(boxes)}
    one, other = found.get(first), found.get(second)
    score = sum(0.25 * box.confidence for box in (one, other) if box)
    if one and other:
        score += position_score(relation, one, other) / 2
    return score if score >= 0.5 else 0.0


def position_score(relation: str | None, first: Box, second: Box) -> float:
    """Return how well two boxes lie in a relation, 0 to 1."""
    dx, dy = (b - a for a, b in zip(first.center, second.center, strict=True))
    if relation in ("next to", "on side of", "near"):
        if abs(dx) < _NEAR or abs(dy) < _NEAR:
            return 1.0
        return _NEAR / max(abs(dx), abs(dy))
    along, across = {
        "on the left of": (dx, dy),
        "on the right of": (-dx, dy),
        "on the top of": (dy, dx),
        "on the bottom of": (-dy, dx),
    }.get(relation or "", (0.0, 0.0))
    if along <= abs(across):
        return 0.0
    overlap = _overlap(first, second)
    return 1.0 if overlap < _OVERLAP else _OVERLAP / overlap


def _overlap(first: Box, second: Box) -> float:
    """Return the intersection over union."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    intersection = max(0.0, width) * max(0.0, height)
    union = first.area + second.area - intersection
    return intersection / union if union else 0.0
