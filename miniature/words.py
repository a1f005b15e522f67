"""What an LLM adds: the same connector trained alike on its features and on word embeddings.

The embeddings are those of the LLM itself, without any of its layers: each word by itself, and
nothing of where it stands.
"""

from collections.abc import Sequence
from pathlib import Path

from .recipe import ella_train

NAME = "SmolLM2-135M-words"


def write_words(llm: Path, folder: Path) -> None:
    """Write the LLM in `llm` without its layers, as an LLM that Load LLM (ELLA) opens."""
    if folder.is_dir():
        return
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(llm, dtype="auto", local_files_only=True)
    model.layers, model.config.num_hidden_layers = torch.nn.ModuleList(), 0
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = []
    part = folder.with_name(f"{folder.name}.part")
    model.save_pretrained(part)
    AutoTokenizer.from_pretrained(llm, local_files_only=True).save_pretrained(part)
    part.rename(folder)


def train(run: Path, llm: str, steps: int, settings: Sequence[str] = ()) -> Path:
    """Align a connector, or on from an interruption, and return its file.

    Args:
        run: folder of a finished `recipe.train`, whose base and pictures are used.
        llm: its LLM's folder in `run`: `NAME` or the miniature's own.
        steps: of the config's batch.
        settings: further ones that differ from the config, such as batch=8.
    """
    made = [f"llm.path={run / llm}", *settings]
    for section, folder in (("data", run), ("validation", run / "held-out")):
        cache = folder / (f"cache-{llm}" if llm == NAME else "cache")
        made.append(f"{section}.sources=[{{pictures: {folder / 'pictures'}, cache: {cache}}}]")
    folder = run / f"words/{llm}-{steps}"
    for command in ("precompute", "train"):
        ella_train(command, "align", run, [*made, f"run={folder}", f"steps={steps}"])
    return folder / "connector.safetensors"
