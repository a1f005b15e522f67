"""Opening a tokenizer in a process of its own.

The tokenizer of a GGUF file keeps Python busy for a minute. In a thread that would hold up
whatever else runs in the process, sampling included, since Python runs one thread at a time.
"""

import asyncio
import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

from ..errors import EllaError
from .tokenizer import PromptTokenizer
from .tokens import SpecialTokens

_PACK = Path(__file__).parents[2]
_COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); "
_COMMAND += "from ella_core.text_encoders.separate import main; main()"


async def load_tokenizer_separately(path: Path) -> PromptTokenizer:
    """What `load_tokenizer` gives for a "fast" tokenizer, as every GGUF file has.

    Raises:
        EllaError: see `load_tokenizer`.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _COMMAND, str(_PACK), str(path), stdout=pipe, stderr=pipe
    )
    output, errors = await process.communicate()
    if process.returncode:
        reason = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise EllaError(f"The tokenizer of the LLM {path.name} can't be opened: {reason}")
    return await asyncio.to_thread(_from_json, output)


def main() -> None:
    """Print the tokenizer of the LLM that the command line names, or why that can't be."""
    from .loading import load_tokenizer

    with redirect_stdout(sys.stderr):
        try:
            result = _to_json(load_tokenizer(Path(sys.argv[2])))
        except EllaError as error:
            result = json.dumps({"error": str(error)})
    sys.stdout.buffer.write(result.encode())


def _to_json(tokenizer: PromptTokenizer) -> str:
    backend = tokenizer.tokenizer.backend_tokenizer.to_str()
    return json.dumps(
        {"backend": backend, "special": asdict(tokenizer.special), "window": tokenizer.window}
    )


def _from_json(text: bytes) -> PromptTokenizer:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    found = json.loads(text)
    if "error" in found:
        raise EllaError(found["error"])
    backend = Tokenizer.from_str(found["backend"])
    special = found["special"]
    return PromptTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=backend),
        SpecialTokens(
            tuple(special["prefix"]), tuple(special["suffix"]), special["empty"], special["pad"]
        ),
        found["window"],
    )
