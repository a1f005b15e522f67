"""Captions of scenes: several phrasings, long and short, places, relations, synonyms.

A caption that leaves something out means the usual: large things, a white background, things in
`USUAL_PLACES`. Some phrasings and synonyms are never in training.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from .world import PLACES, USUAL_PLACES, Scene, Thing

#: Words of training captions.
WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "dot"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle", "triangle", "pyramid"),
    "star": ("star",),
    "cross": ("cross", "cross", "plus sign"),
    "ring": ("ring", "ring", "hoop"),
    "red": ("red", "red", "scarlet"),
    "orange": ("orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "golden"),
    "green": ("green", "green", "emerald"),
    "cyan": ("cyan", "cyan", "turquoise"),
    "blue": ("blue", "blue", "navy"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "small": ("small", "small", "little", "tiny"),
    "large": ("", "", "large", "big"),
    "white": ("white",),
    "grey": ("grey", "gray"),
    "black": ("black", "black", "dark"),
}
#: Words that no training caption has.
NEW_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("disc",),
    "square": ("block",),
    "triangle": ("cone",),
    "star": ("pentagram",),
    "cross": ("plus",),
    "ring": ("donut",),
    "red": ("crimson",),
    "orange": ("amber",),
    "yellow": ("lemon",),
    "green": ("lime",),
    "cyan": ("aqua",),
    "blue": ("cobalt",),
    "purple": ("lilac",),
    "pink": ("fuchsia",),
    "small": ("miniature",),
    "large": ("huge",),
    "white": ("snow-white",),
    "grey": ("silver",),
    "black": ("pitch-black",),
}


@dataclass
class Writer:
    """Writes parts of a caption, choosing at random.

    Attributes:
        rng: makes every choice.
        words: what things are called.
    """

    rng: random.Random
    words: dict[str, tuple[str, ...]]

    def say(self, value: str) -> str:
        return self.rng.choice(self.words[value])

    def name(self, thing: Thing, article: str = "a") -> str:
        words = (self.say(thing.size), self.say(thing.colour), self.say(thing.shape))
        noun = " ".join(word for word in words if word)
        if article == "a" and noun[0] in "aeiou":
            article = "an"
        return f"{article} {noun}"

    def place(self, thing: Thing) -> str:
        return f"the {self.rng.choice(_names_of_place(thing.place))}"

    def where(self, thing: Thing) -> str:
        return f"{self.rng.choice(('in', 'at'))} {self.place(thing)}"


def _names_of_place(place: int) -> tuple[str, ...]:
    row, column = PLACES[place]
    if place == 4:
        return "centre", "middle", "center"
    if column == "centre":
        return row, f"{row} centre", f"{row} middle"
    if row == "middle":
        return column, f"{column} side", f"middle {column}"
    other = {"top": "upper", "bottom": "lower"}[row]
    return f"{row} {column}", f"{row} {column} corner", f"{other} {column}"


def _join(parts: list[str], last: str = " and ") -> str:
    return ", ".join(parts[:-1]) + last + parts[-1] if len(parts) > 1 else parts[0]


def _plain(w: Writer, things: list[Thing]) -> str:
    return _join([f"{w.name(t)} {w.where(t)}" for t in things])


def _sentences(w: Writer, things: list[Thing]) -> str:
    return ". ".join(f"there is {w.name(t)} {w.where(t)}" for t in things)


def _is(w: Writer, things: list[Thing]) -> str:
    return _join([f"{w.name(t)} is {w.where(t)}" for t in things])


def _place_first(w: Writer, things: list[Thing]) -> str:
    return _join([f"{w.where(t)} {w.name(t)}" for t in things])


def _colons(w: Writer, things: list[Thing]) -> str:
    return ", ".join(f"{w.place(t).removeprefix('the ')}: {w.name(t)}" for t in things)


def _has(w: Writer, things: list[Thing]) -> str:
    return _join([f"{w.place(t)} has {w.name(t)}" for t in things])


def _relations(w: Writer, things: list[Thing]) -> str:
    """Say a thing's place by its neighbour's wherever it has one that was named before."""
    parts: list[str] = []
    for i, thing in enumerate(things):
        named = [t for t in things[:i] if _is_one(t, things)]
        relations = [(r, t) for t in named if (r := _relation(thing.place, t.place))]
        if relations:
            relation, other = w.rng.choice(relations)
            parts.append(f"{w.name(thing)} {relation} {w.name(other, 'the')}")
        else:
            parts.append(f"{w.name(thing)} {w.where(thing)}")
    return _join(parts)


def _is_one(thing: Thing, things: list[Thing]) -> bool:
    """Return whether no other thing has its shape and colour, so that its name is clear."""
    return [(t.shape, t.colour) for t in things].count((thing.shape, thing.colour)) == 1


def _relation(place: int, other: int) -> str | None:
    """Return how a place lies to one right beside it."""
    (row, column), (other_row, other_column) = divmod(place, 3), divmod(other, 3)
    step = row - other_row, column - other_column
    return {
        (0, -1): "left of",
        (0, 1): "right of",
        (-1, 0): "above",
        (1, 0): "below",
    }.get(step)


def _between(w: Writer, things: list[Thing]) -> str:
    """Say that one thing is between two others, if one is."""
    by_place = {thing.place: thing for thing in things}
    for a, b in ((0, 2), (3, 5), (6, 8), (0, 6), (1, 7), (2, 8), (0, 8), (2, 6)):
        middle = by_place.get((a + b) // 2)
        if middle and a in by_place and b in by_place:
            ends = w.rng.sample([by_place[a], by_place[b]], 2)
            rest = [t for t in things if t not in (middle, *ends)]
            around = [f"{w.name(t)} {w.where(t)}" for t in (*rest, *ends)]
            return _join([*around, f"between them {w.name(middle)}"])
    return _relations(w, things)


def _without_places(w: Writer, things: list[Thing]) -> str:
    ordered = sorted(things, key=lambda thing: thing.place)
    if tuple(t.place for t in ordered) != USUAL_PLACES[len(ordered)]:
        return _plain(w, things)
    return _join([w.name(t) for t in ordered])


def _new_find(w: Writer, things: list[Thing]) -> str:
    return "; ".join(f"{w.where(t)} we find {w.name(t)}" for t in things)


def _new_sitting(w: Writer, things: list[Thing]) -> str:
    return "you can see " + _join([f"{w.name(t)} sitting {w.where(t)}" for t in things])


def _new_holds(w: Writer, things: list[Thing]) -> str:
    return _join([f"{w.place(t)} holds {w.name(t)}" for t in things], last=" while ")


Phrasing = Callable[[Writer, list[Thing]], str]
PHRASINGS: tuple[Phrasing, ...] = (
    _plain,
    _sentences,
    _is,
    _place_first,
    _colons,
    _has,
    _relations,
    _between,
    _without_places,
)
#: Phrasings that no training caption has.
NEW_PHRASINGS: tuple[Phrasing, ...] = (_new_find, _new_sitting, _new_holds)

_BACKGROUNDS = ("on a {} background, {}", "{1} on a {0} background", "{1}, {0} background")
_NEW_BACKGROUNDS = ("{1}, all against a {0} backdrop",)


def caption(scene: Scene, seed: int, new_phrasing: bool = False, new_words: bool = False) -> str:
    """Return a caption of a scene.

    Args:
        scene: what to describe.
        seed: chooses phrasing, order and words.
        new_phrasing: use phrasings that no training caption has.
        new_words: use only synonyms that no training caption has.
    """
    rng = random.Random(seed)
    writer = Writer(rng, NEW_WORDS if new_words else WORDS)
    things = rng.sample(scene.things, len(scene.things))
    body = rng.choice(NEW_PHRASINGS if new_phrasing else PHRASINGS)(writer, things)
    if scene.background == "white" and rng.random() < 0.7:
        return body
    frame = rng.choice(_NEW_BACKGROUNDS if new_phrasing else _BACKGROUNDS)
    return frame.format(writer.say(scene.background), body)


_SMALL_WORDS = {
    *("a", "an", "the", "in", "at", "on", "of", "to", "it", "is", "are", "and", "while", "with"),
    *("there", "has", "holds", "you", "can", "see", "sitting", "we", "find", "all", "against"),
    *("left", "right", "above", "below", "between", "them", "background", "backdrop"),
}


def unknown_words(text: str) -> list[str]:
    """Return the words of a text that no caption can have, in their order."""
    found = re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())
    return [word for word in dict.fromkeys(found) if word not in _vocabulary()]


def _vocabulary() -> set[str]:
    """Return all words of the grammar."""
    names = [name for table in (WORDS, NEW_WORDS) for names in table.values() for name in names]
    names += [name for place in range(9) for name in _names_of_place(place)]
    return {word for name in names for word in name.split()} | _SMALL_WORDS
