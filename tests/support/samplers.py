"""ComfyUI's samplers on its schedulers: what the U-Net got in each of their calls."""

import shutil

from .exactness import TOLERANCE, Exactness, nearest_timestep, stable_diffusion_sigmas

_STEPS = 3
# In the names of samplers that add noise at each step.
_NOISY = ("ancestral", "sde", "ddpm", "lcm", "seeds", "sa_solver")


def check_samplers(exact: Exactness, new_graph, infos, noisy: bool) -> None:
    """Sample with every sampler of one kind on every scheduler, and once each at half the noise."""
    inputs = infos["KSampler"]["input"]["required"]
    samplers, schedulers = inputs["sampler_name"][0], inputs["scheduler"][0]
    assert len(samplers) > 40
    assert len(schedulers) >= 9
    chosen = [name for name in samplers if any(word in name for word in _NOISY) is noisy]
    wrong = {}
    for i, sampler in enumerate(chosen):
        schedules = [(scheduler, 1.0) for scheduler in schedulers]
        schedules.append((schedulers[i % len(schedulers)], 0.5))
        if sampler == "dpm_adaptive":
            # Takes only the ends of a schedule and makes over a hundred calls between them.
            schedules = schedules[:1]
        wrong |= _errors(exact, new_graph(), sampler, schedules)
    exact.note(wrong.values())
    assert {key: error for key, error in wrong.items() if error >= TOLERANCE} == {}


def _errors(exact, graph, sampler, schedules):
    """Queue a recorded KSampler for each schedule: (sampler, scheduler, denoise) -> worst error."""
    names = {
        (sampler, scheduler, denoise): graph.sampled(
            sampler_name=sampler, scheduler=scheduler, denoise=denoise, steps=_STEPS
        )
        for scheduler, denoise in schedules
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
