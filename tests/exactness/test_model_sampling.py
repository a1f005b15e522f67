"""Noise schedules that are not Stable Diffusion's own; the expected timestep is computed here."""

import math
from functools import partial

import pytest
import torch

from support.exactness import NEGATIVE, POSITIVE, nearest_timestep, stable_diffusion_sigmas


def zero_terminal_snr_sigmas():
    """(1000,) of arXiv 2305.08891, algorithm 1; ComfyUI ends at 4.9e-8 where the paper has 0."""
    alphas = 1 / (stable_diffusion_sigmas() ** 2 + 1)
    roots = alphas.sqrt()
    rescaled = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    alphas = rescaled**2
    alphas[-1] = 4.8973451890853435e-08
    return ((1 - alphas) / alphas).sqrt()


def lcm_timesteps(sigma):
    """LCM was distilled on every 20th timestep: 19, 39 ... 999 (arXiv 2310.04378)."""
    return [19 + 20 * i for i in nearest(stable_diffusion_sigmas()[19::20], sigma)]


def nearest(sigmas, sigma):
    """Indices. Half-way between two it depends on the processor's rounding which one is taken."""
    distances = (sigmas.log() - math.log(sigma)).abs()
    return (distances < distances.min() + 1e-5).nonzero()[:, 0].tolist()


STABLE_DIFFUSION = partial(nearest, stable_diffusion_sigmas())
ZERO_TERMINAL_SNR = partial(nearest, zero_terminal_snr_sigmas())
DISCRETE = [
    ({"sampling": "eps", "zsnr": False}, STABLE_DIFFUSION),
    ({"sampling": "v_prediction", "zsnr": False}, STABLE_DIFFUSION),
    ({"sampling": "x0", "zsnr": False}, STABLE_DIFFUSION),
    ({"sampling": "eps", "zsnr": True}, ZERO_TERMINAL_SNR),
    ({"sampling": "v_prediction", "zsnr": True}, ZERO_TERMINAL_SNR),
    ({"sampling": "lcm", "zsnr": False}, lcm_timesteps),
]


def check(exact, row, timestep):
    exact.assert_exact(row.tokens, (POSITIVE, NEGATIVE)[row.index], timestep)


@pytest.mark.parametrize(("inputs", "timesteps_of"), DISCRETE, ids=[str(d[0]) for d in DISCRETE])
@pytest.mark.parametrize("first", [True, False])
def test_discrete(exact, new_graph, inputs, timesteps_of, first):
    """Patched before ELLA or after, the U-Net and the connector are told the same timestep."""
    graph = new_graph()
    start = graph.checkpoint if first else graph.conditioning
    model = graph.add("ModelSamplingDiscrete", model=start, **inputs)
    if first:
        model = graph.condition(POSITIVE, NEGATIVE, model=model)
    names = [
        graph.sampled(model=model, scheduler=scheduler, sampler_name="heun", denoise=denoise)
        for scheduler, denoise in (("karras", 1.0), ("normal", 1.0), ("sgm_uniform", 0.5))
    ]
    exact.run(graph)
    for name in names:
        rows = exact.rows(name)
        assert {row.index for row in rows} == {0, 1}
        for row in rows:
            assert row.timestep in timesteps_of(row.sigma)
            check(exact, row, row.timestep)


def test_the_tables_of_this_file_differ():
    """So that a product that used one for all would be found out."""
    for sigma in (0.5, 3.0, 10.0):
        ways = [STABLE_DIFFUSION(sigma), ZERO_TERMINAL_SNR(sigma), lcm_timesteps(sigma)]
        assert len({tuple(way) for way in ways}) == 3


@pytest.mark.parametrize(
    ("node", "sampling"),
    [
        ("ModelSamplingContinuousEDM", "eps"),
        ("ModelSamplingContinuousEDM", "v_prediction"),
        ("ModelSamplingContinuousV", "v_prediction"),
    ],
)
def test_continuous(exact, new_graph, node, sampling):
    """The U-Net gets no DDPM timestep, but the connector was trained on nothing else."""
    graph = new_graph()
    model = graph.add(
        node, model=graph.conditioning, sampling=sampling, sigma_max=40.0, sigma_min=0.02
    )
    name = graph.sampled(model=model, scheduler="karras", steps=8)
    exact.run(graph)
    rows = exact.rows(name)
    assert {row.index for row in rows} == {0, 1}
    timesteps = [nearest_timestep(stable_diffusion_sigmas(), row.sigma) for row in rows]
    for row, timestep in zip(rows, timesteps, strict=True):
        check(exact, row, timestep)
    assert any(timestep != row.timestep for row, timestep in zip(rows, timesteps, strict=True))
    # Beyond both ends of Stable Diffusion's table the nearest timestep is the last one.
    assert torch.tensor(timesteps).aminmax() == (torch.tensor(0), torch.tensor(999))
