"""The miniature's Muon against torch's own."""

import pytest
import torch

from miniature.muon import Muon, orthogonal

SHAPES = [(64, 200), (200, 40), (32, 32)]


def _trained(optimizer, parameters, shapes):
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        for parameter, shape in zip(parameters, shapes, strict=True):
            gradient = torch.randn(shape, generator=generator)
            parameter.grad = gradient.view(parameter.shape)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def _parameters(shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def test_in_bfloat16_it_computes_what_torchs_does(monkeypatch):
    monkeypatch.setattr("miniature.muon.resolve_precision", lambda precision: "bf16")
    options = {"lr": 1e-2, "weight_decay": 0.1}
    ours, theirs = _parameters(SHAPES), _parameters(SHAPES)
    torchs = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options)
    made = _trained(Muon(ours, **options), ours, SHAPES)
    for mine, expected in zip(made, _trained(torchs, theirs, SHAPES), strict=True):
        assert mine.equal(expected)


def test_convolutions_are_matrices_of_their_rows():
    matrices, convolutions = _parameters([(64, 180)]), _parameters([(64, 20, 3, 3)])
    (flat,) = _trained(Muon(matrices, lr=1e-2), matrices, [(64, 180)])
    (made,) = _trained(Muon(convolutions, lr=1e-2), convolutions, [(64, 180)])
    assert made.flatten(1).equal(flat)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_float32_an_update_is_nearly_orthogonal(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix, torch.float32))
    # The iteration's fixed band; a square matrix has singular values too small to get there.
    assert values.max() < 1.3
    assert values.median() > 0.6
