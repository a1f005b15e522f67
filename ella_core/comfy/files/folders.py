"""Folders and files of connectors and LLMs."""

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import folder_paths

from ...errors import EllaError, MissingLLMError

RELEASED_CONNECTOR = "ella-sd1.5-tsc-t5xl.safetensors"
CONNECTOR_FOLDER = "ella"
ADAPTER_FOLDER = "llm_adapters"
CONNECTOR_FOLDERS = (CONNECTOR_FOLDER, ADAPTER_FOLDER)
EMBEDS_FOLDER = "ella_embeds"  # below ComfyUI's output folder
LLM_FOLDERS = ("text_encoders", "ella_encoder", "LLM")

RELEASED_LLM = "models--google--flan-t5-xl--text_encoder"
_DOWNLOAD = "Choose ELLA > Download ELLA models ... in ComfyUI's menu"

# Shown in an empty dropdown, where ComfyUI itself would show nothing at all.
# A node of its usual width shows no more than the folder.
NO_CONNECTOR = f"models/{CONNECTOR_FOLDER} has no connector: put {RELEASED_CONNECTOR} there"
NO_EMBEDS = f"output/{EMBEDS_FOLDER} is empty: save some with ELLA Save Embeds"
NO_LLM = "models/text_encoders has no LLM: put the FLAN-T5-XL encoder's folder there"

_EXTENSIONS = {
    **{folder: {".safetensors", ".sft"} for folder in CONNECTOR_FOLDERS},
    "ella_encoder": {".safetensors", ".gguf"},
    "LLM": {".safetensors", ".gguf"},
}

# What each is called in ComfyUI's models folder. ComfyUI_LLM_SDXL_Adapter has its LLMs in "llm".
_PLACES = {"LLM": ("LLM", "llm")}

# Takes a root folder and the files below it; returns the entries to list.
Choose = Callable[[Path, list[Path]], list[str]]

# Root folder and what chooses -> the entries below it, and the modification times of its folders.
_listed: dict[tuple[str, Choose], tuple[list[str], dict[str, float]]] = {}


def register_folders() -> None:
    """Make ComfyUI know our model folders.

    A folder that extra_model_paths.yaml or another pack named before keeps its paths; only
    extensions that nobody set are filled in.
    """
    for name, extensions in _EXTENSIONS.items():
        paths, known = folder_paths.folder_names_and_paths.get(name, ([], set()))
        defaults = [str(Path(folder_paths.models_dir, each)) for each in _PLACES.get(name, [name])]
        paths = [*paths, *(each for each in defaults if each not in paths)]
        folder_paths.folder_names_and_paths[name] = (paths, set(known) or extensions)


def connector_names() -> list[str]:
    """Return the entries of the connector dropdown, never empty. A new node has the first."""
    names = [name for each in CONNECTOR_FOLDERS for name in folder_paths.get_filename_list(each)]
    return _first(RELEASED_CONNECTOR, list(dict.fromkeys(names))) or [NO_CONNECTOR]


def connector_path(name: str) -> Path:
    """Return the file behind an entry of the connector dropdown.

    Raises:
        EllaError: there is no such file.
    """
    places = (folder_paths.get_full_path(each, name) for each in CONNECTOR_FOLDERS)
    path = next(filter(None, places), None)
    if path is None:
        raise EllaError(
            f"The ELLA connector {name!r} was not found. {_DOWNLOAD}, or put {RELEASED_CONNECTOR} "
            f"(134 MB, from Hugging Face QQGYLab/ELLA) into "
            f"{folder_paths.get_folder_paths(CONNECTOR_FOLDER)[0]}. Then press R in the editor and "
            f"choose it in Load ELLA."
        )
    return Path(path)


def llm_names() -> list[str]:
    """Return the entries of the LLM dropdown, never empty. A new node has the first."""
    return _first(RELEASED_LLM, sorted(set(_llms()))) or [NO_LLM]


def llm_path(name: str) -> Path:
    """Return the folder or file behind an entry of the LLM dropdown.

    Raises:
        MissingLLMError: there is no such LLM.
    """
    roots = [root for folder in LLM_FOLDERS for root in folder_paths.get_folder_paths(folder)]
    places = [] if _leads_elsewhere(Path(name)) else [Path(root, name) for root in roots]
    path = next(filter(_is_llm, places), None)
    if path is None:
        raise MissingLLMError(
            f"The LLM {name!r} was not found. {_DOWNLOAD}, or put a folder with config.json, "
            f"model.safetensors and tokenizer (for the released ELLA: {RELEASED_LLM}, 2.95 GB, "
            f"from Hugging Face QQGYLab/ELLA), or a GGUF file, into {roots[0]}. Then press R in "
            f"the editor and choose it in Load LLM (ELLA)."
        )
    return path


def embeds_folder() -> Path:
    """Return where ELLA Save Embeds writes and ELLA Load Embeds reads."""
    return Path(folder_paths.get_output_directory(), EMBEDS_FOLDER)


def embeds_names() -> list[str]:
    """Return the entries of the dropdown of saved embeds, never empty."""
    folder = embeds_folder()
    found = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.safetensors"))
    return found or [NO_EMBEDS]


def embeds_path(name: str) -> Path:
    """Return the file behind an entry of the dropdown of saved embeds.

    Raises:
        EllaError: there is no such file.
    """
    path = embeds_folder() / name
    if _leads_elsewhere(Path(name)) or not path.is_file():
        raise EllaError(
            f"The embeds {name!r} are not in {embeds_folder()}. Save them with ELLA Save Embeds or "
            f"put the file there, press R in the editor and choose it in ELLA Load Embeds."
        )
    return path


def embeds_prefix(text: str) -> str:
    """Return how the names of files to be saved begin, relative to `embeds_folder`.

    Args:
        text: what the user wrote; may name folders.

    Raises:
        EllaError: it is empty or leads elsewhere.
    """
    prefix = posixpath.normpath(text.strip().replace("\\", "/"))
    if _leads_elsewhere(Path(prefix)):
        raise EllaError(
            f"The filename_prefix {text!r} names no file in {embeds_folder()}. Write a name, such "
            f"as prompt or cats/prompt, in ELLA Save Embeds."
        )
    return prefix


def check_name(find: Callable[[str], Path], name: str | None) -> bool | str:
    """Answer ComfyUI's `validate_inputs` for a dropdown of files.

    A node that does so replaces ComfyUI's own check, which says only that the value is not in the
    list.

    Args:
        find: `connector_path` or `llm_path`.
        name: the entry; None if it comes over a wire, and is not known yet.

    Returns:
        True, or the message of the error that `find` raises.
    """
    try:
        if name is not None:
            find(name)
    except EllaError as error:
        return str(error)
    return True


def file_identity(path: Path) -> str:
    """Identify the files of a model, so that a replaced one is noticed.

    Args:
        path: a file, or a folder, whose subfolders do not count.

    Returns:
        Path, bytes and time of the last change of each file, a line each.
    """
    return _identify(path.iterdir() if path.is_dir() else [path])


def llm_identity(path: Path) -> str:
    """Identify the files of an LLM, so that a replaced one is noticed.

    Args:
        path: as `llm_path` returns it. The tokenizer of a single file lies beside it.

    Returns:
        See `file_identity`.
    """
    if path.is_dir():
        return file_identity(path)
    from ...text_encoders.single_file import tokenizer_files

    return _identify([path, *tokenizer_files(path)])


def _identify(files: Iterable[Path]) -> str:
    lines = []
    for file in sorted(file for file in files if file.is_file() and file.name[0] != "."):
        stat = file.stat()
        lines.append(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(lines)


def _llms() -> Iterator[str]:
    for folder in LLM_FOLDERS:
        for root in folder_paths.get_folder_paths(folder):
            yield from list_below(root, _llms_among)


def list_below(root: str, choose: Choose) -> list[str]:
    """List a root folder with `choose`, from memory while no folder below it has changed.

    ComfyUI asks at every queue; its own lists are kept in the same way.
    """
    names, folders = _listed.get((root, choose), ([], {}))
    if not folders or any(_changed(folder, time) for folder, time in folders.items()):
        files, folders = folder_paths.recursive_search(root, excluded_dir_names=[".git"])
        names = choose(Path(root), [Path(file) for file in files])
        _listed[root, choose] = names, folders
    return names


def _changed(folder: str, time: float) -> bool:
    try:
        return os.path.getmtime(folder) != time
    except OSError:  # deleted
        return True


def _llms_among(root: Path, files: list[Path]) -> list[str]:
    """Name each LLM: folder, GGUF file, text encoder in a single file."""
    folders = {file.parent for file in files if _is_config(file)} - {Path()}
    single = [
        file
        for file in files
        if file.suffix.lower() == ".gguf"
        or (
            file.suffix.lower() == ".safetensors"
            and file.parent not in folders
            and _is_llm_file(root / file)
        )
    ]
    return [path.as_posix() for path in [*folders, *single]]


def _is_llm_file(file: Path) -> bool:
    from ...text_encoders.single_file import is_llm_file  # at ComfyUI's start only if there is one

    return is_llm_file(file)


def _is_config(file: Path) -> bool:
    """Return whether it is a configuration, perhaps behind a prefix of the folder's name.

    Some download buttons put that in front of all names. Load LLM says what to rename.
    """
    return file.name == "config.json" or (
        file.name.endswith("config.json") and file.name.startswith(file.parent.name or "/")
    )


def _is_llm(path: Path) -> bool:
    if path.suffix.lower() in (".gguf", ".safetensors"):
        return path.is_file()
    return path.is_dir() and any(_is_config(file) for file in path.glob("*config.json"))


def _leads_elsewhere(name: Path) -> bool:
    return bool(name.anchor) or ".." in name.parts or not name.parts


def _first(name: str, names: list[str]) -> list[str]:
    """Return `names`, those that have this name in any folder first."""
    return sorted(names, key=lambda each: Path(each).name != name)
