"""An LLM as ComfyUI keeps text encoders: one safetensors file, without configuration or tokenizer.

The configuration is read off the tensors' shapes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import safe_open

from ..errors import EllaError
from .folder import TOKENIZER_FILES, check_no_pointer

Shapes = Mapping[str, tuple[int, ...]]

# Beside TOKENIZER_FILES.
_SETTINGS = (
    *("tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"),
    *("merges.txt", "added_tokens.json"),
)
_MAX_HEADER = 100_000_000  # bytes, as in the safetensors library

_T5_QUERY = "encoder.block.{}.layer.0.SelfAttention.q.weight"
_DECODER_QUERY = "layers.{}.self_attn.q_proj.weight"
_FOLDER = (
    "Put it into a folder of its own together with the config.json and the tokenizer of the "
    "repository that it was made from, and choose that folder in Load LLM (ELLA)"
)
# Rows of the embedding -> folder in ComfyUI's comfy/text_encoders.
_COMFYUI_TOKENIZERS = {32128: "t5_tokenizer", 151936: "qwen25_tokenizer"}


def is_llm_file(path: Path) -> bool:
    """Return whether a safetensors file holds a T5 encoder or a decoder-only LLM, by its header."""
    try:
        shapes = _shapes(path)
    except Exception:  # a damaged file; it is no LLM that could be offered
        return False
    return _prefix(shapes) is not None


def check_file(path: Path) -> None:
    """Check that a file is whole and that its configuration can be told.

    Raises:
        EllaError: it only points to the real one, is no LLM, or its shapes don't tell enough.
    """
    check_no_pointer(path)
    _kind(_shapes(path))


def model_type(path: Path) -> str:
    """Return the LLM's model type in transformers' terms.

    Raises:
        EllaError: see `check_file`.
    """
    return _kind(_shapes(path))


def read_config(path: Path) -> Any:
    """Return the configuration of transformers that fits the tensors.

    Raises:
        EllaError: see `check_file`.
    """
    shapes = _shapes(path)
    kind = _kind(shapes)
    if kind in ("t5", "umt5"):
        return _t5_config(shapes, kind)
    return _decoder_config({k.removeprefix("model."): v for k, v in shapes.items()}, kind)


def open_tokenizer(path: Path, comfyui_tokenizers: Path | None) -> Any:
    """Open the tokenizer of a single file.

    It is looked for in a folder beside the file with the file's name, beside the file, in the
    file, and among those that ComfyUI brings.

    Args:
        path: the file.
        comfyui_tokenizers: ComfyUI's folder comfy/text_encoders, None where it is not there.

    Raises:
        EllaError: none is found, or it belongs to another LLM.
    """
    from transformers import AutoTokenizer

    shapes = _shapes(path)
    rows = _vocabulary(shapes)
    places = _own_places(path)
    if comfyui_tokenizers is not None and rows in _COMFYUI_TOKENIZERS:
        places.append(comfyui_tokenizers / _COMFYUI_TOKENIZERS[rows])
    has_own = "spiece_model" in shapes
    for place in places:
        if has_own and place == path.parent:
            tokenizer = _own_tokenizer(path)
        elif any((place / name).is_file() for name in TOKENIZER_FILES):
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        else:
            continue
        if len(tokenizer) > rows:
            raise EllaError(
                f"the tokenizer in {place} has {len(tokenizer):,} tokens, and the LLM knows "
                f"{rows:,}. Put the LLM's own tokenizer into the folder {places[0]}"
            )
        return tokenizer
    raise EllaError(
        f"its tokenizer is not there: put the tokenizer.json (or spiece.model) of the repository "
        f"that it was made from into the folder {places[0]}"
    )


def tokenizer_files(path: Path) -> list[Path]:
    """Return the files beside a single file that may belong to its tokenizer; not all are there."""
    return [place / name for place in _own_places(path) for name in (*TOKENIZER_FILES, *_SETTINGS)]


def _own_places(path: Path) -> list[Path]:
    return [path.with_suffix(""), path.parent]


def _own_tokenizer(path: Path) -> Any:
    """Open the SentencePiece model that ComfyUI's files carry as a tensor."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as folder, safe_open(path, framework="pt") as file:
        data = bytes(file.get_tensor("spiece_model").tolist())
        (Path(folder) / "spiece.model").write_bytes(data)
        (Path(folder) / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}), encoding="utf-8"
        )
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the header alone, so that a file is recognised while it is being downloaded."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= _MAX_HEADER:
            raise EllaError("it is not a safetensors file, or damaged")
        header = json.loads(file.read(size))
    return {name: tuple(t["shape"]) for name, t in header.items() if name != "__metadata__"}


def _prefix(shapes: Shapes) -> str | None:
    """Return what stands before a decoder's layers, "" for a T5, None if it is neither."""
    if _T5_QUERY.format(0) in shapes:
        return ""
    return next((p for p in ("model.", "") if p + _DECODER_QUERY.format(0) in shapes), None)


def _kind(shapes: Shapes) -> str:
    """Return the LLM's model type in transformers' terms."""
    prefix = _prefix(shapes)
    if prefix is None:
        raise EllaError(
            f"it holds {len(shapes)} tensors, the first named {min(shapes, default='')!r}: neither "
            f"a T5 encoder nor a decoder-only LLM. A CLIP belongs into Load CLIP"
        )
    if _T5_QUERY.format(0) in shapes:
        bias = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
        return "umt5" if bias in shapes else "t5"
    layer = f"{prefix}layers.0."
    if f"{layer}self_attn.q_norm.weight" not in shapes:
        raise EllaError(
            f"the number of its attention heads can't be read off its tensors. {_FOLDER}"
        )
    if f"{layer}pre_feedforward_layernorm.weight" not in shapes:
        return "qwen3"
    if shapes[f"{prefix}norm.weight"] != (1152,):  # larger ones scale their positions
        raise EllaError(f"of Gemma 3 only the 1B's shapes tell all of its settings. {_FOLDER}")
    return "gemma3_text"


def _vocabulary(shapes: Shapes) -> int:
    names = ("shared.weight", "encoder.embed_tokens.weight", "model.embed_tokens.weight")
    return next(shapes[name][0] for name in (*names, "embed_tokens.weight") if name in shapes)


def _layers(shapes: Shapes, name: str) -> int:
    count = 0
    while name.format(count) in shapes:
        count += 1
    return count


def _t5_config(shapes: Shapes, kind: str) -> Any:
    from transformers import T5Config, UMT5Config

    attention = "encoder.block.0.layer.0.SelfAttention."
    dense = "encoder.block.0.layer.1.DenseReluDense."
    buckets, heads = shapes[f"{attention}relative_attention_bias.weight"]
    inner, width = shapes[f"{attention}q.weight"]
    gated = f"{dense}wi_0.weight" in shapes
    return {"t5": T5Config, "umt5": UMT5Config}[kind](
        vocab_size=_vocabulary(shapes),
        d_model=width,
        d_kv=inner // heads,
        d_ff=shapes[f"{dense}wi_0.weight" if gated else f"{dense}wi.weight"][0],
        num_layers=_layers(shapes, _T5_QUERY),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        # All published T5s with a gate use GELU, all without one ReLU.
        feed_forward_proj="gated-gelu" if gated else "relu",
    )


def _decoder_config(shapes: Shapes, kind: str) -> Any:
    import transformers

    layer = "layers.0."
    (head_dim,) = shapes[f"{layer}self_attn.q_norm.weight"]
    inner, width = shapes[f"{layer}self_attn.q_proj.weight"]
    dimensions = {
        "vocab_size": _vocabulary(shapes),
        "hidden_size": width,
        "intermediate_size": shapes[f"{layer}mlp.gate_proj.weight"][0],
        "num_hidden_layers": _layers(shapes, _DECODER_QUERY),
        "num_attention_heads": inner // head_dim,
        "num_key_value_heads": shapes[f"{layer}self_attn.k_proj.weight"][0] // head_dim,
        "head_dim": head_dim,
        "rope_theta": 1e6,
    }
    if kind == "qwen3":
        return transformers.Qwen3Config(**dimensions)
    return transformers.Gemma3TextConfig(**dimensions, sliding_window=512)
