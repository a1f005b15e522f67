"""What a machine computes in quickly."""

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def resolve_precision(precision: Precision) -> Precision:
    """Return what auto stands for on this machine, and any other precision as it is.

    It is bf16 where the GPU, or the CPU if there is none, computes in bf16. Elsewhere that is
    emulated, and many times slower than fp32.
    """
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16() else "fp32"


def _has_bf16() -> bool:
    if torch.cuda.is_available():
        supported: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return supported
    # What oneDNN, which computes for torch on x86, needs for bf16.
    return torch.accelerator.is_available() or torch.backends.cpu.get_cpu_capability() == "AVX512"
