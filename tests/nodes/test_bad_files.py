"""Connector and LLM files that can't be used, on the real server: a clear message for each."""

import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.faults import assert_fails, assert_refused, run_one_step
from support.host import T5, EllaGraph

GOOD = "sd15.safetensors"


@pytest.fixture(scope="module")
def spoiled(host):
    """Files that a user might choose by mistake, beside the good ones."""
    ella, encoders = host.models / "ella", host.models / "text_encoders"
    good = (ella / "tsc.safetensors").read_bytes()
    (ella / "truncated.safetensors").write_bytes(good[: len(good) // 2])
    (ella / "garbage.safetensors").write_bytes(b"\xff" * 1000)
    (ella / "lying.safetensors").write_bytes((2**40).to_bytes(8, "little") + good[8:])
    write_altered(ella)
    shutil.copy(host.models / "checkpoints" / GOOD, ella / "sd.safetensors")
    save_file(
        {"lora_unet_mid_block_attentions_0_to_k.lora_down.weight": torch.zeros(4, 320)},
        ella / "lora.safetensors",
    )
    (ella / "pickle.pt").write_bytes(b"\x80\x04.")
    (encoders / "garbage.gguf").write_bytes(b"GGUF" + random.Random(1).randbytes(1000))
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
        ("pickle.pt", ["is not a .safetensors file"]),
    ],
)
def test_not_a_connector(spoiled, name, parts):
    assert_fails(spoiled, EllaGraph(ella=name), "ELLALoad", name, *parts)


@pytest.mark.parametrize(
    "name",
    [
        "gone.safetensors",
        "../checkpoints/sd15.safetensors",
        "/etc/passwd",
        "models/ella has no connector: put ella-sd1.5-tsc-t5xl.safetensors there",
    ],
)
def test_no_such_connector(spoiled, name):
    gone = "was not found. Choose ELLA > Download ELLA models ... in ComfyUI's menu, or put ella-sd"
    assert_refused(spoiled, EllaGraph(ella=name), "ELLALoad", f"The ELLA connector {name!r} {gone}")


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
    (llms / "round and round").unlink()
    dangling = EllaGraph(ella="dangling.safetensors")
    assert_refused(host, dangling, "ELLALoad", "'dangling.safetensors' was not found")


@pytest.mark.parametrize("name", ["gone", "..", "../ella", "/etc", "some folder"])
def test_no_such_llm(host, name):
    assert_refused(host, EllaGraph(llm=name), "ELLALoadLLM", f"The LLM {name!r} was not found")


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


def test_a_gguf_file_of_garbage(spoiled):
    """It begins as one should; that the rest is none is found out when it is read."""
    graph = EllaGraph(llm="garbage.gguf")
    assert_fails(spoiled, graph, "ELLALLMTextEncode", "The LLM garbage.gguf can't be loaded")
