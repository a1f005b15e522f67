"""Opening a judge's model with transformers."""

from dataclasses import dataclass
from typing import Any

from ...errors import EllaError


@dataclass(frozen=True)
class Loaded:
    """A model that is ready.

    Attributes:
        model: on its device, in the dtype of its file on a GPU, else in float32.
        processor: what prepares its inputs.
        revision: the commit on the hub; empty for a folder.
    """

    model: Any
    processor: Any
    revision: str


def load(kind: str, name: str, revision: str, device: str) -> Loaded:
    """Open a model.

    Args:
        kind: class of transformers.
        name: folder, or repository on the Hugging Face hub.
        revision: branch or commit there; empty for the newest.
        device: where it runs; empty for a GPU if there is one.

    Raises:
        EllaError: It isn't found, or transformers can't open it as that kind.
    """
    import torch
    import transformers

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if device == "cpu" else "auto"
    dtype_argument = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    where = {"revision": revision} if revision else {}
    try:
        processor = transformers.AutoProcessor.from_pretrained(name, **where)
        model, report = getattr(transformers, kind).from_pretrained(
            name, **where, **{dtype_argument: dtype}, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise EllaError(
            f"{name} can't be opened as a judge ({kind}): {error}\nExpected a folder with a model "
            "and its processor, or the name of such a repository on the Hugging Face hub."
        ) from error
    if report["missing_keys"]:
        raise EllaError(
            f"{name} lacks {len(report['missing_keys'])} weights of {type(model).__name__}, the "
            f"first of them {min(report['missing_keys'])}. They would be random: choose a complete "
            "model."
        )
    commit = getattr(model.config, "_commit_hash", None) or revision
    return Loaded(model.to(device).eval(), processor, commit)
