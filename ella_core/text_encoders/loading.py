"""Opening an LLM: a folder in Hugging Face layout, or a GGUF file. Nothing is ever downloaded."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import EllaError
from .encoder import TextEncoder
from .quantize import quantize, require_torchao
from .tokenizer import PromptTokenizer
from .tokens import SpecialTokens

# transformers is imported inside the functions: it takes seconds, and a host that only lists the
# nodes should not pay for it.

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")
_WEIGHTS, _WEIGHTS_INDEX = _WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")


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
    if is_gguf(path):
        _check_gguf(path)
    else:
        _check_folder(path)


def load_text_encoder(
    path: Path,
    dtype: torch.dtype,
    quantization: str | None = None,
    on_tokenizer: Callable[[], None] = lambda: None,
) -> TextEncoder:
    """Open the LLM at `path` on the CPU.

    T5 and its relatives give their encoder, decoder-only LLMs their last hidden state.

    Args:
        path: folder with config.json, safetensors weights and tokenizer, or a `.gguf` file.
        dtype: dtype of the weights and of the computation.
        quantization: None, or one of `QUANTIZATIONS`: how the weights of Linear layers are
            stored instead.
        on_tokenizer: called when the tokenizer is open and only the weights are left.

    Raises:
        EllaError: something is missing or damaged, or this is not a usable LLM.
    """
    check_text_encoder(path, quantization)
    with _naming(path):
        config, tokenizer = _open(path)
    on_tokenizer()
    with _naming(path):
        model = _load_model(path, config, dtype)
    model.eval().requires_grad_(False)
    if quantization:
        quantize(model, quantization)
    return TextEncoder(model, tokenizer)


def load_tokenizer(path: Path) -> PromptTokenizer:
    """Open the tokenizer alone of the LLM at `path`, which need not have its weights.

    For a GGUF file this takes about a minute of Python's own work.

    Args:
        path: see `load_text_encoder`.

    Raises:
        EllaError: something is missing or damaged.
    """
    if is_gguf(path):
        _check_gguf(path)
    else:
        _require(path, ("config.json",), "configuration")
        _require(path, _TOKENIZER_FILES, "tokenizer")
    with _naming(path):
        return _open(path)[1]


def is_gguf(path: Path) -> bool:
    """Whether the LLM at `path` is a GGUF file, by its name."""
    return path.suffix.lower() == ".gguf"


def _check_folder(path: Path) -> None:
    _require(path, ("config.json",), "configuration")
    _require(path, _WEIGHT_FILES, "weights in safetensors format")
    _require(path, _TOKENIZER_FILES, "tokenizer")
    with _naming(path):
        names = {_WEIGHTS}
        if not (path / _WEIGHTS).is_file():
            index = json.loads((path / _WEIGHTS_INDEX).read_text(encoding="utf-8"))
            names = set(index["weight_map"].values())
        for name in sorted(names):
            with safe_open(path / name, framework="pt"):
                pass  # opening it compares the file's length with its header


def _check_gguf(path: Path) -> None:
    if not all(map(importlib.util.find_spec, ("gguf", "accelerate"))):
        raise EllaError(
            f"{path.name} is a GGUF file, and the Python packages that read them are missing. "
            f"Install it into ComfyUI's Python with: pip install gguf accelerate"
        )
    with _naming(path), path.open("rb") as file:
        magic = file.read(4)
        if magic != b"GGUF":
            raise EllaError(f"it begins with {magic!r}, a GGUF file with b'GGUF'")


def _source(path: Path) -> tuple[Path, dict[str, Any]]:
    """How transformers is told where an LLM is."""
    options = {"local_files_only": True, "trust_remote_code": False}  # else it may ask a terminal
    if is_gguf(path):
        return path.parent, {"gguf_file": path.name, **options}
    return path, options


def _open(path: Path) -> tuple[Any, PromptTokenizer]:
    """Configuration and tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    folder, source = _source(path)
    config = AutoConfig.from_pretrained(folder, **source)
    if is_gguf(path) and config.model_type in ("t5", "umt5"):
        # Of T5, GGUF holds the gated kind, whose activation the file does not name. transformers
        # takes it for ReLU, without a word.
        config.dense_act_fn = "gelu_new"
    tokenizer = AutoTokenizer.from_pretrained(folder, config=config, **source)
    special = _gguf_special_tokens(path) if is_gguf(path) else SpecialTokens.of(tokenizer)
    positions = getattr(config, "max_position_embeddings", None)
    return config, PromptTokenizer(tokenizer, special, positions)


def _gguf_special_tokens(path: Path) -> SpecialTokens:
    """What the file itself says about special tokens.

    The tokenizer that transformers makes of a GGUF file can't be asked: version 4 puts a BOS
    before every prompt of a Llama, also where the file says that there is none.
    """
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def read(name: str, default: Any = None) -> Any:
        field = fields.get(f"tokenizer.ggml.{name}")
        return default if field is None else field.contents()

    kind = read("model")
    bos, eos, pad = (read(f"{name}_token_id") for name in ("bos", "eos", "padding"))
    prefix = (bos,) if bos is not None and read("add_bos_token", kind == "llama") else ()
    suffix = (eos,) if eos is not None and read("add_eos_token", kind == "t5") else ()
    return SpecialTokens.first_known(prefix, suffix, bos, eos, pad)


def _load_model(path: Path, config: Any, dtype: torch.dtype) -> Any:
    import transformers
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoModel, AutoModelForTextEncoding

    is_text_encoder = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING
    if getattr(config, "is_encoder_decoder", False) and not is_text_encoder:
        raise EllaError(
            f"{config.model_type} is an encoder-decoder whose encoder can't be used alone. "
            f"Expected a T5 or a decoder-only LLM such as Llama"
        )
    auto_class = AutoModelForTextEncoding if is_text_encoder else AutoModel
    if not hasattr(config, "hidden_size"):
        raise EllaError(f"{config.model_type} is not a pure text model: it has no hidden_size")
    dtype_argument = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    folder, source = _source(path)
    model, report = auto_class.from_pretrained(
        folder,
        config=config,
        output_loading_info=True,
        use_safetensors=None if is_gguf(path) else True,
        **{dtype_argument: dtype},
        **source,
    )
    # transformers fills what a file lacks with random numbers, and only logs it.
    absent = [*report["missing_keys"], *report["mismatched_keys"]]
    if absent:
        raise EllaError(f"{len(absent)} tensors are missing or misshapen, such as {absent[0]}")
    if is_text_encoder:
        # transformers keeps T5's `wo` in float32, and then its clamp of fp16 overflow never acts.
        # The reference implementation casts all of it.
        torch.nn.Module.to(model, dtype)
    model.config.use_cache = False
    return model


def _require(folder: Path, names: tuple[str, ...], what: str) -> None:
    if not any((folder / name).is_file() for name in names):
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) if folder.is_dir() else ""
        raise EllaError(
            f"The LLM folder {folder.name} holds no {what}: expected {' or '.join(names)}, found "
            f"{found or 'nothing'}. Download the missing file from where the LLM came from (for "
            f"the released ELLA: Hugging Face QQGYLab/ELLA) into {folder}"
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
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
            f"LLM as a folder in Hugging Face layout, or a GGUF file."
        ) from error
