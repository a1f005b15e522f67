"""Lines of text and progress bars that nodes show while they work and afterwards."""

import asyncio
import json
import re
import uuid
from contextlib import suppress

import aiohttp
import pytest

from support.host import T5, EllaGraph

STEPS = 6
SENTENCE = "A tall lighthouse of white stone stands on a black cliff above the sea."
CONNECTOR = re.compile(r"(.*) ·\nconnector: (\d+) pass(?:es)? for (\d+) timesteps?, [\d.]+ m?s")
ALL_KEPT = "nothing to compute, all kept"


def fresh(text):
    """A prompt that no other test has had read."""
    return f"{text} {uuid.uuid4().hex}"


def run(host, graph):
    result = host.run(graph)
    assert result.error is None, result.error
    return result


def tokens(host, text):
    return host.reference(text).tokens


def said(result, node):
    """(tokens, passes, timesteps) that a conditioning node showed last."""
    found = CONNECTOR.fullmatch(result.texts[node.id])
    assert found, result.texts[node.id]
    return found[1], int(found[2]), int(found[3])


def reports(result, node):
    return [report for report in result.reports if report["node"] == node.id]


def moves(result, node):
    """The distinct states that a node's progress bar went through."""
    return list(dict.fromkeys((done, of) for n, done, of in result.progress if n == node.id))


@pytest.fixture
def texts():
    return fresh("A red cat."), fresh("blurry")


def counts(host, positive, negative):
    return f"positive {tokens(host, positive)}, negative {tokens(host, negative)} tokens"


def test_the_passes_of_a_run_and_those_of_the_next(host, texts):
    graph = EllaGraph(*texts)
    sampler = graph.sample(record=False, steps=STEPS)
    graph.save(sampler)
    node = graph.conditioning
    result = run(host, graph)
    assert said(result, node) == (counts(host, *texts), 1, STEPS)
    (report,) = reports(result, node)
    assert report["kind"] == "connector"
    assert report["prompts"] == [
        {"name": name, "tokens": [tokens(host, text)]}
        for name, text in zip(("positive", "negative"), texts, strict=True)
    ]
    assert (report["passes"], report["timesteps"]) == (1, STEPS)
    inputs = graph.nodes[sampler.id]["inputs"]
    inputs["seed"] = 2  # the conditioning node itself is not executed again
    kept = run(host, graph).texts[node.id]
    assert kept == f"{counts(host, *texts)} ·\nconnector: {ALL_KEPT}"
    inputs["denoise"] = 0.5
    _, passes, timesteps = said(run(host, graph), node)
    assert passes == 1
    assert timesteps in (STEPS - 1, STEPS)


def test_the_time_is_that_of_the_passes(host, texts):
    """A slow connector takes longer, and nothing else is timed."""
    shown = {}
    for slowness in (0.0, 1.5):
        graph = EllaGraph(*map(fresh, texts))
        ella = graph.add("TestSlowConnector", ella=graph.ella, seconds=slowness)
        graph.nodes[graph.conditioning.id]["inputs"]["ella"] = ella[0]
        graph.save(graph.sample(record=False, steps=STEPS))
        (report,) = reports(run(host, graph), graph.conditioning)
        shown[slowness] = report["milliseconds"] / 1000
    assert 1.5 <= shown[1.5] < 1.5 + 10 * max(shown[0.0], 0.1)


def test_sigmas_between_the_steps_are_counted_at_the_end(host, texts):
    graph = EllaGraph(*texts)
    graph.save(graph.sample(record=False, steps=STEPS, sampler_name="dpm_2"))
    result = run(host, graph)
    _, passes, timesteps = said(result, graph.conditioning)
    assert STEPS < timesteps <= 2 * STEPS
    assert passes == 1 + timesteps - STEPS
    assert len(reports(result, graph.conditioning)) == 1
    assert moves(result, graph.conditioning)[-2:] == [(0, 1), (1, 1)]


def test_several_samplers_and_conditionings_each_their_own(host, texts):
    graph = EllaGraph(*texts)
    text = fresh("dark")
    other = graph.condition(texts[0], text)
    first = graph.sample(record=False, steps=STEPS)
    second = graph.sample(
        record=False, steps=3, model=other, positive=other[1], negative=other[2], latent_image=first
    )
    third = graph.sample(record=False, steps=4, latent_image=second, scheduler="karras")
    graph.save(third)
    result = run(host, graph)
    told, passes, timesteps = said(result, graph.conditioning)
    assert (told, passes) == (counts(host, *texts), 2)  # of the first sampler and of the third
    assert STEPS < timesteps <= STEPS + 2
    told, passes, timesteps = said(result, other)
    assert told == counts(host, texts[0], text)
    assert timesteps == 3


def test_two_nodes_with_the_same_inputs(host, texts):
    graph = EllaGraph(*texts)
    positive = graph.nodes[graph.conditioning.id]["inputs"]["positive"]
    twins = [
        graph.add("ELLAConditioning", ella=graph.ella, embeds=positive, strength=0.5)
        for _ in range(2)
    ]
    both = graph.add("ConditioningCombine", conditioning_1=twins[0], conditioning_2=twins[1])
    graph.save(graph.sample(record=False, steps=STEPS, positive=both))
    result = run(host, graph)
    empty = tokens(host, "")
    for twin in twins:
        mixed = f"{tokens(host, texts[0])} + {empty} tokens"
        assert said(result, twin) == (mixed, 1, STEPS)


def test_ella_in_second_place_of_a_concat(host, texts):
    graph = EllaGraph(*texts)
    joined = [
        graph.add(
            "ConditioningConcat",
            conditioning_to=graph.plain(i),
            conditioning_from=graph.conditioning[i],
        )
        for i in (1, 2)
    ]
    graph.save(graph.sample(record=False, steps=STEPS, positive=joined[0], negative=joined[1]))
    assert said(run(host, graph), graph.conditioning)[1:] == (1, STEPS)


def test_a_deep_copied_conditioning(host, texts):
    graph = EllaGraph(*texts)
    copy = graph.add("TestDeepCopy", conditioning=graph.conditioning[1])
    graph.save(graph.sample(record=False, steps=STEPS, positive=copy))
    assert said(run(host, graph), graph.conditioning) == (counts(host, *texts), 1, STEPS)


def test_bars_of_the_pass_and_of_the_sampler_do_not_mix(host, texts):
    graph = EllaGraph(*texts)
    sampler = graph.sample(record=False, steps=STEPS)
    graph.save(sampler)
    heard = []
    result = host.run(graph, lambda *progress: heard.append(progress))
    assert result.error is None, result.error
    assert moves(result, graph.conditioning)[-2:] == [(0, 1), (1, 1)]
    assert [p for p in heard if p[0] == graph.conditioning.id] == []
    bar = [(done, of) for node, done, of in heard if node == sampler.id]
    # ComfyUI 0.33 leaves out what follows within 0.1 s, and the end never.
    assert bar[-1] == (STEPS, STEPS)
    assert bar == sorted({(step, STEPS) for step in range(1, STEPS + 1)} & {*bar})


def test_loading_the_llm_and_reading_in_chunks(host):
    name = f"copy-{uuid.uuid4().hex}"
    (host.models / "LLM" / name).symlink_to(host.models / "text_encoders" / T5)
    text = fresh(" ".join([SENTENCE] * 20))
    graph = EllaGraph(text, "", llm=name)
    positive = graph.nodes[graph.conditioning.id]["inputs"]["positive"][0]
    graph.nodes[positive]["inputs"]["long_prompt"] = "chunk"
    graph.save(graph.sample(record=False, steps=1))
    result = run(host, graph)
    (loading,) = [report for report in result.reports if report["kind"] == "loading"]
    *reading, read = [r for r in result.reports if r["node"] == positive and r is not loading]
    assert loading["llm"] == name
    assert loading["text"] == f"loading the LLM {name} ..."
    assert read["kind"] == "prompt"
    chunks = read["chunks"]
    assert f"in {chunks} chunks of at most {read['chunk_length']}" in read["text"]
    assert [(report["done"], report["of"]) for report in reading] == [
        (i, chunks) for i in range(1, chunks)
    ]
    steps = [(done, of) for n, done, of in result.progress if n == loading["node"] and of == 3]
    # ComfyUI 0.33 leaves out what follows within 0.1 s, and the end never. If the other prompt
    # was read first, this one's bar follows.
    assert steps[: steps.index((3, 3)) + 1] in ([(1, 3), (2, 3), (3, 3)], [(1, 3), (3, 3)])
    bar = [(done, of) for n, done, of in result.progress if n == positive]
    assert all((i, chunks) in bar for i in range(1, chunks + 1))


async def heard_by_another(server, prompt):
    """Return the messages to an editor during a run that no editor has queued."""
    async with aiohttp.ClientSession(server.address) as session, session.ws_connect("/ws") as ws:
        async with session.post("/prompt", json={"prompt": prompt}) as response:
            prompt_id = (await response.json())["prompt_id"]
        while not await (await session.get(f"/history/{prompt_id}")).json():
            await asyncio.sleep(0.1)
        heard = []
        with suppress(TimeoutError):
            while True:
                heard.append((await ws.receive(timeout=1)).data)
        return heard


def test_a_run_without_an_editor_writes_on_nobodys_nodes(host, texts):
    graph = EllaGraph(*texts)
    graph.save(graph.sample(record=False, steps=1))
    heard = asyncio.run(heard_by_another(host.server, graph.nodes))
    events = [json.loads(message)["type"] for message in heard if isinstance(message, str)]
    assert "status" in events
    assert "ella.report" not in events


def test_a_prompt_that_is_too_long_is_in_the_report(host):
    text = fresh(" ".join([SENTENCE] * 20))
    graph = EllaGraph(text, "")
    graph.save(graph.sample(record=False, steps=1))
    first, last = reports(run(host, graph), graph.conditioning)
    about = {"connector": "tsc.safetensors", "tokens": tokens(host, text), "trained": 128}
    assert first["kind"] == "long"
    assert first == {**first, **about}
    assert last["kind"] == "connector"
    assert last["long"] == about
    assert last["text"].endswith(first["text"])


def test_two_equal_prompts_both_report(host):
    text = fresh("A red cat.")
    graph = EllaGraph(text, text)
    graph.save(graph.sample(record=False, steps=STEPS))
    result = run(host, graph)
    n = tokens(host, text)
    inputs = graph.nodes[graph.conditioning.id]["inputs"]
    for name in ("positive", "negative"):
        assert result.texts[inputs[name][0]] == f"{n} tokens"
    assert said(result, graph.conditioning) == (counts(host, text, text), 1, STEPS)
