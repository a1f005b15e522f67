"""What training computes in where the config leaves it to the machine."""

import pytest
import torch

from ella_core.training.precision import resolve_precision


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", "fp32"), ("AVX512", "bf16")])
def test_a_cpu_computes_in_bf16_only_if_it_is_fast(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert resolve_precision("auto") == expected


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_computes_in_bf16_unless_it_emulates_it(monkeypatch, native):
    def is_bf16_supported(including_emulation=True):
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert resolve_precision("auto") == ("bf16" if native else "fp32")


def test_what_the_config_says_is_done():
    assert resolve_precision("bf16") == "bf16"
    assert resolve_precision("fp32") == "fp32"
