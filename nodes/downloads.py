"""Downloading the released models."""

from typing import Any

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..ella_core.comfy.editor.events import send_report
from ..ella_core.errors import EllaError
from .types import CATEGORY

_EVERYTHING = "connector and LLM"
_CHOICES = {
    _EVERYTHING: ("connector", "LLM"),
    "connector": ("connector",),
    "LLM": ("LLM",),
    "SDXL adapter and LLM": ("SDXL adapter", "SDXL LLM"),
    "SDXL adapter": ("SDXL adapter",),
    "SDXL LLM": ("SDXL LLM",),
}


class ELLADownloadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLADownloadModels",
            display_name="Download ELLA models",
            category=CATEGORY,
            description="Downloads the released ELLA connector (134 MB) and the encoder of "
            "FLAN-T5-XL (2.95 GB) from the Hugging Face repository QQGYLab/ELLA, or an LLM adapter "
            "for SDXL and its LLM, into ComfyUI's model folders. It resumes interrupted downloads, "
            "verifies checksums and overwrites nothing. Downloads start only when you queue this "
            "node or use the menu.",
            inputs=[
                io.Combo.Input(
                    "models",
                    options=list(_CHOICES),
                    default=_EVERYTHING,
                    optional=True,
                    tooltip="What to download: the connector, for Load ELLA, into models/ella; "
                    "the LLM, for Load LLM (ELLA), into models/text_encoders; for SDXL the "
                    "RouWei-Gemma adapter into models/llm_adapters and Gemma 3 1B into "
                    "models/text_encoders.",
                )
            ],
            outputs=[
                io.String.Output(
                    display_name="report",
                    tooltip="The commit and what was done with each file, or why the hub could not "
                    "be reached.",
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, models: str | None = _EVERYTHING) -> str | float | None:
        """Run again if a model was deleted since the last run."""
        from ..ella_core.comfy.files.downloads import identity

        return models and identity(_names(models))

    @classmethod
    def execute(cls, models: str = _EVERYTHING) -> io.NodeOutput:
        from ..ella_core.comfy.files.downloads import downloads
        from ..ella_core.downloads import size_text

        bar = ProgressBar(1)

        def on_progress(text: str, done: int, total: int) -> None:
            throw_exception_if_processing_interrupted()
            bar.update_absolute(done, total)
            progress = f"{text}: {size_text(done)} of {size_text(total)}"
            send_report("download", progress)

        send_report("download", "asking the hub")
        outcome = downloads().run(_names(models), on_progress)
        send_report("download", outcome.summary)
        return io.NodeOutput(outcome.report, ui=ui.PreviewText(outcome.report))


def _names(models: str) -> tuple[str, ...]:
    if models not in _CHOICES:  # ComfyUI 0.3.75 does not check it
        raise EllaError(
            f"models is {models!r}; set it to {' or '.join(_CHOICES)} in Download ELLA models."
        )
    return _CHOICES[models]


NODES: list[Any] = [ELLADownloadModels]
