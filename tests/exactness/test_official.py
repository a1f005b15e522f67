"""Graphs of the official pack, each on a MODEL that is wired as it is there."""

import pytest
import torch

from support.exactness import NEGATIVE, POSITIVE, WIDTH
from support.host import T5, plain_tokens, relative_error

# Relative, L2. Some processors round differently in passes of another length.
SAME = 1e-5

SCHEDULES = [
    {"scheduler": "normal"},
    {"scheduler": "karras"},
    {"scheduler": "beta"},
    {"scheduler": "normal", "denoise": 0.5},
    {"scheduler": "karras", "denoise": 0.5},
    {"scheduler": "karras", "sampler_name": "heun"},
]


class Official:
    """The official pack's loaders and encoders in a graph, for 4 steps of a KSampler."""

    def __init__(self, graph):
        self.graph = graph
        self.ella = graph.add("ELLALoader", name="tsc.safetensors")
        self.llm = graph.add("T5TextEncoderLoader #ELLA", name=T5, max_length=0, dtype="FP32")

    def encode(self, text, **inputs):
        return self.graph.add("T5TextEncode #ELLA", text=text, text_encoder=self.llm, **inputs)

    def with_timesteps(self, **inputs):
        """The connector for a schedule that nobody samples with: nothing depends on it."""
        given = {"scheduler": "simple", "steps": 50, "denoise": 1.0, **inputs}
        model = self.graph.checkpoint
        return self.graph.add("SetEllaTimesteps", model=model, ella=self.ella, **given)

    def pair(self, **inputs):
        """EllaEncode's conditionings of the two prompts."""
        ella = self.with_timesteps(**inputs)
        return [
            self.graph.add("EllaEncode", ella=ella, embeds=self.encode(text))
            for text in self.graph.prompts
        ]

    def sampled(self, positive, negative, model=None, **changes):
        model = model or self.graph.checkpoint
        changes = {"steps": 4, **changes}
        return self.graph.sampled(model=model, positive=positive, negative=negative, **changes)


def batched(rows, calls):
    """Return whether every one of so many calls was made with positive and negative together."""
    together = {}
    for row in rows:
        together.setdefault(row.call, set()).add(row.index)
    return list(together.values()) == [{0, 1}] * calls


def test_conditionings_on_an_unpatched_model(exact, new_graph):
    official = Official(new_graph())
    names = {official.sampled(*official.pair(), **given): given for given in SCHEDULES}
    exact.run(official.graph)
    for name, given in names.items():
        calls = 7 if given.get("sampler_name") == "heun" else 4
        assert batched(exact.check(name), calls), given


@pytest.mark.parametrize("with_sigmas", [False, True])
def test_apply(exact, new_graph, with_sigmas):
    official = Official(new_graph())
    graph = official.graph
    inputs = {"model": graph.checkpoint, "ella": official.ella}
    inputs |= {"positive": official.encode(POSITIVE), "negative": official.encode(NEGATIVE)}
    if with_sigmas:
        inputs["sigmas"] = graph.add("BasicScheduler", model=graph.checkpoint, steps=9)
    applied = graph.add("EllaApply", **inputs)
    names = [official.sampled(applied[1], applied[2], applied[0], **given) for given in SCHEDULES]
    exact.run(graph)
    for name in names:
        assert batched(exact.check(name), len({row.call for row in exact.rows(name)}))


def test_sigmas_for_set_timesteps(exact, new_graph):
    official = Official(new_graph())
    sigmas = official.graph.add("BasicScheduler", model=official.graph.checkpoint, steps=9)
    name = official.sampled(*official.pair(sigmas=sigmas), scheduler="karras")
    exact.run(official.graph)
    exact.check(name)


def test_text_encode_with_and_without_clip(exact, new_graph):
    official = Official(new_graph())
    graph = official.graph
    clip = graph.add("CLIPLoader", clip_name="clip_l.safetensors", type="stable_diffusion")
    inputs = {"ella": official.with_timesteps(), "text_encoder": official.llm}
    without = [graph.add("EllaTextEncode", text=text, **inputs) for text in graph.prompts]
    inputs["clip"] = clip
    texts = ("red", "grey")
    both = [
        graph.add("EllaTextEncode", text=text, text_clip=text_clip, **inputs)
        for text, text_clip in zip(graph.prompts, texts, strict=True)
    ]
    plain = [graph.add("CLIPTextEncode", text=text, clip=clip) for text in texts]
    names = [
        official.sampled(*without, scheduler="beta"),
        official.sampled(*both, scheduler="beta"),
        official.sampled(both[0][1], both[1][1]),
        official.sampled(*plain),
    ]
    exact.run(graph)
    exact.check(names[0])
    alone, clips = exact.rows(names[2]), exact.rows(names[3])
    assert [row.index for row in alone] == [row.index for row in clips]
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(alone, clips, strict=True))
    clip_tokens = {row.index: row.tokens for row in clips}
    rows = exact.rows(names[1])
    assert batched(rows, 4)
    for row in rows:
        assert torch.equal(row.tokens[:, WIDTH:], clip_tokens[row.index])
        exact.assert_exact(row.tokens[:, :WIDTH], graph.prompts[row.index], row.timestep)


def combinations(official):
    """Every way to bring CLIP's tokens and an LLM's together."""
    graph, text = official.graph, official.encode(POSITIVE)
    clip = graph.add("ConditionToEllaEmbeds", cond=graph.plain(1))
    yield graph.add("CombineClipEllaEmbeds", cond=graph.plain(1), embeds=text)
    yield graph.add("ConcatConditionEllaEmbeds", cond=graph.plain(1), embeds=text)
    yield graph.add("EllaCombineEmbeds", embeds=clip, embeds_add=text)
    yield graph.add("EllaCombineEmbeds", embeds=text, embeds_add=clip)
    yield official.encode(POSITIVE, embeds=clip)
    # Where both hold an LLM's, the second one's counts.
    other = official.encode(NEGATIVE, embeds=clip)
    yield graph.add("EllaCombineEmbeds", embeds=other, embeds_add=text)


def test_clip_tokens_follow_those_of_ella(exact, new_graph):
    official = Official(new_graph())
    ella = official.with_timesteps()
    names = []
    for embeds in combinations(official):
        positive = official.graph.add("EllaEncode", ella=ella, embeds=embeds)
        names.append(official.sampled(positive, official.pair()[1], scheduler="karras"))
    exact.run(official.graph)
    assert len(names) == 6
    for name in names:
        rows = exact.rows(name)
        assert len({row.call for row in rows}) == len(rows)  # no call has both: lengths differ
        for row in rows:
            if row.index == 0:
                assert torch.equal(row.tokens[:, WIDTH:], plain_tokens(1))
            text = official.graph.prompts[row.index]
            exact.assert_exact(row.tokens[:, :WIDTH], text, row.timestep)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A (red:1.4) cat.", "A red cat."),
        ("A ((red)) (cat:0.5).", "A red cat."),
        (r"A \(red:1.4\) cat.", "A (red:1.4) cat."),
        ("A cat (note: red).", "A cat note: red."),
    ],
)
def test_weights_are_taken_out(exact, new_graph, text, read):
    official = Official(new_graph(positive=text))
    name = official.sampled(*official.pair(), steps=1)
    exact.run(official.graph)
    exact.check(name, (read, NEGATIVE))


def test_max_length(exact, new_graph):
    official = Official(new_graph())
    fixed = official.graph.add("T5TextEncoderLoader #ELLA", name=T5, max_length=16, dtype="FP32")
    ours = official.graph.add("ELLALLMTextEncode", llm=official.graph.llm, text="", max_length=16)
    theirs = official.graph.add("T5TextEncode #ELLA", text="", text_encoder=fixed)
    positives = [
        official.graph.add("EllaEncode", ella=official.ella, embeds=theirs),
        official.graph.add("ELLAConditioning", ella=official.ella, embeds=ours),
    ]
    negative = official.pair()[1]
    names = [official.sampled(positive, negative) for positive in positives]
    exact.run(official.graph)
    found, expected = map(exact.rows, names)
    assert len(found) == 8
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(found, expected, strict=True))
    assert exact.error(found[0].tokens, "", found[0].timestep) > 1e-2


def test_connectors_of_both_loaders_are_the_same(exact, new_graph):
    official = Official(new_graph())
    graph = official.graph
    theirs = [
        graph.add("EllaEncode", ella=graph.ella, embeds=official.encode(text))
        for text in graph.prompts
    ]
    graph.nodes[graph.conditioning.id]["inputs"]["ella"] = official.with_timesteps()[0]
    names = [official.sampled(*theirs), graph.sampled(steps=4)]
    exact.run(graph)
    for name in names:
        assert batched(exact.check(name), 4)


def compared(exact, graph, triples, steps=2):
    """Sample (model, positive, negative), each exact in one call a step; the latents."""
    saved, names = [], []
    for model, positive, negative in triples:
        recorder, name = graph.recorder(model)
        inputs = {"model": recorder, "positive": positive, "negative": negative}
        saved.append(graph.save(graph.sample(record=False, steps=steps, **inputs)))
        names.append(name)
    result = exact.run(graph)
    for name in names:
        assert batched(exact.check(name), steps)
    return exact.latents(result, saved)


def test_one_call_a_step_and_the_same_picture_with_a_patched_model(exact, new_graph):
    """Beside a conditioning of the new nodes, which brings no wrapper, too."""
    graph = new_graph()
    positive, negative = Official(graph).pair()
    patched = graph.add("ELLAPatchModel", model=graph.checkpoint)
    model, *ours = (graph.conditioning[i] for i in range(3))
    first, *others = compared(
        exact,
        graph,
        [
            (graph.checkpoint, positive, negative),
            (patched, positive, negative),
            (graph.checkpoint, positive, ours[1]),
            (model, *ours),
        ],
    )
    assert max(relative_error(other, first) for other in others) < SAME


def test_other_conditionings_are_as_they_were_afterwards(exact, new_graph):
    graph = new_graph()
    official = Official(graph)
    plain = [graph.plain(1), graph.plain(2)]
    names = [official.sampled(*official.pair()), official.sampled(*plain)]
    exact.run(graph)
    rows = exact.rows(names[1])
    assert batched(rows, 4)
    assert all(torch.equal(row.tokens, plain_tokens(row.index + 1)) for row in rows)


def both_kinds(graph):
    """(model, positive, negative) of the official nodes and of ours."""
    return [(graph.checkpoint, *Official(graph).pair()), [graph.conditioning[i] for i in range(3)]]


def test_beside_a_lora_hook(exact, new_graph):
    """The LoRA acts as it does on conditionings without a hook of ours."""
    graph = new_graph("sd15.safetensors")
    lora = {"lora_name": "lora.safetensors", "strength_model": 1.0, "strength_clip": 0.0}
    hook = graph.add("CreateHookLora", **lora)
    triples = []
    for hooks in ({"hooks": hook}, {}):
        for model, positive, negative in both_kinds(graph):
            pair = {"positive_NEW": positive, "negative_NEW": negative}
            hooked = graph.add("PairConditioningSetProperties", **pair, **hooks)
            triples.append((model, hooked[0], hooked[1]))
    theirs, ours, without, _ = compared(exact, graph, triples)
    assert relative_error(ours, theirs) < SAME
    assert relative_error(without, theirs) > 100 * SAME


def test_with_a_controlnet(exact, new_graph):
    graph = new_graph("sd15.safetensors")
    control = graph.add("ControlNetLoader", control_net_name="controlnet.safetensors")
    inputs = {"control_net": control, "image": graph.add("EmptyImage", width=64, height=64)}
    triples = []
    for model, positive, negative in both_kinds(graph):
        pair = {"positive": positive, "negative": negative}
        controlled = graph.add("ControlNetApplyAdvanced", **pair, **inputs)
        triples.append((model, controlled[0], controlled[1]))
    theirs, ours = compared(exact, graph, triples)
    assert relative_error(ours, theirs) < SAME


def test_concat_puts_it_second(exact, new_graph):
    """The conditioning then has no hook of ours; that of the other one reaches it."""
    graph = new_graph()
    official = Official(graph)
    positive, negative = official.pair()
    first = graph.add(
        "ConditioningConcat", conditioning_to=graph.plain(1), conditioning_from=positive
    )
    name = official.sampled(first, negative, scheduler="karras")
    exact.run(graph)
    for row in exact.rows(name):
        tokens = row.tokens[:, 77:] if row.index == 0 else row.tokens
        exact.assert_exact(tokens, graph.prompts[row.index], row.timestep)
