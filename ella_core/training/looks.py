"""Looking on while a run goes: validation loss by timestep band, and sheets of pictures."""

from itertools import groupby
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from .batches import held_out, make_batch, to_tensors
from .config import TrainConfig
from .disk import GO_ON, naming_failure
from .encoding import CaptionEncoder, batched
from .loss import Conditioning
from .parts import Parts
from .sheets import Sheets


class Looks:
    """Takes looks at the connector every so many steps, and logs them to tensorboard."""

    def __init__(
        self, config: TrainConfig, parts: Parts, loss: Any, accelerator: Accelerator, writer: Any
    ) -> None:
        self._config, self._parts, self._loss = config, parts, loss
        self._accelerator, self._writer = accelerator, writer
        self._sheets: Sheets | None = None
        if config.sheet.prompts and accelerator.is_main_process:
            parts.base.unet.to(accelerator.device)
            online = parts.encoders.captions if parts.encoders else None
            captions = online or CaptionEncoder(config.llm, config.text, accelerator.device)
            self._sheets = Sheets(config, parts.base, captions)

    def due(self, step: int) -> bool:
        """Return whether there is anything to look at after `step` steps."""
        return self._validation_due(step) or self._sheet_due(step)

    def take(self, step: int) -> None:
        """Look at the connector as it is now."""
        if self._validation_due(step):
            losses = self._validate()
            if self._writer:
                for name, loss in losses.items():
                    self._writer.add_scalar(f"validation/{name}", loss, step)
        if self._sheets and self._sheet_due(step):
            sheet = self._sheets.draw(self._parts.connector)
            folder = self._config.run / "sheets"
            with naming_failure(folder, GO_ON):
                folder.mkdir(exist_ok=True)
                sheet.save(folder / f"step-{step:08d}.jpg", quality=95)
            self._writer.add_image("sheet", np.asarray(sheet), step, dataformats="HWC")

    def _validation_due(self, step: int) -> bool:
        return bool(self._parts.held_out) and self._is_turn(step, self._config.validation.every)

    def _sheet_due(self, step: int) -> bool:
        return bool(self._sheets) and self._is_turn(step, self._config.sheet.every)

    def _is_turn(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self._config.steps

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
