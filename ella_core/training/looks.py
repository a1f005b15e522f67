"""Looking on while a run goes: validation loss by timestep band, and sheets of pictures."""

from itertools import groupby
from typing import Any

import torch
from accelerate import Accelerator

from .batches import held_out, make_batch, to_tensors
from .config import TrainConfig
from .encoding import batched
from .loss import Conditioning
from .parts import Parts


class Looks:
    """Takes looks at the connector every so many steps, and logs them to tensorboard."""

    def __init__(
        self, config: TrainConfig, parts: Parts, loss: Any, accelerator: Accelerator, writer: Any
    ) -> None:
        self._config, self._parts, self._loss = config, parts, loss
        self._accelerator, self._writer = accelerator, writer

    def due(self, step: int) -> bool:
        """Whether there is anything to look at after `step` steps."""
        return self._validation_due(step)

    def take(self, step: int) -> None:
        """Look at the connector as it is now."""
        if self._validation_due(step):
            losses = self._validate()
            if self._writer:
                for name, loss in losses.items():
                    self._writer.add_scalar(f"validation/{name}", loss, step)

    def _validation_due(self, step: int) -> bool:
        due = step % self._config.validation.every == 0 or step == self._config.steps
        return due and bool(self._parts.held_out)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Mean loss of each timestep band and of all; the processes share the work."""
        validation, accelerator = self._config.validation, self._accelerator
        conditioning = Conditioning(self._parts.connector)
        bands = validation.bands
        sums = torch.zeros(2, bands, device=accelerator.device)  # losses, pictures
        together = groupby(
            held_out(self._parts.held_out, self._config),
            key=lambda draw: (draw.timestep * bands // 1000, draw.noise.shape),
        )
        micro_batches = (
            (band, draws)
            for (band, _), group in together
            for draws in batched(group, self._config.micro_batch)
        )
        for number, (band, draws) in enumerate(micro_batches):
            if number % accelerator.num_processes != accelerator.process_index:
                continue
            batch = to_tensors(make_batch(draws), self._parts.encoders, accelerator.device)
            with accelerator.autocast():
                sums[0, band] += self._loss(conditioning, batch).sum()
            sums[1, band] += len(draws)
        losses, counts = accelerator.reduce(sums, "sum")
        width = 1000 // bands
        named = {
            f"timesteps {band * width}-{(band + 1) * width - 1}": float(losses[band] / counts[band])
            for band in range(bands)
        }
        return {"loss": float(losses.sum() / counts.sum()), **named}
