"""The miniature's files: small in the repository, ordinary models where ComfyUI looks for them.

In the repository every matrix and convolution is int8 with a float16 scale for each of its rows,
all else is float16; a safetensors file holds them, compressed by xz.
"""

import json
import lzma
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load, save, save_file

from .vae import full_width

DATA = Path(__file__).parent / "data"
CHECKPOINT, CONNECTOR = "ella-miniature.safetensors", "ella-miniature-connector.safetensors"
#: Bytes of all files in the repository together.
LIMIT = 20_000_000

State = dict[str, torch.Tensor]
_SCALE = ".scale"
_SOURCE = "packed_sha256"  # in the metadata of what was installed


def pack(state: State, path: Path, metadata: dict[str, str]) -> None:
    """Write a state of float tensors for the repository."""
    packed = {}
    for name, tensor in state.items():
        if tensor.ndim < 2:
            packed[name] = tensor.half().contiguous()
            continue
        rows = tensor.float().flatten(1)
        scale = (rows.abs().amax(1) / 127).half().clamp(min=2.0**-24)
        whole = (rows / scale.float()[:, None]).round().clamp(-127, 127)
        packed[name] = whole.char().view(tensor.shape)
        packed[name + _SCALE] = scale
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(save(packed, metadata), preset=9))


def unpack(path: Path) -> tuple[State, dict[str, str]]:
    """Return a state in float16 and its metadata."""
    content = lzma.decompress(path.read_bytes())
    packed = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    state = {}
    for name, tensor in packed.items():
        scale = packed.get(name + _SCALE)
        if scale is not None:
            rows = tensor.flatten(1) * scale.float()[:, None]
            state[name] = rows.view(tensor.shape).half()
        elif not name.endswith(_SCALE):
            state[name] = tensor
    return state, header.get("__metadata__", {})


def checkpoint(unet: State, vae: State) -> State:
    """Return the checkpoint that ComfyUI loads: an SD1.5 with a TAESD and without CLIP.

    The block without a transformer gets one of zeros, which changes nothing: diffusers knows no
    level that has blocks with a transformer and blocks without.
    """
    without, like = "output_blocks.0.1.", "output_blocks.1.1."
    zeros = {n.replace(like, without): t * 0 for n, t in unet.items() if n.startswith(like)}
    unet = {**unet, **zeros}
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()}
    state |= {f"first_stage_model.{name}": t for name, t in full_width(vae).items()}
    # ComfyUI multiplies SD1.5's latents by this before the U-Net, and the VAE divides by it.
    state["first_stage_model.vae_scale"] = torch.tensor(0.18215)
    return state


def install(models: Path) -> None:
    """Write the shipped miniature into a ComfyUI `models` folder, unless it is there."""
    base, vae, connector = (
        DATA / f"{name}.safetensors.xz" for name in ("base", "vae", "connector")
    )
    target = models / "checkpoints" / CHECKPOINT
    if not _is_made_from((base, vae), target):
        made = checkpoint(unpack(base)[0], unpack(vae)[0])
        _write(made, target, {_SOURCE: _digest((base, vae))})
    target = models / "ella" / CONNECTOR
    if not _is_made_from((connector,), target):
        state, metadata = unpack(connector)
        _write(state, target, {**metadata, _SOURCE: _digest((connector,))})


def _is_made_from(packed: Sequence[Path], target: Path) -> bool:
    if not target.is_file():
        return False
    with safe_open(target, framework="pt") as file:
        return (file.metadata() or {}).get(_SOURCE) == _digest(packed)


def _digest(packed: Sequence[Path]) -> str:
    return sha256(b"".join(path.read_bytes() for path in packed)).hexdigest()


def install_trained(models: Path, run: Path) -> None:
    """Write what a training made into a ComfyUI `models` folder, over what is there."""
    for source, folder, name in (
        ("base.safetensors", "checkpoints", CHECKPOINT),
        ("align/connector.safetensors", "ella", CONNECTOR),
    ):
        (models / folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / source, models / folder / name)


def _write(state: State, path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(state, part, metadata)
    part.replace(path)
