"""All stages of the miniature's training, from nothing to the files in the repository."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from . import base, sampler, shipping, vae
from .captions import caption
from .training import Log
from .world import draw_scene, paint

ROOT = Path(__file__).parents[1]
BASE_STEPS = 670
CAPTIONS = 11_000
LICENCE = {"licence": "Apache-2.0", "made_by": "python scripts/miniature.py train"}


def train(run: Path) -> None:
    """Go through the stages, or on from where an earlier call was interrupted.

    Args:
        run: folder of checkpoints, curves, training pictures and caches.
    """
    import smollm2
    from tiny_models import import_host

    # ella-train's configs name files of this folder by paths that start in the repository.
    os.chdir(ROOT)
    torch.set_num_threads(os.cpu_count() or 1)
    import_host()
    log = Log(run)
    autoencoder = vae.train(log)
    unet = base.train(autoencoder, log, BASE_STEPS)
    held_out = [draw_scene(seed, "new") for seed in range(32)]
    log.add("base_pictures", **sampler.evaluate_base(unet, autoencoder, held_out))
    checkpoint = run / "base.safetensors"
    if not checkpoint.is_file():
        save_file(shipping.checkpoint(_half(unet), _half(autoencoder)), checkpoint)
    smollm2.unpack_smollm2(run / smollm2.NAME)
    _write_pictures(run / "pictures")
    for command in ("precompute", "train"):
        _ella_train(command, run)
    _ship(unet, autoencoder, run / "align/connector.safetensors")


def _ella_train(command: str, run: Path) -> None:
    from ella_core.training.cli import main

    text = (ROOT / "configs/miniature-align.yaml").read_text(encoding="utf-8")
    moved = run / "miniature-align.yaml"
    moved.write_text(text.replace(".cache/miniature", run.as_posix()), encoding="utf-8")
    if main([command, str(moved)]):
        raise SystemExit(1)


def _write_pictures(folder: Path) -> None:
    """Write training pictures with captions, and the scene tokens to align them to."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "empty.context.npy", base.scene_tokens(None).half().numpy())
    for seed in range(CAPTIONS):
        scene = draw_scene(seed)
        name = folder / f"{seed:06d}"
        if name.with_suffix(".txt").is_file():
            continue
        picture = Image.fromarray((paint(scene, seed) * 255).round().astype(np.uint8))
        picture.save(name.with_suffix(".png"))
        np.save(f"{name}.context.npy", base.scene_tokens(scene).half().numpy())
        name.with_suffix(".txt").write_text(caption(scene, seed), encoding="utf-8")


def _half(module: torch.nn.Module) -> shipping.State:
    return {name: tensor.half() for name, tensor in module.state_dict().items()}


def _ship(unet: torch.nn.Module, autoencoder: vae.VAE, connector: Path) -> None:
    with safe_open(connector, framework="pt") as file:
        metadata = file.metadata() or {}
    shipping.pack(unet.state_dict(), shipping.DATA / "base.safetensors.xz", LICENCE)
    shipping.pack(autoencoder.state_dict(), shipping.DATA / "vae.safetensors.xz", LICENCE)
    target = shipping.DATA / "connector.safetensors.xz"
    shipping.pack(load_file(connector), target, {**metadata, **LICENCE})
    sizes = {path.name: path.stat().st_size for path in shipping.DATA.glob("*.xz")}
    print(f"[miniature] shipped {json.dumps(sizes)}, {sum(sizes.values()) / 1e6:.1f} MB together")
