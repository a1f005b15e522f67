"""Shared by the stages of the training: the loop with its schedule, checkpoints and curve."""

import copy
import json
import time
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import mean

import torch
from torch import nn

from ella_core.training.precision import resolve_precision

from .muon import Muon

_SAVE_SECONDS = 60


def autocast() -> AbstractContextManager[object]:
    """Compute in bfloat16 where that is safe, if the CPU does; weights stay float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=resolve_precision("auto") == "bf16")


class Log:
    """Curves of all stages, kept in a JSON file, and the folder of checkpoints.

    Attributes:
        folder: where checkpoints are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "curves.json"
        self.curves: dict[str, list[dict[str, float]]] = {}
        if self._path.is_file():
            self.curves = json.loads(self._path.read_text(encoding="utf-8"))

    def add(self, stage: str, **values: float) -> None:
        self.curves.setdefault(stage, []).append(values)
        print(stage, *(f"{name} {value:.6g}" for name, value in values.items()), flush=True)
        if self._path.is_file():  # another stage may be writing too
            others = json.loads(self._path.read_text(encoding="utf-8"))
            self.curves = {**others, stage: self.curves[stage]}
        self._path.write_text(json.dumps(self.curves, indent=1), encoding="utf-8")


class Loop:
    """Optimiser with its schedule, an average of the weights, and resumable checkpoints.

    The rate rises for 50 steps and falls to zero over the last 30 %. Large matrices and
    convolutions are trained by Muon, all else by AdamW.

    Args:
        model: what is trained; its checkpoint is loaded if there is one.
        stage: name of the checkpoint and the curve.
        log: where they go.
        steps: after which the training ends.
        rate: highest learning rate.
        decay: weight decay.
        average: of the weights, 0 for none; the higher, the longer.

    Attributes:
        averaged: a copy of the model with the average of its weights.
        step: steps taken.
    """

    def __init__(
        self,
        model: nn.Module,
        stage: str,
        log: Log,
        steps: int,
        rate: float,
        decay: float = 0.0,
        average: float = 0.0,
    ) -> None:
        self.model, self.steps, self.step = model, steps, 0
        self._stage, self._log, self._rate, self._average = stage, log, rate, average
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        large = [p for p in self._parameters if p.ndim > 1 and 32 <= min(p.shape[:2]) <= 1024]
        small = [p for p in self._parameters if not any(p is q for q in large)]
        options = {"lr": rate, "weight_decay": decay}
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(small, betas=(0.9, 0.99), fused=True, **options)
        ]
        if large:
            self._optimizers.append(Muon(large, **options))
        self.averaged = copy.deepcopy(model).requires_grad_(False)
        self._path = log.folder / f"{stage}.pt"
        self._values: dict[str, list[float]] = {}
        self._saved = time.monotonic()
        if self._path.is_file():
            self._load()

    def goes_on(self) -> bool:
        """Set the rate of the next step; after the last, save and keep the averaged weights."""
        if self.step >= self.steps:
            self._save()
            self.model.load_state_dict(self.averaged.state_dict())
            return False
        fall = (self.steps - self.step) / (0.3 * self.steps)
        rate = self._rate * min(1.0, (self.step + 1) / 50, fall)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        return True

    def update(self, loss: torch.Tensor, **values: torch.Tensor) -> None:
        """Take a step; the means of up to 50 steps' values go into the curve."""
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self.model.zero_grad()
        self.step += 1
        # A short average at first, so that it is not made of the initial weights.
        keep = min(self._average, self.step / (self.step + 10))
        pairs = zip(self.averaged.parameters(), self.model.parameters(), strict=True)
        for averaged, parameter in pairs:
            averaged.lerp_(parameter.detach(), 1 - keep)
        for name, value in values.items():
            self._values.setdefault(name, []).append(value.item())
        if self.step % 50 == 0:
            means = {name: mean(recent) for name, recent in self._values.items()}
            self._log.add(self._stage, step=self.step, **means)
            self._values = {}
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "step": self.step,
        }
        part = self._path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._path)
        self._saved = time.monotonic()

    def _load(self) -> None:
        state = torch.load(self._path)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]
