"""SDXL: sizes, crops and CLIP's pooled embedding, through ELLA SDXL Options."""

import pytest
import torch

from support.host import T5, EllaGraph, plain_tokens
from support.sdxl import (
    ELLA_SDXL,
    NEGATIVE,
    POSITIVE,
    SIZES,
    SDXLGraph,
    adapted,
    check,
    embedded,
    rows,
    run,
)


def options(graph, conditioning, **given):
    return graph.add("ELLASDXLOptions", conditioning=conditioning, **given)


def pooled(seed):
    """What `EllaGraph.plain` has beside its 77 tokens of SDXL's width."""
    torch.randn(1, 77, 2048, generator=(generator := torch.Generator().manual_seed(seed)))
    return torch.randn(1, 1280, generator=generator)


def mixed(of, seed, share):
    """The context as it is; the pooled embedding with a share of CLIP's."""

    def at(timestep):
        context, own = of(timestep)
        return context, own * (1 - share) + pooled(seed) * share

    return at


def test_sizes_and_crop_of_each_side(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    positive, negative = graph.conditioning[1], graph.conditioning[2]
    given = {"width": 1024, "height": 768, "crop_w": 16, "crop_h": 8}
    whole = {**given, "target_width": 640, "target_height": 512}
    name = graph.recorded(
        positive=options(graph, positive, **whole), negative=options(graph, negative, **given)
    )
    # 0 is the latent's again, also where another node set something else.
    undone = options(graph, options(graph, positive, **whole))
    other = graph.recorded(positive=undone, negative=negative)
    run(host, graph)
    expected = {0: embedded(768, 1024, 8, 16, 512, 640), 1: embedded(768, 1024, 8, 16, 768, 1024)}
    for row in rows(host, name):
        torch.testing.assert_close(row.sizes, expected[row.index][None], rtol=0, atol=1e-3)
    check(host, other, [adapted(prompts[POSITIVE]), adapted(prompts[NEGATIVE])], sizes=SIZES)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_clips_pooled_embedding(host, prompts, share):
    """Of an adapter, and of a connector whose embedding depends on the timestep."""
    expected = []
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    for ella in (None, graph.add("ELLALoad", ella_name=ELLA_SDXL)):
        both = graph.conditioning
        if ella is not None:
            graph.ella = ella
            graph.llm = graph.add("ELLALoadLLM", llm_name=T5, dtype="fp32")
            both = graph.condition(POSITIVE, NEGATIVE, model=both)
        sides = [
            options(graph, both[side], clip=graph.plain(side, width=2048), clip_pooled=share)
            for side in (1, 2)
        ]
        name = graph.recorded(positive=sides[0], negative=sides[1], model=both[0])
        expected.append((name, "gemma" if ella is None else "ella"))
    run(host, graph)
    for name, kind in expected:
        sides = [
            prompts[text].ella if kind == "ella" else adapted(prompts[text])
            for text in (POSITIVE, NEGATIVE)
        ]
        wanted = [mixed(of, seed, share) for seed, of in enumerate(sides, 1)]
        check(host, name, wanted)


def test_clips_tokens_and_half_of_its_pooled_embedding(host, prompts):
    """One CLIP Text Encode on both nodes, a range and an area behind them."""
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    clip = [graph.plain(seed, width=2048) for seed in (1, 2)]
    graph.nodes[graph.conditioning.id]["inputs"] |= {
        "clip_positive": clip[0][0],
        "clip_negative": clip[1][0],
    }
    half = options(graph, graph.conditioning[1], clip=clip[0], clip_pooled=0.5)
    early = graph.add("ConditioningSetTimestepRange", conditioning=half, start=0.0, end=0.5)
    size = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    area = graph.add("ConditioningSetArea", conditioning=early, **size)
    late = graph.add(
        "ConditioningSetTimestepRange", conditioning=graph.conditioning[1], start=0.5, end=1.0
    )
    both = graph.add("ConditioningCombine", conditioning_1=area, conditioning_2=late)
    name = graph.recorded(positive=both, steps=4)
    run(host, graph)

    def beside(text, seed):
        context, own = prompts[text].gemma
        return torch.cat([context, plain_tokens(seed, width=2048)], dim=1), own

    at_first = mixed(lambda _: beside(POSITIVE, 1), 1, 0.5)
    found = rows(host, name)
    ranges = {True: 0, False: 0}
    for row in found:
        if row.index == 0:
            early = row.timestep > 500
            ranges[early] += 1
            wanted = at_first(row.timestep) if early else beside(POSITIVE, 1)
        else:
            wanted = beside(NEGATIVE, 2)
        torch.testing.assert_close(row.context, wanted[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(row.pooled, wanted[1], rtol=1e-3, atol=1e-3)
    assert min(ranges.values()) >= 1


def test_what_can_not_be_mixed(host, prompts):
    def error(graph, clip, share=1.0):
        made = options(graph, graph.conditioning[1], clip=clip, clip_pooled=share)
        graph.add("PreviewAny", source=made)
        result = host.run(graph)
        assert result.error is not None
        return result.error["exception_message"]

    graph = SDXLGraph(POSITIVE, NEGATIVE)
    sides = {f"conditioning_{side}": graph.plain(side, width=2048) for side in (1, 2)}
    message = error(graph, graph.add("ConditioningCombine", **sides))
    assert "got 2 conditionings combined. Connect CLIP Text Encode" in message

    graph = SDXLGraph(POSITIVE, NEGATIVE)
    assert "got a conditioning without a pooled embedding" in error(graph, graph.plain(1))

    graph = EllaGraph()  # of SD1.5, which has no pooled embedding
    message = error(graph, graph.plain(1, width=2048), share=0.5)
    assert "is 1280 wide, that of the conditioning 768" in message
