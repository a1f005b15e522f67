"""Downloading into ComfyUI's model folders: from a node or from the menu, one at a time."""

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import folder_paths

from ...downloads import Download, size_text
from ...errors import EllaError
from ...hub import SOURCES, HubUnreachedError, endpoint
from .folders import ADAPTER_FOLDER, CONNECTOR_FOLDER, LLM_FOLDERS, file_identity

logger = logging.getLogger("ella")

_FOLDERS = {
    "connector": (CONNECTOR_FOLDER,),
    "LLM": LLM_FOLDERS,
    "SDXL adapter": (ADAPTER_FOLDER,),
    "SDXL LLM": LLM_FOLDERS,
}


Progress = Callable[[str, int, int], None]  # current step, bytes done, bytes in all


class Outcome(NamedTuple):
    """Result of a download: in short, and in full with commits and files."""

    summary: str
    report: str


class _Stop(BaseException):
    """Raised in the progress callback to cancel a download that the user stopped in the menu."""


@dataclass
class Status:
    """Progress of the current or last download, for the editor.

    Attributes:
        running: whether it is still running.
        text: what it is doing, or its outcome.
        done: bytes.
        total: bytes.
        failed: whether it ended with an error.
    """

    running: bool = False
    text: str = ""
    done: int = 0
    total: int = 0
    failed: bool = False


@functools.cache
def downloads() -> "Downloads":
    """Return the only instance of this process."""
    return Downloads()


class Downloads:
    """At most one download at a time.

    Attributes:
        status: of the present or last one.
    """

    def __init__(self) -> None:
        self.status = Status()
        self._busy = threading.Lock()
        self._stop = threading.Event()

    def run(self, names: Iterable[str], on_progress: Progress) -> Outcome:
        """Download and wait for it.

        Args:
            names: keys of `SOURCES`.
            on_progress: gets the text and bytes of `Status`; raise in it to cancel.

        Returns:
            What was done. If the hub is not reached and a model is there, it says so, and that the
            model was not compared.

        Raises:
            EllaError: see `Download.of` and `Download.fetch`; or another download is running.
        """
        self._begin()
        return self._run(names, on_progress)

    def start(self, names: Iterable[str]) -> None:
        """Download in a thread; `status` shows its progress.

        Raises:
            EllaError: another download is running.
        """
        self._begin()
        threading.Thread(target=self._run_alone, args=(names,), daemon=True).start()

    def stop(self) -> None:
        """End the running download, if there is one."""
        self._stop.set()

    def _begin(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise EllaError(
                "A download of ELLA models is running already. See ELLA > Download ELLA models in "
                "the menu, and wait for it or stop it there."
            )
        self._stop.clear()
        self.status = Status(running=True, text="asking the hub")

    def _run_alone(self, names: Iterable[str]) -> None:
        try:
            self._run(names, lambda *_: None)
        except EllaError as error:
            logger.error("%s", error)

    def _run(self, names: Iterable[str], on_progress: Progress) -> Outcome:
        def report(text: str, done: int, total: int) -> None:
            self.status = Status(True, text, done, total)
            if self._stop.is_set():
                raise _Stop
            on_progress(text, done, total)

        early = "The download was interrupted, or failed for the reason in ComfyUI's log."
        status = Status(text=f"{early} Download again to go on.", failed=True)
        try:
            done = [_fetch(name, report) for name in names]
            outcome = Outcome(*map("\n".join, zip(*done, strict=True)))
            status = Status(text=outcome.summary)
            return outcome
        except EllaError as error:
            status.text = str(error)
            raise
        except _Stop as error:
            status.text = "The download was stopped in the menu; download again to go on."
            raise EllaError(status.text) from error
        finally:
            self.status = status
            self._busy.release()


def _fetch(name: str, report: Progress) -> Outcome:
    """Download a model if it is missing, or compare it with the hub's if the hub answers."""
    label = SOURCES[name].label
    try:
        download = _look_up(name)
    except HubUnreachedError as error:
        if not is_complete(name):
            raise
        address = f"{endpoint()}/{SOURCES[name].repo}"
        done = (
            f"{address}, not reached: {error.reason}\n"
            f"{target(name)}: is there, and was not compared with the hub's checksums"
        )
        logger.warning("%s", done)
        return Outcome(f"{label}: is there, not compared, the hub was not reached", done)
    coming = sum(file.remote.size for file in download.files if not file.is_there)
    lines = [f"{download.source.repo}, commit {download.commit}:", *download.fetch(report)]
    done = "\n".join(lines)
    logger.info("%s", done)
    what = f"downloaded {size_text(coming)}" if coming else "was there, with the right checksums"
    return Outcome(f"{label}: {what}", done)


def describe() -> list[dict[str, Any]]:
    """Describe the models for the editor's dialog: name, label, source, licence, target, bytes.

    If the hub is not reached, a model that is there has the reason in place of the commit. So has
    an optional one that can't be had.

    Raises:
        EllaError: the hub is not reached and models are missing, or it does not have them; optional
            ones apart.
    """
    models, unreached = [], []
    for name, source in SOURCES.items():
        address = f"{endpoint()}/{source.repo}"
        about: dict[str, Any] = {"name": name, "label": source.label, "address": address}
        about |= {"licence": source.licence, "optional": source.optional}
        try:
            download = _look_up(name)
            about |= {"commit": download.commit, "size": download.size, "missing": download.missing}
        except HubUnreachedError as error:
            about |= {"unreached": error.reason, "missing": 0}
            if not is_complete(name) and source.optional:
                about["unavailable"] = str(error)
            elif not is_complete(name):
                unreached.append(str(error))
        except EllaError as error:
            if not source.optional:
                raise
            about |= {"unavailable": str(error), "missing": 0}
        models.append({**about, "target": str(target(name))})
    if unreached:
        raise EllaError("\n\n".join(unreached))
    return models


def target(name: str) -> Path:
    """Return the path of a model of `SOURCES`: in the first of its folders that has it, if any."""
    path = SOURCES[name].name
    roots = [Path(root) for key in _FOLDERS[name] for root in folder_paths.get_folder_paths(key)]
    return next((root / path for root in roots if (root / path).exists()), roots[0] / path)


def is_complete(name: str) -> bool:
    """Return whether a model of `SOURCES` is there, with all files that are needed to open it."""
    from ...text_encoders import check_text_encoder  # not at ComfyUI's start

    path = target(name)
    if not SOURCES[name].is_folder:
        return path.is_file()
    try:
        check_text_encoder(path)
    except EllaError:
        return False
    return True


def identity(names: Sequence[str]) -> str | float:
    """Identify the models' files; NaN, which equals nothing, while one is missing."""
    if not all(map(is_complete, names)):
        return float("nan")  # a new one: ComfyUI takes math.nan for equal to itself
    return "\n".join(file_identity(target(name)) for name in names)


def _look_up(name: str) -> Download:
    source, place = SOURCES[name], target(name)
    download = Download.of(source, place if source.folder else place.parent)
    logger.info("%s/%s at the commit %s", endpoint(), source.repo, download.commit)
    return download
