"""Sheets of pictures on a real server."""

import uuid

import numpy as np
from PIL import Image
from safetensors.torch import load_file

from support.faults import assert_fails
from support.host import EllaGraph, relative_error

TOLERANCE = 1e-3  # relative, L2
CFGS, CONNECTORS = (2, 5.5), ("tsc.safetensors", "mlp.safetensors")


def latents(host, graph, sampler):
    """What is saved of each run of a sampler."""
    saved = graph.save(sampler)
    result = host.run(graph)
    assert result.error is None, result.error
    files = result.outputs[saved.id]["latents"]
    folder = host.server.base / "output"
    tensors = [load_file(folder / file["subfolder"] / file["filename"]) for file in files]
    return [tensor["latent_tensor"] for tensor in tensors]


def paint(graph, **changes):
    return graph.sample(record=False, steps=2, **changes)


def add_values(graph, x=CFGS, **more):
    return graph.add("ELLAXYValues", x_values="\n".join(map(str, x)), x_name="cfg", **more)


def add_sheet(graph, sampler, axes):
    pictures = graph.add("VAEDecode", samples=sampler, vae=graph.checkpoint[2])
    sheet = graph.add("ELLAXYSheet", images=pictures, axes=axes[2], title="A sheet")
    return graph.add("SaveImage", images=sheet, filename_prefix=uuid.uuid4().hex)


def test_a_picture_of_each_connector_at_each_cfg(host):
    graph = EllaGraph()
    values = add_values(graph, y_values="\n".join(CONNECTORS), y_name="")
    graph.nodes[graph.ella.id]["inputs"]["ella_name"] = values[1]
    sampler = paint(graph, cfg=values[0])
    saved = add_sheet(graph, sampler, values)
    found = latents(host, graph, sampler)
    direct = []
    for ella in CONNECTORS:
        for cfg in CFGS:
            single = EllaGraph(ella=ella)
            direct += latents(host, single, paint(single, cfg=cfg))
    assert len(found) == 4
    for i, latent in enumerate(found):
        errors = [relative_error(latent, other) for other in direct]
        assert errors[i] < TOLERANCE < min(errors[:i] + errors[i + 1 :])
    result = host.run(graph)
    (file,) = result.outputs[saved.id]["images"]
    with Image.open(host.server.base / "output" / file["filename"]) as sheet:
        pixels = np.asarray(sheet)
    assert min(pixels.shape[:2]) > 2 * 64


def test_seeds_in_one_row(host):
    graph = EllaGraph()
    values = add_values(graph, (1, 2, 3))
    found = latents(host, graph, paint(graph, seed=values[0]))
    assert len(found) == 3
    assert relative_error(*found[:2]) > TOLERANCE


def test_numbers_are_prompts_where_a_text_is_asked_for(host):
    graph, plain = EllaGraph(), EllaGraph("1984")
    encode, _ = graph.nodes[graph.conditioning.id]["inputs"]["positive"]
    graph.nodes[encode]["inputs"]["text"] = add_values(graph, (1984, 7))[0]
    found = latents(host, graph, paint(graph))
    (expected,) = latents(host, plain, paint(plain))
    assert relative_error(found[0], expected) < TOLERANCE < relative_error(found[1], expected)


def test_what_is_wrong_is_said(host):
    graph = EllaGraph()
    add_sheet(graph, paint(graph), add_values(graph))
    assert_fails(host, graph, "ELLAXYSheet", "2 x 1 = 2 places", "pictures of 1 runs")
    graph = EllaGraph()
    values = add_values(graph)
    add_sheet(graph, paint(graph, cfg=values[0], batch=2), values)
    assert_fails(host, graph, "ELLAXYSheet", "got 2", "batch_size to 1")
    graph = EllaGraph()
    values = add_values(graph, ())
    add_sheet(graph, paint(graph, cfg=values[0]), values)
    assert_fails(host, graph, "ELLAXYValues", "no value in x_values")
