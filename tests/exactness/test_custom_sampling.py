"""Sigmas from elsewhere, schedules cut in pieces, and latents that are not empty."""

import json

import pytest
import torch

from support.exactness import nearest_timestep, stable_diffusion_sigmas

BY_HAND = [14.6, 9.1, 5.05, 2.2, 1.0, 0.31, 0.07, 0.0]


def schedules(graph):
    hand = graph.add("TestSigmas", values=json.dumps(BY_HAND))
    split = graph.add("SplitSigmas", sigmas=graph.add("KarrasScheduler", steps=8), step=4)
    return {
        "by hand": hand,
        "align your steps": graph.add("AlignYourStepsScheduler", model_type="SD1", steps=6),
        "align your steps, denoise": graph.add("AlignYourStepsScheduler", steps=10, denoise=0.5),
        "karras": graph.add("KarrasScheduler", steps=5, rho=5.0),
        "sd turbo": graph.add("SDTurboScheduler", model=graph.conditioning, steps=4),
        "high sigmas": split[0],
        "low sigmas": split[1],
        "flipped": graph.add("FlipSigmas", sigmas=graph.add("KarrasScheduler", steps=4)),
    }


def custom(graph, advanced, sigmas, sampler="euler", latent=None):
    model, name = graph.recorder()
    latent = latent or graph.add("EmptyLatentImage", width=64, height=64)
    inputs = {
        "sampler": graph.add("KSamplerSelect", sampler_name=sampler),
        "sigmas": sigmas,
        "latent_image": latent,
    }
    pair = {"positive": graph.conditioning[1], "negative": graph.conditioning[2], "cfg": 5.0}
    if advanced:
        guider = graph.add("CFGGuider", model=model, **pair)
        noise = graph.add("RandomNoise", noise_seed=3)
        graph.save(graph.add("SamplerCustomAdvanced", noise=noise, guider=guider, **inputs))
    else:
        graph.save(graph.add("SamplerCustom", model=model, noise_seed=3, **pair, **inputs))
    return name


@pytest.mark.parametrize("advanced", [False, True])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2s_ancestral"])
def test_schedules(exact, new_graph, advanced, sampler):
    graph = new_graph()
    names = {
        kind: custom(graph, advanced, sigmas, sampler)
        for kind, sigmas in schedules(graph).items()
        if sampler == "euler" or kind != "flipped"  # no ancestral step goes up
    }
    exact.run(graph)
    table = stable_diffusion_sigmas()
    for name in names.values():
        for row in exact.check(name):
            assert abs(nearest_timestep(table, row.sigma) - row.timestep) <= 1
    if sampler == "euler":
        found = [row.sigma for row in exact.rows(names["by hand"]) if row.index == 0]
        torch.testing.assert_close(found, BY_HAND[:-1], rtol=1e-6, atol=0)


def test_a_schedule_in_two_halves_is_the_whole_schedule(exact, new_graph):
    """KSamplerAdvanced with start_at_step and end_at_step."""
    graph = new_graph()
    steps = {"steps": 8, "scheduler": "karras", "positive": graph.conditioning[1]}
    steps |= {"negative": graph.conditioning[2], "sampler_name": "euler", "noise_seed": 2}
    latent = graph.add("EmptyLatentImage", width=64, height=64)
    whole_model, whole = graph.recorder()
    saved = [graph.add("KSamplerAdvanced", model=whole_model, latent_image=latent, **steps)]
    names = []
    for start, end in ((0, 3), (3, 8)):
        model, name = graph.recorder()
        latent = graph.add(
            "KSamplerAdvanced",
            model=model,
            latent_image=latent,
            start_at_step=start,
            end_at_step=end,
            add_noise="enable" if start == 0 else "disable",
            return_with_leftover_noise="enable" if end == 3 else "disable",
            **steps,
        )
        names.append(name)
    saved = [graph.save(node) for node in (*saved, latent)]
    result = exact.run(graph)
    pieces = [exact.check(name) for name in names]
    assert [len(rows) for rows in pieces] == [6, 10]
    timesteps = [row.timestep for rows in pieces for row in rows]
    assert timesteps == [row.timestep for row in exact.check(whole)]
    a, b = exact.latents(result, saved)
    assert (a - b).abs().max() < 1e-5 * a.abs().max()


def test_hires_fix(exact, new_graph):
    graph = new_graph()
    model, first = graph.recorder()
    low = graph.sample(record=False, model=model, scheduler="karras", steps=4)
    high = graph.add("LatentUpscale", samples=low, width=128, height=128)
    second = graph.sampled(latent_image=high, denoise=0.5, scheduler="karras", steps=4)
    exact.run(graph)
    exact.check(first)
    rows = exact.check(second)
    assert max(row.timestep for row in rows) < 900
    assert exact.host.records(second)[0]["x"].shape[-1] == 16


def image(graph, width=64, height=64):
    """Two colours side by side."""
    halves = [
        graph.add("EmptyImage", width=width // 2, height=height, color=color)
        for color in (0xFF8040, 0x2040C0)
    ]
    return graph.add("ImageStitch", image1=halves[0], image2=halves[1], direction="right")


def mask(graph, width=64, height=64):
    """The left half."""
    black, white = (
        graph.add("SolidMask", value=value, width=size, height=height)
        for value, size in ((0.0, width), (1.0, width // 2))
    )
    inputs = {"destination": black, "source": white, "x": 0, "y": 0, "operation": "add"}
    return graph.add("MaskComposite", **inputs)


def test_img2img(exact, new_graph):
    graph = new_graph()
    latent = graph.add("VAEEncode", pixels=image(graph), vae=graph.checkpoint[2])
    names = [
        graph.sampled(latent_image=latent, denoise=denoise, scheduler=scheduler)
        for denoise, scheduler in ((0.6, "normal"), (0.3, "karras"))
    ]
    exact.run(graph)
    for name in names:
        exact.check(name)


def test_a_latent_noise_mask(exact, new_graph):
    graph = new_graph()
    encoded = graph.add("VAEEncode", pixels=image(graph), vae=graph.checkpoint[2])
    masked = graph.add("SetLatentNoiseMask", samples=encoded, mask=mask(graph))
    model, name = graph.recorder()
    sampled = graph.sample(record=False, model=model, latent_image=masked, denoise=0.8)
    saved = [graph.save(node) for node in (encoded, sampled)]
    result = exact.run(graph)
    exact.check(name)
    before, after = exact.latents(result, saved)
    torch.testing.assert_close(before[..., 4:], after[..., 4:], rtol=0, atol=1e-5)
    assert (before[..., :4] - after[..., :4]).abs().max() > 0.01


@pytest.mark.parametrize("node", ["InpaintModelConditioning", "VAEEncodeForInpaint"])
def test_an_inpainting_checkpoint(exact, new_graph, node):
    graph = new_graph(ckpt="inpaint.safetensors")
    inputs = {"pixels": image(graph), "vae": graph.checkpoint[2], "mask": mask(graph)}
    if node == "InpaintModelConditioning":
        pair = {"positive": graph.conditioning[1], "negative": graph.conditioning[2]}
        made = graph.add(node, **pair, **inputs)
        changes = {"positive": made[0], "negative": made[1], "latent_image": made[2]}
    else:
        changes = {"latent_image": graph.add(node, grow_mask_by=0, **inputs)}
    name = graph.sampled(**changes)
    exact.run(graph)
    exact.check(name)
    for record in exact.host.records(name):
        assert record["x"].shape[1] == 9
        painted, kept = record["x"][:, 4, :, :4], record["x"][:, 4, :, 4:]
        assert painted.min() == 1.0
        assert kept.max() == 0.0
        assert record["x"][:, 5:].any()


def test_more_steps_than_there_are_timesteps_below_a_denoise(exact, new_graph):
    """Many sigmas share a timestep; the connector is asked once for each."""
    graph = new_graph()
    name = graph.sampled(steps=20, denoise=0.01, scheduler="normal")
    exact.run(graph)
    assert len({row.timestep for row in exact.check(name)}) < 20
