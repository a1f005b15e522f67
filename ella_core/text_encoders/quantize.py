"""8-bit weights through torchao. Weight-only: the computation stays in the LLM's own dtype."""

import importlib.util

import torch

from ..config import QUANTIZATIONS
from ..errors import EllaError

# torchao is imported inside the function: it takes seconds, and few need it.


def require_torchao() -> None:
    """Check that torchao is installed, without importing it.

    Raises:
        EllaError: it is not.
    """
    if importlib.util.find_spec("torchao") is None:
        raise EllaError(
            f"The dtypes {' and '.join(QUANTIZATIONS)} need the Python package torchao, which is "
            f"missing. Install it into ComfyUI's Python with: pip install torchao, or choose "
            f"another dtype in Load LLM (ELLA)."
        )


def quantize(model: torch.nn.Module, quantization: str) -> None:
    """Store the weights of all Linear layers in 8 bits, in place and one layer after the other.

    Embeddings, norms and T5's relative position bias, an embedding too, stay as they are.

    Args:
        model: in the dtype that it is to compute in.
        quantization: one of `QUANTIZATIONS`. fp8 is e4m3; both have one scale a row.

    Raises:
        EllaError: torchao is missing or can't be used here.
    """
    require_torchao()
    try:
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise EllaError(
            f"The installed torchao can't be used for {quantization}: {error}. Update it in "
            f"ComfyUI's Python with: pip install --upgrade torchao, or choose another dtype in "
            f"Load LLM (ELLA)."
        ) from error
    config = {"fp8": Float8WeightOnlyConfig, "int8": Int8WeightOnlyConfig}[quantization]()
    quantize_(model, config, filter_fn=lambda module, _: isinstance(module, torch.nn.Linear))


def weight_bytes(model: torch.nn.Module) -> int:
    """Memory that the parameters and buffers of `model` take, shared ones counted once.

    `element_size` alone would be wrong: a weight that torchao has quantised reports the dtype
    that it is computed in.
    """
    return sum(_stored_bytes(t) for group in (model.parameters(), model.buffers()) for t in group)


def _stored_bytes(tensor: torch.Tensor) -> int:
    if hasattr(tensor, "__tensor_flatten__"):  # torch's protocol for tensors made of tensors
        names, _ = tensor.__tensor_flatten__()
        return sum(_stored_bytes(getattr(tensor, name)) for name in names)
    return tensor.nelement() * tensor.element_size()
