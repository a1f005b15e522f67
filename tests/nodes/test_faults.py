"""What users do wrong, on the real server: each a clear message, and the next graph runs."""

import itertools
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.host import T5, EllaGraph, relative_error, rows

GOOD = "sd15.safetensors"
CUTS = [f"cut-{i}.safetensors" for i in range(20)]

seeds = itertools.count(1000)  # a seed that was there before would not be sampled again


def run_one_step(host, graph, **changes):
    graph.save(graph.sample(**{"record": False, "steps": 1, **changes}))
    return host.run(graph)


def assert_fails(host, graph, node_type, *parts):
    """The run fails at `node_type` with all `parts` in its message, and the next one is fine."""
    result = run_one_step(host, graph)
    assert result.error is not None
    message = result.error["exception_message"]
    assert result.error["node_type"] == node_type, message
    assert result.error["exception_type"].endswith("EllaError")
    for part in parts:
        assert part in message
    assert_still_runs(host)


def assert_still_runs(host):
    assert run_one_step(host, EllaGraph(), seed=next(seeds)).error is None


@pytest.fixture(scope="module")
def spoiled(host):
    """Files that a user might choose by mistake, beside the good ones."""
    ella, encoders = host.models / "ella", host.models / "text_encoders"
    good = (ella / "tsc.safetensors").read_bytes()
    (ella / "truncated.safetensors").write_bytes(good[: len(good) // 2])
    (ella / "garbage.safetensors").write_bytes(b"\xff" * 1000)
    (ella / "lying.safetensors").write_bytes((2**40).to_bytes(8, "little") + good[8:])
    for name, size in zip(CUTS, random.Random(0).sample(range(len(good)), 20), strict=True):
        (ella / name).write_bytes(good[:size])
    write_altered(ella)
    shutil.copy(host.models / "checkpoints" / GOOD, ella / "sd.safetensors")
    save_file(
        {"lora_unet_mid_block_attentions_0_to_k.lora_down.weight": torch.zeros(4, 320)},
        ella / "lora.safetensors",
    )
    (ella / "pickle.pt").write_bytes(b"\x80\x04.")
    shutil.copytree(encoders / T5, encoders / "no tokenizer")
    (encoders / "no tokenizer/tokenizer.json").unlink()
    shutil.copytree(encoders / T5, encoders / "cut")
    weights = encoders / "cut/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return host


def write_altered(ella):
    tensors = load_file(ella / "tsc.safetensors")
    latents = tensors["connector.latents"]
    altered = {
        "nan": tensors | {"connector.latents": latents.where(latents != latents[0, 0], torch.nan)},
        "missing": {key: t for key, t in tensors.items() if key != "connector.proj_in.bias"},
        "surplus": tensors | {"connector.extra": torch.zeros(2)},
        "misshapen": tensors | {"connector.proj_in.bias": torch.zeros(7)},
    }
    for name, changed in altered.items():
        save_file(changed, ella / f"{name}.safetensors")


@pytest.mark.parametrize("name", CUTS)
def test_a_connector_cut_short(spoiled, name):
    assert_fails(spoiled, EllaGraph(ella=name), "ELLALoad", name, "cut short or damaged")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("truncated.safetensors", ["cut short or damaged", "download it again"]),
        ("garbage.safetensors", ["cannot be read as safetensors", "1,000 bytes"]),
        ("sd.safetensors", ["looks like a diffusion checkpoint", "node Load Checkpoint"]),
        ("lora.safetensors", ["looks like a LoRA", "node Load LoRA"]),
        ("nan.safetensors", ["connector.latents holds NaN"]),
        ("missing.safetensors", ["connector.proj_in.bias is missing"]),
        ("surplus.safetensors", ["connector.extra does not belong there"]),
        ("misshapen.safetensors", ["connector.proj_in.bias is [7], expected [768]"]),
        ("lying.safetensors", ["cannot be read as safetensors"]),
    ],
)
def test_not_a_connector(spoiled, name, parts):
    assert_fails(spoiled, EllaGraph(ella=name), "ELLALoad", name, *parts)


@pytest.mark.parametrize(
    "name",
    [
        "pickle.pt",
        "gone.safetensors",
        "../checkpoints/sd15.safetensors",
        "/etc/passwd",
        "none found: put ella-sd1.5-tsc-t5xl.safetensors into models/ella",
    ],
)
def test_no_such_connector(spoiled, name):
    """ComfyUI's own check of the dropdown or ours stops it; nothing is opened."""
    result = run_one_step(spoiled, EllaGraph(ella=name))
    assert result.error is not None
    expected = "is not a .safetensors file" if name == "pickle.pt" else "was not found. Put ella-sd"
    assert expected in result.error["exception_message"]
    assert_still_runs(spoiled)


def test_links(host, tmp_path):
    """Models kept elsewhere and linked to are fine; a link to nothing is a file that is gone."""
    ella, llms = host.models / "ella", host.models / "text_encoders"
    shutil.copy(ella / "tsc.safetensors", tmp_path / "elsewhere.safetensors")
    shutil.copytree(llms / T5, tmp_path / "t5")
    (ella / "linked.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    (ella / "dangling.safetensors").symlink_to(tmp_path / "gone")
    (llms / "linked").symlink_to(tmp_path / "t5", target_is_directory=True)
    (llms / "round and round").symlink_to(llms, target_is_directory=True)
    good = EllaGraph(ella="linked.safetensors", llm="linked")
    assert run_one_step(host, good).error is None
    result = run_one_step(host, EllaGraph(ella="dangling.safetensors"))
    assert "was not found" in result.error["exception_message"]
    (llms / "round and round").unlink()
    assert_still_runs(host)


@pytest.mark.parametrize("name", ["gone", "..", "../ella", "/etc", "some folder"])
def test_no_such_llm(host, name):
    assert_fails(host, EllaGraph(llm=name), "ELLALoadLLM", f"The LLM {name!r} was not found")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "no tokenizer",
            ["holds no tokenizer", "tokenizer.json or spiece.model", "found config.json"],
        ),
        ("cut", ["The LLM cut can't be loaded", "download them again"]),
        ("an llm", ["The LLM folder an llm holds no weights"]),
        ("model.Q4_0.gguf", ["The LLM model.Q4_0.gguf can't be loaded: it begins with b''"]),
    ],
)
def test_unusable_llm(spoiled, name, parts):
    assert_fails(spoiled, EllaGraph(llm=name), "ELLALoadLLM", *parts)


def test_an_unknown_dtype(host):
    graph = EllaGraph()
    graph.nodes[graph.llm.id]["inputs"]["dtype"] = "fp4"
    assert_fails(host, graph, "ELLALoadLLM", "dtype is 'fp4'; set it to auto, fp16")


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
    warning = next(text for text in result.texts.values() if "trained on" in text)
    assert "10,005 tokens; the released ELLA was trained on 128" in warning
    assert "read in 5 pieces" in warning
    assert warning in host.server.log_tail(100)
    assert all(record["context"].isfinite().all() for record in host.records(graph.record))


def test_a_million_characters_are_fine(host):
    text = f"mountain{' ' * 92}" * 10_000
    assert len(text) == 1_000_000
    result = run_one_step(host, EllaGraph(text, ""))
    assert result.error is None, result.error
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
        embeds_b=graph.add("ELLATextEncode", llm=other, text="b", max_length=0),
        factor=0.5,
    )
    graph.nodes[graph.conditioning.id]["inputs"]["positive"] = blend[0]
    assert_fails(host, graph, "ELLABlendEmbeds", "the other by llama-96", "the same Load LLM")


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


def test_ella_in_a_clip_input(host):
    graph = EllaGraph()
    wrong = graph.add(
        "ELLAConditioning",
        ella=graph.ella,
        embeds=graph.encode("a"),
        clip=graph.conditioning[1],
        strength=1.0,
    )
    assert "A clip input got an ELLA conditioning" in fails(host, graph, wrong)


def test_mixing_prompts_behind_an_mlp(host):
    graph = EllaGraph(ella="mlp.safetensors")
    mixed = graph.add(
        "ELLAConditioning", ella=graph.ella, embeds=graph.encode("a cat"), strength=0.5
    )
    assert "mlp.safetensors makes as many tokens" in fails(host, graph, mixed)
