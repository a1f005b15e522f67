"""Small models for the tests, made on the spot."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bootstrap import host_dir

from . import golden_adapter, golden_weights

CLIP_G_LAYERS = 3  # of 32


def write_tsc(path: Path, **dims) -> dict[str, torch.Tensor]:
    """A TSC of any size in the released layout; returns its tensors."""
    weights = {key: torch.from_numpy(v) for key, v in golden_weights.state_dict(**dims).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return weights


def write_adapter(path: Path, heads: int = 16, **dims) -> dict[str, torch.Tensor]:
    """An LLM adapter for SDXL of any size in the released layout; returns its tensors."""
    weights = {key: torch.from_numpy(v) for key, v in golden_adapter.state_dict(**dims).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata={"heads": str(heads)})
    return weights


def write_llama(folder: Path, width: int = 64, seed: int = 0) -> None:
    """A small Llama with a tokenizer that begins every text with <s>, as Llama's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocabulary |= {chr(c): c for c in range(32, 127)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=width,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    LlamaModel(config).save_pretrained(folder)


def write_controlnet(path: Path, dtype: torch.dtype = torch.float32, **changes) -> None:
    """A ControlNet for the small U-Net, or for one with changes as `draw_checkpoint` takes them."""
    import tiny_models

    tiny_models.import_host()
    from comfy.cldm.cldm import ControlNet

    unet = {
        k: v
        for k, v in {**tiny_models.UNET, **changes}.items()
        if k not in ("out_channels", "transformer_depth_output")
    }
    net = ControlNet(hint_channels=3, **unet)
    tiny_models.draw(net, torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    state = net.to(dtype).state_dict()
    save_file({f"control_model.{k}": t.contiguous() for k, t in state.items()}, path)


def write_lora(path: Path, block: int = 1, context_dim: int = 768) -> None:
    """A LoRA on the keys of a small U-Net's first cross-attention, which reads our tokens.

    `block` is the input block that has it.
    """
    name = f"lora_unet_input_blocks_{block}_1_transformer_blocks_0_attn2_to_k"
    generator = torch.Generator().manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}.lora_down.weight": torch.randn(4, context_dim, generator=generator)
        / context_dim**0.5,
        f"{name}.lora_up.weight": torch.randn(320, 4, generator=generator),
        f"{name}.alpha": torch.tensor(4.0),
    }
    save_file(tensors, path)


def write_mlp(path: Path, llm_dim: int) -> None:
    """A connector of the simplest kind, which knows no timestep."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, columns in (("proj_in", llm_dim), ("proj_out", 768)):
        weight = torch.randn(768, columns, generator=generator) / columns**0.5
        tensors |= {f"connector.{name}.weight": weight, f"connector.{name}.bias": torch.ones(768)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def write_clip(path: Path) -> None:
    """Stable Diffusion's own CLIP-L, which ComfyUI knows in this one size only, in 16 bit."""
    import tiny_models

    tiny_models.import_host()
    import comfy.ops
    from comfy.clip_model import CLIPTextModel

    config = json.loads((host_dir() / "comfy/sd1_clip_config.json").read_text())
    model = CLIPTextModel(config, torch.float32, "cpu", comfy.ops.disable_weight_init)
    tiny_models.draw(model, torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: t.half().contiguous() for k, t in model.state_dict().items()}, path)


def add_sdxl_clips(checkpoint: Path, path: Path) -> None:
    """A copy of a checkpoint with SDXL's CLIPs: CLIP-L, and of CLIP-G the last layers.

    The tests' ComfyUI takes a CLIP-G of CLIP_G_LAYERS for SDXL's, see `tests/host_packs`.
    """
    import tiny_models

    tiny_models.import_host()
    import comfy.ops
    from comfy.clip_model import CLIPTextModel

    clip = path.with_name("clip.part")
    write_clip(clip)
    state = load_file(checkpoint)
    state |= {f"conditioner.embedders.0.transformer.{k}": t for k, t in load_file(clip).items()}
    clip.unlink()
    config = json.loads((host_dir() / "comfy/clip_config_bigg.json").read_text())
    config["num_hidden_layers"] = CLIP_G_LAYERS
    model = CLIPTextModel(config, torch.float32, "cpu", comfy.ops.disable_weight_init)
    tiny_models.draw(model, torch.Generator().manual_seed(1))
    prefix = "conditioner.embedders.1.model.transformer."
    state |= {f"{prefix}{k}": t.half().contiguous() for k, t in model.state_dict().items()}
    save_file(state, path)


def add_clip(checkpoint: Path, path: Path) -> None:
    """A copy of a checkpoint with a CLIP in it."""
    clip = path.with_name("clip.part")
    write_clip(clip)
    tensors = {f"cond_stage_model.transformer.{k}": t for k, t in load_file(clip).items()}
    save_file({**load_file(checkpoint), **tensors}, path)
    clip.unlink()


def write_gligen(path: Path) -> None:
    """A GLIGEN for the one transformer of the smallest U-Net."""
    import tiny_models

    tiny_models.import_host()
    from comfy.gligen import GatedSelfAttentionDense, PositionNet

    generator = torch.Generator().manual_seed(0)
    fuser, position = GatedSelfAttentionDense(320, 768, 8, 40), PositionNet(768, 768)
    for module in (fuser, position):
        tiny_models.draw(module, generator)
    torch.nn.init.ones_(fuser.alpha_attn)
    torch.nn.init.ones_(fuser.alpha_dense)
    prefix = "input_blocks.1.1.transformer_blocks.0.fuser."
    tensors = {prefix + k: t for k, t in fuser.state_dict().items()}
    tensors |= {f"position_net.{k}": t for k, t in position.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: t.detach().contiguous() for k, t in tensors.items()}, path)


def write_t2i_adapter(path: Path) -> None:
    """The light kind of T2I-Adapter, which ComfyUI knows in one size."""
    import tiny_models

    tiny_models.import_host()
    from comfy.t2i_adapter.adapter import Adapter_light

    adapter = Adapter_light(cin=192, channels=[320, 640, 1280, 1280], nums_rb=4)
    tiny_models.draw(adapter, torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: t.contiguous() for k, t in adapter.state_dict().items()}, path)
