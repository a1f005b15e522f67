"""The world's autoencoder: a TAESD, the tiny one that ComfyUI loads inside a checkpoint.

Only the first `WIDTH` of its 64 channels are trained, which is five times as fast; `full_width`
fills the others with zeros.

Shapes: B batch, P pixels of a crop's side, X of a picture's.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from .training import Log, Loop, autocast
from .world import PIXELS, draw_crowded_scene, paint

WIDTH, FULL_WIDTH, LATENTS = 32, 64, 4
#: Deviation of the noise on latents in training, so that small faults of a latent do no harm: at
#: first and, once there are colours, from `MORE_NOISE_STEP` on.
LATENT_NOISE, MORE_NOISE, MORE_NOISE_STEP = 0.1, 0.25, 300


def _conv(n_in: int, n_out: int, **options: bool | int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, **options)


class _Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        w = WIDTH
        self.conv = nn.Sequential(_conv(w, w), nn.ReLU(), _conv(w, w), nn.ReLU(), _conv(w, w))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x) + x)


class VAE(nn.Module):
    """Pictures in 0 to 1 to latents of an eighth of the size, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = nn.Sequential(
            *(_conv(3, WIDTH), _Block(), *_down(), *_down(), *_down(), _conv(WIDTH, LATENTS))
        )
        self.taesd_decoder = nn.Sequential(
            *(_Clamp(), _conv(LATENTS, WIDTH), nn.ReLU()),
            *(*_up(), *_up(), *_up(), _Block(), _conv(WIDTH, 3)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, _Block):
                nn.init.zeros_(module.conv[-1].weight)
        nn.init.normal_(self.taesd_encoder[-1].weight, std=0.02)
        nn.init.normal_(self.taesd_decoder[-1].weight, std=0.01)
        nn.init.constant_(self.taesd_decoder[-1].bias, 0.5)

    @torch.no_grad()
    def encode(self, pictures: np.ndarray) -> torch.Tensor:
        """(B, X, X, 3) float in 0 to 1 to (B, 4, X / 8, X / 8)."""
        with autocast():
            latents: torch.Tensor = self.taesd_encoder(torch.from_numpy(pictures).movedim(-1, 1))
        return latents.float()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """(B, 4, X / 8, X / 8) to (B, X, X, 3) float in 0 to 1."""
        with autocast():
            pictures = self.taesd_decoder(latents).float()
        return pictures.clamp(0, 1).movedim(1, -1).numpy()


def _down() -> list[nn.Module]:
    return [_conv(WIDTH, WIDTH, stride=2, bias=False), _Block(), _Block(), _Block()]


def _up() -> list[nn.Module]:
    upsample = nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)
    return [_Block(), _Block(), _Block(), *upsample]


def full_width(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a TAESD of 64 channels that computes the same."""
    full = {}
    for name, tensor in state.items():
        shape = [FULL_WIDTH if n == WIDTH else n for n in tensor.shape[:2]]
        full[name] = tensor.new_zeros(*shape, *tensor.shape[2:])
        full[name][tuple(slice(n) for n in tensor.shape)] = tensor
    return full


def train(log: Log, steps: int = 3000, batch: int = 16, rate: float = 2e-3) -> VAE:
    """Train on crops of crowded scenes, with latents of about unit deviation."""
    torch.manual_seed(0)
    vae = VAE()
    loop = Loop(vae, "vae", log, steps, rate)
    pictures = _crops(batch, side=48, seed=loop.step)
    while loop.goes_on():
        x_B3PP = next(pictures).contiguous(memory_format=torch.channels_last)
        with autocast():
            z = vae.taesd_encoder(x_B3PP).float()
            noise = LATENT_NOISE if loop.step < MORE_NOISE_STEP else MORE_NOISE
            y_B3PP = vae.taesd_decoder(z + noise * torch.randn_like(z)).float()
        error = (y_B3PP - x_B3PP).abs().mean() + 2 * ((y_B3PP - x_B3PP) ** 2).mean()
        unit = (z.mean((0, 2, 3)) ** 2).mean() + ((z.std((0, 2, 3)) - 1) ** 2).mean()
        far = torch.relu(z.abs() - 2.5).square().mean()
        loop.update(error + 0.02 * unit + 0.05 * far, error=error.detach())
    return vae


def _crops(batch: int, side: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield (B, 3, P, P), cut at multiples of a latent's 8 pixels."""
    rng = np.random.default_rng(seed)
    while True:
        pictures = []
        for scene in rng.integers(1 << 31, size=batch):
            y, x = 8 * rng.integers((PIXELS - side) // 8 + 1, size=2)
            picture = paint(draw_crowded_scene(scene), int(scene))
            pictures.append(picture[y : y + side, x : x + side])
        yield torch.from_numpy(np.stack(pictures)).movedim(-1, 1)
