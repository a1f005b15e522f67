"""Graphs of CLIP Text Encodes in the shapes that users build, for the tests' small models."""

from typing import Any

Spec = tuple[str, str, dict[str, Any], dict[str, Any]]

# [name, type, widgets, inputs] -> nodes; an input is [name of the node, output].
BUILD = """(specs) => {
  const nodes = {}
  specs.forEach(([name, type, widgets, inputs], i) => {
    const node = (nodes[name] = LiteGraph.createNode(type))
    app.graph.add(node)
    node.pos = [(i % 5) * 480, Math.floor(i / 5) * 400]
    for (const [input, [origin, slot]] of Object.entries(inputs))
      nodes[origin].connect(slot, node, node.inputs.findIndex(({ name }) => name === input))
    for (const [widget, value] of Object.entries(widgets)) {
      const found = (node.widgets ?? []).find(({ name }) => name === widget)
      if (found) found.value = value
      else node[widget] = value
    }
  })
  window.built = nodes
}"""


def base() -> list[Spec]:
    """Return a checkpoint with two prompts."""
    return [
        ("ckpt", "CheckpointLoaderSimple", {"ckpt_name": "sd15.safetensors"}, {}),
        ("positive", "CLIPTextEncode", {"text": "A red cat."}, {"clip": ["ckpt", 1]}),
        ("negative", "CLIPTextEncode", {"text": "blurred"}, {"clip": ["ckpt", 1]}),
    ]


def sample(
    name: str = "sampler",
    model: Any = ("ckpt", 0),
    positive: Any = ("positive", 0),
    negative: Any = ("negative", 0),
    latent: Any = None,
) -> list[Spec]:
    """Return a KSampler with a picture."""
    size = {"width": 64, "height": 64}
    links = {"model": [*model], "positive": [*positive], "negative": [*negative]}
    links["latent_image"] = [*(latent or (f"{name} latent", 0))]
    empty = [] if latent else [(f"{name} latent", "EmptyLatentImage", size, {})]
    return [
        *empty,
        (name, "KSampler", {"steps": 1, "seed": 1, "cfg": 5}, links),
        (f"{name} decode", "VAEDecode", {}, {"samples": [name, 0], "vae": ["ckpt", 2]}),
        (f"{name} save", "SaveImage", {}, {"images": [f"{name} decode", 0]}),
    ]


def text(name: str, words: str) -> Spec:
    return (name, "CLIPTextEncode", {"text": words}, {"clip": ["ckpt", 1]})


_LORA = {"lora_name": "lora.safetensors"}
_AREA = {"width": 64, "height": 64, "x": 0, "y": 0}

SHAPES: dict[str, list[Spec]] = {
    "lora": [
        ("ckpt", "CheckpointLoaderSimple", {"ckpt_name": "sd15.safetensors"}, {}),
        ("one", "LoraLoader", _LORA, {"model": ["ckpt", 0], "clip": ["ckpt", 1]}),
        ("two", "LoraLoader", _LORA, {"model": ["one", 0], "clip": ["one", 1]}),
        ("skip", "CLIPSetLastLayer", {}, {"clip": ["two", 1]}),
        ("positive", "CLIPTextEncode", {"text": "A red cat."}, {"clip": ["skip", 0]}),
        ("negative", "CLIPTextEncode", {"text": "blurred"}, {"clip": ["skip", 0]}),
        *sample(model=("two", 0)),
    ],
    "controlnet": [
        *base(),
        ("net", "ControlNetLoader", {"control_net_name": "controlnet.safetensors"}, {}),
        ("picture", "EmptyImage", {"width": 64, "height": 64}, {}),
        (
            *("control", "ControlNetApplyAdvanced", {}),
            {
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "control_net": ["net", 0],
                "image": ["picture", 0],
            },
        ),
        *sample(positive=("control", 0), negative=("control", 1)),
    ],
    "areas and combine": [
        *base(),
        text("left", "a tree"),
        ("area", "ConditioningSetArea", _AREA, {"conditioning": ["left", 0]}),
        (
            *("both", "ConditioningCombine", {}),
            {"conditioning_1": ["positive", 0], "conditioning_2": ["area", 0]},
        ),
        *sample(positive=("both", 0)),
    ],
    "concat, average, zero": [
        *base(),
        text("more", "on a blue chair"),
        (
            *("joined", "ConditioningConcat", {}),
            {"conditioning_to": ["positive", 0], "conditioning_from": ["more", 0]},
        ),
        (
            *("mean", "ConditioningAverage", {}),
            {"conditioning_to": ["positive", 0], "conditioning_from": ["negative", 0]},
        ),
        ("zero", "ConditioningZeroOut", {}, {"conditioning": ["negative", 0]}),
        *sample(positive=("joined", 0)),
        *sample("second", positive=("mean", 0), negative=("zero", 0)),
    ],
    "hires fix": [
        *base(),
        *sample(),
        ("larger", "LatentUpscale", {"width": 128, "height": 128}, {"samples": ["sampler", 0]}),
        *sample("second", latent=("larger", 0)),
    ],
    "texts from elsewhere": [
        *base(),
        ("words", "PrimitiveStringMultiline", {"value": "A dog."}, {}),
        ("third", "CLIPTextEncode", {}, {"clip": ["ckpt", 1], "text": ["words", 0]}),
        ("fourth", "CLIPTextEncode", {}, {"clip": ["ckpt", 1], "text": ["words", 0]}),
        *sample(positive=("third", 0)),
        *sample("second", positive=("fourth", 0), negative=("positive", 0)),
    ],
    "one CLIP for two models": [
        *base(),
        ("other", "LoraLoaderModelOnly", _LORA, {"model": ["ckpt", 0]}),
        *sample(),
        *sample("second", model=("other", 0)),
    ],
    "timestep ranges": [
        *base(),
        ("early", "ConditioningSetTimestepRange", {"end": 0.5}, {"conditioning": ["positive", 0]}),
        text("then", "a dog"),
        ("late", "ConditioningSetTimestepRange", {"start": 0.5}, {"conditioning": ["then", 0]}),
        (
            *("both", "ConditioningCombine", {}),
            {"conditioning_1": ["early", 0], "conditioning_2": ["late", 0]},
        ),
        *sample(positive=("both", 0)),
    ],
    "a guider": [
        *base(),
        (
            *("guider", "CFGGuider", {}),
            {"model": ["ckpt", 0], "positive": ["positive", 0], "negative": ["negative", 0]},
        ),
        ("noise", "RandomNoise", {}, {}),
        ("euler", "KSamplerSelect", {}, {}),
        ("sigmas", "BasicScheduler", {"steps": 1}, {"model": ["ckpt", 0]}),
        ("latent", "EmptyLatentImage", {"width": 64, "height": 64}, {}),
        (
            *("sampler", "SamplerCustomAdvanced", {}),
            {
                "noise": ["noise", 0],
                "guider": ["guider", 0],
                "sampler": ["euler", 0],
                "sigmas": ["sigmas", 0],
                "latent_image": ["latent", 0],
            },
        ),
        ("decode", "VAEDecode", {}, {"samples": ["sampler", 0], "vae": ["ckpt", 2]}),
        ("save", "SaveImage", {}, {"images": ["decode", 0]}),
    ],
    "reroutes": [
        *base(),
        ("model", "Reroute", {}, {"": ["ckpt", 0]}),
        ("cond", "Reroute", {}, {"": ["positive", 0]}),
        *sample(model=("model", 0), positive=("cond", 0)),
    ],
    "bypassed": [
        *base(),
        ("off", "LoraLoaderModelOnly", {**_LORA, "mode": 4}, {"model": ["ckpt", 0]}),
        (
            *("area", "ConditioningSetArea", {**_AREA, "mode": 4}),
            {"conditioning": ["positive", 0]},
        ),
        *sample(model=("off", 0), positive=("area", 0)),
    ],
}
