"""ControlNet and T2I-Adapter."""

import uuid

import torch

SD15 = "sd15.safetensors"  # what the small ControlNet was made for


def controlled(graph, positive, negative, file, color, strength=1.0):
    return graph.add(
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=negative,
        control_net=graph.add("ControlNetLoader", control_net_name=file),
        image=graph.add("EmptyImage", width=64, height=64, color=color),
        strength=strength,
        vae=graph.checkpoint[2],
    )


def recorded(graph, conditioning):
    name = f"control-{uuid.uuid4().hex}"
    node = graph.add("TestRecordControl", conditioning=conditioning, name=name)
    return node, name


def test_two_controlnets_get_the_tokens_that_the_unet_gets(exact, new_graph):
    graph = new_graph(ckpt=SD15)
    _, positive, negative = (graph.conditioning[i] for i in range(3))
    first = controlled(graph, positive, negative, "controlnet.safetensors", 0xFF8040)
    positive, inner = recorded(graph, first[0])
    second = controlled(graph, positive, first[1], "controlnet.safetensors", 0x2040C0, 0.5)
    positive, outer = recorded(graph, second[0])
    model, name = graph.recorder()
    changes = {"record": False, "scheduler": "karras", "sampler_name": "heun", "steps": 4}
    nodes = [
        graph.sample(model=model, positive=positive, negative=second[1], **changes),
        graph.sample(positive=first[0], negative=first[1], **changes),
        graph.sample(**changes),
    ]
    saved = [graph.save(node) for node in nodes]
    result = exact.run(graph)
    exact.check(name)
    at_unet = exact.host.records(name)
    for control in (inner, outer):
        at_control = exact.host.records(control)
        assert len(at_control) == len(at_unet) == 7
        for unet, seen in zip(at_unet, at_control, strict=True):
            assert torch.equal(unet["context"], seen["context"])
            assert unet["sigmas"][0] == seen["sigmas"][0]
    both, one, none = exact.latents(result, saved)
    assert (both - one).abs().max() > 0.01
    assert (one - none).abs().max() > 0.01


def test_a_t2i_adapter(exact, new_graph):
    graph = new_graph(ckpt="two_blocks.safetensors")  # adapters speak to every third block
    applied = controlled(
        graph, graph.conditioning[1], graph.conditioning[2], "t2i_adapter.safetensors", 0xFF8040
    )
    model, name = graph.recorder()
    nodes = [
        graph.sample(record=False, model=model, positive=applied[0], negative=applied[1]),
        graph.sample(record=False),
    ]
    saved = [graph.save(node) for node in nodes]
    result = exact.run(graph)
    exact.check(name)
    adapted, without = exact.latents(result, saved)
    assert (adapted - without).abs().max() > 0.01
