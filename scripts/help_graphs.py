"""The graphs of the help pages' pictures, for `help_pictures.py`."""

from dataclasses import dataclass, field
from typing import Any

CHECKPOINT = {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"}
CONNECTOR = {"ella_name": "ella-sd1.5-tsc-t5xl.safetensors"}
LLM = {"llm_name": "models--google--flan-t5-xl--text_encoder"}
FOX = "A red fox sleeps in the fresh snow under a pine, and the morning sun shines on its fur."
OWL = "A grey owl sits on a fence in the fog."
XY = {"y_values": "0.5\n1\n1.5", "y_name": "strength"}
# Pixels of the editor's canvas; wide where titles are long. The help panel shows a picture 240
# pixels wide: the fewer columns it has, the better it can be read.
COLUMN, WIDE_COLUMN = 310, 340


@dataclass
class Node:
    """A node of a picture.

    Attributes:
        type: its id.
        at: column, and y in pixels.
        values: widget name -> value.
        inputs: input name -> (name in the graph, index of the output) that feeds it.
        height: in pixels, where it is to be more than the editor gives it.
    """

    type: str
    at: tuple[float, int]
    values: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, tuple[str, int]] = field(default_factory=dict)
    height: int = 0


def text(column: float, y: int, value: str = "") -> Node:
    """An LLM Text Encode that reads `value` with the graph's `llm`."""
    return Node("ELLALLMTextEncode", (column, y), {"text": value}, {"llm": ("llm", 0)}, 180)


def condition(column: float, y: int, **inputs: tuple[str, int]) -> Node:
    return Node("ELLATimestepConditioning", (column, y), {}, inputs)


def one_more(column: float, y: int, embeds: str) -> Node:
    inputs = {"ella": ("ella", 0), "embeds": (embeds, 0)}
    return Node("ELLAConditioning", (column, y), {}, inputs)


def sampler(column: float, y: int, model: str, **inputs: tuple[str, int]) -> Node:
    return Node("KSampler", (column, y), {}, {"model": (model, 0), **inputs})


def prompt(column: float, y: int, **inputs: tuple[str, int]) -> Node:
    return Node("ELLAPrompt", (column, y), {"positive": FOX}, inputs, 420)


GRAPHS: dict[str, dict[str, Node]] = {
    "ELLALoadModels": {
        "models": Node("ELLALoadModels", (0, 0)),
        "prompt": prompt(1, 0, ella=("models", 0), llm=("models", 1)),
    },
    "ELLAPrompt": {
        "checkpoint": Node("CheckpointLoaderSimple", (0, 0), CHECKPOINT),
        "models": Node("ELLALoadModels", (0, 150)),
        "prompt": prompt(1, 0, model=("checkpoint", 0), ella=("models", 0), llm=("models", 1)),
        "sampler": sampler(2, 0, "prompt", positive=("prompt", 1), negative=("prompt", 2)),
    },
    "ELLAAttentionMap": {
        "models": Node("ELLALoadModels", (0, 0)),
        "text": Node("ELLALLMTextEncode", (0, 190), {"text": FOX}, {"llm": ("models", 1)}, 180),
        "map": Node("ELLAAttentionMap", (1, 0), {}, {"ella": ("models", 0), "embeds": ("text", 0)}),
        "picture": Node("PreviewImage", (1, 230), {}, {"images": ("map", 0)}),
    },
    "ELLAUpsamplePrompt": {
        "chat": Node("ELLALoadLLM", (0, 0), LLM),
        "write": Node(
            "ELLAUpsamplePrompt", (1, 0), {"text": "a fox in the snow"}, {"llm": ("chat", 0)}, 330
        ),
        "text": Node("ELLALLMTextEncode", (2, 0), {}, {"text": ("write", 0)}, 180),
    },
    "ELLASaveEmbeds": {
        "llm": Node("ELLALoadLLM", (0, 0), LLM),
        "text": text(0, 150, FOX),
        "save": Node("ELLASaveEmbeds", (1, 150), {}, {"embeds": ("text", 0)}),
    },
    "ELLALoadEmbeds": {
        "ella": Node("ELLALoad", (0, 0), CONNECTOR),
        "embeds": Node("ELLALoadEmbeds", (0, 110), {"embeds_name": "prompt_00001_.safetensors"}),
        "both": condition(1, 0, ella=("ella", 0), positive=("embeds", 0)),
    },
    "ELLAPromptList": {
        "list": Node("ELLAPromptList", (0, 0), {"text": f"{FOX}\n{OWL}"}, {}, 200),
        "llm": Node("ELLALoadLLM", (0, 250), LLM),
        "text": Node(
            "ELLALLMTextEncode", (1, 0), {}, {"llm": ("llm", 0), "text": ("list", 0)}, 180
        ),
    },
    "ELLAXYValues": {
        "values": Node("ELLAXYValues", (0, 0), XY, {}, 290),
        "conditioning": Node("ELLAConditioning", (1, 0), {}, {"strength": ("values", 1)}),
        "sampler": Node("KSampler", (1, 190), {}, {"cfg": ("values", 0)}),
    },
    "ELLAXYSheet": {
        "values": Node("ELLAXYValues", (0, 0), XY, {}, 290),
        "decode": Node("VAEDecode", (0, 340)),
        "sheet": Node("ELLAXYSheet", (1, 0), {}, {"images": ("decode", 0), "axes": ("values", 2)}),
        "picture": Node("SaveImage", (1, 170), {}, {"images": ("sheet", 0)}),
    },
    "ELLALoad": {
        "ella": Node("ELLALoad", (0, 0), CONNECTOR),
        "both": condition(1, 0, ella=("ella", 0)),
    },
    "ELLALoadLLM": {
        "llm": Node("ELLALoadLLM", (0, 0), LLM),
        "positive": text(1, 0, FOX),
        "negative": text(1, 230),
    },
    "ELLALLMTextEncode": {
        "llm": Node("ELLALoadLLM", (0, 0), LLM),
        "positive": text(1, 0, FOX),
        "negative": text(1, 230),
        "both": condition(2, 0, positive=("positive", 0), negative=("negative", 0)),
    },
    "ELLATimestepConditioning": {
        "checkpoint": Node("CheckpointLoaderSimple", (0, 0), CHECKPOINT),
        "ella": Node("ELLALoad", (0, 150), CONNECTOR),
        "llm": Node("ELLALoadLLM", (0, 260), LLM),
        "positive": text(0, 410, FOX),
        "negative": text(0, 640),
        "both": condition(
            1,
            0,
            model=("checkpoint", 0),
            ella=("ella", 0),
            positive=("positive", 0),
            negative=("negative", 0),
        ),
        "sampler": sampler(1, 230, "both", positive=("both", 1), negative=("both", 2)),
    },
    "ELLAConditioning": {
        "ella": Node("ELLALoad", (0, 0), CONNECTOR),
        "llm": Node("ELLALoadLLM", (0, 110), LLM),
        "left": text(0, 260, FOX),
        "more": one_more(1, 0, "left"),
        "area": Node(
            "ConditioningSetArea",
            (1, 190),
            {"width": 256, "height": 512},
            {"conditioning": ("more", 0)},
        ),
    },
    "ELLAPatchModel": {
        "checkpoint": Node("CheckpointLoaderSimple", (0, 0), CHECKPOINT),
        "patched": Node("ELLAPatchModel", (1, 0), {}, {"model": ("checkpoint", 0)}),
        "positive": Node("ELLAConditioning", (1, 90)),
        "negative": Node("ELLAConditioning", (1, 240)),
        "sampler": sampler(2, 0, "patched", positive=("positive", 0), negative=("negative", 0)),
    },
    "ELLABlendEmbeds": {
        "llm": Node("ELLALoadLLM", (0, 0), LLM),
        "a": text(0, 150, FOX),
        "b": text(0, 380, OWL),
        "blend": Node("ELLABlendEmbeds", (1, 0), {}, {"embeds_a": ("a", 0), "embeds_b": ("b", 0)}),
        "both": condition(1, 150, positive=("blend", 0)),
    },
    "ELLAPromptTemplate": {
        "llm": Node("ELLALoadLLM", (0, 0), {"llm_name": "gemma-3-1b-it"}),
        "template": Node("ELLAPromptTemplate", (1, 0), {}, {"llm": ("llm", 0)}, 260),
        "positive": Node("ELLALLMTextEncode", (2, 0), {"text": FOX}, {"llm": ("template", 0)}, 180),
    },
    "ELLASDXLOptions": {
        "both": condition(0, 0),
        "clip": Node("CLIPTextEncode", (0, 230), {"text": "pixel art"}, {}, 110),
        "options": Node(
            "ELLASDXLOptions",
            (1, 0),
            {"clip_pooled": 0.5},
            {"conditioning": ("both", 1), "clip": ("clip", 0)},
        ),
    },
    "ELLADownloadModels": {
        "download": Node("ELLADownloadModels", (0, 0)),
        "report": Node("PreviewAny", (1, 0), {}, {"source": ("download", 0)}),
    },
}


def official_ella(column: float, y: int) -> Node:
    return Node("ELLALoader", (column, y), {"name": CONNECTOR["ella_name"]})


def official_loaders() -> dict[str, Node]:
    """The three loaders, on the left."""
    return {
        "checkpoint": Node("CheckpointLoaderSimple", (0, 0), CHECKPOINT),
        "ella": official_ella(0, 150),
        "llm": Node("T5TextEncoderLoader #ELLA", (0, 260), {"name": LLM["llm_name"]}),
    }


def t5_text(column: float, y: int, value: str = "") -> Node:
    inputs = {"text_encoder": ("llm", 0)}
    return Node("T5TextEncode #ELLA", (column, y), {"text": value}, inputs, 130)


def clip_text(column: float, y: int, value: str = "") -> Node:
    inputs = {"clip": ("checkpoint", 1)}
    return Node("CLIPTextEncode", (column, y), {"text": value}, inputs, 110)


def set_timesteps(column: float, y: int) -> Node:
    inputs = {"model": ("checkpoint", 0), "ella": ("ella", 0)}
    return Node("SetEllaTimesteps", (column, y), {"scheduler": "normal"}, inputs)


def both_texts(column: float, y: int, value: str = "", clip: str = "") -> Node:
    """An ELLA Text Encode that reads one text with the LLM and one with CLIP."""
    inputs = {"ella": ("timesteps", 0), "text_encoder": ("llm", 0), "clip": ("checkpoint", 1)}
    values = {"text": value, "text_clip": clip}
    return Node("EllaTextEncode", (column, y), values, inputs, 220)


def apply(column: float, y: int, positive: str, negative: str) -> Node:
    inputs = {"model": ("checkpoint", 0), "ella": ("ella", 0)}
    inputs |= {"positive": (positive, 0), "negative": (negative, 0)}
    return Node("EllaApply", (column, y), {}, inputs)


def joined(column: float, y: int, node_id: str, clip: str, embeds: str) -> Node:
    return Node(node_id, (column, y), {}, {"cond": (clip, 0), "embeds": (embeds, 0)})


GEMMA, T5GEMMA = "gemma-3-1b-it", "t5gemma-2b-2b-ul2"


def adapted(
    llm: str, encoder: str, applied: str, values: tuple[str, str], text: str
) -> dict[str, Node]:
    """One prompt through an LLM and an adapter; names of the LLM's file and of its inputs."""
    name, prefix = values
    inputs = {f"{prefix}model": ("llm", 0), f"{prefix}tokenizer": ("llm", 1)}
    outputs = {"llm_hidden_states": ("text", 0), "llm_adapter": ("adapter", 0)}
    if encoder == "T5GEMMATextEncoder":
        outputs["llm_attention_mask"] = ("text", 1)
    return {
        "llm": Node(llm, (0, 0), {"model_name": name}),
        "adapter": Node("LLMAdapterLoader", (0, 220)),
        "text": Node(encoder, (1, 0), {"text": text}, inputs, 320),
        "applied": Node(applied, (2, 0), {}, outputs),
    }


# Of other packs' nodes; a picture serves the pages of several.
PACK_GRAPHS: dict[str, dict[str, Node]] = {
    "official-apply": {
        **official_loaders(),
        "positive": t5_text(1, 150, FOX),
        "negative": t5_text(1, 330),
        "both": apply(2, 0, "positive", "negative"),
        "sampler": sampler(3, 0, "both", positive=("both", 1), negative=("both", 2)),
    },
    "official-text-encode": {
        **official_loaders(),
        "timesteps": set_timesteps(1, 440),
        "positive": both_texts(2, 60, FOX, "pixel art"),
        "negative": both_texts(2, 330),
        "sampler": sampler(3, 0, "checkpoint", positive=("positive", 0), negative=("negative", 0)),
    },
    "official-encode": {
        **official_loaders(),
        "timesteps": set_timesteps(1, 50),
        "text": t5_text(1, 260, FOX),
        "clip": clip_text(1, 440, "pixel art"),
        "converted": Node("ConditionToEllaEmbeds", (2, 440), {}, {"cond": ("clip", 0)}),
        "embeds": Node(
            "EllaCombineEmbeds",
            (3, 260),
            {},
            {"embeds": ("text", 0), "embeds_add": ("converted", 0)},
        ),
        "positive": Node(
            "EllaEncode", (4, 50), {}, {"ella": ("timesteps", 0), "embeds": ("embeds", 0)}
        ),
    },
    "official-clip": {
        **official_loaders(),
        "clip_positive": clip_text(1, 80, "pixel art"),
        "positive": t5_text(1, 240, FOX),
        "clip_negative": clip_text(1, 420),
        "negative": t5_text(1, 580),
        "joined_positive": joined(2, 220, "CombineClipEllaEmbeds", "clip_positive", "positive"),
        "joined_negative": joined(2, 420, "ConcatConditionEllaEmbeds", "clip_negative", "negative"),
        "both": apply(3, 0, "joined_positive", "joined_negative"),
        # Beside the node that it feeds, or its link would run below the texts.
        "ella": official_ella(2, 80),
    },
    "adapter-gemma": adapted(
        "LLMModelLoader", "LLMTextEncoder", "ApplyLLMToSDXLAdapter", (GEMMA, ""), FOX
    ),
    "adapter-t5gemma": adapted(
        "T5GEMMALoader",
        "T5GEMMATextEncoder",
        "t5gemmaApplyLLMToSDXLAdapter",
        (T5GEMMA, "llm_"),
        FOX,
    ),
}
