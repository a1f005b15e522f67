"""Embeds in a file: what an LLM has read, for another day or another machine."""

import hashlib
import json
import math
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
    from ...text_encoders.tokens import whole_characters

    tensors: dict[str, torch.Tensor] = {}
    text = whole_characters(embeds.asked.text).encode() if embeds.asked else None
    about = {
        "llm": embeds.llm,
        "recipe": asdict(embeds.recipe),
        "text_sha256": None if text is None else hashlib.sha256(text).hexdigest(),
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
        if len({prompt.features.shape[-1] for prompt, _ in parts + empty}) != 1:
            raise ValueError("its prompts differ in width")
        return LLMEmbeds(parts, empty, about["llm"], ReadingRecipe(**about["recipe"]), _refuse)
    except (OSError, SafetensorError, LookupError, ValueError, TypeError) as error:
        found = f"it lacks {error}" if isinstance(error, LookupError) else error
        raise EllaError(
            f"{path.name} holds no embeds that can be read: {found}. Choose a file of ELLA Save "
            f"Embeds in ELLA Load Embeds."
        ) from error


def _describe(parts: Parts, name: str, tensors: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Put the tensors of some prompts among the others, and return what else is known of them."""
    from ...text_encoders import PromptCounts

    described = []
    for i, (prompt, weight) in enumerate(parts):
        # Clones, since safetensors refuses one tensor twice, and an empty prompt is its own empty.
        tensors[f"{name}.{i}.features"] = prompt.features.cpu().contiguous().clone()
        if prompt.mask is not None:
            tensors[f"{name}.{i}.mask"] = prompt.mask.cpu().contiguous().clone()
        counts = {field.name: getattr(prompt, field.name) for field in fields(PromptCounts)}
        read_by = {"llm": prompt.llm and asdict(prompt.llm), "recipe": asdict(prompt.recipe)}
        described.append({"weight": weight, "counts": counts, **read_by})
    return described


def _read(described: list[dict[str, Any]], name: str, file: Any) -> Parts:
    from ...text_encoders import EncodedPrompt

    if not described:
        raise ValueError(f"it has no prompt as {name}")
    there = set(file.keys())
    parts = []
    for i, each in enumerate(described):
        features = file.get_tensor(f"{name}.{i}.features").clone()  # no view of the file
        if features.dim() != 3 or 0 in features.shape or not features.isfinite().all():
            raise ValueError(
                f"the features of {name} {i} are {tuple(features.shape)} and not finite numbers of "
                f"shape (K, L, D)"
            )
        if not math.isfinite(each["weight"]):
            raise ValueError(f"the weight of {name} {i} is {each['weight']}")
        mask = f"{name}.{i}.mask"
        prompt = EncodedPrompt(
            features.to(model_management.intermediate_device()),
            each["llm"] and LLMIdentity(**each["llm"]),
            file.get_tensor(mask).clone() if mask in there else None,
            ReadingRecipe(**each["recipe"]),
            **each["counts"],
        )
        parts.append((prompt, float(each["weight"])))
    return tuple(parts)


def _refuse(recipe: ReadingRecipe) -> LLMEmbeds:
    raise EllaError(
        "These embeds come from a file, and this connector wants its prompts read in another way. "
        "Choose the connector that they were made for in Load ELLA, or encode the text again."
    )
