"""Checkpoints of a run: all of its state, whole or not at all, the newest few kept.

A checkpoint is written beside its final name and renamed. A process that is killed while writing
leaves a `.part` folder that nobody reads.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from ..checkpoint import save_connector
from ..connectors import Connector
from ..errors import EllaError
from .config import TrainConfig
from .config_file import to_tree
from .contract import Contract
from .disk import flush, naming_failure

#: The connector's file in a checkpoint.
CONNECTOR = "connector.safetensors"

_REMEDY = (
    "Make room, or lower checkpoint.keep. The last checkpoint is whole, and the same command goes "
    "on from it."
)

# Settings that may change when a run goes on; all others belong to its course. The LLM may lie
# elsewhere, and what it is belongs to the contract.
_FREE = ("run", "steps", "checkpoint", "validation", "sheet", "licence", "llm")


class Checkpoints:
    """The checkpoints of a run."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self._keep = folder, keep

    def all(self) -> list[Path]:
        """Whole checkpoints, the oldest first."""
        return sorted(self.folder.glob("step-*[0-9]"))

    def save(
        self, accelerator: Accelerator, step: int, course: dict[str, Any], connector: Connector
    ) -> None:
        """Write a checkpoint after `step` steps, and delete the oldest beyond `keep`.

        `connector` goes into it as a file for use, beside the state to go on from.

        Raises:
            EllaError: the disk is full, or can't be written to for another reason.
        """
        path = self.folder / f"step-{step:08d}"
        part, main = path.with_suffix(".part"), accelerator.is_main_process
        try:
            with naming_failure(part, _REMEDY):
                accelerator.save_state(str(part))
            accelerator.wait_for_everyone()  # each process writes a file of its own
            if main:
                with naming_failure(part, _REMEDY):
                    save_connector(connector, part / CONNECTOR)
                    (part / "course.json").write_text(json.dumps({"step": step, **course}))
                    for written in [*part.rglob("*"), part]:
                        flush(written)
                    part.replace(path)
        except EllaError:
            shutil.rmtree(part, ignore_errors=True)
            raise
        accelerator.wait_for_everyone()
        if main:
            for old in self.all()[: -self._keep]:
                old.replace(old.with_suffix(".part"))  # half deleted, it is no checkpoint
            for doomed in self.folder.glob("*.part"):
                shutil.rmtree(doomed)

    def load(self, accelerator: Accelerator, course: dict[str, Any]) -> int:
        """Restore the newest checkpoint.

        Returns:
            The steps that were made; 0 without a checkpoint.

        Raises:
            EllaError: it is of another course: other settings, or other data; or not all processes
                see it.
        """
        checkpoints = self.all()
        newest = checkpoints[-1].name if checkpoints else "none"
        seen = sorted(set(gather_object([newest])))
        if len(seen) > 1:
            raise EllaError(
                f"The processes find different checkpoints in {self.folder}: {', '.join(seen)}. "
                f"Set run to a folder that all machines share."
            )
        if not checkpoints:
            return 0
        saved = json.loads((checkpoints[-1] / "course.json").read_text())
        differences = _differences(saved, course)
        if differences:
            raise EllaError(
                f"The run in {self.folder.parent} was made with other settings: "
                f"{'; '.join(differences)}. Set them back to go on, or set another run folder to "
                f"begin anew (connector.init_from takes over the weights)."
            )
        accelerator.load_state(str(checkpoints[-1]))
        return int(saved["step"])


def course_of(config: TrainConfig, contract: Contract, data: list[str]) -> dict[str, Any]:
    """All that a run's course depends on.

    These are its settings, what features and latents are made with, and the sizes of the data's
    shards.
    """
    settings = {k: v for k, v in to_tree(config).items() if k not in _FREE}
    settings |= asdict(contract)
    return {"settings": json.loads(json.dumps(settings)), "data": data}


def _differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found = [
        f"{name} was {saved['settings'].get(name)!r} and is {value!r}"
        for name, value in now["settings"].items()
        if saved["settings"].get(name) != value
    ]
    if saved["data"] != now["data"]:
        found.append("the shards of the data are others, or hold other numbers of pictures")
    return found
