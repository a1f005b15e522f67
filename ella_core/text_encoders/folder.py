"""An LLM as a folder in Hugging Face layout."""

import json
from pathlib import Path

from ..errors import EllaError

TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")
_CONFIG = "config.json"
_WEIGHTS, _WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
_POINTER = b"version https://git-lfs"


def check_folder(folder: Path, weights: bool = True) -> None:
    """Check that an LLM's files are there.

    Args:
        folder: see `load_text_encoder`.
        weights: whether weights have to be there too.

    Raises:
        EllaError: a file is missing or only points to the real one.
    """
    _require(folder, (_CONFIG,), "configuration")
    if weights:
        for file in weight_files(folder):
            check_no_pointer(file)
    _require(folder, TOKENIZER_FILES, "tokenizer")
    for name in (_CONFIG, *TOKENIZER_FILES):
        check_no_pointer(folder / name)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold the weights, whatever their names are.

    Raises:
        EllaError: there are none, or several that no index lists.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    indexes = sorted(folder.glob("*.safetensors.index*.json"))
    if len(indexes) > 1:
        indexes = [index for index in indexes if index.name == _WEIGHTS_INDEX]
    if indexes:
        check_no_pointer(indexes[0])
        return [folder / name for name in _listed(indexes[0])]
    found = sorted(folder.glob("*.safetensors"))
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:8])
        raise EllaError(
            f"The LLM folder {folder.name} holds several safetensors files and no "
            f"{_WEIGHTS_INDEX}: {names}. Rename the one to use to {_WEIGHTS}"
        )
    if not found:
        _require(folder, (_WEIGHTS, _WEIGHTS_INDEX), "weights in safetensors format")
    return found


def _listed(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EllaError(
            f"{index.name} in the LLM folder {index.parent.name} is damaged ({error}). Download it "
            f"again"
        ) from error


def check_no_pointer(file: Path) -> None:
    """Refuse a file that Git LFS has left in place of the real one.

    Raises:
        EllaError: it is one.
    """
    if not file.is_file():
        return
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            raise EllaError(
                f"{file.name} in {file.parent} is a Git LFS pointer of {file.stat().st_size} "
                f"bytes, not the file itself. Run git lfs pull in that folder, or download the "
                f"file from where the LLM came from"
            )


def _require(folder: Path, names: tuple[str, ...], what: str) -> None:
    if any((folder / name).is_file() for name in names):
        return
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    remedy = _renaming(there, names) or (
        f"Download the missing file from where the LLM came from (for the released ELLA: Hugging "
        f"Face QQGYLab/ELLA) into {folder}"
    )
    raise EllaError(
        f"The LLM folder {folder.name} holds no {what}: expected {' or '.join(names)}, found "
        f"{', '.join(there[:8]) or 'nothing'}. {remedy}"
    )


def _renaming(there: list[str], names: tuple[str, ...]) -> str:
    """Say what to rename where the file is there behind a prefix that all files have."""
    for name in names:
        for found in there:
            prefix = found.removesuffix(name)
            if prefix != found and all(each.startswith(prefix) for each in there):
                return (
                    f"All its files begin with {prefix!r}: rename them without it, {found} to "
                    f"{name} and so on"
                )
    return ""
