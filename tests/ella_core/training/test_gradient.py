"""The loss and its gradient through the frozen U-Net, against both written once more by hand."""

from copy import deepcopy

import pytest
import torch

import tiny_models
from ella_core.config import ResamplerConfig, TimeConfig
from ella_core.connectors import build_connector
from ella_core.layout import to_file_layout
from ella_core.training.bases import load_base
from ella_core.training.batches import Tensors, pad
from ella_core.training.config import BaseConfig, LossConfig
from ella_core.training.loss import Conditioning, NoiseLoss
from support import reference
from support.training import SMALL_SDXL

LENGTHS, TIMESTEPS = (5, 9, 7), (3, 420, 981)
SIZES = torch.tensor([[512.0, 640, 0, 64, 512, 512]] * 3)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    paths = {"sd15": folder / "sd15.safetensors", "sdxl": folder / "sdxl.safetensors"}
    tiny_models.draw_checkpoint(paths["sd15"])
    tiny_models.draw_checkpoint(paths["sdxl"], **SMALL_SDXL)
    return paths


def by_hand(weights, unet, batch, features, *, v, gamma):
    """Loss of each picture: DDPM's forward process, the plain connector, the U-Net, the MSE."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = (1 - betas).cumprod(0)
    losses = []
    for i, timestep in enumerate(TIMESTEPS):
        a, b = signal[timestep].sqrt(), (1 - signal[timestep]).sqrt()
        latents, noise = batch.latents[i : i + 1], batch.noise[i : i + 1]
        context = reference.tsc(weights, features[i][None], timestep, heads=4)
        added = None
        if "connector.pool.query" in weights:
            pooled = reference.pooled(weights, context, heads=4)
            added = {"text_embeds": pooled, "time_ids": SIZES[i : i + 1]}
        predicted = unet(a * latents + b * noise, timestep, context, added_cond_kwargs=added).sample
        target = a * noise - b * latents if v else noise
        snr = signal[timestep] / (1 - signal[timestep])
        weight = 1.0
        if gamma is not None:
            weight = min(float(snr), gamma) / (float(snr) + 1 if v else float(snr))
        losses.append(weight * ((predicted - target) ** 2).mean())
    return torch.stack(losses)


@pytest.mark.parametrize(
    ("family", "prediction", "gamma"),
    [
        ("sd15", "epsilon", None),
        ("sd15", "epsilon", 5.0),
        ("sd15", "v", None),
        ("sd15", "v", 5.0),
        ("sdxl", "epsilon", None),
    ],
)
def test_gradient_equals_one_by_hand(bases, family, prediction, gamma):
    base = load_base(BaseConfig(bases[family], prediction))
    sdxl = family == "sdxl"
    config = ResamplerConfig(
        llm_dim=24,
        width=32,
        layers=2,
        heads=4,
        num_latents=6,
        time=TimeConfig(32, 16),
        context_dim=2048 if sdxl else 768,
        pooled_dim=1280 if sdxl else None,
    )
    generator = torch.Generator().manual_seed(1)
    connector = build_connector(config)
    tiny_models.draw(connector, generator)
    torch.nn.init.normal_(connector.latents, generator=generator)

    features = [torch.randn(length, 24, generator=generator) for length in LENGTHS]
    padded, mask = pad(features)
    assert mask is not None
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    batch = Tensors(latents, padded, mask, SIZES, None, torch.tensor(TIMESTEPS), noise)

    weights = {k: t.clone().requires_grad_() for k, t in to_file_layout(connector).items()}
    v = prediction == "v"
    expected = by_hand(weights, base.unet, batch, features, v=v, gamma=gamma)
    expected_gradients = torch.autograd.grad(expected.mean(), list(weights.values()))

    base.unet.train().enable_gradient_checkpointing()
    losses = NoiseLoss(base, LossConfig(min_snr=gamma))(Conditioning(connector), batch)
    losses.mean().backward()
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=0)
    holder = deepcopy(connector)
    for copied, parameter in zip(holder.parameters(), connector.parameters(), strict=True):
        copied.data = parameter.grad
    gradients = to_file_layout(holder)
    assert gradients.keys() == weights.keys()
    # Together to 1e-5, and each to rounding in float32: small ones are sums of large terms.
    found, wanted = flat(gradients.values()), flat(expected_gradients)
    assert (found - wanted).norm() < 1e-5 * wanted.norm()
    for name, gradient in zip(weights, expected_gradients, strict=True):
        assert gradient.any(), name
        assert (gradients[name] - gradient).norm() < 5e-5 * gradient.norm(), name
    assert all(parameter.grad is None for parameter in base.unet.parameters())


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@torch.no_grad()
def test_sizes_are_not_rounded_in_bf16(bases):
    """It holds 512 and 516 and nothing between, and ComfyUI embeds the numbers as they are."""
    base = load_base(BaseConfig(bases["sdxl"]))
    base.unet.to(torch.bfloat16)
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    context = torch.randn(3, 6, 2048, generator=generator)
    pooled = torch.randn(3, 1280, generator=generator)

    def losses(height):
        sizes = SIZES.index_fill(1, torch.tensor([0]), height)
        batch = Tensors(latents, context, None, sizes, None, torch.tensor(TIMESTEPS), noise)
        return NoiseLoss(base, LossConfig())(lambda *_: (context, pooled, None), batch)

    assert not torch.equal(losses(512), losses(513))
