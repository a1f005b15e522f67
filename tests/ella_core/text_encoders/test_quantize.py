"""8-bit weights: which, how many bytes, how far off. Also run under the oldest transformers."""

import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ella_core.config import QUANTIZATIONS
from ella_core.errors import EllaError
from ella_core.text_encoders import (
    check_text_encoder,
    encode_prompt,
    load_text_encoder,
    weight_bytes,
)
from support.models import write_llama
from tiny_models import write_t5

TEXT = "A red cat sits on a blue chair."
TOLERANCE = {"int8": 0.02, "fp8": 0.06}  # relative, L2, against the same weights unquantised

KINDS = pytest.mark.parametrize("quantization", QUANTIZATIONS)


@pytest.fixture(scope="module", params=["t5", "llama"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize") / request.param
    {"t5": write_t5, "llama": write_llama}[request.param](folder)
    return folder


def error(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_features_are_close(folder, quantization, dtype):
    encoder = load_text_encoder(folder, dtype, quantization)
    for text in (TEXT, "", "snow " * 60):
        found = encode_prompt(encoder, text).features
        assert found.dtype == dtype
        exact = encode_prompt(load_text_encoder(folder, torch.float32), text).features
        assert 1e-4 < error(found.float(), exact) < TOLERANCE[quantization]


@KINDS
def test_only_linear_layers_are_stored_in_8_bits(folder, quantization):
    plain = load_text_encoder(folder, torch.float16).model
    quantised = load_text_encoder(folder, torch.float16, quantization).model
    linear = {
        f"{name}.weight"
        for name, module in plain.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert len(linear) == 14  # of two layers
    changed = {
        name
        for name, tensor in quantised.named_parameters()
        if hasattr(tensor, "__tensor_flatten__")
    }
    assert changed == linear
    expected = 0
    for name, tensor in [*plain.named_parameters(), *plain.named_buffers()]:
        if name in linear:  # a byte each; a float32 scale a row, and int8's zero point
            expected += tensor.numel() + len(tensor) * {"fp8": 4, "int8": 5}[quantization]
        else:
            expected += tensor.numel() * tensor.element_size()
    assert weight_bytes(quantised) == expected


def test_bytes_of_shared_weights_are_counted_once(tmp_path):
    write_t5(tmp_path)
    model = load_text_encoder(tmp_path, torch.float16).model
    assert weight_bytes(model) == 2 * sum(p.numel() for p in model.parameters())


@KINDS
def test_they_move_between_devices(folder, quantization):
    model = load_text_encoder(folder, torch.float32, quantization).model
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    expected = [weight_bytes(module) for module in linear]
    torch.nn.Module.to(model, "meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert [weight_bytes(module) for module in linear] == expected


@KINDS
def test_the_clamp_of_fp16_overflow_still_acts(tmp_path, quantization):
    write_t5(tmp_path / "t5")
    shutil.copytree(tmp_path / "t5", tmp_path / "loud")
    tensors = load_file(tmp_path / "loud/model.safetensors")
    for key, tensor in tensors.items():
        if key.endswith("wo.weight"):
            tensor.mul_(3e4)
    save_file(tensors, tmp_path / "loud/model.safetensors", metadata={"format": "pt"})
    exact = encode_prompt(
        load_text_encoder(tmp_path / "loud", torch.float16), TEXT
    ).features.float()
    found = encode_prompt(
        load_text_encoder(tmp_path / "loud", torch.float16, quantization), TEXT
    ).features
    assert error(found.float(), exact) < 2 * TOLERANCE[quantization]


@KINDS
def test_without_torchao(folder, monkeypatch, quantization):
    monkeypatch.setitem(sys.modules, "torchao", None)  # as Python marks what can't be imported
    for open_ in (
        lambda: check_text_encoder(folder, quantization),
        lambda: load_text_encoder(folder, torch.float32, quantization),
    ):
        with pytest.raises(EllaError, match="pip install torchao"):
            open_()
    load_text_encoder(folder, torch.float32)
