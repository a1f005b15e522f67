"""Opening a tokenizer in a process of its own.

The tokenizer of a GGUF file keeps Python busy for a minute. In a thread that would hold up
whatever else runs in the process, sampling included, since Python runs one thread at a time.
"""

import asyncio
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ..errors import EllaError
from .gguf import cached_tokenizer, from_json, to_json
from .loading import TokenizerPlaces, check_text_encoder, load_tokenizer
from .tokenizer import PromptTokenizer

_PACK = Path(__file__).parents[2]
_COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); "
_COMMAND += "from ella_core.text_encoders.separate import main; main()"


async def load_gguf_tokenizer_separately(path: Path, cache: Path) -> PromptTokenizer:
    """Open the tokenizer of a GGUF file, from the cache or in a process that fills the cache.

    Raises:
        EllaError: see `load_tokenizer`.
    """
    await asyncio.to_thread(check_text_encoder, path)  # a process would take seconds to say so
    kept = await asyncio.to_thread(cached_tokenizer, path, cache)
    if kept is not None:
        return kept
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _COMMAND, str(_PACK), str(path), str(cache), stdout=pipe, stderr=pipe
    )
    output, errors = await process.communicate()
    if process.returncode:
        reason = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise EllaError(f"The tokenizer of the LLM {path.name} can't be opened: {reason}")
    return await asyncio.to_thread(_read, output)


def main() -> None:
    """Print the tokenizer of the LLM that the command line names, or why that can't be."""
    path, cache = map(Path, sys.argv[2:4])
    with redirect_stdout(sys.stderr):
        try:
            result = to_json(load_tokenizer(path, TokenizerPlaces(cache=cache)))
        except EllaError as error:
            result = json.dumps({"error": str(error)})
    sys.stdout.buffer.write(result.encode())


def _read(output: bytes) -> PromptTokenizer:
    found = json.loads(output)
    if "error" in found:
        raise EllaError(found["error"])
    return from_json(output)
