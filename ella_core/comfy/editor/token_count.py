"""Counts a prompt's tokens while the prompt is being written."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...config import (
    ADAPTER_RECIPES,
    PLAIN,
    ConnectorMetadata,
    PromptTemplate,
    ReadingRecipe,
    recipe_of,
)
from ...errors import EllaError
from ..files.folders import connector_path, llm_identity, llm_path
from ..files.preset import AUTO, choose_connector, choose_llm

if TYPE_CHECKING:
    from ...text_encoders import PromptTokenizer

_MAX_OPEN = 4  # tokenizers
_PATIENCE = 1.0  # seconds that a request waits for a tokenizer to open
_QUOTED = 32  # characters

# The editor resolves {a|b} and removes comments when the prompt is queued.
_DYNAMIC = re.compile(r"\{|/\*|//")

T = TypeVar("T")


@dataclass(frozen=True)
class TokenCount:
    """A count for the editor to show.

    Attributes:
        tokens: number that a run would report.
        about: whether a run may report another number, because the editor changes the text first.
        limit: number from which on tokens are cut off or unknown to the connector.
        over: whether the prompt has more.
        beyond: the first words beyond the limit; may be empty.
        dropped: number of tokens that are cut off.
        weighted: number of tokens with a weight of their own.
        chunks: number of chunks in which the prompt is read.
        chunk_length: number of tokens that a chunk may have; 0 if there is one.
    """

    tokens: int
    about: bool
    limit: int
    over: bool
    beyond: str
    dropped: int
    weighted: int
    chunks: int
    chunk_length: int


class TokenCounter:
    """Keeps a few tokenizers open and closes the least recently used.

    All work runs in one thread of its own, so that the server stays responsive and no tokenizer
    is used by two requests at once.
    """

    def __init__(self) -> None:
        self._tokenizers: OrderedDict[str, asyncio.Task[PromptTokenizer]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ella-tokens")
        self._one_process = asyncio.Lock()

    async def count(
        self,
        llm_name: str,
        text: str,
        max_length: int,
        chunked: bool,
        ella_name: str | None,
        template: PromptTemplate | None,
    ) -> TokenCount | None:
        """Count the tokens of a prompt; None while the tokenizer is still being opened.

        Args:
            llm_name: as in the dropdown.
            text: see `encode_prompt`.
            max_length: see there.
            chunked: see there.
            ella_name: the connector that the prompt is for, as in its dropdown; None if unknown.
                Both names may be "auto", see `preset`.
            template: what ELLA Prompt Template puts around the prompt.

        Raises:
            EllaError: there is no such LLM, its tokenizer can't be opened, or see
                `encode_prompt`.
        """
        if AUTO in (ella_name, llm_name):
            ella_name, llm_name = await self._in_thread(lambda: _chosen(ella_name, llm_name))
        path, identity = await self._in_thread(lambda: _identified(llm_name))
        opening = self._tokenizers.get(identity)
        if opening is None:
            opening = asyncio.create_task(self._open(path))
            self._tokenizers[identity] = opening
            if len(self._tokenizers) > _MAX_OPEN:
                self._tokenizers.popitem(last=False)
        self._tokenizers.move_to_end(identity)
        await asyncio.wait([opening], timeout=_PATIENCE)
        if not opening.done():
            return None
        if opening.exception() and self._tokenizers.get(identity) is opening:
            del self._tokenizers[identity]  # the next question tries again
        tokenizer = opening.result()
        return await self._in_thread(
            lambda: count_tokens(
                tokenizer,
                text,
                max_length,
                chunked,
                *_reading(ella_name, tokenizer.model_type, template),
            )
        )

    async def _open(self, path: Path) -> "PromptTokenizer":
        from ...text_encoders.gguf import is_gguf
        from ...text_encoders.loading import load_tokenizer
        from ...text_encoders.separate import load_gguf_tokenizer_separately
        from ..llm.places import tokenizer_places

        places = tokenizer_places()
        if not is_gguf(path) or places.cache is None:
            return await self._in_thread(lambda: load_tokenizer(path, places))
        async with self._one_process:
            return await load_gguf_tokenizer_separately(path, places.cache)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def count_tokens(
    tokenizer: "PromptTokenizer",
    text: str,
    max_length: int,
    chunked: bool,
    trained: int,
    recipe: ReadingRecipe = PLAIN,
) -> TokenCount:
    """Count the tokens of a prompt for a connector that was trained on `trained` tokens.

    The other arguments are those of `encode_prompt`.
    """
    from ...text_encoders.prompts import text_beyond, tokenise_prompt

    prompt = tokenise_prompt(tokenizer, text, max_length, chunked, recipe)
    read = limit = min(max_length or trained, trained)
    if recipe.has_template:  # a chat template's own tokens are not counted
        limit = max(1, tokenizer.room(recipe, read))
    beyond = ""
    over = bool(prompt.dropped) or (prompt.tokens > limit and prompt.chunks == 1)
    if over:
        end = max_length if prompt.dropped and recipe == PLAIN else read
        beyond = _begin(text_beyond(tokenizer, text, end, recipe))
    return TokenCount(
        tokens=prompt.tokens,
        about=bool(_DYNAMIC.search(text)),
        limit=limit,
        over=over,
        beyond=beyond,
        dropped=prompt.dropped,
        weighted=prompt.weighted,
        chunks=prompt.chunks,
        chunk_length=prompt.chunk_length,
    )


def _begin(text: str) -> str:
    words = " ".join(text[: 4 * _QUOTED].split())
    return f"{words[:_QUOTED].rstrip()}{'…' if len(words) > _QUOTED else ''}"


def _reading(
    ella_name: str | None, model_type: str | None, template: PromptTemplate | None
) -> tuple[int, ReadingRecipe]:
    """Return on how many tokens a connector was trained, and how an LLM is to read for it.

    Where the connector is not known, it is what LLM Text Encode (ELLA) does by itself.
    """
    trained, recipe = _wanted(ella_name, model_type)
    return trained, template.over(recipe) if template else recipe


def _wanted(ella_name: str | None, model_type: str | None) -> tuple[int, ReadingRecipe]:
    from ...checkpoint import read_header

    if ella_name is not None:
        try:
            config, metadata = read_header(connector_path(ella_name))
            return metadata.trained_tokens, recipe_of(config, model_type)
        except EllaError:
            pass  # Load ELLA reports what is wrong with the file; the count goes on
    recipe = ADAPTER_RECIPES.get(model_type or "", PLAIN)
    return recipe.max_tokens or ConnectorMetadata().trained_tokens, recipe


def _chosen(ella_name: str | None, llm_name: str) -> tuple[str | None, str]:
    """Return the names of both models, of which one at least is to be chosen."""
    asked = ella_name or AUTO
    llm_name = choose_llm(llm_name, asked)
    try:
        return choose_connector(asked), llm_name
    except EllaError:
        return None, llm_name  # it need not be known, see `_reading`


def _identified(llm_name: str) -> tuple[Path, str]:
    path = llm_path(llm_name)
    return path, llm_identity(path)
