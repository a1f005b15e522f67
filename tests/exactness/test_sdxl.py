"""SDXL: the context and the vector of every call, with an LLM adapter and with ELLA's own shape."""

import uuid

import pytest
import torch

from support.exactness import TOLERANCE
from support.host import plain_tokens, relative_error
from support.sdxl import (
    CONTROLNET,
    ELLA_SDXL,
    GEMMA,
    NEGATIVE,
    POSITIVE,
    T5GEMMA,
    THIRD,
    Prompt,
    SDXLGraph,
    adapted,
    check,
    off_by,
    rows,
    run,
)


@pytest.mark.parametrize("llm", [GEMMA, T5GEMMA])
def test_an_adapter_with_several_samplers(host, prompts, llm):
    graph = SDXLGraph(POSITIVE, NEGATIVE, llm=llm)
    lora = graph.add(
        "LoraLoaderModelOnly",
        model=graph.conditioning,
        lora_name="lora.safetensors",
        strength_model=1.0,
    )
    names = [
        graph.recorded(batch=3),
        graph.recorded(sampler_name="dpmpp_2m", scheduler="karras", model=lora),
        graph.recorded(sampler_name="heun", scheduler="exponential", denoise=0.5),
    ]
    run(host, graph)
    expected = [adapted(prompts[POSITIVE], llm), adapted(prompts[NEGATIVE], llm)]
    for name, samples in zip(names, (3, 1, 1), strict=True):
        check(host, name, expected, samples)


def test_areas_and_other_nodes(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    third = graph.condition(THIRD, "", model=graph.conditioning)[1]
    area = graph.add(
        "ConditioningSetArea",
        conditioning=third,
        width=64,
        height=64,
        x=64,
        y=0,
        strength=1.0,
    )
    both = graph.add(
        "ConditioningCombine", conditioning_1=graph.conditioning[1], conditioning_2=area
    )
    average = graph.add(
        "ConditioningAverage",
        conditioning_to=graph.conditioning[1],
        conditioning_from=third,
        conditioning_to_strength=0.25,
    )
    zero = graph.add("ConditioningZeroOut", conditioning=graph.conditioning[2])
    combined = graph.recorded(positive=both, width=128)
    averaged = graph.recorded(positive=average, negative=zero)
    run(host, graph)
    texts = set()
    for row in rows(host, combined):
        choices = {text: off_by(row, prompt.gemma) for text, prompt in prompts.items()}
        text = min(choices, key=choices.get)
        assert choices[text] < TOLERANCE
        texts.add((row.index, text))
    assert texts == {(0, POSITIVE), (0, THIRD), (1, NEGATIVE)}
    mixed = [
        0.25 * a + 0.75 * b
        for a, b in zip(prompts[POSITIVE].gemma, prompts[THIRD].gemma, strict=True)
    ]
    for row in rows(host, averaged):
        if row.index == 0:
            assert off_by(row, mixed) < TOLERANCE
        else:
            assert not row.context.any()
            assert not row.pooled.any()


def test_clip_beside_an_adapter(host, prompts):
    """CLIP's tokens come behind; the pooled embedding is the adapter's."""
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    graph.nodes[graph.conditioning.id]["inputs"] |= {
        "clip_positive": graph.plain(1, width=2048)[0],
        "clip_negative": graph.plain(2, width=2048)[0],
    }
    name = graph.recorded()
    run(host, graph)

    def beside(text, seed):
        context, pooled = prompts[text].gemma
        return torch.cat([context, plain_tokens(seed, width=2048)], dim=1), pooled

    check(host, name, [lambda _: beside(POSITIVE, 1), lambda _: beside(NEGATIVE, 2)])


def test_strength_mixes_contexts_and_pooled_embeddings(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    half = graph.add(
        "ELLAConditioning", ella=graph.ella, embeds=graph.encode(POSITIVE), strength=0.5
    )
    name = graph.recorded(positive=half)
    run(host, graph)
    pairs = zip(prompts[POSITIVE].gemma, prompts[""].gemma, strict=True)
    mixed = [(a + b) / 2 for a, b in pairs]
    check(host, name, [lambda _: mixed, adapted(prompts[NEGATIVE])])


def test_ella_of_sdxls_shape_is_recomputed_at_every_call(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    names = [
        graph.recorded(batch=3, scheduler="karras"),
        graph.recorded(sampler_name="heun", denoise=0.5),
    ]
    run(host, graph)
    expected = [prompts[POSITIVE].ella, prompts[NEGATIVE].ella]
    for name, samples in zip(names, (3, 1), strict=True):
        found = check(host, name, expected, samples)
        assert len({row.timestep for row in found}) >= 3
        of_first = [row.pooled[0] for row in found if row.index == 0]
        assert relative_error(of_first[0], of_first[-1]) > 10 * TOLERANCE


def test_perp_neg_and_averages_of_ella_of_sdxls_shape(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    third = graph.condition(THIRD.replace("(blue)", "blue"), "", model=graph.conditioning)[1]
    average = graph.add(
        "ConditioningAverage",
        conditioning_to=graph.conditioning[1],
        conditioning_from=third,
        conditioning_to_strength=0.25,
    )
    perp = graph.add(
        "PerpNeg",
        model=graph.conditioning,
        empty_conditioning=graph.conditioning[2],
        neg_scale=1.0,
    )
    name = graph.recorded(positive=average, model=perp)
    run(host, graph)
    blue = Prompt(host, "Two blue dogs run.")

    def mixed(timestep):
        pairs = zip(prompts[POSITIVE].ella(timestep), blue.ella(timestep), strict=True)
        return [0.25 * a + 0.75 * b for a, b in pairs]

    seen = []
    for row in rows(host, name):
        errors = [off_by(row, of(row.timestep)) for of in (mixed, prompts[NEGATIVE].ella)]
        assert min(errors) < TOLERANCE
        seen.append(errors.index(min(errors)))
    assert seen.count(0) * 2 == seen.count(1)  # the empty prompt has a call of its own


def test_concat_mask_and_ranges_of_ella_of_sdxls_shape(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    text = "Two blue dogs run."
    third = graph.condition(text, "", model=graph.conditioning)[1]

    def concat(to, source):
        return graph.add("ConditioningConcat", conditioning_to=to, conditioning_from=source)

    # All of one length: ComfyUI repeats the shorter of two contexts that it batches.
    positive, negative = graph.conditioning[1], graph.conditioning[2]
    masked = graph.add(
        "ConditioningSetMask",
        conditioning=concat(third, positive),
        mask=graph.add("SolidMask", value=1.0, width=64, height=64),
        strength=1.0,
        set_cond_area="default",
    )
    first, then = (
        graph.add("ConditioningSetTimestepRange", conditioning=cond, start=start, end=start + 0.5)
        for cond, start in ((concat(positive, third), 0.0), (masked, 0.5))
    )
    both = graph.add("ConditioningCombine", conditioning_1=first, conditioning_2=then)
    name = graph.recorded(positive=both, negative=concat(negative, negative), steps=4)
    run(host, graph)
    other = Prompt(host, text)

    def two(one, two, timestep):
        (first, pooled), (second, _) = one.ella(timestep), two.ella(timestep)
        return torch.cat([first, second], dim=1), pooled

    def in_range(timestep):
        pair = (prompts[POSITIVE], other)
        return two(*(pair if timestep > 500 else pair[::-1]), timestep)

    empty = prompts[NEGATIVE]
    found = check(host, name, [in_range, lambda timestep: two(empty, empty, timestep)])
    assert {row.timestep > 500 for row in found} == {True, False}


def test_a_controlnet_gets_what_the_unet_gets(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    applied = graph.add(
        "ControlNetApplyAdvanced",
        positive=graph.conditioning[1],
        negative=graph.conditioning[2],
        control_net=graph.add("ControlNetLoader", control_net_name=CONTROLNET),
        image=graph.add("EmptyImage", width=64, height=64, color=0xFF8040, batch_size=1),
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    inner = f"control-{uuid.uuid4().hex}"
    positive = graph.add("TestRecordControl", conditioning=applied[0], name=inner)
    name = graph.recorded(positive=positive, negative=applied[1])
    without = graph.recorded()
    run(host, graph)
    check(host, name, [prompts[POSITIVE].ella, prompts[NEGATIVE].ella])
    at_unet, plain = host.records(name), host.records(without)
    for unet, seen in zip(at_unet, host.records(inner), strict=True):
        assert torch.equal(unet["context"], seen["context"])
        assert torch.equal(unet["y"], seen["y"])
    assert not torch.allclose(at_unet[-1]["x"], plain[-1]["x"], atol=1e-2)


def test_a_model_that_got_the_patch_samples_others_as_before(host, prompts):
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    pair = {"positive": graph.plain(1, width=2048), "negative": graph.plain(2, width=2048)}
    saved = [
        graph.save(graph.sample(record=False, model=model, steps=3, **pair))
        for model in (graph.checkpoint, graph.conditioning)
    ]
    result = run(host, graph)
    before, after = (host.latent(result, node.id) for node in saved)
    assert torch.equal(before, after)
