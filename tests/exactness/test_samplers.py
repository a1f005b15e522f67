"""Every sampler of the running ComfyUI that adds no noise, on every scheduler."""

from support.samplers import check_samplers


def test_every_sampler_on_every_scheduler(exact, new_graph, infos):
    check_samplers(exact, new_graph, infos, noisy=False)
