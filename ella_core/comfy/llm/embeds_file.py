"""Embeds in a file: what an LLM has read, for another day or another machine."""

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from comfy import model_management
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...config import LLMIdentity, ReadingRecipe
from ...errors import EllaError
from .embeds import LLMEmbeds, Parts

_KIND, _VERSION = "ella_embeds", "1"


def save_embeds(embeds: LLMEmbeds, path: Path) -> None:
    """Write embeds: features, how they were read and by which LLM. Of the text only a hash.

    Args:
        embeds: one prompt, or a mix of several.
        path: a `.safetensors` file.
    """
    tensors: dict[str, torch.Tensor] = {}
    about = {
        "llm": embeds.llm,
        "recipe": asdict(embeds.recipe),
        "text_sha256": embeds.asked and hashlib.sha256(embeds.asked.text.encode()).hexdigest(),
        "parts": _describe(embeds.parts, "parts", tensors),
        "empty": _describe(embeds.empty, "empty", tensors),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part, {"format": _KIND, "version": _VERSION, "about": json.dumps(about)})
    part.replace(path)


def load_embeds(path: Path) -> LLMEmbeds:
    """Read embeds that `save_embeds` has written.

    Raises:
        EllaError: the file is another one or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if (metadata.get("format"), metadata.get("version")) != (_KIND, _VERSION):
                raise ValueError("it was not written by ELLA Save Embeds")
            about = json.loads(metadata["about"])
            parts, empty = (_read(about[name], name, file) for name in ("parts", "empty"))
        recipe = ReadingRecipe(**about["recipe"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EllaError(
            f"{path.name} holds no embeds that can be read: {error}. Choose a file of ELLA Save "
            f"Embeds in ELLA Load Embeds."
        ) from error
    return LLMEmbeds(parts, empty, about["llm"], recipe, _refuse)


def _describe(parts: Parts, name: str, tensors: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Put the tensors of some prompts among the others, and return what else is known of them."""
    from ...text_encoders import PromptCounts

    described = []
    for i, (prompt, weight) in enumerate(parts):
        tensors[f"{name}.{i}.features"] = prompt.features.cpu().contiguous()
        if prompt.mask is not None:
            tensors[f"{name}.{i}.mask"] = prompt.mask.contiguous()
        counts = {field.name: getattr(prompt, field.name) for field in fields(PromptCounts)}
        described.append(
            {"weight": weight, "llm": prompt.llm and asdict(prompt.llm), "counts": counts}
        )
    return described


def _read(described: list[dict[str, Any]], name: str, file: Any) -> Parts:
    from ...text_encoders import EncodedPrompt

    there = set(file.keys())
    parts = []
    for i, each in enumerate(described):
        features = file.get_tensor(f"{name}.{i}.features").clone()  # no view of the file
        mask = f"{name}.{i}.mask"
        prompt = EncodedPrompt(
            features.to(model_management.intermediate_device()),
            each["llm"] and LLMIdentity(**each["llm"]),
            file.get_tensor(mask).clone() if mask in there else None,
            **each["counts"],
        )
        parts.append((prompt, float(each["weight"])))
    return tuple(parts)


def _refuse(recipe: ReadingRecipe) -> LLMEmbeds:
    raise EllaError(
        "These embeds come from a file, and this connector wants its prompts read in another way. "
        "Choose the connector that they were made for in Load ELLA, or encode the text again."
    )
