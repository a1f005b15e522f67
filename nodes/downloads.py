"""Downloading the released models."""

from typing import Any

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..ella_core.comfy.editor.feedback import show_on_node
from ..ella_core.errors import EllaError
from .types import CATEGORY

_CHOICES = {
    "connector and LLM": ("connector", "LLM"),
    "connector": ("connector",),
    "LLM": ("LLM",),
}


class ELLADownloadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLADownloadModels",
            display_name="Download ELLA models",
            category=CATEGORY,
            description="Downloads the released ELLA connector (134 MB) and the encoder of "
            "FLAN-T5-XL (2.95 GB) from the Hugging Face repository QQGYLab/ELLA into ComfyUI's "
            "model folders. It goes on where an earlier download broke off, checks what came, and "
            "overwrites nothing. Nothing is downloaded but by queueing this node or from the menu.",
            inputs=[
                io.Combo.Input(
                    "models",
                    options=list(_CHOICES),
                    default="connector and LLM",
                    tooltip="What to download: the connector, for Load ELLA, into models/ella; "
                    "the LLM, for Load LLM (ELLA), into models/text_encoders.",
                )
            ],
            outputs=[
                io.String.Output(
                    display_name="report",
                    tooltip="The commit, and what was done with each file, or why the hub was "
                    "not reached.",
                )
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, models: str | None) -> str | float | None:
        """Have a model that was deleted since the last run downloaded again."""
        from ..ella_core.comfy.files.downloads import identity

        return models and identity(_names(models))

    @classmethod
    def execute(cls, models: str) -> io.NodeOutput:
        from ..ella_core.comfy.files.downloads import downloads
        from ..ella_core.downloads import size_text

        bar = ProgressBar(1)

        def on_progress(text: str, done: int, total: int) -> None:
            throw_exception_if_processing_interrupted()
            bar.update_absolute(done, total)
            progress = f"{text}: {size_text(done)} of {size_text(total)}"
            show_on_node(cls.hidden.unique_id, progress)

        show_on_node(cls.hidden.unique_id, "asking the hub")
        outcome = downloads().run(_names(models), on_progress)
        show_on_node(cls.hidden.unique_id, outcome.summary)
        return io.NodeOutput(outcome.report, ui=ui.PreviewText(outcome.report))


def _names(models: str) -> tuple[str, ...]:
    if models not in _CHOICES:  # ComfyUI 0.3.75 does not check it
        raise EllaError(
            f"models is {models!r}; set it to {' or '.join(_CHOICES)} in Download ELLA models."
        )
    return _CHOICES[models]


NODES: list[Any] = [ELLADownloadModels]
