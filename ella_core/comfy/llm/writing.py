"""An LLM that writes, under ComfyUI's memory management."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from comfy import model_management
from comfy.utils import ProgressBar

from ..editor.events import send_report
from ..memory import Holder, WholeModelPatcher

if TYPE_CHECKING:
    from ...text_encoders.writer import Writer


class WritingLLM:
    """A chat LLM that ComfyUI can load and evict, read from the disk when it first writes.

    Attributes:
        patcher: moves it between devices for ComfyUI; None until its weights are read.
    """

    def __init__(self, name: str, path: Path, dtype: torch.dtype) -> None:
        self._name = name
        self._path = path
        self._dtype = dtype
        self._writer: Writer | None = None
        self.patcher: WholeModelPatcher | None = None

    def write(self, instruction: str, text: str, seed: int, tokens: int) -> str:
        """Write, and show it on the running node word by word. See `writer.write`."""
        from ...text_encoders.writer import write

        writer = self._loaded()
        bar = ProgressBar(tokens)

        def show(so_far: str, count: int) -> None:
            model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(count)
            send_report("writing", so_far)

        written = write(writer, instruction, text, seed, tokens, show)
        send_report("writing", written)
        return written

    def _loaded(self) -> "Writer":
        from ...text_encoders import weight_bytes
        from ...text_encoders.writer import load_writer
        from .places import tokenizer_places

        if self._writer is None or self.patcher is None:
            send_report("loading", f"loading the LLM {self._name} ...", llm=self._name)
            with torch.inference_mode(False):  # see WholeModelPatcher
                writer = load_writer(self._path, self._dtype, tokenizer_places())
            self.patcher = WholeModelPatcher(
                Holder(writer.model),
                load_device=model_management.text_encoder_device(),
                offload_device=model_management.text_encoder_offload_device(),
                size=weight_bytes(writer.model),
            )
            self._writer = writer
            model_management.throw_exception_if_processing_interrupted()
        model_management.load_models_gpu([self.patcher], force_full_load=True)
        return self._writer
