"""Passes over pictures that write new shards: captioning and filtering.

Each shard of pictures becomes one `.tar`, written whole or not at all: an interrupted pass goes on
with the shards that are missing or were made of other pictures. Under `accelerate launch` each
process takes every n-th of them. A report beside each shard says what became of its pictures.
"""

import io
import json
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import PartialState
from tqdm import tqdm

from ..errors import EllaError
from .disk import GO_ON, naming_failure, write_whole
from .pictures import PictureShard, Problems, picture_shards

_LOG = logging.getLogger("ella")

#: Pictures in a shard, where they don't come in tars.
SHARD_SIZE = 1000

_SETTINGS = "settings.json"
Sample = tuple[str, Mapping[str, bytes]]


@dataclass
class Work:
    """A shard that is being worked on.

    Attributes:
        journal: a file for results that would be lost if the process were killed. It is deleted
            once the shard is written.
        advance: moves the bar by so many pictures.
        dropped: rule -> number of pictures that were left out by it.
        problems: pictures that can't be read.
    """

    journal: Path
    advance: Callable[[int], object]
    dropped: Counter[str] = field(default_factory=Counter)
    problems: Problems = field(default_factory=Problems)


class Stage(Protocol):
    """A pass.

    Attributes:
        name: for the bar.
        settings: all that its results depend on beside the pictures.
    """

    name: str
    settings: Mapping[str, Any]

    def load(self, device: torch.device) -> None:
        """Load the models, once there is work for them."""

    def samples(self, shard: PictureShard, work: Work) -> Iterator[Sample]:
        """Yield key and files (extension -> content) of each sample of the new shard."""


@dataclass(frozen=True)
class Tally:
    """Counts of all pictures of a stage.

    Attributes:
        written: number of pictures in the new shards.
        dropped: rule -> number of pictures that were left out by it.
        skipped: names of the pictures and shards that could not be read.
    """

    written: int
    dropped: Counter[str]
    skipped: list[str]


def process_state() -> PartialState:
    """Return this process's place among those of `accelerate launch`.

    They wait for each other as long as it takes: one may have days more to do than another.
    """
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(weeks=8))


def run_stage(stage: Stage, source: Path, target: Path, shard_size: int = SHARD_SIZE) -> Tally:
    """Make new shards of a folder's pictures.

    Args:
        stage: what is done with them.
        source: folder of pictures or tar shards, see `picture_shards`.
        target: folder of the new shards.
        shard_size: pictures in a shard, where they don't come in tars.

    Raises:
        EllaError: there are no pictures, `target` was made with other settings or can't be
            written to; or what `stage` raises.
    """
    if target.resolve() == source.resolve():
        raise EllaError(f"{target} is the folder of the pictures themselves. Choose another.")
    state = process_state()
    problems = Problems()
    shards = picture_shards(source, shard_size, problems)
    _settle(
        {**stage.settings, "pictures": source.resolve().name, "shard_size": shard_size},
        target,
        state,
    )
    mine = shards[state.process_index :: state.num_processes]
    left = [shard for shard in mine if not _is_made(target, shard)]
    if left:
        stage.load(state.device)
    with tqdm(
        total=_count(mine),
        initial=_count(mine) - _count(left),
        desc=f"{stage.name}, process {state.process_index + 1} of {state.num_processes}",
        unit="picture",
        disable=not state.is_local_main_process,
    ) as bar:
        for shard in left:
            _write(stage, shard, target, bar)
    state.wait_for_everyone()
    if state.is_main_process:
        warn_of_others(target, [_tar(target, shard) for shard in shards])
    return _sum(target, shards, problems)


def warn_of_others(folder: Path, shards: Sequence[Path]) -> None:
    """Log which shards of a folder come from none of the pictures at hand, but are read with them.

    They are left over where there are fewer pictures now, or were made of pictures that are gone.
    """
    others = {path for shard in shards[:1] for path in folder.glob(f"*{shard.suffix}")}
    others -= set(shards)
    if others:
        _LOG.warning(
            "%s also holds shards of other pictures: %s. Delete them if they are left over.",
            folder,
            ", ".join(sorted(path.name for path in others)),
        )


def _is_made(target: Path, shard: PictureShard) -> bool:
    """Return whether a new shard is there, and was made of the same pictures."""
    if not _tar(target, shard).is_file():
        return False
    report = json.loads(_report(target, shard).read_text())
    if report["pictures"] == shard.identity:
        return True
    _LOG.warning("%s was made of other pictures. It is made again.", _tar(target, shard))
    return False


def _settle(settings: Mapping[str, Any], target: Path, state: PartialState) -> None:
    """Note the settings in the new folder, or compare them with those that it was begun with."""
    path = target / _SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [k for k in settings if before.get(k) != settings[k]]
        if different:
            was = "; ".join(f"{k} was {before.get(k)!r} and is {settings[k]!r}" for k in different)
            raise EllaError(
                f"{target} was begun with other settings: {was}. Set them back to go on, or "
                f"choose another folder."
            )
    elif state.is_main_process:
        with naming_failure(path, GO_ON):
            target.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(settings, indent=1).encode())
    state.wait_for_everyone()


def _write(stage: Stage, shard: PictureShard, target: Path, bar: Any) -> None:
    start = bar.n
    work = Work(target / f"{shard.name}.jsonl", bar.update)
    path = _tar(target, shard)
    part = path.with_name(path.name + ".part")
    written = _write_tar(part, stage.samples(shard, work))
    report = {
        "pictures": shard.identity,
        "written": written,
        "dropped": work.dropped,
        "skipped": work.problems.skipped,
    }
    with naming_failure(path, GO_ON):
        write_whole(_report(target, shard), json.dumps(report).encode())
        part.replace(path)
    work.journal.unlink(missing_ok=True)
    bar.update(start + len(shard.samples) - bar.n)


def _write_tar(path: Path, samples: Iterable[Sample]) -> int:
    """Write samples to a tar and return how many they were."""
    count = 0
    with naming_failure(path, GO_ON):
        file = path.open("wb")
    try:
        tar = tarfile.TarFile(fileobj=file, mode="w")
        for key, files in samples:
            with naming_failure(path, GO_ON):
                for extension, content in files.items():
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            count += 1
        with naming_failure(path, GO_ON):
            tar.close()
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):  # of what could not be written, which has been named
            file.close()
    return count


def _count(shards: Iterable[PictureShard]) -> int:
    return sum(len(shard.samples) for shard in shards)


def _sum(target: Path, shards: Iterable[PictureShard], problems: Problems) -> Tally:
    reports = [json.loads(_report(target, shard).read_text()) for shard in shards]
    dropped: Counter[str] = Counter()
    for report in reports:
        dropped.update(report["dropped"])
    skipped = [*problems.skipped, *(name for report in reports for name in report["skipped"])]
    return Tally(sum(report["written"] for report in reports), dropped, skipped)


def _tar(folder: Path, shard: PictureShard) -> Path:
    return folder / f"{shard.name}.tar"


def _report(folder: Path, shard: PictureShard) -> Path:
    return folder / f"{shard.name}.json"
