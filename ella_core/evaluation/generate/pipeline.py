"""Painting with a pipeline of diffusers, in this process."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import EllaError
from .jobs import Job, save


@dataclass(frozen=True)
class Pipeline:
    """Settings of a pipeline.

    Attributes:
        model: folder, or repository on the Hugging Face hub.
        connector: file of the connector; empty to paint without ELLA.
        llm: folder or file of the connector's LLM.
        steps: of the pipeline's own scheduler.
        guidance: classifier-free guidance scale.
        width, height: of a picture in pixels.
    """

    model: str
    connector: str
    llm: str
    steps: int
    guidance: float
    width: int
    height: int

    @property
    def hash(self) -> str:
        """SHA-256 of the settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def paint_with_pipeline(
    jobs: Sequence[Job], on_end: Callable[[], object], pipeline: Pipeline
) -> list[Job]:
    """Paint the jobs' pictures, on a GPU if there is one. None fails alone.

    Args:
        jobs: in order of their prompts, so that each is read once.
        on_end: called as often as a job ends.
        pipeline: how.

    Raises:
        EllaError: A model can't be opened.
    """
    import diffusers
    import torch

    options = {
        "num_inference_steps": pipeline.steps,
        "guidance_scale": pipeline.guidance,
        "width": pipeline.width,
        "height": pipeline.height,
    }
    pipe = _open(pipeline)
    with _prompts(pipe, pipeline) as conditioning:
        for job in jobs:
            generator = torch.Generator().manual_seed(job.seed)
            output = pipe(**conditioning(job.prompt), **options, generator=generator)
            save(job, output.images[0], {"diffusers": diffusers.__version__})
            on_end()
    return []


def _open(pipeline: Pipeline) -> Any:
    import torch
    from diffusers import DiffusionPipeline

    gpu = torch.cuda.is_available()
    without = ["safety_checker", "feature_extractor"]  # they black pictures out
    if pipeline.connector:
        without += ["text_encoder", "tokenizer"]  # CLIP, whose place ELLA takes
    try:
        pipe = DiffusionPipeline.from_pretrained(
            pipeline.model,
            torch_dtype=torch.float16 if gpu else torch.float32,
            **dict.fromkeys(without),
        )
    except (OSError, ValueError) as error:
        raise EllaError(
            f"{pipeline.model} can't be opened as a pipeline: {error}\nExpected a folder in "
            "diffusers' layout, or the name of such a repository on the Hugging Face hub."
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if gpu else "cpu")


@contextmanager
def _prompts(pipe: Any, pipeline: Pipeline) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Yield what makes a prompt's arguments of the pipeline."""
    if not pipeline.connector:
        yield lambda prompt: {"prompt": prompt}
        return
    from ...checkpoint import load_connector
    from ...diffusers_adapter import attached
    from ...text_encoders import load_text_encoder

    connector = load_connector(Path(pipeline.connector), dtype=pipe.unet.dtype)
    encoder = load_text_encoder(Path(pipeline.llm), pipe.unet.dtype)
    for module in (connector, encoder.model):
        module.to(pipe.device)
    (negative,) = encoder.encode([""])
    with attached(pipe, connector) as embed:

        @lru_cache(maxsize=1)
        def conditioning(prompt: str) -> dict[str, Any]:
            embeds: dict[str, Any] = embed(encoder.encode([prompt]), [negative])
            return embeds

        yield conditioning
