"""The frozen diffusion model, in diffusers' classes, from a single file or a diffusers folder.

Nothing is ever downloaded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import EllaError
from .batches import LATENT_CHANNELS
from .config import BaseConfig
from .unet_layout import UNET_PREFIX, Shapes, absent_transformers, family_of, unet_config

_VAE_PREFIX = "first_stage_model."
_V_MARK = "v_pred"  # a tensor by which ComfyUI knows SDXLs that predict the velocity, too
_LATENT_SCALE = {"sd15": 0.18215, "sdxl": 0.13025}


@dataclass(frozen=True)
class Base:
    """A diffusion model's parts; their weights take no gradient.

    Attributes:
        family: `sd15` or `sdxl`.
        unet: diffusers' `UNet2DConditionModel`.
        vae: `AutoencoderKL` or `AutoencoderTiny`; None where the file has none.
        prediction: what the U-Net predicts, `epsilon` or `v_prediction` in diffusers' terms; None
            where neither files nor config have said it.
    """

    family: str
    unet: Any
    vae: Any
    prediction: str | None = None

    @property
    def context_dim(self) -> int:
        """Width of the context that its cross-attention reads."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def vector_dim(self) -> int | None:
        """Width of SDXL's pooled embedding, None where the U-Net takes none."""
        return 1280 if self.family == "sdxl" else None


def load_base(config: BaseConfig) -> Base:
    """Open U-Net and VAE on the CPU, in the dtype of the file.

    Args:
        config: where it is: a `.safetensors` file in the original layout (as ComfyUI loads it), or
            a folder in diffusers layout; and what it predicts.

    Raises:
        EllaError: it is not there, damaged, or neither SD1.5 nor SDXL; it is made for inpainting,
            or says itself that it predicts something else.
    """
    path = config.path
    try:
        base = _from_folder(path) if path.is_dir() else _from_file(path)
        _check_channels(base.unet)
    except EllaError as error:
        raise EllaError(f"The base {path} can't be used: {error}. Set base.path.") from None
    for module in (base.unet, base.vae):
        if module is not None:
            module.eval().requires_grad_(False)
    return replace(base, prediction=_prediction(base.prediction, config))


def _prediction(said: str | None, config: BaseConfig) -> str:
    """Return what the base predicts in diffusers' terms, if files and config agree about it."""
    names = {"epsilon": "epsilon", "v": "v_prediction"}
    if said in (None, names[config.prediction]):
        return names[config.prediction]
    remedies = (f"Set base.prediction to {ours}" for ours, name in names.items() if name == said)
    remedy = next(remedies, "Only bases that predict epsilon or v can be trained on")
    raise EllaError(
        f"The base {config.path} says that it predicts {said}, and base.prediction is "
        f"{config.prediction}. {remedy}."
    )


def _check_channels(unet: Any) -> None:
    channels = unet.config.in_channels
    if channels != LATENT_CHANNELS:
        raise EllaError(
            f"its U-Net reads {channels} channels, as one for inpainting does, and not "
            f"{LATENT_CHANNELS}"
        )


def _from_folder(path: Path) -> Base:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

    if not (path / "model_index.json").is_file():
        raise EllaError("the folder has no model_index.json, so it is not in diffusers layout")
    options = {"local_files_only": True, "use_safetensors": True, "torch_dtype": "auto"}
    try:
        unet = UNet2DConditionModel.from_pretrained(path, subfolder="unet", **options)
        config = AutoencoderKL.load_config(path, subfolder="vae", local_files_only=True)
        kind = AutoencoderTiny if config["_class_name"] == "AutoencoderTiny" else AutoencoderKL
        vae = kind.from_pretrained(path, subfolder="vae", **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise EllaError(f"diffusers can't open it ({error})") from error
    widths = (unet.config.cross_attention_dim, unet.config.projection_class_embeddings_input_dim)
    family = {(768, None): "sd15", (2048, 2816): "sdxl"}.get(widths)
    if family is None:
        raise EllaError(f"its U-Net's widths are {widths}, not SD1.5's or SDXL's")
    return Base(family, unet, vae, _prediction_of(path / "scheduler/scheduler_config.json"))


def _prediction_of(scheduler: Path) -> str | None:
    if not scheduler.is_file():
        return None
    said: str | None = json.loads(scheduler.read_text(encoding="utf-8")).get("prediction_type")
    return said


def _from_file(path: Path) -> Base:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            prediction = "v_prediction" if _V_MARK in names else None
            state = {
                key: file.get_tensor(key)
                for key in names
                if key.startswith((UNET_PREFIX, _VAE_PREFIX))
            }
    except FileNotFoundError as error:
        raise EllaError("there is no such file or folder") from error
    except (OSError, SafetensorError) as error:
        raise EllaError(f"it can't be read as safetensors ({error})") from error
    shapes = {
        key.removeprefix(UNET_PREFIX): tuple(t.shape)
        for key, t in state.items()
        if key.startswith(UNET_PREFIX)
    }
    if not shapes:
        raise EllaError(f"it holds no U-Net (no tensor's name begins with {UNET_PREFIX})")
    family = family_of(shapes)
    return Base(family, _unet(state, shapes), _vae(state, family), prediction)


class _NoTransformer(torch.nn.Module):
    """Stands where a block has no transformer, in a level whose other blocks have one."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        return (hidden_states,)


def _unet(state: Mapping[str, torch.Tensor], shapes: Shapes) -> Any:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(shapes))
        for name in absent_transformers(shapes):
            unet.set_submodule(name, _NoTransformer())
    return _fill(unet, convert_ldm_unet_checkpoint(state, unet.config))


def _vae(state: Mapping[str, torch.Tensor], family: str) -> Any:
    inside = {k.removeprefix(_VAE_PREFIX): t for k, t in state.items() if k.startswith(_VAE_PREFIX)}
    if "taesd_encoder.0.weight" in inside:
        return _tiny_vae(inside, family)
    return _kl_vae(state, inside, family) if inside else None


def _kl_vae(state: Mapping[str, torch.Tensor], inside: Mapping[str, Any], family: str) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = len({k.split(".")[2] for k in inside if k.startswith("encoder.down.")})
    widths = [inside[f"encoder.down.{i}.block.0.conv2.weight"].shape[0] for i in range(levels)]
    blocks = {k.split(".")[4] for k in inside if k.startswith("encoder.down.0.block.")}
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=widths,
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            layers_per_block=len(blocks),
            latent_channels=inside["decoder.conv_in.weight"].shape[1],
            scaling_factor=_LATENT_SCALE[family],
        )
    return _fill(vae, convert_ldm_vae_checkpoint(dict(state), vae.config))


def _tiny_vae(inside: Mapping[str, torch.Tensor], family: str) -> Any:
    """A TAESD; ComfyUI keeps its scale and shift beside it."""
    from diffusers import AutoencoderTiny

    if float(inside.get("vae_shift", torch.tensor(0.0))):
        raise EllaError("its TAESD shifts the latents (vae_shift), which diffusers can't express")
    scale = _LATENT_SCALE[family] / float(inside.get("vae_scale", torch.tensor(1.0)))
    with torch.device("meta"):
        vae = AutoencoderTiny(scaling_factor=scale)
    converted = {}
    for key, tensor in inside.items():
        part, _, rest = key.partition(".")
        if part == "taesd_encoder":
            converted[f"encoder.layers.{rest}"] = tensor
        elif part == "taesd_decoder":  # its first layer, a clamp, is not a layer in diffusers
            number, _, name = rest.partition(".")
            converted[f"decoder.layers.{int(number) - 1}.{name}"] = tensor
    return _fill(vae, converted)


def _fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    try:
        module.load_state_dict(dict(state), assign=True)
    except RuntimeError as error:
        raise EllaError(f"{type(module).__name__} does not fit its tensors: {error}") from error
    return module
