"""Downloading the released models, for a user who has asked for it.

A file grows beside its place under another ending, and is moved there once all of the model's
checksums are right. So other programs see a model whole or not at all, and a download that broke
off goes on where it stopped.
"""

import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import EllaError
from .hub import RemoteFile, Source, explaining, look_up, transfer

#: Progress callback: what is being done, bytes done, bytes in all. Raise to cancel; partial files
#: are kept.
OnProgress = Callable[[str, int, int], None]

_DIGITS = 12  # of the checksum, in a partial file's name
_LOCK = ".ella-download.lock"
_CHUNK = 16 * 2**20  # bytes read at once for a checksum


@dataclass(frozen=True)
class LocalFile:
    """A published file and its place on the disk.

    Attributes:
        remote: what is published.
        path: where it belongs.
        part: where it grows. Named by the content, so that a part is never continued with
            another version's bytes.
    """

    remote: RemoteFile
    path: Path
    part: Path

    @property
    def is_there(self) -> bool:
        """Whether its place is taken."""
        return os.path.lexists(self.path)

    @property
    def begun(self) -> int:
        """Bytes of it that have been downloaded and are not yet at their place."""
        size = self.part.stat().st_size if self.part.is_file() else 0
        return size if size <= self.remote.size else 0

    def delete_other_parts(self) -> None:
        """Delete partial files of other versions, which nothing would ever resume."""
        of_any_version = f"{glob.escape(self.path.name)}.{'[0-9a-f]' * _DIGITS}.part"
        for part in self.path.parent.glob(of_any_version):
            if part != self.part:
                part.unlink(missing_ok=True)


@dataclass(frozen=True)
class Download:
    """A published model and the folder that it goes to.

    Attributes:
        source: where it is published.
        commit: the one that the source's revision stood for when the hub was asked.
        root: the folder in which its files keep their paths.
        files: all that belong to it.
    """

    source: Source
    commit: str
    root: Path
    files: tuple[LocalFile, ...]

    @classmethod
    def of(cls, source: Source, root: Path) -> "Download":
        """Ask the hub what belongs to a model, without downloading it.

        Raises:
            HubUnreachedError: the hub is not reached.
            EllaError: it refuses, or has no such model.
        """
        with explaining(source, root):
            remote = look_up(source)
        files = []
        for each in remote:
            path = root / each.path
            part = path.with_name(f"{path.name}.{each.checksum[:_DIGITS]}.part")
            files.append(LocalFile(each, path, part))
        return cls(source, remote[0].commit, root, tuple(files))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.remote.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are still to be downloaded."""
        return sum(file.remote.size - file.begun for file in self.files if not file.is_there)

    def fetch(self, on_progress: OnProgress) -> list[str]:
        """Have all files at their places, with the right checksums. Files there are left alone.

        Returns:
            What was done, a line for each file.

        Raises:
            EllaError: another file is in the way, another process is downloading into the folder,
                the disk is full or can't be written, or the hub is not reached, refuses, or sends
                something else than it announced.
        """
        folder = self.files[0].path.parent
        with explaining(self.source, self.root):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                for file in self.files:
                    file.delete_other_parts()
                there = [file for file in self.files if file.is_there]
                absent = [file for file in self.files if not file.is_there]
                for file in there:
                    _check_present(file, on_progress)
                self._check_space(folder)
                self._download(absent, on_progress)
        lines = [f"{file.path}: was there, with the right checksum" for file in there]
        sizes = {file: size_text(file.remote.size) for file in absent}
        return lines + [f"{file.path}: downloaded {size}" for file, size in sizes.items()]

    def _download(self, files: list[LocalFile], on_progress: OnProgress) -> None:
        total = sum(file.remote.size for file in files)
        done = 0
        for file in files:

            def on_write(size: int, before: int = done) -> None:
                on_progress(f"downloading the {self.source.label}", before + size, total)

            if file.part.is_file() and not file.begun:
                file.part.unlink()  # longer than the file
            on_write(file.begun)
            transfer(file.remote, file.part, on_write)
            done += file.remote.size
            _check_part(file, on_progress)
        # Load LLM lists a folder once it has a config.json.
        for file in sorted(files, key=lambda file: file.path.name == "config.json"):
            if file.is_there:
                raise EllaError(f"{file.path} has appeared meanwhile, and is left as it is")
            file.part.rename(file.path)

    def _check_space(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if self.missing > free:
            raise EllaError(
                f"{size_text(self.missing)} are to be downloaded, and {folder} has room for "
                f"{size_text(free)}. Make room on that disk, or name a folder on another one in "
                f"extra_model_paths.yaml"
            )


def size_text(size: int) -> str:
    """Format bytes as the hub's pages show them, 134 MB."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:.3g} {unit}"
    return f"{size} bytes"


def _check_present(file: LocalFile, on_progress: OnProgress) -> None:
    """Refuse to replace a file that is something else."""
    expected = file.remote.checksum
    same_size = file.path.is_file() and file.path.stat().st_size == file.remote.size
    if not same_size or _checksum(file.path, expected, on_progress) != expected:
        raise EllaError(
            f"{file.path} is there already and is not the file that {file.remote.repo} publishes. "
            f"Nothing was overwritten. If it is damaged, delete it and download again; if it is "
            f"yours, rename it"
        )


def _check_part(file: LocalFile, on_progress: OnProgress) -> None:
    found = _checksum(file.part, file.remote.checksum, on_progress)
    if found != file.remote.checksum:
        file.part.unlink()
        raise EllaError(
            f"{file.path.name} came with the checksum {found}, and {file.remote.checksum} was "
            f"announced. It was deleted: download it again"
        )


def _checksum(path: Path, like: str, on_progress: OnProgress) -> str:
    """Compute a checksum of the same kind as `like`: SHA-256, or git's SHA-1 of a blob."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            on_progress(f"checking {path.name}", file.tell(), size)
    return digest.hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes, which may share the folder, from downloading into it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise EllaError(
            f"another ComfyUI is downloading into {folder}. Wait until it is done. If none is, "
            f"delete the file {_LOCK} there"
        ) from error
    try:
        yield
    finally:
        lock.release()
