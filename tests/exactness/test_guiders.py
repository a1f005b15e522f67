"""Guiders that call the model with one, two or three conditionings."""

import pytest

from support.exactness import NEGATIVE, POSITIVE

THIRD = "Two blue dogs run on a beach."


def guided(graph, node, **inputs):
    """SamplerCustomAdvanced over a recorded guider; returns the recorder's name."""
    model, name = graph.recorder()
    guider = graph.add(node, model=model, **inputs)
    graph.save(
        graph.add(
            "SamplerCustomAdvanced",
            noise=graph.add("RandomNoise", noise_seed=3),
            guider=guider,
            sampler=graph.add("KSamplerSelect", sampler_name="dpm_2"),
            sigmas=graph.add("KarrasScheduler", steps=5),
            latent_image=graph.add("EmptyLatentImage", width=64, height=64),
        )
    )
    return name


def third(graph):
    return graph.condition(THIRD, "", model=graph.conditioning)[1]


@pytest.mark.parametrize("cfg", [1.0, 0.0, 7.0])
def test_cfg(exact, new_graph, cfg):
    graph = new_graph()
    pair = {"positive": graph.conditioning[1], "negative": graph.conditioning[2]}
    names = [graph.sampled(cfg=cfg), guided(graph, "CFGGuider", cfg=cfg, **pair)]
    exact.run(graph)
    for name in names:
        exact.check(name, [POSITIVE] if cfg == 1.0 else [POSITIVE, NEGATIVE])


def test_no_guidance(exact, new_graph):
    graph = new_graph()
    name = guided(graph, "BasicGuider", conditioning=graph.conditioning[1])
    exact.run(graph)
    exact.check(name, [POSITIVE])


@pytest.mark.parametrize("style", ["regular", "nested"])
def test_dual_cfg(exact, new_graph, style):
    graph = new_graph()
    name = guided(
        graph,
        "DualCFGGuider",
        cond1=graph.conditioning[1],
        cond2=third(graph),
        negative=graph.conditioning[2],
        style=style,
    )
    exact.run(graph)
    exact.check(name, [NEGATIVE, THIRD, POSITIVE])


def test_perp_neg_guider(exact, new_graph):
    graph = new_graph()
    name = guided(
        graph,
        "PerpNegGuider",
        positive=graph.conditioning[1],
        negative=graph.conditioning[2],
        empty_conditioning=third(graph),
    )
    exact.run(graph)
    exact.check(name, [POSITIVE, NEGATIVE, THIRD])


def test_perp_neg_of_old(exact, new_graph):
    """It calls the model once more by itself, with conditionings that it prepared by itself."""
    graph = new_graph()
    empty = third(graph)
    model, name = graph.recorder()
    model = graph.add("PerpNeg", model=model, empty_conditioning=empty)
    graph.save(graph.sample(record=False, model=model))
    exact.run(graph)
    exact.check_cycle(name, [{0: POSITIVE, 1: NEGATIVE}, {0: THIRD}])
