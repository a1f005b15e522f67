"""Every sampler and every scheduler that the running ComfyUI offers."""

import shutil

import pytest

from support.exactness import TOLERANCE, nearest_timestep, stable_diffusion_sigmas

STEPS = 3


@pytest.fixture(scope="module")
def choices(infos):
    inputs = infos["KSampler"]["input"]["required"]
    return inputs["sampler_name"][0], inputs["scheduler"][0]


def check_all(exact, new_graph, combinations):
    """Queue one graph with a recorded KSampler each; every row of every call must be exact."""
    graph = new_graph()
    names = {
        (sampler, scheduler, denoise): graph.sampled(
            sampler_name=sampler, scheduler=scheduler, denoise=denoise, steps=STEPS
        )
        for sampler, scheduler in combinations
        for denoise in (1.0, 0.5)
    }
    exact.run(graph)
    sigmas = stable_diffusion_sigmas()
    wrong = {}
    for key, name in names.items():
        for row in exact.rows(name):
            # Half-way between two timesteps ComfyUI's float32 may round to the other one.
            assert abs(nearest_timestep(sigmas, row.sigma) - row.timestep) <= 1
            error = exact.error(row.tokens, graph.prompts[row.index], row.timestep)
            wrong[key] = max(wrong.get(key, 0.0), error)
        shutil.rmtree(exact.host.server.base / "output" / name)
    exact.note(wrong.values())
    assert {key: error for key, error in wrong.items() if error >= TOLERANCE} == {}


def test_every_scheduler(exact, new_graph, choices):
    _, schedulers = choices
    assert len(schedulers) >= 9
    samplers = ("euler", "heun", "dpmpp_2m_sde")
    check_all(exact, new_graph, [(a, b) for a in samplers for b in schedulers])


def test_every_sampler(exact, new_graph, choices):
    samplers, _ = choices
    assert len(samplers) > 40
    check_all(exact, new_graph, [(a, b) for a in samplers for b in ("normal", "karras")])
