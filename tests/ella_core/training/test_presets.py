"""Presets: each counts the paper's parameters, and makes a step at full size on the meta device."""

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from bootstrap import ROOT
from ella_core.connectors import build_connector
from ella_core.training.bases import Base
from ella_core.training.batches import Tensors
from ella_core.training.config_file import load_config
from ella_core.training.loss import Conditioning, NoiseLoss

# The paper's, to the digit where it can be computed: Table 6, and section 5.1. LLaMA-2 13B is 5120
# wide. Of SDXL's, 466,546,688 are the paper's 0.47B; the rest is the authors' attention pool.
PARAMETERS = {
    "sd15-flan-t5-xl": 66_820_608,
    "sd15-tinyllama-mlp": 2_164_224,
    "sd15-tinyllama-resampler-1": 8_712_192,
    "sd15-tinyllama-resampler-6": 44_159_232,
    "sd15-tinyllama-adaln-zero": 73_907_712,
    "sd15-tinyllama-adaln": 66_820_608,
    "sd15-llama-2-13b": 69_179_904,
    "sdxl-flan-t5-xl-512": 485_956_864,
    "sdxl-flan-t5-xl-1024": 485_956_864,
}
SDXL_WITHOUT_POOL = 466_546_688
SDXL_UNET = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def preset(name):
    return load_config(ROOT / f"configs/{name}.yaml")


def test_all_presets_are_known():
    found = {path.stem for path in (ROOT / "configs").glob("sd*.yaml")}
    assert found == set(PARAMETERS)


def connector_config(name):
    """Return the preset's connector, or that of the preset that it goes on from."""
    config = preset(name)
    if config.connector.init_from:
        folder = config.connector.init_from.parent
        name, config = folder.name, preset(folder.name)
        assert folder == Path(config.run), "it goes on from what no preset makes"
    return config.connector_config


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_counts_the_papers_parameters_and_makes_a_step(name):
    config, sdxl = preset(name), name.startswith("sdxl")
    wanted = connector_config(name)
    with torch.device("meta"):
        connector = build_connector(wanted)
        unet = UNet2DConditionModel(**SDXL_UNET if sdxl else {"cross_attention_dim": 768})
    assert sum(p.numel() for p in connector.parameters()) == PARAMETERS[name]
    if sdxl:
        with torch.device("meta"):
            tsc = build_connector(dataclasses.replace(wanted, pooled_dim=None))
        assert sum(p.numel() for p in tsc.parameters()) == SDXL_WITHOUT_POOL

    base = Base("sdxl" if sdxl else "sd15", unet.requires_grad_(False), None)
    side = config.data.resolution // 8
    latents = torch.empty(2, 4, side, side, device="meta")
    batch = Tensors(
        latents,
        torch.empty(2, 128, connector.llm_dim, device="meta"),
        None,
        torch.empty(2, 6, device="meta"),
        None,
        torch.empty(2, dtype=torch.long, device="meta"),
        latents,
    )
    NoiseLoss(base, config.loss)(Conditioning(connector), batch).mean().backward()
    assert all(p.grad is not None for p in connector.parameters())
    torch.optim.AdamW(connector.parameters(), lr=config.optimiser.lr).step()
