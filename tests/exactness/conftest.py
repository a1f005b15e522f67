"""Models and helpers of the exactness tests."""

from functools import partial

import pytest

from support.exactness import SMALL, ExactGraph, Exactness
from support.models import write_clip, write_gligen, write_t2i_adapter
from support.sdxl import NEGATIVE, POSITIVE, THIRD, Prompt, models
from tiny_models import draw_checkpoint


@pytest.fixture(scope="session")
def infos(host):
    """Descriptions of the running server's nodes."""
    smallest = {"transformer_depth_output": [0, 0], "transformer_depth_middle": -2}
    checkpoints = host.models / "checkpoints"
    draw_checkpoint(checkpoints / SMALL, **smallest)
    draw_checkpoint(checkpoints / "inpaint.safetensors", in_channels=9, **smallest)
    draw_checkpoint(checkpoints / "other.safetensors", seed=1, **smallest)
    two_blocks = {"num_res_blocks": [2], "transformer_depth": [1, 0]}
    two_blocks |= {"transformer_depth_output": [0, 0, 0], "transformer_depth_middle": -2}
    draw_checkpoint(checkpoints / "two_blocks.safetensors", **two_blocks)
    deep = {"channel_mult": [1, 2], "num_res_blocks": [1, 1], "transformer_depth": [1, 0]}
    deep["transformer_depth_output"] = [1, 0, 0, 0]
    draw_checkpoint(checkpoints / "deep.safetensors", **deep)
    write_clip(host.models / "text_encoders/clip_l.safetensors")
    write_gligen(host.models / "gligen/gligen.safetensors")
    write_t2i_adapter(host.models / "controlnet/t2i_adapter.safetensors")
    return host.server.get("/object_info")


@pytest.fixture(scope="session")
def exact(host):
    exactness = Exactness(host)
    yield exactness
    print(f"worst relative error of {exactness.compared} rows: {exactness.worst:.2g}")


@pytest.fixture
def new_graph(infos):
    """Makes an `ExactGraph`; takes its arguments."""
    return partial(ExactGraph, infos)


@pytest.fixture(scope="module")
def prompts(host):
    """What SDXL's U-Net must get for a few prompts; its models are there meanwhile."""
    with models(host):
        yield {text: Prompt(host, text) for text in (POSITIVE, NEGATIVE, THIRD)}
