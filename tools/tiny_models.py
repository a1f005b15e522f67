"""Small random models that ComfyUI's own loader nodes accept, drawn in seconds.

They have Stable Diffusion's architecture with few and shallow blocks, so a picture from them is
an abstract pattern; everything around them is the real thing.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bootstrap import ROOT, host_dir

sys.path.insert(0, str(ROOT))

from ella_core.checkpoint import save_connector
from ella_core.config import LLMAdapterConfig, ResamplerConfig
from ella_core.connectors import build_connector

#: The smallest U-Net that is still recognised as SD1.5 and takes LoRA and ControlNet.
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": [1],
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
    "num_heads": 8,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "legacy": False,
}
#: Changes that make Stable Diffusion 1.5's own U-Net of it.
SD15: dict[str, Any] = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}
#: Changes that make an SDXL of it, recognised by the depths of Segmind's Vega: 75M parameters.
SDXL: dict[str, Any] = {
    "channel_mult": [1, 1, 1],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0] * 9,
    "transformer_depth_middle": -2,
    "num_heads": -1,
    "num_head_channels": 64,
    "context_dim": 2048,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
    "use_linear_in_transformer": True,
}


def draw_checkpoint(
    path: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **unet: Any
) -> None:
    """Write an SD1.5-shaped checkpoint of a U-Net and a TAESD, without CLIP.

    Args:
        path: where to.
        seed: of all its weights.
        dtype: to store the U-Net in.
        unet: entries of `UNET` to change; `context_dim=1024, use_linear_in_transformer=True`
            makes an SD2, those of `SDXL` an SDXL.
    """
    import_host()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.taesd.taesd import TAESD

    generator = torch.Generator().manual_seed(seed)
    unet_model, vae = UNetModel(**{**UNET, **unet}), TAESD()
    draw(unet_model, generator)
    draw(vae, generator)
    _soften(vae.taesd_decoder, generator)
    state = {f"model.diffusion_model.{k}": t.to(dtype) for k, t in unet_model.state_dict().items()}
    state |= {f"first_stage_model.{k}": t for k, t in vae.state_dict().items()}
    state["first_stage_model.vae_scale"] = torch.tensor(0.18215)
    _save(state, path)


def draw_connector(
    path: Path,
    config: ResamplerConfig | LLMAdapterConfig,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a random connector whose tokens clearly depend on the timestep and the text."""
    generator = torch.Generator().manual_seed(seed)
    connector = build_connector(config)
    draw(connector, generator)
    if isinstance(config, ResamplerConfig):
        torch.nn.init.normal_(connector.latents, std=1.0, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_connector(connector.to(dtype), part)
    part.replace(path)


def write_t5(folder: Path, width: int = 64, seed: int = 0) -> None:
    """A small T5 encoder with the real T5 tokenizer, which ComfyUI ships."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=32128,
        d_model=width,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    T5EncoderModel(config).save_pretrained(folder)
    for file in (host_dir() / "comfy/text_encoders/t5_tokenizer").iterdir():
        shutil.copy(file, folder)


def draw(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Matrices and convolutions keep their input's variance, norms start neutral."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=generator)
        else:
            torch.nn.init.constant_(parameter, 1.0 if _is_norm(model, name) else 0.0)


@torch.no_grad()
def _soften(decoder: torch.nn.Module, generator: torch.Generator) -> None:
    """Make a random decoder paint soft shapes in mid-range colours instead of pixel noise."""
    blur = torch.tensor([1.0, 2.0, 1.0])
    blur = blur[:, None] * blur / 16
    for module in decoder.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            module.weight.copy_(module.weight.mean(dim=(2, 3), keepdim=True) * 9 * blur)
    last = decoder[-1]
    latents = torch.randn(16, 4, 8, 8, generator=generator)
    picture = decoder(2 * latents + 4 * torch.randn(16, 4, 1, 1, generator=generator))
    deviation = picture.std(dim=(0, 2, 3))
    last.weight.mul_(0.22 / deviation[:, None, None, None])
    last.bias.copy_(0.5 - 0.22 * picture.mean(dim=(0, 2, 3)) / deviation)


def _is_norm(model: torch.nn.Module, name: str) -> bool:
    module, _, leaf = name.rpartition(".")
    return leaf == "weight" and "Norm" in type(model.get_submodule(module)).__name__


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, part)
    part.replace(path)


def import_host(cpu: bool = True) -> None:
    """Make the host's modules importable here, ahead of our own `nodes`."""
    if str(host_dir()) not in sys.path:
        sys.path.insert(0, str(host_dir()))
        from comfy.cli_args import args

        args.cpu = cpu
