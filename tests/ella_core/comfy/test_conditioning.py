"""What the U-Net got = the reference at the timestep of that call, in a real ComfyUI."""

import pytest
import torch

from support.host import EllaGraph, plain_tokens, relative_error, rows

TOLERANCE = 1e-3  # relative, L2
SHORT = "no text"  # 3 tokens with </s>
LONG = (
    "A tall lighthouse of white stone stands on a black cliff above the sea. " * 3
    + "It is night there."
)


def check(host, graph, prompts, batch=1):
    """Compare every row of every recorded call; `prompts` by cond_or_uncond index."""
    result = host.run(graph)
    assert result.error is None, result.error
    references = [host.reference(text) for text in prompts]
    records = host.records(graph.record)
    assert {i for record in records for i in record["cond_or_uncond"].tolist()} == set(
        range(len(prompts))
    )
    for record in records:
        assert record["loaded_connectors"] == 1
        (step,) = set(record["timesteps"].tolist())
        for index in record["cond_or_uncond"].tolist():
            assert len(rows(record, index)) == batch
            for row in rows(record, index):
                assert relative_error(row, references[index].at(step)) < TOLERANCE
    return records


def recorded(host, graph):
    records = host.records(graph.record)
    assert records
    return records


def test_the_reference_itself_tells_timesteps_and_prompts_apart(host):
    a, b = host.reference("A red cat."), host.reference("A blue dog.")
    assert relative_error(a.at(500), a.at(550)) > 30 * TOLERANCE
    assert relative_error(a.at(500), b.at(500)) > 30 * TOLERANCE


@pytest.mark.parametrize("steps", [6, 20])
def test_euler_normal(host, steps):
    graph = EllaGraph("A red cat.", "blurry")
    graph.save(graph.sample(steps=steps))
    records = check(host, graph, ["A red cat.", "blurry"])
    found = torch.tensor([record["timesteps"][0] for record in records])
    torch.testing.assert_close(found, torch.linspace(999, 0, steps), rtol=0, atol=1)
    assert all(len(record["cond_or_uncond"]) == 2 for record in records)  # one call a step


def test_a_batch_of_three(host):
    graph = EllaGraph("A red cat.", "blurry")
    graph.save(graph.sample(batch=3))
    check(host, graph, ["A red cat.", "blurry"], batch=3)


def test_a_short_negative_beside_a_long_positive(host):
    assert (host.reference(SHORT).tokens, host.reference(LONG).tokens) == (3, 60)
    graph = EllaGraph(LONG, SHORT)
    graph.save(graph.sample())
    records = check(host, graph, [LONG, SHORT])
    assert all(len(record["cond_or_uncond"]) == 2 for record in records)


def test_an_empty_negative(host):
    graph = EllaGraph("A red cat.", "")
    graph.save(graph.sample())
    check(host, graph, ["A red cat.", ""])


def test_without_guidance_there_is_no_negative(host):
    graph = EllaGraph("A red cat.", "blurry")
    graph.save(graph.sample(cfg=1.0))
    records = check(host, graph, ["A red cat."])
    assert all(record["cond_or_uncond"].tolist() == [0] for record in records)


@pytest.mark.parametrize("scheduler", ["karras", "exponential", "sgm_uniform", "beta"])
@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_other_schedules(host, scheduler, denoise):
    graph = EllaGraph("A red cat.", "blurry")
    graph.save(graph.sample(scheduler=scheduler, denoise=denoise))
    assert len(check(host, graph, ["A red cat.", "blurry"])) == 6


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_sde", "uni_pc", "dpmpp_2s_ancestral"])
def test_samplers_that_call_the_model_between_the_sigmas_of_the_schedule(host, sampler):
    graph = EllaGraph("A red cat.", "blurry")
    graph.save(graph.sample(sampler_name=sampler, scheduler="karras"))
    check(host, graph, ["A red cat.", "blurry"])


def test_samples_at_different_sigmas_each_get_their_own_tokens(host):
    graph = EllaGraph("A red cat.", "blurry")
    split = graph.add("TestSigmaPerSample", model=graph.conditioning)
    graph.save(graph.sample(model=split, batch=3))
    assert host.run(graph).error is None
    records = host.records(graph.record)
    assert len(records) == 6
    for record in records:
        steps = record["timesteps"].chunk(2)[record["cond_or_uncond"].tolist().index(0)].tolist()
        assert len(set(steps)) > 1 or steps == [0, 0, 0]
        for row, step in zip(rows(record, 0), steps, strict=True):
            assert relative_error(row, host.reference("A red cat.").at(step)) < TOLERANCE


def test_two_prompts_combined(host):
    graph = EllaGraph("A red cat.", "blurry")
    other = graph.condition("A blue dog.", "dark", model=graph.conditioning)
    positive = graph.add(
        "ConditioningCombine",
        conditioning_1=graph.conditioning[1],
        conditioning_2=other[1],
    )
    graph.save(graph.sample(positive=positive, model=other[0]))
    assert host.run(graph).error is None
    prompts = [host.reference(text) for text in ("A red cat.", "A blue dog.", "blurry")]
    for record in recorded(host, graph):
        step = record["timesteps"][0].item()
        errors = torch.tensor(
            [[relative_error(r, p.at(step)) for p in prompts] for r in record["context"]]
        )
        assert (errors.min(dim=1).values < TOLERANCE).all()
        assert errors.argmin(dim=1).sort().values.tolist() == [0, 1, 2]


def test_a_prompt_in_an_area_keeps_its_own_text(host):
    """ComfyUI copies the positive's area into the negative; the prompts must not go with it."""
    graph = EllaGraph("A red cat.", "blurry")
    area = graph.add(
        "ConditioningSetArea",
        conditioning=graph.conditioning[1],
        width=64,
        height=64,
        x=64,
        y=0,
        strength=1.0,
    )
    latent = graph.add("EmptyLatentImage", width=128, height=64, batch_size=1)
    graph.save(graph.sample(positive=area, latent_image=latent))
    check(host, graph, ["A red cat.", "blurry"])


def test_the_users_own_timestep_range_is_kept(host):
    graph = EllaGraph("A red cat.", "blurry")
    ranged = graph.add(
        "ConditioningSetTimestepRange", conditioning=graph.conditioning[1], start=0.0, end=0.5
    )
    graph.save(graph.sample(positive=ranged, steps=10))
    records = check(host, graph, ["A red cat.", "blurry"])
    with_positive = [0 in record["cond_or_uncond"] for record in records]
    assert with_positive[0]
    assert not with_positive[-1]


def test_a_continuous_model_sampling_is_looked_up_in_stable_diffusions_own_table(host):
    """EDM gives the U-Net 0.25 * log(sigma), which no connector was trained on."""
    graph = EllaGraph("A red cat.", "blurry")
    edm = graph.add(
        "ModelSamplingContinuousEDM",
        model=graph.conditioning[0],
        sampling="eps",
        sigma_max=14.0,
        sigma_min=0.03,
    )
    graph.save(graph.sample(model=edm))
    assert host.run(graph).error is None
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    log_sigmas = ((1 - alphas) / alphas).sqrt().log()
    reference = host.reference("A red cat.")
    for record in recorded(host, graph):
        step = (log_sigmas - record["sigmas"][0].double().log()).abs().argmin().item()
        row = rows(record, 0)[0]
        assert relative_error(row, reference.at(step)) < TOLERANCE


def test_applied_twice_is_applied_once(host):
    graph = EllaGraph("A red cat.", "blurry")
    again = graph.condition("A blue dog.", "", model=graph.conditioning)
    graph.save(graph.sample(model=again[0]))
    check(host, graph, ["A red cat.", "blurry"])


def test_static_tokens_appended_by_conditioning_concat_follow_the_recomputed_ones(host):
    graph = EllaGraph("A red cat.", "blurry")
    plain = graph.plain(3)
    concat = [
        graph.add("ConditioningConcat", conditioning_to=c, conditioning_from=plain)
        for c in (graph.conditioning[1], graph.conditioning[2])
    ]
    graph.save(graph.sample(positive=concat[0], negative=concat[1]))
    assert host.run(graph).error is None
    reference = host.reference("A red cat.")
    for record in recorded(host, graph):
        row = rows(record, 0)[0]
        assert row.shape == (141, 768)
        assert torch.equal(row[64:], plain_tokens(3)[0])
        assert relative_error(row[:64], reference.at(record["timesteps"][0].item())) < TOLERANCE


def test_zeroed_conditioning_stays_zero(host):
    graph = EllaGraph("A red cat.", "blurry")
    zero = graph.add("ConditioningZeroOut", conditioning=graph.conditioning[2])
    graph.save(graph.sample(negative=zero))
    assert host.run(graph).error is None
    for record in recorded(host, graph):
        assert not rows(record, 1).any()
        assert rows(record, 0).any()


def test_averaged_conditionings_are_warned_about(host):
    graph = EllaGraph("A red cat.", "blurry")
    average = graph.add(
        "ConditioningAverage",
        conditioning_to=graph.conditioning[1],
        conditioning_from=graph.conditioning[2],
        conditioning_to_strength=0.5,
    )
    graph.save(graph.sample(positive=average))
    assert host.run(graph).error is None
    assert "changed the tokens of a conditioning" in host.server.log_tail()


def test_an_unpatched_model_is_said_to_be_unpatched(host):
    graph = EllaGraph()
    graph.save(graph.sample(model=graph.checkpoint, record=False))
    result = host.run(graph)
    assert result.error is not None
    assert "a MODEL that was not prepared for it" in result.error["exception_message"]
    assert (
        "Connect the MODEL output of ELLA Timestep Conditioning"
        in (result.error["exception_message"])
    )


def test_the_model_is_left_as_it_was(host):
    """Sampled before, after and with ELLA patched in: to the last bit the same without ELLA."""
    graph = EllaGraph("A red cat.", "blurry")
    plain = {
        "positive": graph.plain(1),
        "negative": graph.plain(2),
        "record": False,
    }
    before = graph.sample(model=graph.checkpoint, **plain)
    # Zero times a latent ties the order of the runs down and adds nothing.
    ella = graph.sample(latent_image=graph.add("LatentMultiply", samples=before, multiplier=0.0))
    nothing = graph.add("LatentMultiply", samples=ella, multiplier=0.0)
    after = graph.sample(model=graph.checkpoint, latent_image=nothing, **plain)
    patched = graph.sample(latent_image=nothing, **plain)
    saved = [graph.save(node).id for node in (before, ella, after, patched)]
    result = host.run(graph)
    assert result.error is None, result.error
    before, ella, after, patched = (host.latent(result, node) for node in saved)
    assert before.isfinite().all()
    assert (before - after).abs().max() == 0.0
    assert (before - patched).abs().max() == 0.0
    assert (before - ella).abs().max() > 0.1
