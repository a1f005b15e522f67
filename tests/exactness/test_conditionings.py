"""Other nodes edit a conditioning on its way to the sampler."""

import uuid

import pytest
import torch

from support.exactness import NEGATIVE, POSITIVE, WIDTH
from support.host import plain_tokens

OTHER = "A blue dog."


def other(graph):
    return graph.condition(OTHER, "", model=graph.conditioning)[1]


def regions(graph):
    """name: what makes a region of a conditioning; all on a latent of 8 x 16."""
    mask = graph.add(
        "MaskComposite",
        destination=graph.add("SolidMask", value=0.0, width=128, height=64),
        source=graph.add("SolidMask", value=1.0, width=64, height=64),
        operation="add",
    )
    return {
        "area": ("ConditioningSetArea", {"width": 64, "height": 64, "x": 64, "y": 0}),
        "percent": ("ConditioningSetAreaPercentage", {"width": 0.5, "height": 1.0, "x": 0.5}),
        "mask": ("ConditioningSetMask", {"mask": mask}),
        "mask bounds": (
            "ConditioningSetMask",
            {"mask": mask, "set_cond_area": "mask bounds"},
        ),
    }


def test_two_prompts_combined(exact, new_graph):
    graph = new_graph()
    both = graph.add(
        "ConditioningCombine", conditioning_1=graph.conditioning[1], conditioning_2=other(graph)
    )
    name = graph.sampled(positive=both, scheduler="karras", sampler_name="heun")
    exact.run(graph)
    steps = {}
    for row in exact.rows(name):
        text = exact.one_of(row, (POSITIVE, OTHER) if row.index == 0 else (NEGATIVE,))
        steps.setdefault(row.call, []).append(text)
    seen = {tuple(sorted(texts)) for texts in steps.values()}
    assert seen == {tuple(sorted([POSITIVE, OTHER, NEGATIVE]))}


@pytest.mark.parametrize("kind", ["area", "percent", "mask", "mask bounds"])
def test_regions(exact, new_graph, kind):
    """One prompt for a half of the picture, another for all of it; the negative has no region.

    ComfyUI gives the negative a copy of the positive's region; the text must not go with it.
    """
    graph = new_graph()
    node, inputs = regions(graph)[kind]
    region = graph.add(node, conditioning=graph.conditioning[1], **inputs)
    both = graph.add("ConditioningCombine", conditioning_1=region, conditioning_2=other(graph))
    latent = graph.add("EmptyLatentImage", width=128, height=64)
    name = graph.sampled(positive=both, latent_image=latent, scheduler="karras")
    alone = graph.sampled(positive=region, latent_image=latent, scheduler="karras")
    exact.run(graph)
    exact.check(alone)
    seen = set()
    for row in exact.rows(name):
        text = exact.one_of(row, (POSITIVE, OTHER) if row.index == 0 else (NEGATIVE,))
        seen.add(text)
    assert seen == {POSITIVE, OTHER, NEGATIVE}


def test_timestep_ranges_are_honoured(exact, new_graph):
    """ComfyUI's percent is linear in timestep: 0.25 is 749, 0.75 is 249."""
    graph = new_graph()
    early, late = (
        graph.add("ConditioningSetTimestepRange", conditioning=c, start=start, end=end)
        for c, start, end in ((graph.conditioning[1], 0.0, 0.75), (other(graph), 0.25, 1.0))
    )
    both = graph.add("ConditioningCombine", conditioning_1=early, conditioning_2=late)
    name = graph.sampled(positive=both, scheduler="karras", steps=12)
    exact.run(graph)
    steps = {POSITIVE: [], OTHER: [], NEGATIVE: []}
    for row in exact.rows(name):
        text = exact.one_of(row, (POSITIVE, OTHER) if row.index == 0 else (NEGATIVE,))
        steps[text].append(row.timestep)
    everything = sorted(steps[NEGATIVE])
    assert sorted(steps[POSITIVE]) == [t for t in everything if t >= 249]
    assert sorted(steps[OTHER]) == [t for t in everything if t <= 750]
    assert set(steps[POSITIVE]) & set(steps[OTHER])


@pytest.mark.parametrize("ella", [0, 1])
def test_ella_on_one_side_and_plain_tokens_on_the_other(exact, new_graph, ella):
    graph = new_graph()
    changes = {("negative", "positive")[ella]: graph.plain(4)}
    name = graph.sampled(scheduler="karras", **changes)
    exact.run(graph)
    seen = set()
    for row in exact.rows(name):
        seen.add(row.index)
        if row.index == ella:
            exact.assert_exact(row.tokens, (POSITIVE, NEGATIVE)[ella], row.timestep)
        else:
            assert torch.equal(row.tokens, plain_tokens(4))
    assert seen == {0, 1}


def test_zeroed_conditioning_stays_zero(exact, new_graph):
    graph = new_graph()
    zero = graph.add("ConditioningZeroOut", conditioning=graph.conditioning[2])
    name = graph.sampled(negative=zero, scheduler="karras")
    exact.run(graph)
    for row in exact.rows(name):
        if row.index == 1:
            assert row.tokens.shape == (1, WIDTH, 768)
            assert not row.tokens.any()
        else:
            exact.assert_exact(row.tokens, POSITIVE, row.timestep)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches(exact, new_graph, batch):
    graph = new_graph()
    name = graph.sampled(batch=batch, scheduler="karras", sampler_name="dpmpp_sde")
    exact.run(graph)
    exact.check(name, batch=batch)


@pytest.mark.parametrize(("dim", "batch", "rows_of_a_window"), [(0, 8, 4), (2, 1, 1)])
def test_context_windows(exact, new_graph, dim, batch, rows_of_a_window):
    """Overlapping windows of 4 over a batch of 8, and over the 8 rows of one latent.

    Of 7 steps: ComfyUI compares the schedule's sigmas with the batch's one by one, so windows over
    a batch run only where there are equally many.
    """
    graph = new_graph()
    model = graph.add(
        "ContextWindowsManual",
        model=graph.conditioning,
        context_length=4,
        context_overlap=2,
        dim=dim,
        causal_window_fix=False,  # on newer ComfyUI: no further row at the start of a window
    )
    name = graph.sampled(model=model, batch=batch, scheduler="karras", steps=7)
    exact.run(graph)
    rows = exact.check(name, batch=rows_of_a_window)
    assert len(rows) == 7 * 3 * 2  # steps, windows, sides
    assert exact.host.records(name)[0]["x"].shape[dim] == 4 * (2 if dim == 0 else 1)


def test_gligen_boxes(exact, new_graph):
    """A real GLIGEN and the real CLIP node; the box changes the picture, the tokens are exact."""
    graph = new_graph()
    boxed = graph.add(
        "GLIGENTextBoxApply",
        conditioning_to=graph.conditioning[1],
        clip=graph.add("CLIPLoader", clip_name="clip_l.safetensors"),
        gligen_textbox_model=graph.add("GLIGENLoader", gligen_name="gligen.safetensors"),
        text="a cat",
        width=32,
        height=32,
    )
    model, name = graph.recorder()
    nodes = [
        graph.sample(record=False, model=model, positive=boxed),
        graph.sample(record=False),
    ]
    saved = [graph.save(node) for node in nodes]
    result = exact.run(graph)
    exact.check(name)
    with_box, without = exact.latents(result, saved)
    assert (with_box - without).abs().max() > 0.01


def test_options_of_other_nodes_arrive_as_they_were(exact, new_graph):
    graph = new_graph()
    model = graph.add("TestRecordOptions", model=graph.conditioning, name=f"o-{uuid.uuid4().hex}")
    options = graph.nodes[model.id]["inputs"]["name"]
    positive = graph.add("TestSetOptions", conditioning=graph.conditioning[1], seed=5)
    name = graph.sampled(model=model, positive=positive, scheduler="karras")
    exact.run(graph)
    exact.check(name)
    generator = torch.Generator().manual_seed(5)
    embeds, latent = (torch.randn(s, generator=generator) for s in [(1, 1024), (1, 4, 8, 8)])
    records = exact.host.records(options)
    assert len(records) == 6
    for record in records:
        assert torch.equal(record["clip_vision_output"], embeds)
        assert torch.equal(record["concat_latent_image"], latent)
        assert torch.equal(record["numbers"], torch.tensor([0.7, 0.1]))
