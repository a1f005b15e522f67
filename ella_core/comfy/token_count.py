"""How many tokens an LLM makes of a prompt, while the prompt is being written."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..config import TRAINED_TOKENS
from .folders import file_identity, llm_path

if TYPE_CHECKING:
    from ..text_encoders import PromptTokenizer

_MAX_OPEN = 4  # tokenizers
_PATIENCE = 1.0  # seconds that a request waits for a tokenizer
_QUOTED = 32  # characters

# The editor draws choices and takes comments out when the prompt is queued.
_DYNAMIC = re.compile(r"\{|/\*|//")

T = TypeVar("T")


@dataclass(frozen=True)
class TokenCount:
    """What the editor shows.

    Attributes:
        tokens: number that a run would report.
        limit: number that the prompt may have before something is lost or new to the connector.
        over: whether it has more.
        line: all that in words.
    """

    tokens: int
    limit: int
    over: bool
    line: str


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
        from ..text_encoders.loading import is_gguf, load_tokenizer
        from ..text_encoders.separate import load_tokenizer_separately

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
    about = "about " if _DYNAMIC.search(text) else ""
    limit = min(max_length or TRAINED_TOKENS, TRAINED_TOKENS)
    over = bool(prompt.dropped) or (prompt.tokens > limit and prompt.chunks == 1)
    count = f"{about}{prompt.tokens:,} token{'' if prompt.tokens == 1 else 's'}"
    parts = [count]
    if prompt.chunks > 1:
        parts = [f"{count} in {prompt.chunks:,} chunks of at most {prompt.chunk_length}"]
    elif prompt.dropped:
        rest = _quote(tokenizer.beyond(text, max_length))
        parts.append(f"{prompt.dropped:,} cut off{rest and f', from {rest}'}")
    elif over:
        rest = _quote(tokenizer.beyond(text, TRAINED_TOKENS))
        parts.append(f"the trained {TRAINED_TOKENS} end{rest and f' before {rest}'}")
    else:
        parts = [f"{about}{prompt.tokens} of {limit} tokens"]
    if prompt.weighted:
        parts.append(f"{prompt.weighted:,} weighted")
    return TokenCount(prompt.tokens, limit, over, " · ".join(parts))


def _quote(text: str) -> str:
    words = " ".join(text[: 4 * _QUOTED].split())
    return f"“{words[:_QUOTED].rstrip()}{'…' if len(words) > _QUOTED else ''}”" if words else ""


def _find(llm_name: str) -> tuple[Path, str]:
    path = llm_path(llm_name)
    return path, file_identity(path)
