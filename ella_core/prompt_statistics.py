"""Statistics of prompts or captions, as in Tables 1 and 2 of the paper (sections 3.2 and 4)."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import EllaError

#: Return how many tokens each text has.
CountTokens = Callable[[Sequence[str]], list[int]]
#: Return the words of a text with their tags of the Penn Treebank.
Tag = Callable[[str], list[tuple[str, str]]]

_NOUNS = ("NN", "NNS", "NNP", "NNPS")
_QUALIFIERS = ("JJ", "JJR", "JJS", "RB", "RBR", "RBS")
_PREPOSITIONS = ("IN",)


@dataclass(frozen=True)
class PartsOfSpeech:
    """Means over texts, by their tags.

    Attributes:
        nouns: NN of the paper.
        qualifiers: adjectives and adverbs, JJ/RB.
        prepositions: with subordinating conjunctions, IN.
        distinct_nouns: how many there are in all, #DN. Upper case doesn't make another noun.
    """

    nouns: float
    qualifiers: float
    prepositions: float
    distinct_nouns: int


@dataclass(frozen=True)
class PromptStatistics:
    """Means over texts.

    Attributes:
        count: how many texts there are.
        words: separated by white space.
        tokens: None if they were not counted.
        parts: None if the words were not tagged.
    """

    count: int
    words: float
    tokens: float | None
    parts: PartsOfSpeech | None


def prompt_statistics(
    texts: Iterable[str], count_tokens: CountTokens | None = None, tag: Tag | None = None
) -> PromptStatistics:
    """Return the statistics of texts, which are read one by one.

    Args:
        texts: at least one.
        count_tokens: counts their tokens, such as `clip_token_counter`.
        tag: tags their words, such as `nltk_tagger`.
    """
    count = words = tokens = 0
    tags: Counter[str] = Counter()
    nouns: set[str] = set()
    for text in texts:
        count += 1
        words += len(text.split())
        tokens += sum(count_tokens([text])) if count_tokens else 0
        for word, kind in tag(text) if tag else ():
            tags[kind] += 1
            if kind in _NOUNS:
                nouns.add(word.lower())
    assert count

    def mean(kinds: Sequence[str]) -> float:
        return sum(tags[kind] for kind in kinds) / count

    parts = PartsOfSpeech(mean(_NOUNS), mean(_QUALIFIERS), mean(_PREPOSITIONS), len(nouns))
    return PromptStatistics(
        count, words / count, tokens / count if count_tokens else None, parts if tag else None
    )


def rows(found: PromptStatistics) -> list[tuple[str, str]]:
    """Return name and value of each statistic that was counted, for printing."""
    listed = [("words", f"{found.words:.2f}")]
    if found.tokens is not None:
        listed.append(("CLIP tokens", f"{found.tokens:.2f}"))
    if parts := found.parts:
        listed += [
            ("NN", f"{parts.nouns:.2f}"),
            ("JJ/RB", f"{parts.qualifiers:.2f}"),
            ("IN", f"{parts.prepositions:.2f}"),
            ("distinct nouns", str(parts.distinct_nouns)),
        ]
    return listed


def clip_token_counter(folder: Path) -> CountTokens:
    """Return a counter of CLIP's tokens, the two special ones included, without a limit of 77.

    Args:
        folder: of the tokenizer's files, such as `comfy/sd1_tokenizer` in a ComfyUI.

    Raises:
        EllaError: There is no tokenizer.
    """
    from transformers import CLIPTokenizer

    if not (folder / "vocab.json").is_file():
        raise EllaError(
            f"{folder} holds no CLIP tokenizer (vocab.json). A ComfyUI has one in "
            "comfy/sd1_tokenizer."
        )
    tokenizer = CLIPTokenizer.from_pretrained(str(folder), model_max_length=10**9)
    return lambda texts: [len(ids) for ids in tokenizer(list(texts))["input_ids"]]


def nltk_tagger() -> Tag:
    """Return NLTK's tagger, which the paper used.

    Raises:
        EllaError: NLTK or the data of its tagger is not there.
    """
    try:
        import nltk
    except ImportError as error:
        raise EllaError("Parts of speech are found by NLTK: pip install nltk") from error
    try:
        nltk.pos_tag(nltk.word_tokenize("a word"))
    except LookupError as error:
        raise EllaError(
            "NLTK's data is not there: python -m nltk.downloader punkt_tab "
            "averaged_perceptron_tagger_eng"
        ) from error
    return lambda text: list(nltk.pos_tag(nltk.word_tokenize(text)))
