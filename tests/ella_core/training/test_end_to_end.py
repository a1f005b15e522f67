"""From a folder of pictures to a picture in ComfyUI, every stage killed once and started again."""

import json
import os
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from bootstrap import ROOT
from ella_core.training.cache import Shard
from ella_core.training.checkpoints import Checkpoints
from ella_core.training.config_file import dump_config, read_config
from support.host import T5, EllaGraph
from support.judges import write_chat
from support.training import run_python, settings, write_pictures

PREDICTOR = """
def by_brightness(device):
    return lambda images: [image.getpixel((0, 0))[0] / 25.5 for image in images]
"""


@pytest.fixture
def shards(tmp_path):
    """Two tars of five pictures: in the first one is damaged and one dark, the second is cut."""
    loose = write_pictures(tmp_path / "loose", 10)
    for path in loose.glob("*.npy"):
        path.unlink()
    for i in range(10):
        Image.new("RGB", (40, 32), (40 if i == 1 else 200, 10 * i, 0)).save(loose / f"{i:03d}.png")
    (loose / "002.png").write_bytes((loose / "002.png").read_bytes()[:60])
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, numbers in (("a", range(5)), ("b", range(5, 10))):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for number in numbers:
                for extension in ("json", "png"):
                    file = f"{number:03d}.{extension}"
                    tar.add(loose / file, file)
    with tarfile.open(folder / "b.tar") as tar:
        middle = tar.getmember("007.png").offset_data + 20
    os.truncate(folder / "b.tar", middle)
    return folder


def commands(tmp_path, shards, config):
    """The stages, and after which call of which function each is killed."""
    captioned, filtered, run = (str(tmp_path / name) for name in ("captioned", "filtered", "run"))
    yield (
        (
            *("caption", str(shards), captioned, "--model", str(tmp_path / "vlm")),
            *("--tokens", "12", "--batch", "2"),
        ),
        ("ella_core.vision:ChatModel.write", 3),
    )
    yield (
        (
            *("filter", captioned, filtered, "--edge", "32"),
            *("--predictor", "my_predictor:by_brightness"),
        ),
        ("ella_core.training.stages:_write_tar", 2),
    )
    yield ("precompute", config), ("ella_core.training.cache:save_file", 2)
    yield ("train", config), ("torch.optim:AdamW.step", 3)
    exported = ("export", run, "--half", "--to", str(tmp_path / "mine.safetensors"))
    yield exported, ("ella_core.training.export:save_connector", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has imported torch")
def test_from_pictures_to_a_picture_in_comfyui(host, shards, tmp_path):
    write_chat(tmp_path / "vlm")
    (tmp_path / "my_predictor.py").write_text(PREDICTOR)
    changes = {
        "base": {"path": str(host.models / "checkpoints/sd15.safetensors")},
        "llm": {"path": str(host.models / "text_encoders" / T5)},
        "data": {
            "resolution": 32,
            "sources": [{"pictures": str(tmp_path / "filtered"), "cache": str(tmp_path / "cache")}],
        },
        "checkpoint": {"every": 2},
        "batch": 2,
        "micro_batch": 1,
        "steps": 4,
    }
    config = tmp_path / "config.yaml"
    made = read_config(settings(tmp_path, tmp_path, tmp_path / "run", **changes))
    config.write_text(dump_config(made))
    listed = [
        {"arguments": arguments, "kill": kill}
        for arguments, kill in commands(tmp_path, shards, str(config))
    ]
    (tmp_path / "commands.json").write_text(json.dumps(listed))
    said = run_python(ROOT / "tests/support/killing.py", tmp_path / "commands.json")

    assert "Wrote 6; skipped 2: b.tar, a/002" in said
    assert "Wrote 5; skipped 0: -" in said
    assert "Left out 1: score not over 6" in said
    cached = [Shard(path) for path in sorted((tmp_path / "cache").glob("*.safetensors"))]
    assert [shard.keys for shard in cached] == [["000", "003", "004"], ["005", "006"]]
    assert "from step 2 of 4" in said
    assert Checkpoints(tmp_path / "run/checkpoints").all()[-1].name == "step-00000004"

    (tmp_path / "mine.safetensors").replace(host.models / "ella/mine.safetensors")
    graph = EllaGraph(ella="mine.safetensors")
    samples = graph.sample(record=False, steps=2)
    picture = graph.add("VAEDecode", samples=samples, vae=graph.checkpoint[2])
    node = graph.add("SaveImage", images=picture, filename_prefix="trained")
    result = host.run(graph)
    assert result.error is None, result.error
    (file,) = result.outputs[node.id]["images"]
    image = Image.open(host.server.base / "output" / file["subfolder"] / file["filename"])
    assert image.size == (64, 64)
    assert np.asarray(image).std() > 1
