"""How many tokens an LLM makes of a prompt, while the prompt is being written."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...config import TRAINED_TOKENS
from ..files.folders import file_identity, llm_path

if TYPE_CHECKING:
    from ...text_encoders import PromptTokenizer

_MAX_OPEN = 4  # tokenizers
_PATIENCE = 1.0  # seconds that a request waits for a tokenizer
_QUOTED = 32  # characters

# The editor draws choices and takes comments out when the prompt is queued.
_DYNAMIC = re.compile(r"\{|/\*|//")

T = TypeVar("T")


@dataclass(frozen=True)
class TokenCount:
    """What the editor puts into words.

    Attributes:
        tokens: number that a run would report.
        about: whether a run may report another one, as the editor changes the text before.
        limit: number that the prompt may have before something is lost or new to the connector.
        over: whether it has more.
        beyond: the first words of what is over; may be empty.
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
    """The tokenizers that are open, of which the least recently used give way.

    All work is done in one thread of its own, so that the server goes on answering and two
    requests never meet in a tokenizer.
    """

    def __init__(self) -> None:
        self._tokenizers: OrderedDict[str, asyncio.Task[PromptTokenizer]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ella-tokens")
        self._one_process = asyncio.Lock()

    async def count(
        self, llm_name: str, text: str, max_length: int, chunked: bool
    ) -> TokenCount | None:
        """Count the tokens of a prompt; None while the tokenizer is still being opened.

        Args:
            llm_name: as in the dropdown.
            text: see `TextEncoder.encode`.
            max_length: see there.
            chunked: see there.

        Raises:
            EllaError: there is no such LLM, its tokenizer can't be opened, or see
                `TextEncoder.encode`.
        """
        path, identity = await self._in_thread(lambda: _find(llm_name))
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
        return await self._in_thread(lambda: count_tokens(tokenizer, text, max_length, chunked))

    async def _open(self, path: Path) -> "PromptTokenizer":
        from ...text_encoders.loading import is_gguf, load_tokenizer
        from ...text_encoders.separate import load_tokenizer_separately

        if not is_gguf(path):
            return await self._in_thread(lambda: load_tokenizer(path))
        async with self._one_process:
            return await load_tokenizer_separately(path)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def count_tokens(
    tokenizer: "PromptTokenizer", text: str, max_length: int, chunked: bool
) -> TokenCount:
    """What the editor shows of a prompt; the arguments are those of `TextEncoder.encode`."""
    prompt = tokenizer.read(text, max_length, chunked)
    limit = min(max_length or TRAINED_TOKENS, TRAINED_TOKENS)
    beyond = ""
    over = bool(prompt.dropped) or (prompt.tokens > limit and prompt.chunks == 1)
    if over:
        beyond = _begin(tokenizer.beyond(text, max_length if prompt.dropped else limit))
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


def _find(llm_name: str) -> tuple[Path, str]:
    path = llm_path(llm_name)
    return path, file_identity(path)
