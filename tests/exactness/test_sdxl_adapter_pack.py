"""Graphs of ComfyUI_LLM_SDXL_Adapter: what the U-Net gets, without a patched MODEL.

And what that pack's settings are in the four nodes.
"""

import pytest
import torch
import transformers

from support.host import Graph
from support.sdxl import (
    ADAPTER,
    CHECKPOINT,
    GEMMA,
    MAX_TOKENS,
    NEGATIVE,
    POSITIVE,
    SIZES,
    T5GEMMA,
    SDXLGraph,
    adapted,
    check,
    embedded,
    run,
)

PICTURE = {"width": 1024, "height": 768, "target_width": 640, "target_height": 512}
PICTURE |= {"crop_w": 8, "crop_h": 16}


class AdapterGraph(SDXLGraph):
    """Their graph, as their editor saves it."""

    def __init__(self, loader: str) -> None:
        Graph.__init__(self)
        self.checkpoint = self.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        self.conditioning = self.checkpoint  # nothing is patched
        placing = {"device": "auto", "force_reload": False}
        self.adapter = self.add(loader, adapter_name=ADAPTER, type="gemma", **placing)
        if loader != "LLMAdapterLoader":
            self.nodes[self.adapter.id]["inputs"] |= {"llm_dim": 1152, "dropout": 0.1}

    def gemma(self, text: str, **changes):
        llm = self.add("LLMModelLoader", model_name=GEMMA, device="cuda:0", force_reload=True)
        given = {"model": llm[0], "tokenizer": llm[1], "text": text, **changes}
        features = self.add("LLMTextEncoder", **given)
        return self.add(
            "ApplyLLMToSDXLAdapter", llm_hidden_states=features, llm_adapter=self.adapter
        )

    def t5gemma(self, text: str, max_length: int = 512, **sizes: int):
        llm = self.add("T5GEMMALoader", model_name=T5GEMMA)
        given = {"llm_model": llm[0], "llm_tokenizer": llm[1], "text": text}
        given |= {"max_length": max_length, "device": "cuda", "dtype": "bfloat16"}
        encoded = self.add("T5GEMMATextEncoder", **given)
        return self.add(
            "t5gemmaApplyLLMToSDXLAdapter",
            llm_hidden_states=encoded[0],
            llm_attention_mask=encoded[1],
            llm_adapter=self.adapter,
            **sizes,
        )

    def sampled(self, positive, negative) -> str:
        return self.recorded(model=self.checkpoint, positive=positive, negative=negative)


@pytest.mark.parametrize("loader", ["LLMAdapterLoader", "LLMAdapterLoaderCustom"])
def test_gemma(host, prompts, loader):
    graph = AdapterGraph(loader)
    name = graph.sampled(graph.gemma(POSITIVE), graph.gemma(NEGATIVE))
    run(host, graph)
    check(host, name, [adapted(prompts[POSITIVE]), adapted(prompts[NEGATIVE])])


def test_t5gemma_with_sizes(host, prompts):
    graph = AdapterGraph("LLMAdapterLoader")
    name = graph.sampled(graph.t5gemma(POSITIVE, **PICTURE), graph.t5gemma(NEGATIVE, **PICTURE))
    plain = graph.sampled(graph.t5gemma(POSITIVE, MAX_TOKENS), graph.t5gemma(NEGATIVE, 64))
    run(host, graph)
    expected = [adapted(prompts[text], T5GEMMA) for text in (POSITIVE, NEGATIVE)]
    check(host, name, expected, sizes=embedded(768, 1024, 16, 8, 512, 640))
    # Fewer tokens of padding change nothing, for nothing reads the padding.
    check(host, plain, expected, sizes=SIZES)


def test_weights_are_no_markup_and_a_system_prompt_of_ones_own(host, prompts):
    """As the released code reads it, written out with transformers alone."""
    text, system, skipped = "A (red:1.5) cat.", "Paint as a child would.", 20
    graph = AdapterGraph("LLMAdapterLoader")
    positive = graph.gemma(text, system_prompt=system, skip_first=skipped)
    name = graph.sampled(positive, graph.gemma(NEGATIVE))
    run(host, graph)
    expected = chatted(host, prompts[POSITIVE], system, text, skipped)
    check(host, name, [lambda _: expected, adapted(prompts[NEGATIVE])])


def chatted(host, prompt, system, text, skipped):
    """What the adapter makes of a text that transformers alone has read."""
    folder = host.models / "LLM" / GEMMA
    messages = [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": [{"type": "text", "text": text}]},
    ]
    inputs = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states[-1][:, skipped:]
    return prompt.adapted(hidden, None)


def test_a_system_prompt_of_ones_own_in_the_four_nodes(host, prompts):
    """For one of two prompts; ELLA Prompt Template leaves the other as it was."""
    system, skipped = "Paint as a child would.", 20
    graph = SDXLGraph(POSITIVE, NEGATIVE)
    given = {"system_prompt": system, "template": "", "skip_tokens": skipped}
    llm = graph.add("ELLAPromptTemplate", llm=graph.llm, **given)
    text = graph.add("ELLALLMTextEncode", llm=llm, text=POSITIVE, max_length=0)
    own = graph.add("ELLAConditioning", ella=graph.ella, embeds=text, strength=1.0)
    name = graph.recorded(positive=own)
    run(host, graph)
    expected = chatted(host, prompts[POSITIVE], system, POSITIVE, skipped)
    check(host, name, [lambda _: expected, adapted(prompts[NEGATIVE])])
