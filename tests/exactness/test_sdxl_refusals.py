"""SDXL: token counts of an adapter, and what does not belong together."""

from dataclasses import replace

import requests
import torch
import transformers
from safetensors.torch import save_file

from ella_core.config import ADAPTER_RECIPES
from support.sdxl import (
    ADAPTER,
    ELLA_SDXL,
    ELLA_SDXL_CONFIG,
    GEMMA,
    MAX_TOKENS,
    NEGATIVE,
    POSITIVE,
    SDXLGraph,
    rows,
    run,
)
from tiny_models import draw_connector


def count(host, text):
    """What the editor shows under a prompt for the adapter."""
    body = {"llm_name": GEMMA, "text": text, "max_length": 0, "long_prompt": "whole"}
    answer = None
    while answer is None or answer.status_code == 202:  # the tokenizer is being opened
        address = f"{host.server.address}/ella/tokens"
        answer = requests.post(address, json={**body, "ella_name": ADAPTER}, timeout=60)
    return answer.json()


def test_the_token_count_leaves_the_template_out(host, prompts):
    """And knows where the adapter ends, which reads the template's last tokens too."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(host.models / "LLM" / GEMMA)
    words = len(tokenizer(POSITIVE, add_special_tokens=False).input_ids)
    system = ADAPTER_RECIPES["gemma3_text"].system_prompt
    messages = [{"role": "system", "content": system}, {"role": "user", "content": ""}]
    whole = tokenizer.apply_chat_template(messages, return_dict=True, add_generation_prompt=True)
    found = count(host, POSITIVE)
    assert found["tokens"] == words
    assert found["limit"] == MAX_TOKENS + 27 - len(whole["input_ids"])
    assert not found["over"]
    found = count(host, "a long one " * 60)
    assert found["over"]
    assert found["dropped"] > 0


def error_of(host, graph):
    graph.save(graph.sample(record=False, steps=1))
    result = host.run(graph)
    assert result.error is not None
    return result.error["exception_message"]


def changed(graph, node, **inputs):
    graph.nodes[node.id]["inputs"] |= inputs
    return graph


def test_what_does_not_belong_together(host, prompts):
    """Each by name, on a server that runs on."""
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    changed(graph, graph.checkpoint, ckpt_name="sd15.safetensors")
    message = error_of(host, graph)
    assert "(BaseModel) reads text 768 wide" in message
    assert "makes tokens 2048 wide. Load an SDXL model" in message

    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    changed(graph, graph.ella, ella_name="tsc.safetensors")
    message = error_of(host, graph)
    assert "(SDXL) reads text 2048 wide" in message
    assert "makes tokens 768 wide. Load a Stable Diffusion 1.5 model" in message

    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    changed(graph, graph.ella, ella_name="adapter.safetensors")
    assert "makes features 64 wide, but the connector adapter" in error_of(host, graph)

    graph = SDXLGraph(POSITIVE, NEGATIVE)  # Pony's and others' refiners are this one
    model = graph.add("TestModelWithoutWeights", kind="SDXLRefiner")
    changed(graph, graph.conditioning, model=model[0])
    message = error_of(host, graph)
    assert "(SDXLRefiner) reads text 1280 wide" in message
    assert "makes tokens 2048 wide. Load an SDXL model" in message

    for kind in ("Flux", "SD3"):
        graph = SDXLGraph(POSITIVE, NEGATIVE)
        model = graph.add("TestModelWithoutWeights", kind=kind)
        changed(graph, graph.conditioning, model=model[0])
        message = error_of(host, graph)
        assert "no U-Net with cross-attention" in message
        assert "Load an SDXL model" in message


def test_an_adapter_of_jina_clip(host, prompts):
    tensors = {
        "seq_projection.0.weight": torch.zeros(64, 48),
        "positional_embedding.weight": torch.zeros(32, 64),
    }
    save_file(tensors, jina := host.models / "llm_adapters/jina.safetensors")
    graph = changed(graph := SDXLGraph(POSITIVE, NEGATIVE), graph.ella, ella_name=jina.name)
    assert "adapter for Jina CLIP v2, which can't be used" in error_of(host, graph)
    jina.unlink()
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    graph.recorded()
    run(host, graph)  # the server runs on


def test_a_connector_without_a_pooled_embedding_needs_clips(host, prompts):
    config = replace(ELLA_SDXL_CONFIG, pooled_dim=None)
    draw_connector(unpooled := host.models / "ella/unpooled.safetensors", config)
    graph = SDXLGraph(POSITIVE, NEGATIVE, ella=ELLA_SDXL)
    changed(graph, graph.ella, ella_name="unpooled.safetensors")
    message = error_of(host, graph)
    assert "reads a pooled embedding 1280 wide beside the context" in message
    assert "unpooled.safetensors makes none. Connect the same" in message

    clip = {f"clip_{side}": graph.plain(1, width=2048)[0] for side in ("positive", "negative")}
    changed(graph, graph.conditioning, **clip)
    name = graph.recorded()
    run(host, graph)
    expected = torch.randn(1, 77, 2048, generator=(generator := torch.Generator().manual_seed(1)))
    pooled = torch.randn(1, 1280, generator=generator)
    for row in rows(host, name):
        assert torch.equal(row.pooled, pooled)
        assert torch.equal(row.context[:, 8:], expected)
    unpooled.unlink()
