"""A prompt within what a recipe puts around it: a chat template, a suffix."""

from dataclasses import dataclass
from typing import Any

from ..config import PROMPT_MARK, ReadingRecipe
from ..errors import EllaError
from .tokens import Encoding, SpecialTokens, tokenise

# Gemma 3's, for tokenizers that come without a template: those of GGUF and single files.
_GEMMA_TURN = "<start_of_turn>"
_GEMMA_HEAD, _GEMMA_TAIL = f"{_GEMMA_TURN}user\n", f"<end_of_turn>\n{_GEMMA_TURN}model\n"

_PLACE = "PROMPT"  # stands for the prompt, to find out what the template puts in front of it


@dataclass(frozen=True)
class FramedText:
    """A text and what is around it, as token ids.

    Attributes:
        ids: all token ids.
        words: those of the text, and where they lie in it.
        start: index of the first of them in `ids`.
    """

    ids: list[int]
    words: Encoding
    start: int


def frame(tokenizer: Any, special: SpecialTokens, text: str, recipe: ReadingRecipe) -> FramedText:
    """Tokenise a text together with what the recipe puts around it, as one string.

    Raises:
        EllaError: the recipe asks for a chat template, and the tokenizer has none that can be used.
    """
    head, tail, trimmed, has_special = "", recipe.suffix, text, False
    if recipe.template is not None:
        head, _, tail = recipe.template.partition(PROMPT_MARK)
    elif recipe.system_prompt is not None:
        head, tail, trimmed, has_special = _chat(tokenizer, recipe.system_prompt, text)
    encoding = tokenise(tokenizer, head + trimmed + tail)
    ids, front = encoding.ids, 0
    if not has_special:
        ids, front = special.frame(ids), len(special.prefix)
    offsets = encoding.offsets
    if offsets is None:  # a slow tokenizer: as many tokens as the text has by itself
        words = tokenise(tokenizer, trimmed)
        return FramedText(ids, words, front + len(tokenise(tokenizer, head).ids))
    begin, end = len(head), len(head) + len(trimmed)
    # A token of the text may begin before it, with the space in front of a word.
    inside = [i for i, (left, right) in enumerate(offsets) if left < end and right > begin]
    inside = inside if trimmed else []
    shift = text.find(trimmed) - begin
    words = Encoding(
        [encoding.ids[i] for i in inside],
        [(max(0, offsets[i][0] + shift), offsets[i][1] + shift) for i in inside],
    )
    start = inside[0] if inside else sum(start < begin for start, _ in offsets)
    return FramedText(ids, words, front + start)


def _chat(tokenizer: Any, system_prompt: str, text: str) -> tuple[str, str, str, bool]:
    """Put a text into the tokenizer's chat template.

    Returns:
        What is before and behind the text, the text as it stands there, and whether the LLM's
        special tokens are among that.
    """
    if not tokenizer.chat_template:
        turn = tokenizer.convert_tokens_to_ids(_GEMMA_TURN)
        if turn is None or turn == tokenizer.unk_token_id:
            raise EllaError(
                "The connector reads prompts through the LLM's chat template, and this LLM's "
                "tokenizer has none. Choose the LLM's instruction-tuned version, with all files of "
                "its folder, in Load LLM (ELLA)."
            )
        return f"{_GEMMA_HEAD}{system_prompt}\n\n", _GEMMA_TAIL, text.strip(), False
    head, _, tail = _render(tokenizer, system_prompt, _PLACE).rpartition(_PLACE)
    whole = _render(tokenizer, system_prompt, text)
    inside = whole.removeprefix(head).removesuffix(tail)
    if inside not in (text, text.strip()):
        raise EllaError(
            "The chat template of this LLM's tokenizer does not show the prompt as it stands. "
            "Choose the LLM that the connector was trained with in Load LLM (ELLA)."
        )
    return head, tail, inside, True


def _render(tokenizer: Any, system_prompt: str, text: str) -> str:
    from jinja2 import TemplateError

    messages = [
        {"role": "system", "content": system_prompt},
        {"role": "user", "content": text},
    ]
    try:
        rendered: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        raise EllaError(
            f"The chat template of this LLM's tokenizer can't be used ({error}). Choose the LLM "
            f"that the connector was trained with in Load LLM (ELLA)."
        ) from error
    return rendered
