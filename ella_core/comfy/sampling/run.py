"""Contexts at the timesteps of a model call, computed and moved as rarely as possible."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property, partial
from typing import Any

import torch
from comfy.model_management import throw_exception_if_processing_interrupted

from ...store import ContextStore
from .connector import ELLA
from .context import Origin, Place, TimestepContext, prompts_of, replay
from .prompt import Observer, TimestepPrompt
from .timesteps import sigma_to_timestep


class Run:
    """State that the model calls of one sampling run share.

    Attributes:
        schedule: the timesteps that the sampler is going to stop at; None before the first call.
        stores: those whose contexts the run has used.
    """

    def __init__(self) -> None:
        self.schedule: list[int] | None = None
        self.stores: set[ContextStore] = set()
        self._places: dict[torch.device, Place] = {}

    def value(self, origin: Origin, timestep: int, device: torch.device) -> torch.Tensor:
        """Return the value (B, ...) of `origin` at a timestep that its prompts' store has."""
        place = self._places.setdefault(device, Place(device))
        return replay(origin, lambda leaf: leaf.value(timestep, device), place)


_current_run: ContextVar[Run | None] = ContextVar("_current_run", default=None)


@contextmanager
def sampling_run() -> Iterator[Run]:
    """Leave contexts where they are used until the end of the run."""
    run = Run()
    token = _current_run.set(run)
    try:
        yield run
    finally:
        _current_run.reset(token)
        for store in run.stores:
            store.settle()


@contextmanager
def current_run() -> Iterator[Run]:
    """Give the run that is going on, or one for a call that a guider makes outside a run."""
    run = _current_run.get()
    with nullcontext(run) if run else sampling_run() as current:
        yield current


class ModelCall:
    """One call of the U-Net: its timesteps, and the contexts at them."""

    def __init__(
        self,
        run: Run,
        model: Any,
        sigma: torch.Tensor,
        device: torch.device,
        model_options: dict[str, Any],
    ) -> None:
        """Look at nothing yet: to read a sigma, a GPU's whole queue has to be waited for.

        Args:
            run: that the call is part of.
            model: the BaseModel that is called.
            sigma: (S,) one per sample.
            device: where the model computes.
            model_options: the run's, which hold its schedule.
        """
        self._model = model
        self._sigma = sigma
        self._device = device
        self._sigmas = model_options.get("transformer_options", {}).get("sample_sigmas")
        self._run = run

    @cached_property
    def timesteps(self) -> list[int]:
        """The timestep of each sample. Read with the schedule, where that is not known yet."""
        model_sampling, count = self._model.model_sampling, len(self._sigma)
        timestep = sigma_to_timestep(model_sampling, self._sigma)
        unknown = self._run.schedule is None
        if unknown and self._sigmas is not None:
            # Apart from the sigma: half-way between two timesteps, the rounding of ComfyUI's
            # float32 depends on the number of sigmas. The run ends at the last one.
            schedule = sigma_to_timestep(model_sampling, self._sigmas[:-1])
            timestep = torch.cat([timestep, schedule.to(timestep)])
        timesteps: list[int] = timestep.tolist()
        if unknown:
            self._run.schedule = timesteps[count:]
        return timesteps[:count]

    def prepare(self, prompts: Iterable[TimestepPrompt]) -> None:
        """Have the stores compute what is missing: at the first call of a run, its schedule."""
        prompts = list(dict.fromkeys(prompts))
        timesteps = self.timesteps  # before the schedule: reading them reads it
        schedule = self._run.schedule or []
        wanted = [*schedule, *timesteps]
        missing: dict[ELLA, list[TimestepPrompt]] = {}
        for prompt in prompts:
            self._run.stores.add(prompt.ella.store)
            if not prompt.ella.store.has(prompt.parts, wanted):
                missing.setdefault(prompt.ella, []).append(prompt)
        for ella, together in missing.items():
            parts = [part for prompt in together for part in prompt.parts]
            observers = {prompt.observer for prompt in together}
            # A sigma between two steps is computed too fast for a progress bar.
            watching = [] if ella.store.has(parts, schedule) else observers
            passes = ella.store.prepare(parts, wanted, self._device, partial(_progress, watching))
            for observer in observers:
                observer.add(passes)
        for prompt in prompts:
            prompt.ella.store.bring(prompt.parts, wanted, self._device)

    def value(self, origin: Origin, rows: int) -> torch.Tensor:
        """Return the value of `origin`, each row at the timestep of its sample.

        Args:
            origin: of a context of B rows, or of one that all samples share.
            rows: number of rows wanted if the samples are at different timesteps.

        Returns:
            (B or rows, N, C), or (B or rows, E) of a pooled embedding.
        """
        values = {t: self._run.value(origin, t, self._device) for t in set(self.timesteps)}
        if len(values) == 1:
            return values[self.timesteps[0]]
        of_rows = (values[self.timesteps[i % len(self.timesteps)]] for i in range(rows))
        return torch.stack([value[i % len(value)] for i, value in enumerate(of_rows)])

    def value_in_layer(self, context: TimestepContext) -> torch.Tensor:
        """Return the value of a context that reached a layer without the wrapper's help."""
        self.prepare(prompts_of(context))
        return self.value(context.origin, len(context))


def _progress(observers: Iterable[Observer], done: int, of: int) -> None:
    for observer in observers:
        observer.progress(done, of)
    throw_exception_if_processing_interrupted()
