"""The training loop, on accelerate: one process or many, of one machine or several.

A step's pictures, captions, timesteps and noise depend on the seed and the step alone. So a run
that is resumed goes on exactly, and any number of processes make the same steps.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from tqdm import tqdm

from ..errors import EllaError
from .batches import Batch, TrainingPictures, read_ahead, to_tensors
from .checkpoints import Checkpoints, course_of
from .config import OptimiserConfig, TrainConfig
from .config_file import dump_config
from .disk import GO_ON, naming_failure
from .encoding import batched
from .export import export
from .looks import Looks
from .loss import AlignLoss, Conditioning, NoiseLoss
from .parts import assemble
from .precision import resolve_precision

_LOG = logging.getLogger("ella")


class Trainer:
    """A training run.

    Attributes:
        accelerator: devices, processes and precision.
        parts: what is trained, with what, on what.
        step: steps made so far.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Put a run together, and restore its newest checkpoint if it has one.

        Raises:
            EllaError: see `assemble` and `Checkpoints.load`; or the micro-batches of a step can't
                be divided among the processes.
        """
        # From here on a resumed run is held to what auto stood for.
        self.config = config = replace(config, precision=resolve_precision(config.precision))
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # else processes without a GPU don't join
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            kwargs_handlers=[
                # The alignment has no use for SDXL's pool.
                DistributedDataParallelKwargs(
                    find_unused_parameters=config.loss.objective == "align"
                )
            ],
        )
        processes = self.accelerator.num_processes
        if config.batch % (config.micro_batch * processes):
            raise EllaError(
                f"A batch of {config.batch} can't be divided into micro-batches of "
                f"{config.micro_batch} on {processes} processes. Lower micro_batch."
            )
        self.parts = assemble(config, self.accelerator.device)
        self._prepare()
        self._resume()

    def _prepare(self) -> None:
        config, parts = self.config, self.parts
        options = config.optimiser
        self._conditioning = self.accelerator.prepare(Conditioning(parts.connector))
        optimiser = torch.optim.AdamW(
            parts.connector.parameters(),
            lr=parts.lr,
            betas=options.betas,
            eps=options.eps,
            weight_decay=options.weight_decay,
        )
        self._optimiser = self.accelerator.prepare(optimiser)
        self._loss: Any = AlignLoss()
        if config.loss.objective == "noise":
            self._loss = NoiseLoss(parts.base, config.loss)
        self._ema: Any = None
        if options.ema is not None:
            from diffusers.training_utils import EMAModel

            self._ema = EMAModel(parts.connector.parameters(), decay=options.ema)
            self.accelerator.register_for_checkpointing(self._ema)

    def _resume(self) -> None:
        config = self.config
        names = [
            f"{shape}: {list(sizes)}"
            for source in self.parts.sources
            for shape, sizes in sorted(source.buckets.items())
        ]
        self._course = course_of(config, self.parts.contract, names)
        self._checkpoints = Checkpoints(config.run / "checkpoints", config.checkpoint.keep)
        self.step = self._checkpoints.load(self.accelerator, self._course)
        if self._ema is not None:
            self._ema.to(self.accelerator.device)
        self._writer: Any = None
        if self.accelerator.is_main_process:
            from torch.utils.tensorboard import SummaryWriter

            settings = dump_config(config)
            (config.run / "config.yaml").write_text(settings, encoding="utf-8")
            _LOG.info("%s", settings)
            self._writer = SummaryWriter(str(config.run / "logs"), purge_step=self.step + 1)
            _LOG.info("Run %s, from step %d of %d", config.run, self.step, config.steps)

    def train(self) -> None:
        """Make the steps that are left, and export the connector.

        Raises:
            EllaError: the loss is not finite, or the disk is full. The last checkpoint is kept.
        """
        config, main = self.config, self.accelerator.is_main_process
        total, done = config.steps * config.batch, self.step * config.batch
        looks = Looks(config, self.parts, self._loss, self.accelerator, self._writer)
        with tqdm(total=total, initial=done, unit="picture", disable=not main) as bar:
            for micro_batches in self._micro_batches():
                loss = self._make_step(micro_batches)
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                bar.update(config.batch)
                if looks.due(self.step):
                    with self._averaged():
                        looks.take(self.step)
                if self.step % config.checkpoint.every == 0 or self.step == config.steps:
                    self._save()
        self._flush_log()
        if main:
            path = export(config.run)
            _LOG.info("Trained %s: put it into ComfyUI's folder models/ella", path)

    def _micro_batches(self) -> Iterator[list[Batch]]:
        """Yield this process's share of each step that is left."""
        config, accelerator = self.config, self.accelerator
        per_step = config.batch // config.micro_batch
        mine = range(accelerator.process_index, per_step, accelerator.num_processes)
        steps = range(self.step, config.steps)
        numbers = (step * per_step + place for step in steps for place in mine)
        pictures = TrainingPictures(config, self.parts.sources)
        return batched(read_ahead(pictures, numbers, config.data.workers), len(mine))

    def _make_step(self, batches: list[Batch]) -> float:
        accelerator, options = self.accelerator, self.config.optimiser
        lr = self.parts.lr * lr_factor(self.step, self.config.steps, options)
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        losses = []
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1  # gradients are exchanged once a step
            with nullcontext() if last else accelerator.no_sync(self._conditioning):
                tensors = to_tensors(batch, self.parts.encoders, accelerator.device)
                losses.append(self._loss(self._conditioning, tensors))
                accelerator.backward(losses[-1].mean() / len(batches))
        loss = accelerator.reduce(torch.stack(losses).detach().mean(), "mean").item()
        norm = accelerator.clip_grad_norm_(
            self._conditioning.parameters(), options.max_grad_norm or math.inf
        ).item()
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._fail(loss, norm, batches, losses)
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._ema is not None:
            self._ema.step(self.parts.connector.parameters())
        self.step += 1
        if self._writer:
            with naming_failure(self.config.run / "logs", GO_ON):
                for name, value in (("loss", loss), ("lr", lr), ("gradient norm", norm)):
                    self._writer.add_scalar(f"train/{name}", value, self.step)
        return float(loss)

    def _fail(
        self, loss: float, norm: float, batches: list[Batch], losses: list[torch.Tensor]
    ) -> None:
        """Stop before the weights are spoilt, and name the pictures."""
        keys = [
            item.key
            for batch, values in zip(batches, losses, strict=True)
            for item, value in zip(batch.items, values, strict=True)
            if not value.isfinite()
        ]
        keys = gather_object(keys or [item.key for batch in batches for item in batch.items])
        raise EllaError(
            f"Step {self.step + 1}: the loss is {loss} and the gradient's norm {norm}. The batch: "
            f"{', '.join(keys[:20])}. The last checkpoint in {self._checkpoints.folder} is from "
            f"before. Look at these pictures and captions, or lower optimiser.lr or set "
            f"optimiser.max_grad_norm in a new run."
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The connector has its averaged weights inside, if the run keeps any."""
        if self._ema is None:
            yield
            return
        parameters = list(self.parts.connector.parameters())
        self._ema.store(parameters)
        self._ema.copy_to(parameters)
        yield
        self._ema.restore(parameters)

    def _save(self) -> None:
        self._flush_log()
        connector = self.parts.connector
        connector.metadata = replace(connector.metadata, steps=self.step)
        with self._averaged():
            averaged = deepcopy(connector)  # the state to go on from is not averaged
        self._checkpoints.save(self.accelerator, self.step, self._course, averaged)

    def _flush_log(self) -> None:
        if self._writer:
            with naming_failure(self.config.run / "logs", GO_ON):
                self._writer.flush()


def lr_factor(step: int, steps: int, options: OptimiserConfig) -> float:
    """Share of the peak learning rate at a step, counted from 0."""
    if step < options.warmup:
        return (step + 1) / options.warmup
    left = 1 - (step - options.warmup) / max(1, steps - options.warmup)
    if options.schedule == "linear":
        return left
    return (1 - math.cos(math.pi * left)) / 2 if options.schedule == "cosine" else 1.0
