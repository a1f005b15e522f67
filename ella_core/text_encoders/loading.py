"""Opening an LLM: a folder in Hugging Face layout, a GGUF file, or a safetensors file.

Nothing is ever downloaded.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import EllaError
from . import gguf, single_file
from .encoder import TextEncoder, text_config
from .folder import check_folder, weight_files
from .quantize import quantize, require_torchao
from .state import read_state
from .tokenizer import PromptTokenizer
from .tokens import SpecialTokens

# transformers is imported inside the functions: it takes seconds, and a host that only lists the
# nodes should not pay for it.

# Tensors that a prompt does not need: the layer that predicts words, constants that old versions
# of transformers saved, and the decoder of an encoder-decoder.
_NOT_NEEDED = re.compile(r"(^|\.)(lm_head|rotary_emb\.inv_freq)(\.|$)")
_NOT_NEEDED_OF_T5 = re.compile(r"(^|\.)(lm_head|decoder)(\.|$)")


@dataclass(frozen=True)
class TokenizerPlaces:
    """Folders for tokenizers beside an LLM's own files.

    Attributes:
        shipped: those that ComfyUI brings (comfy/text_encoders), for single files.
        cache: where the tokenizers of GGUF files are kept once they are made.
    """

    shipped: Path | None = None
    cache: Path | None = None


def check_text_encoder(path: Path, quantization: str | None = None) -> None:
    """Find most of what is wrong with an LLM's files in no time, without transformers.

    Of the weights only the headers are read; they tell how long a file has to be.

    Args:
        path: see `load_text_encoder`.
        quantization: see `load_text_encoder`.

    Raises:
        EllaError: a file is missing, cut short or of another kind, or a package is missing.
    """
    if quantization:
        require_torchao()
    _check_kind(path)
    if not gguf.is_gguf(path):
        with naming(path):
            for file in _weight_files(path):
                with safe_open(file, framework="pt"):
                    pass  # opening it compares the file's length with its header


def load_text_encoder(
    path: Path,
    dtype: torch.dtype,
    quantization: str | None = None,
    on_tokenizer: Callable[[], None] = lambda: None,
    places: TokenizerPlaces = TokenizerPlaces(),
) -> TextEncoder:
    """Open the LLM at `path` on the CPU.

    T5 and its relatives give their encoder, decoder-only LLMs their last hidden state.

    Args:
        path: folder with config.json, safetensors weights and tokenizer, or a `.gguf` file, or a
            safetensors file alone.
        dtype: dtype of the weights and of the computation.
        quantization: None, or one of `QUANTIZATIONS`: how the weights of Linear layers are
            stored instead.
        on_tokenizer: called when the tokenizer is open and only the weights are left.
        places: where tokenizers may be beside the LLM's own files.

    Raises:
        EllaError: something is missing or damaged, or this is not a usable LLM.
    """
    check_text_encoder(path, quantization)
    with naming(path):
        config, tokenizer = _open(path, places)
    on_tokenizer()
    with naming(path):
        model = _load_model(path, config, dtype)
    model.eval().requires_grad_(False)
    if quantization:
        quantize(model, quantization)
    return TextEncoder(model, tokenizer)


def load_tokenizer(path: Path, places: TokenizerPlaces = TokenizerPlaces()) -> PromptTokenizer:
    """Open the tokenizer alone of the LLM at `path`; a folder need not have its weights.

    For a GGUF file this takes about a minute of Python's own work, unless it is in the cache.

    Args:
        path: see `load_text_encoder`.
        places: see there.

    Raises:
        EllaError: something is missing or damaged.
    """
    _check_kind(path, weights=False)
    with naming(path):
        return _open(path, places)[1]


def _check_kind(path: Path, weights: bool = True) -> None:
    if gguf.is_gguf(path):
        gguf.require_packages(path)
        with naming(path):
            gguf.check_gguf(path)
    elif path.is_file():
        with naming(path):
            single_file.check_file(path)
    else:
        check_folder(path, weights)


def _weight_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else weight_files(path)


def _open(path: Path, places: TokenizerPlaces) -> tuple[Any, PromptTokenizer]:
    """Return configuration and tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    if gguf.is_gguf(path):
        config = gguf.read_config(path)
        return config, gguf.open_tokenizer(path, config, places.cache)
    if path.is_file():
        config = single_file.read_config(path)
        tokenizer = single_file.open_tokenizer(path, places.shipped)
    else:
        options = {"local_files_only": True, "trust_remote_code": False}  # or it asks a terminal
        config = AutoConfig.from_pretrained(path, **options)
        tokenizer = AutoTokenizer.from_pretrained(path, config=config, **options)
    positions = getattr(text_config(config), "max_position_embeddings", None)
    special = SpecialTokens.of(tokenizer)
    return config, PromptTokenizer(tokenizer, special, positions, config.model_type)


def _load_model(path: Path, config: Any, dtype: torch.dtype) -> Any:
    import transformers
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    is_text_encoder = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING
    if getattr(config, "is_encoder_decoder", False) and not is_text_encoder:
        raise EllaError(
            f"{config.model_type} is an encoder-decoder whose encoder can't be used alone. "
            f"Expected a T5 or a decoder-only LLM such as Llama"
        )
    if not hasattr(text_config(config), "hidden_size"):
        raise EllaError(f"{config.model_type} is not a pure text model: it has no hidden_size")
    if hasattr(config, "encoder"):
        config.is_encoder_decoder = False  # as T5Gemma's encoder wants it
    mapping = MODEL_FOR_TEXT_ENCODING_MAPPING if is_text_encoder else MODEL_MAPPING
    model_class = mapping[type(config)]
    dtype_argument = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    options = {"config": config, "output_loading_info": True, dtype_argument: dtype}
    if gguf.is_gguf(path):
        folder, source = gguf.source(path)
        model, report = model_class.from_pretrained(folder, **options, **source)
    else:
        skip = _NOT_NEEDED_OF_T5 if is_text_encoder else _NOT_NEEDED
        state = read_state(_weight_files(path), dtype, skip)
        model, report = model_class.from_pretrained(None, state_dict=state, **options)
    check_report(report, config.model_type)
    # transformers keeps T5's `wo` in float32, and then its clamp of fp16 overflow never acts. The
    # reference implementation casts all of it.
    torch.nn.Module.to(model, dtype)
    model.config.use_cache = False
    return model


def check_report(report: Any, model_type: str) -> None:
    """Refuse what transformers only logs: it fills in random numbers and ignores what is left."""
    absent = [*report["missing_keys"], *report["mismatched_keys"]]
    if absent:
        raise EllaError(f"{len(absent)} tensors are missing or misshapen, such as {absent[0]}")
    surplus = sorted(report["unexpected_keys"])
    if surplus:
        raise EllaError(
            f"{len(surplus)} tensors have no place in a {model_type}, such as {surplus[0]}. Its "
            f"config.json is that of another model, or its weights are quantised in a way that is "
            f"not known here"
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever transformers stumbles over into an error that names the LLM."""
    try:
        yield
    except MemoryError as error:
        raise EllaError(
            f"There is too little main memory to load the LLM {path.name}. Close other programs, "
            f"or choose fp16 or bf16 as dtype in Load LLM (ELLA)."
        ) from error
    except Exception as error:  # a damaged file makes transformers raise nearly anything
        reason = str(error).rstrip(". ") or type(error).__name__
        if "trust_remote_code" in reason:
            reason = "it needs Python code from its folder, and such code is never run"
        raise EllaError(
            f"The LLM {path.name} can't be loaded: {reason}. If its files are cut short or "
            f"damaged, download them again; Load LLM (ELLA) takes a T5 encoder or a decoder-only "
            f"LLM as a folder in Hugging Face layout, a GGUF file or a safetensors file."
        ) from error
