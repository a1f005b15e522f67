"""Settings of a training run. Defaults are the paper's (arXiv 2403.05135, section 5.1).

`config_file` reads it from a YAML file that holds the same names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from ..config import ConnectorConfig, MLPConfig, ResamplerConfig
from .precision import Precision


@dataclass(frozen=True)
class BaseConfig:
    """The diffusion model that is trained against, and that never changes.

    Attributes:
        path: a single-file SD1.5 or SDXL `.safetensors`, or a folder in diffusers layout.
        prediction: what its U-Net predicts.
    """

    path: Path
    prediction: Literal["epsilon", "v"] = "epsilon"


@dataclass(frozen=True)
class LLMConfig:
    """The LLM whose features the connector reads.

    Attributes:
        path: a folder in Hugging Face layout or a `.gguf` file; None where all features are
            cached and no sheet is drawn.
        dtype: of its weights; auto is fp16 on a GPU and fp32 on a CPU.
        spread: put the layers of an LLM that does not fit on one device over all of them and
            main memory.
    """

    path: Path | None = None
    dtype: Literal["auto", "fp16", "bf16", "fp32"] = "auto"
    spread: bool = False


@dataclass(frozen=True)
class ConnectorSection:
    """The connector: its kind and dimensions, or a file to go on from.

    Attributes:
        resampler: a resampler or TSC.
        mlp: an MLP.
        init_from: a connector file, such as the released one, whose weights training starts from.
    """

    resampler: ResamplerConfig | None = None
    mlp: MLPConfig | None = None
    init_from: Path | None = None


@dataclass(frozen=True)
class TextConfig:
    """Settings of reading captions.

    Attributes:
        tokens: LLM tokens of a caption, special ones included; longer ones are cut.
        flexible: leave shorter captions at their own length instead of padding them.
        empty: share of the captions that are replaced by the empty one, drawn anew at every step.
    """

    tokens: int = 128
    flexible: bool = False
    empty: float = 0.1


@dataclass(frozen=True)
class SourceConfig:
    """Pictures with captions.

    Attributes:
        pictures: folder of pictures, or of webdataset `.tar` shards.
        cache: folder of precomputed shards. `precompute` writes it from `pictures`; training
            reads it if it is given, and encodes `pictures` while training otherwise.
        weight: relative share of this source in every stretch of training.
        captions: share of each kind of caption, such as {long: 0.8, short: 0.2}; kinds that a
            picture lacks are left out. Empty draws evenly from all captions of a picture.
    """

    pictures: Path | None = None
    cache: Path | None = None
    weight: float = 1.0
    captions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """The training data.

    Attributes:
        sources: where pictures come from.
        resolution: edge of the square that pictures are scaled and cropped to, in pixels.
        buckets: keep aspect ratios: crop to the nearest of several shapes of about the same area.
        bucket_step: the edges of these shapes are multiples of it, in pixels.
        shuffle_shards: number of shards that are shuffled together.
        workers: processes that read ahead, for each training process.
    """

    sources: tuple[SourceConfig, ...] = ()
    resolution: int = 512
    buckets: bool = False
    bucket_step: int = 64
    shuffle_shards: int = 16
    workers: int = 2


@dataclass(frozen=True)
class LossConfig:
    """Settings of the loss.

    Attributes:
        objective: `noise` is the paper's: the error of the U-Net's prediction. `align` is a warm
            start without the U-Net: the error of the connector's context against target contexts
            that come with the pictures.
        min_snr: gamma of the min-SNR weighting (arXiv 2303.09556), None for none.
    """

    objective: Literal["noise", "align"] = "noise"
    min_snr: float | None = None


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW and its learning rate.

    Attributes:
        lr: None is the paper's: 1e-4 for SD1.5, 1e-5 for SDXL.
        weight_decay: decoupled weight decay.
        betas: decay rates of AdamW's moments.
        eps: AdamW's epsilon.
        schedule: of the learning rate after the warm-up; the others fall to zero.
        warmup: steps of linear warm-up.
        max_grad_norm: norm that gradients are clipped to, None for no clipping.
        ema: decay of the exponential moving average of the weights, None for none.
    """

    lr: float | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: int = 0
    max_grad_norm: float | None = None
    ema: float | None = None


@dataclass(frozen=True)
class ValidationConfig:
    """Loss on held-out pictures, with the same noise and timesteps each time.

    Attributes:
        sources: as for training; none for no validation.
        every: steps between two validations.
        pictures: number of pictures, the first of the sources.
        bands: number of equal timestep bands; each picture is tried once in each.
    """

    sources: tuple[SourceConfig, ...] = ()
    every: int = 1000
    pictures: int = 64
    bands: int = 5


@dataclass(frozen=True)
class SheetConfig:
    """Pictures of fixed prompts, base beside connector.

    The base draws its own pictures if it is a diffusers folder; a single file has no tokenizer.

    Attributes:
        prompts: one row each; none for no sheets.
        negative: negative prompt of all.
        every: steps between two sheets.
        steps: sampling steps (DDIM).
        cfg: guidance scale.
        seed: of the initial noise.
    """

    prompts: tuple[str, ...] = ()
    negative: str = ""
    every: int = 1000
    steps: int = 25
    cfg: float = 7.5
    seed: int = 0


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state is saved, all of it, to go on exactly from there.

    Attributes:
        every: steps between two checkpoints; the last step has one too.
        keep: number of the newest that are kept.
    """

    every: int = 1000
    keep: int = 2


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        run: folder that the run writes to, and goes on from if it holds a checkpoint.
        batch: pictures in a step, over all processes.
        micro_batch: pictures that go through the U-Net together; gradients accumulate over as
            many as make the batch.
        steps: optimiser steps. The paper's ablations take 140,000.
        precision: dtype of the U-Net and of autocast; auto is bf16 where the device computes in
            it, else fp32. The connector's weights are float32.
        activation_checkpointing: recompute the U-Net's activations in the backward pass.
        licence: of the exported weights.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # of the sections, too

    run: Path
    base: BaseConfig
    llm: LLMConfig = LLMConfig()
    connector: ConnectorSection = ConnectorSection()
    text: TextConfig = TextConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    validation: ValidationConfig = ValidationConfig()
    sheet: SheetConfig = SheetConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    batch: int = 256
    micro_batch: int = 8
    steps: int = 280_000
    seed: int = 0
    precision: Precision = "auto"
    activation_checkpointing: bool = True
    licence: str | None = None

    @property
    def connector_config(self) -> ConnectorConfig:
        """Kind and dimensions; the released TSC's where the config says nothing."""
        return self.connector.mlp or self.connector.resampler or ResamplerConfig()
