"""Muon, which trains matrices and convolutions in fewer steps than AdamW.

Source: Keller Jordan et al., *Muon: An optimizer for hidden layers in neural networks* (2024).
"""

from collections.abc import Iterable
from typing import Any

import torch

from ella_core.training.precision import resolve_precision

#: Of the Newton-Schulz iteration, as in `torch.optim.Muon`.
_COEFFICIENTS, _ITERATIONS, _EPSILON = (3.4445, -4.775, 2.0315), 5, 1e-7
#: Root mean square of an update at a rate of 1, near that of AdamW's.
_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon`, for convolutions too, in a dtype that the CPU computes in.

    torch's iterates in bfloat16, which takes a CPU without it eight times as long as float32.

    Args:
        parameters: of two dimensions or more; what follows the first makes the columns.
        lr: rate of an update whose root mean square is that of AdamW's.
        weight_decay: as AdamW's.
        momentum: of the gradients' average, by Nesterov.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype = torch.bfloat16 if resolve_precision("auto") == "bf16" else torch.float32

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update each parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.flatten(1)
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
                update = orthogonal(gradient.lerp(average, momentum), self._dtype)
                parameter.mul_(1 - rate * group["weight_decay"])
                scale = _RMS * max(gradient.shape) ** 0.5
                parameter.add_(update.reshape(parameter.shape), alpha=-rate * scale)


def orthogonal(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return U V^T of a matrix U S V^T, nearly: its singular values lie between 0.5 and 1.5."""
    a, b, c = _COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(dtype, copy=True)
    x /= x.norm().clamp(min=_EPSILON)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)
