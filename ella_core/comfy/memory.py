"""Patchers through which ComfyUI's memory management moves our models."""

from typing import Any

import torch
from comfy import model_patcher
from comfy.model_patcher import ModelPatcher

# Newer ComfyUI chooses the class of its own models at its start: on a GPU one that brings weights
# to it as they are used (dynamic VRAM). One model of another class beside them, and ComfyUI makes
# room for all of them at once, as it did before.
_CorePatcher: Any = getattr(model_patcher, "CoreModelPatcher", ModelPatcher)


class Holder(torch.nn.Module):
    """Carries a transformers model, whose own `device` property refuses to be set."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.device: torch.device | None = None


class WholeModelPatcher(ModelPatcher):
    """Loads and unloads a model as one.

    ComfyUI can leave some layers of a model in system memory only where they are its own layers;
    those of transformers must all lie on one device.

    ComfyUI runs nodes in inference mode, but unloads on request outside it. torchao's weights
    can't be moved in one mode after the other, so they are always moved outside.
    """

    @torch.inference_mode(False)
    def partially_load(self, device_to: torch.device, *args: Any, **kwargs: Any) -> int:
        """Load all of it, whatever memory ComfyUI would like it to take."""
        loaded: int = super().partially_load(device_to, extra_memory=1e32)
        return loaded

    def partially_unload(self, *args: Any, **kwargs: Any) -> int:
        """Free nothing; ComfyUI then unloads the whole model."""
        return 0

    @torch.inference_mode(False)
    def detach(self, unpatch_all: bool = True) -> torch.nn.Module:
        """Unload all of it."""
        model: torch.nn.Module = super().detach(unpatch_all)
        return model


class SharedPatcher(_CorePatcher):
    """The connector's patcher, of which a deep copy of a conditioning makes no second one."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedPatcher":
        return self
