"""Chat LLMs that write: an instruction and a prompt in, sentences out."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import EllaError
from . import gguf
from .folder import weight_files
from .loading import TokenizerPlaces, check_report, naming
from .tokens import whole_characters

#: What ELLA Upsample Prompt asks of the LLM, with examples of ours.
INSTRUCTION = """\
Describe a picture in three to five plain English sentences. Keep all that the prompt names. Add \
colours, shapes, sizes, materials and places: what stands where, and what each thing looks like. \
Answer with the description alone.

Prompt: a dog in a park
Description: A small brown dog with floppy ears runs across a green lawn. It carries a round red \
ball in its mouth. To its left stands an old oak with a thick trunk, and behind it a white gravel \
path leads to a wooden bench. The sky above is pale blue.

Prompt: still life with fruit
Description: Three yellow lemons and a halved pomegranate lie on a dark wooden table. The seeds of \
the pomegranate are deep red and glossy. Behind them, on the right, stands a tall green glass \
bottle. A white linen cloth hangs over the front edge of the table, and soft light comes from a \
window on the left.\
"""

_TEMPERATURE, _TOP_P = 0.7, 0.9
_SENTENCE_END = re.compile(r"""[.!?。！？]["'”’)」』]*(?=\s|$|[^\s\x00-\x7f])""")  # noqa: RUF001, meant so
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)


@dataclass(frozen=True)
class Writer:
    """A chat LLM that is ready.

    Attributes:
        model: transformers' model with its language head.
        tokenizer: transformers' tokenizer, with a chat template.
    """

    model: Any
    tokenizer: Any


def load_writer(path: Path, dtype: torch.dtype, places: TokenizerPlaces) -> Writer:
    """Open the chat LLM at `path` on the CPU. Nothing is downloaded.

    Args:
        path: folder with config.json, safetensors weights and tokenizer, or a `.gguf` file.
        dtype: dtype of the weights and of the computation.
        places: see `load_text_encoder`.

    Raises:
        EllaError: it can't write: an encoder, a single file, or an LLM without a chat template; or
            something is missing or damaged.
    """
    import transformers
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer

    if path.is_file() and not gguf.is_gguf(path):
        raise EllaError(_cannot_write(path, "a single file has no chat template"))
    options = {"local_files_only": True, "trust_remote_code": False}  # or it asks a terminal
    with naming(path):
        # transformers would take a pickle, which may run code, where there is no safetensors file.
        source: tuple[Path, dict[str, Any]] = (path, {"use_safetensors": True})
        if gguf.is_gguf(path):
            source, config = gguf.source(path), gguf.read_config(path)
            tokenizer = gguf.open_tokenizer(path, config, places.cache).tokenizer
        else:
            weight_files(path)
            config = AutoConfig.from_pretrained(path, **options)
            tokenizer = AutoTokenizer.from_pretrained(path, config=config, **options)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise EllaError(_cannot_write(path, f"a {config.model_type} reads and does not write"))
    if not tokenizer.chat_template:
        raise EllaError(_cannot_write(path, "its tokenizer has no chat template"))
    dtype_argument = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    with naming(path):
        model, report = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            source[0],
            config=config,
            output_loading_info=True,
            **{dtype_argument: dtype, "local_files_only": True, **source[1]},
        )
        check_report(report, config.model_type)
    torch.nn.Module.to(model, dtype)
    model.eval().requires_grad_(False)
    return Writer(model, tokenizer)


def write(
    writer: Writer,
    instruction: str,
    text: str,
    seed: int,
    tokens: int,
    on_text: Callable[[str, int], None] = lambda text, count: None,
) -> str:
    """Have the LLM write what the instruction asks for, about a text.

    Args:
        writer: the LLM, wherever it is.
        instruction: what to do, with examples.
        text: the prompt.
        seed: the same seed gives the same text on the same machine.
        tokens: the most that it may write. A sentence that they cut off is left out.
        on_text: called with the text so far and the number of its tokens; may raise to stop.

    Returns:
        What was written, without the LLM's thoughts.

    Raises:
        EllaError: nothing was written.
    """
    from transformers.generation.streamers import BaseStreamer

    tokenizer, model = writer.tokenizer, writer.model
    asked = whole_characters(f"{instruction}\n\nPrompt: {text}\nDescription:".strip())
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,  # templates that don't know it ignore it
    )
    ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt").input_ids
    written: list[int] = []

    def said() -> str:
        return _THOUGHT.sub("", tokenizer.decode(written, skip_special_tokens=True)).strip()

    class Streamer(BaseStreamer):
        """Hears first the prompt, then each token."""

        hears_prompt = True

        def put(self, value: torch.Tensor) -> None:
            if not self.hears_prompt:
                written.extend(value.flatten().tolist())
                on_text(said(), len(written))
            self.hears_prompt = False

        def end(self) -> None:
            pass

    device = next(model.parameters()).device
    ids = ids.to(device)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=_TEMPERATURE,
            top_p=_TOP_P,
            top_k=0,
            max_new_tokens=tokens,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            streamer=Streamer(),
        )
    cut_off = len(written) >= tokens
    found = whole_sentences(said()) if cut_off else said()
    if not found:
        raise EllaError(
            f"The LLM wrote nothing in {len(written)} tokens. Give it more tokens or another seed "
            f"in ELLA Upsample Prompt, or choose another chat LLM in Load LLM (ELLA)."
        )
    return found


def whole_sentences(text: str) -> str:
    """Return a text without a last sentence that has no end, unless it is the only one."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


def _cannot_write(path: Path, reason: str) -> str:
    return (
        f"The LLM {path.name} can't write: {reason}. Choose a chat LLM (an instruction-tuned one, "
        f"such as SmolLM2-Instruct or Qwen) as a folder or a GGUF file in Load LLM (ELLA), for "
        f"ELLA Upsample Prompt alone; the LLM that reads the prompts stays."
    )
