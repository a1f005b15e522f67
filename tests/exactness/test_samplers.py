"""Every sampler and every scheduler that the running ComfyUI offers."""

import shutil

import pytest

from support.exactness import TOLERANCE, nearest_timestep, stable_diffusion_sigmas

STEPS = 3


@pytest.fixture(scope="module")
def choices(infos):
    inputs = infos["KSampler"]["input"]["required"]
    return inputs["sampler_name"][0], inputs["scheduler"][0]


def test_every_sampler_on_every_scheduler(exact, new_graph, choices):
    samplers, schedulers = choices
    assert len(samplers) > 40
    assert len(schedulers) >= 9
    wrong = {}
    for sampler in samplers:
        # Of a schedule it takes the ends only, and makes over a hundred calls between them.
        of = schedulers[:1] if sampler == "dpm_adaptive" else schedulers
        wrong |= errors(exact, new_graph(), sampler, of)
    exact.note(wrong.values())
    assert {key: error for key, error in wrong.items() if error >= TOLERANCE} == {}


def errors(exact, graph, sampler, schedulers):
    """Queue a recorded KSampler for each: (sampler, scheduler, denoise) -> its worst error."""
    names = {
        (sampler, scheduler, denoise): graph.sampled(
            sampler_name=sampler, scheduler=scheduler, denoise=denoise, steps=STEPS
        )
        for scheduler in schedulers
        for denoise in (1.0, 0.5)
    }
    exact.run(graph)
    sigmas = stable_diffusion_sigmas()
    worst = {}
    for key, name in names.items():
        for row in exact.rows(name):
            # Half-way between two timesteps ComfyUI's float32 may round to the other one.
            assert abs(nearest_timestep(sigmas, row.sigma) - row.timestep) <= 1
            error = exact.error(row.tokens, graph.prompts[row.index], row.timestep)
            worst[key] = max(worst.get(key, 0.0), error)
        shutil.rmtree(exact.host.server.base / "output" / name)
    assert worst.keys() == names.keys(), "a sampler that made no call was not checked"
    return worst
