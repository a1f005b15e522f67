"""From a run to a file that Load ELLA opens."""

import shutil
from pathlib import Path

import torch

from ..checkpoint import load_connector, save_connector
from ..errors import EllaError
from .checkpoints import CONNECTOR, Checkpoints
from .disk import naming_failure


def export(
    run: Path, path: Path | None = None, step: int | None = None, half: bool = False
) -> Path:
    """Write the connector of a checkpoint, averaged if the run averages, with its metadata.

    Args:
        run: the run's folder.
        path: where to; None for `connector.safetensors` in the run's folder.
        step: of the checkpoint; None for the newest.
        half: store it in fp16, as the released connector is.

    Returns:
        `path`.

    Raises:
        EllaError: there is no such checkpoint, `path` is no `.safetensors`, or the disk is full or
            can't be written to.
    """
    checkpoints = Checkpoints(run / "checkpoints").all()
    chosen = [c for c in checkpoints if step is None or int(c.name.split("-")[1]) == step]
    if not checkpoints:
        raise EllaError(
            f"{run} has no checkpoint yet. Give the folder that `run` of its config names."
        )
    if not chosen:
        found = ", ".join(c.name for c in checkpoints)
        raise EllaError(f"{run} has no checkpoint of step {step}: found {found}. Set --step.")
    source, path = chosen[-1] / CONNECTOR, path or run / CONNECTOR
    if path.suffix != source.suffix:
        raise EllaError(f"Load ELLA opens only {source.suffix} files. Give {path} that ending.")
    part = path.with_name(path.name + ".part")
    connector = load_connector(source, dtype=torch.float16) if half else None
    with naming_failure(path, "Make room, or choose another place."):
        if connector:
            save_connector(connector, part)
        else:
            shutil.copyfile(source, part)
        part.replace(path)
    return path
