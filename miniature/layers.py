"""What an LLM's layers add: the same connector trained alike on the features of fewer of them.

Without any layers they are word embeddings: each word by itself, and nothing of where it stands.
"""

from collections.abc import Sequence
from pathlib import Path

from .recipe import ella_train, source_settings

#: Of the miniature's LLM.
ALL = 30


def folder_name(layers: int) -> str:
    """Return the name of the LLM that has so many of the miniature's LLM's layers."""
    from smollm2 import NAME

    if not 0 <= layers <= ALL:
        raise ValueError(f"{NAME} has {ALL} layers. Give --layers 0 to {ALL}, not {layers}.")
    return NAME if layers == ALL else f"SmolLM2-135M-{layers}-layers"


def write_cut(llm: Path, folder: Path, layers: int) -> None:
    """Write the LLM in `llm` with its first layers only, as an LLM that Load LLM (ELLA) opens."""
    if folder.is_dir():
        return
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(llm, dtype="auto", local_files_only=True)
    model.layers, model.config.num_hidden_layers = model.layers[:layers], layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]
    part = folder.with_name(f"{folder.name}.part")
    model.save_pretrained(part)
    AutoTokenizer.from_pretrained(llm, local_files_only=True).save_pretrained(part)
    part.rename(folder)


def train(run: Path, llm: str, seed: int, steps: int, settings: Sequence[str] = ()) -> Path:
    """Align a connector, or on from an interruption, and return its file.

    Args:
        run: folder of a finished `recipe.train`, whose base and pictures are used.
        llm: its LLM's folder in `run`.
        seed: of initial weights, order and timesteps.
        steps: of the config's batch.
        settings: further ones that differ from the config, such as batch=8.
    """
    cache = "cache" if llm == folder_name(ALL) else f"cache-{llm}"
    made = [f"llm.path={run / llm}", *source_settings(run, cache), *settings]
    folder = run / f"layers/{llm}-{seed}-{steps}"
    made += [f"run={folder}", f"seed={seed}", f"steps={steps}"]
    for command in ("precompute", "train"):
        ella_train(command, "align", run, made)
    return folder / "connector.safetensors"
