"""Text files with a prompt a line."""

from pathlib import Path

import folder_paths

from ...errors import EllaError
from .folders import list_below

NO_FILE = "none"


def prompt_files() -> list[str]:
    """Return the text files in ComfyUI's input folder."""
    return list_below(folder_paths.get_input_directory(), _texts_among)


def _texts_among(_: Path, files: list[Path]) -> list[str]:
    return sorted(file.as_posix() for file in files if file.suffix.lower() == ".txt")


def read_prompts(text: str, file: str) -> list[str]:
    """Return the prompts of a text and of a file, a line each, without comments.

    Args:
        text: any text.
        file: one of `prompt_files`, or `NO_FILE`.

    Raises:
        EllaError: there is no such file, or it is no text in UTF-8.
    """
    lines = text.splitlines()
    if file != NO_FILE:
        if file not in prompt_files():
            raise EllaError(
                f"The file {file!r} is not in ComfyUI's input folder "
                f"{folder_paths.get_input_directory()}. Put it there, press R in the editor and "
                f"choose it in ELLA Prompt List."
            )
        path = folder_paths.get_annotated_filepath(file)
        try:
            with open(path, encoding="utf-8-sig") as opened:
                lines += opened.read().splitlines()
        except UnicodeDecodeError as error:
            raise EllaError(
                f"The file {file} is no text in UTF-8 ({error}). Save it as UTF-8."
            ) from error
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]
