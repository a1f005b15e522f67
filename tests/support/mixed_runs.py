"""The many ways a conditioning goes before it is sampled with, for runs that take turns."""

from .host import T5, EllaGraph

OTHER = "A blue dog."


def _other(graph):
    return graph.condition(OTHER, "", model=graph.conditioning)[1]


def _edited(graph, how):
    sides = {"conditioning_1": graph.conditioning[1], "conditioning_2": _other(graph)}
    return graph.add("TestEditConditioning", **sides, how=how, repeat=1, keep_options=False)


def _stacked(graph):
    return {"positive": _edited(graph, "batch"), "batch": 2}


def _padded(graph):
    return {"positive": _edited(graph, "in a buffer"), "batch": 2}


def _averaged(graph):
    sides = {"conditioning_to": graph.conditioning[1], "conditioning_from": _other(graph)}
    return {"positive": graph.add("ConditioningAverage", **sides, conditioning_to_strength=0.3)}


def _second(graph):
    sides = {"conditioning_to": graph.plain(3), "conditioning_from": graph.conditioning[1]}
    return {"positive": graph.add("ConditioningConcat", **sides)}


def _in_cross_attention(graph):
    sides = {"model": graph.conditioning, "conditioning": _other(graph)}
    return {"model": graph.add("TestOwnCrossAttention", **sides), "cfg": 1.0}


def _lora(graph):
    lora = {"lora_name": "lora.safetensors", "strength_model": 0.5}
    return {"model": graph.add("LoraLoaderModelOnly", model=graph.conditioning, **lora)}


def _lora_hook(graph):
    lora = {"lora_name": "lora.safetensors", "strength_model": 1.0, "strength_clip": 0.0}
    given = {"strength": 1.0, "set_cond_area": "default"}
    pair = {"positive_NEW": graph.conditioning[1], "negative_NEW": graph.conditioning[2]}
    hook = graph.add("CreateHookLora", **lora)
    hooked = graph.add("PairConditioningSetProperties", **pair, **given, hooks=hook)
    return {"positive": hooked[0], "negative": hooked[1]}


def _area(graph):
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    here = graph.add("ConditioningSetArea", conditioning=graph.conditioning[1], **area)
    both = graph.add("ConditioningCombine", conditioning_1=here, conditioning_2=_other(graph))
    return {"positive": both}


def _control(graph):
    given = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    pair = {"positive": graph.conditioning[1], "negative": graph.conditioning[2]}
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0)
    net = graph.add("ControlNetLoader", control_net_name="controlnet.safetensors")
    made = graph.add("ControlNetApplyAdvanced", **pair, **given, control_net=net, image=image)
    return {"positive": made[0], "negative": made[1]}


def _blend(graph):
    texts = {"embeds_a": graph.encode("A red cat."), "embeds_b": graph.encode(OTHER)}
    blend = graph.add("ELLABlendEmbeds", **texts, factor=0.5)
    made = graph.add("ELLAConditioning", ella=graph.ella, embeds=blend, strength=0.7)
    return {"positive": made}


def _deprecated(graph):
    ella = graph.add("ELLALoader", name="tsc.safetensors")
    llm = graph.add("T5TextEncoderLoader #ELLA", name=T5, max_length=0, dtype="FP32")
    embeds = graph.add("T5TextEncode #ELLA", text=OTHER, text_encoder=llm)
    schedule = {"scheduler": "simple", "steps": 9, "denoise": 1.0}
    ella = graph.add("SetEllaTimesteps", model=graph.checkpoint, ella=ella, **schedule)
    made = graph.add("EllaEncode", ella=ella, embeds=embeds)
    return {"model": graph.checkpoint, "positive": made, "negative": graph.plain(1)}


KINDS = [
    lambda _: {},
    _stacked,
    _padded,
    _averaged,
    _second,
    _in_cross_attention,
    _lora,
    _lora_hook,
    _area,
    _control,
    _blend,
    _deprecated,
]


def mixed_run(number: int, positive: str, negative: str, **changes) -> EllaGraph:
    """Return a graph of the kind whose turn it is; `changes` are those of `EllaGraph.sample`."""
    graph = EllaGraph(positive, negative)
    given = {"record": False, **changes, **KINDS[number % len(KINDS)](graph)}
    graph.save(graph.sample(**given))
    return graph
