"""Mistakes of users on the real server: each gives a clear message, and the next graph runs."""

import pytest

from support.faults import (
    assert_fails,
    assert_refuses_choice,
    assert_still_runs,
    run_one_step,
)
from support.host import EllaGraph, relative_error, rows


def test_an_unknown_dtype(host):
    graph = EllaGraph()
    graph.nodes[graph.llm.id]["inputs"]["dtype"] = "fp4"
    assert_refuses_choice(host, graph, "dtype", "fp4", "auto", "fp16", "int8")


def test_an_llm_that_the_connector_was_not_made_for(host):
    assert_fails(
        host,
        EllaGraph(llm="llama-96"),
        "ELLATimestepConditioning",
        "The LLM llama-96 makes features 96 wide",
        "tsc.safetensors reads features 64 wide",
        "Choose an LLM of width 64 in Load LLM (ELLA)",
    )


def test_a_checkpoint_of_another_width(host):
    assert_fails(
        host,
        EllaGraph(ckpt="sd2.safetensors"),
        "ELLATimestepConditioning",
        "reads text 1024 wide",
        "makes tokens 768 wide",
        "Load a Stable Diffusion 1.5 model in Load Checkpoint",
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("SDXL", "The MODEL (SDXL) reads text 2048 wide"),
        ("Flux", "The MODEL is a Flux, which is no U-Net with cross-attention"),
        ("SD3", "The MODEL is a SD3, which is no U-Net with cross-attention"),
    ],
)
def test_a_model_of_another_kind(host, kind, message):
    graph = EllaGraph()
    graph.nodes[graph.conditioning.id]["inputs"]["model"] = graph.add(
        "TestModelWithoutWeights", kind=kind
    )[0]
    assert_fails(host, graph, "ELLATimestepConditioning", message, "Load Checkpoint")


@pytest.mark.parametrize("max_length", [0, 128])
def test_an_empty_prompt_is_fine(host, max_length):
    result = run_one_step(host, EllaGraph("", "", max_length=max_length))
    assert result.error is None


def test_ten_thousand_words_are_fine_and_warned_about(host):
    text = "mountain " * 10_000
    graph = EllaGraph(text, "")
    graph.save(graph.sample(steps=2))
    result = host.run(graph)
    assert result.error is None, result.error
    log = host.server.log_tail(100)
    assert any("10,005 tokens; read in 5 pieces" in text for text in result.texts.values())
    assert "10,005 tokens: the connector" in log
    assert "was trained on 128 and has not seen longer prompts" in log
    assert all(record["context"].isfinite().all() for record in host.records(graph.record))


@pytest.mark.parametrize(
    ("long_prompt", "count"),
    [("whole", "70,690 tokens; "), ("chunk", "71,259 tokens in 604 chunks of at most 128")],
)
def test_a_million_characters_are_fine(host, long_prompt, count):
    # Without the blanks these are 280,000 tokens, which took 192 s whole and 116 s in chunks.
    text = ("A lighthouse stands on a cliff above the sea." + " " * 139) * 5_435
    text = text[:1_000_000]
    graph = EllaGraph(text, "")
    positive = graph.nodes[graph.conditioning.id]["inputs"]["positive"][0]
    graph.nodes[positive]["inputs"]["long_prompt"] = long_prompt
    result = run_one_step(host, graph)
    assert result.error is None, result.error
    assert result.texts[positive].startswith(count)
    assert_still_runs(host)


@pytest.mark.parametrize(
    "text", ["nul \x00 byte", "🐈‍⬛ in a 🚀", "قط أحمر על כיסא", "(paren) \\ [brackets]", "\n\n\t"]
)
def test_odd_text_is_text(host, text):
    graph = EllaGraph(text, "")
    graph.save(graph.sample(steps=2))
    assert host.run(graph).error is None
    reference = host.reference(text)
    for record in host.records(graph.record):
        row = rows(record, 0)[0]
        assert relative_error(row, reference.at(record["timesteps"][0].item())) < 1e-3


def test_clip_on_one_side_only(host):
    graph = EllaGraph()
    graph.nodes[graph.conditioning.id]["inputs"]["clip_negative"] = graph.plain(1)[0]
    assert_fails(
        host,
        graph,
        "ELLATimestepConditioning",
        "clip_negative is connected and clip_positive is not",
    )


def test_clip_of_another_width(host):
    graph = EllaGraph()
    inputs = graph.nodes[graph.conditioning.id]["inputs"]
    inputs["clip_positive"] = inputs["clip_negative"] = graph.plain(1, width=1024)[0]
    message = "CLIP's tokens are 1024 wide, ELLA's 768"
    assert_fails(host, graph, "ELLATimestepConditioning", message)


def test_blending_prompts_of_two_llms(host):
    graph = EllaGraph()
    other = graph.add("ELLALoadLLM", llm_name="llama-96", dtype="fp32")
    blend = graph.add(
        "ELLABlendEmbeds",
        embeds_a=graph.encode("a"),
        embeds_b=graph.add("ELLALLMTextEncode", llm=other, text="b", max_length=0),
        factor=0.5,
    )
    graph.nodes[graph.conditioning.id]["inputs"]["positive"] = blend[0]
    assert_fails(host, graph, "ELLABlendEmbeds", "the other by llama-96", "the same Load LLM")


def test_prompts_of_two_llms(host):
    graph = EllaGraph()
    other = graph.add("ELLALoadLLM", llm_name="llama-96", dtype="fp32")
    negative = graph.add("ELLALLMTextEncode", llm=other, text="b", max_length=0)
    graph.nodes[graph.conditioning.id]["inputs"]["negative"] = negative[0]
    message = ("the other by llama-96", "the same Load LLM")
    assert_fails(host, graph, "ELLATimestepConditioning", *message)


def test_an_ella_conditioning_with_a_model_of_another_width(host):
    """ELLA Patch Model knows no connector: found out at the first model call."""
    graph = EllaGraph()
    sd2 = graph.add("CheckpointLoaderSimple", ckpt_name="sd2.safetensors")
    model = graph.add("ELLAPatchModel", model=sd2)
    result = run_one_step(host, graph, model=model)
    assert result.error is not None
    assert "reads text 1024 wide" in result.error["exception_message"]


def fails(host, graph, positive):
    graph.save(graph.sample(record=False, steps=1, positive=positive))
    result = host.run(graph)
    assert result.error is not None
    return result.error["exception_message"]


@pytest.mark.parametrize("behind", ["nothing", "another's"])
def test_ella_in_a_clip_input(host, behind):
    graph = EllaGraph()
    clip = graph.conditioning[1]
    if behind != "nothing":  # whose options are then the ones that are kept
        plain = graph.plain(1)
        clip = graph.add("ConditioningConcat", conditioning_to=plain, conditioning_from=clip)
    wrong = graph.add(
        "ELLAConditioning", ella=graph.ella, embeds=graph.encode("a"), clip=clip, strength=1.0
    )
    assert "A clip input got an ELLA conditioning" in fails(host, graph, wrong)


def test_mixing_prompts_behind_an_mlp(host):
    graph = EllaGraph(ella="mlp.safetensors")
    mixed = graph.add(
        "ELLAConditioning", ella=graph.ella, embeds=graph.encode("a cat"), strength=0.5
    )
    assert "mlp.safetensors makes as many tokens" in fails(host, graph, mixed)
