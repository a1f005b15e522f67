"""All stages of the miniature's training, from nothing to the files in the repository."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from . import base, sampler, shipping, vae
from .captions import caption
from .training import Log
from .world import Scene, draw_scene, paint

ROOT = Path(__file__).parents[1]
#: Seeds of scenes that no connector is trained on begin here.
HELD_OUT = 1_000_000
LICENCE = {"licence": "Apache-2.0", "made_by": "python scripts/miniature.py train"}


@dataclass(frozen=True)
class Sizes:
    """How long the stages are.

    Attributes:
        vae_steps: of the VAE's training.
        base_steps: of the base's training.
        base_pictures: different ones that the base is trained on.
        judged: scenes that the base paints in the end.
        captions: that the connector is trained on.
        held_out: captions that its loss is measured on and that it is not trained on.
        align: settings that differ from the connector's config, such as steps=2.
    """

    vae_steps: int = 3000
    base_steps: int = 670
    base_pictures: int = 4000
    judged: int = 32
    captions: int = 29_000
    held_out: int = 256
    align: tuple[str, ...] = ()


def train(run: Path, data: Path = shipping.DATA, sizes: Sizes | None = None) -> None:
    """Go through the stages, or on from where an earlier call was interrupted.

    Args:
        run: folder of checkpoints, curves, training pictures and caches.
        data: folder that the packed models are written to.
        sizes: of the stages.
    """
    import smollm2
    from tiny_models import import_host

    # ella-train's configs name files of this folder by paths that start in the repository.
    os.chdir(ROOT)
    torch.set_num_threads(os.cpu_count() or 1)
    import_host()
    sizes = sizes or Sizes()
    log = Log(run)
    autoencoder = vae.train(log, sizes.vae_steps)
    unet = base.train(autoencoder, log, sizes.base_steps, sizes.base_pictures)
    held_out = [draw_scene(seed, "new") for seed in range(sizes.judged)]
    log.add("base_pictures", **sampler.evaluate_base(unet, autoencoder, held_out))
    checkpoint = run / "base.safetensors"
    if not checkpoint.is_file():
        save_file(shipping.checkpoint(_half(unet), _half(autoencoder)), checkpoint)
    smollm2.unpack_smollm2(run / smollm2.NAME)
    write_pictures(run / "pictures", range(sizes.captions))
    write_pictures(run / "held-out/pictures", range(HELD_OUT, HELD_OUT + sizes.held_out))
    for command in ("precompute", "train"):
        ella_train(command, "align", run, sizes.align)
    _add_curve(log, run / "align")
    _ship(unet, autoencoder, run / "align/connector.safetensors", data)
    shutil.copyfile(run / "curves.json", data / "curves.json")


def ella_train(command: str, config: str, run: Path, settings: Sequence[str]) -> None:
    """Run a command of `ella-train` with the miniature's config, in this folder."""
    from ella_core.training.cli import main

    text = (ROOT / f"configs/miniature-{config}.yaml").read_text(encoding="utf-8")
    moved = run / f"miniature-{config}.yaml"
    moved.write_text(text.replace(".cache/miniature", run.as_posix()), encoding="utf-8")
    if main([command, str(moved), *settings]):
        raise SystemExit(1)


def source_settings(folder: Path, cache: str = "cache") -> list[str]:
    """Return settings of `ella-train` for a folder's pictures, and for those held out in it."""
    sections = (("data", folder), ("validation", folder / "held-out"))
    return [
        f"{section}.sources=[{{pictures: {each / 'pictures'}, cache: {each / cache}}}]"
        for section, each in sections
    ]


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """Return name -> step -> value of what a run of `ella-train` logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "logs"), size_guidance={"scalars": 0}).Reload()
    names = events.Tags()["scalars"]
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in names}


def _add_curve(log: Log, run: Path) -> None:
    """Keep the means of every 50 steps' losses, and the losses on held-out captions."""
    logged, every = scalars(run), 50
    losses, held_out = logged["train/loss"], logged["validation/loss"]
    log.curves.pop("align", None)
    for end in range(every, max(losses) + every, every):
        recent = [loss for step, loss in losses.items() if end - every < step <= end]
        step = min(end, max(losses))
        also = {"held_out_loss": held_out[step]} if step in held_out else {}
        log.add("align", step=step, loss=mean(recent), **also)


def captioned_scene(seed: int) -> Scene:
    """Return a scene to learn reading from, or to measure it with.

    What is hard to read is a caption of many things: from a seed on, training has no others.
    """
    return draw_scene(seed, least=3 if 14_000 <= seed < HELD_OUT else 1)


def write_pictures(
    folder: Path, seeds: Iterable[int], draw: Callable[[int], Scene] = captioned_scene
) -> None:
    """Write training pictures with captions, and the scene tokens to align them to."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "empty.context.npy", base.scene_tokens(None).half().numpy())
    for seed in seeds:
        scene = draw(seed)
        name = folder / f"{seed:06d}"
        if name.with_suffix(".txt").is_file():
            continue
        picture = Image.fromarray((paint(scene, seed) * 255).round().astype(np.uint8))
        picture.save(name.with_suffix(".png"))
        np.save(f"{name}.context.npy", base.scene_tokens(scene).half().numpy())
        name.with_suffix(".txt").write_text(caption(scene, seed), encoding="utf-8")


def _half(module: torch.nn.Module) -> shipping.State:
    return {name: tensor.half() for name, tensor in module.state_dict().items()}


def _ship(unet: torch.nn.Module, autoencoder: vae.VAE, connector: Path, data: Path) -> None:
    with safe_open(connector, framework="pt") as file:
        metadata = file.metadata() or {}
    shipping.pack(unet.state_dict(), data / "base.safetensors.xz", LICENCE)
    shipping.pack(autoencoder.state_dict(), data / "vae.safetensors.xz", LICENCE)
    target = data / "connector.safetensors.xz"
    shipping.pack(load_file(connector), target, {**metadata, **LICENCE})
    sizes = {path.name: path.stat().st_size for path in data.glob("*.xz")}
    print(f"[miniature] shipped {json.dumps(sizes)}, {sum(sizes.values()) / 1e6:.1f} MB together")
