"""How wide a context models read and connectors write."""

import pytest
import torch
from safetensors.torch import save_file

from tiny_models import import_host

import_host()
import folder_paths

from ella_core.checkpoint import save_connector
from ella_core.comfy.files import folders, widths
from ella_core.config import ResamplerConfig
from ella_core.connectors import build_connector


@pytest.fixture
def root(tmp_path, monkeypatch):
    names = ["checkpoints", "diffusion_models", *folders.CONNECTOR_FOLDERS]
    known = {name: ([str(tmp_path / name)], {".safetensors"}) for name in names}
    for name in names:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


@pytest.mark.parametrize("folder", ["checkpoints", "diffusion_models"])
@pytest.mark.parametrize(
    "block",
    [
        "model.diffusion_model.middle_block.1",
        "model.diffusion_model.input_blocks.1.1",
        "mid_block.attentions.0",
        "down_blocks.0.attentions.1",
    ],
)
def test_of_a_model(root, folder, block):
    key = f"{block}.transformer_blocks.0.attn2.to_k.weight"
    save_file({key: torch.zeros(320, 768)}, root / folder / "model.safetensors")
    assert widths.model_width("model.safetensors") == 768


@pytest.mark.parametrize(
    "key",
    [
        "double_blocks.0.img_attn.qkv.weight",
        "model.diffusion_model.transformer_blocks.0.attn2.to_k.weight",  # LTX-Video
        "transformer_blocks.0.attn2.to_k.weight",
    ],
)
def test_of_a_model_without_such_a_unet(root, key):
    save_file({key: torch.zeros(64, 2048)}, root / "diffusion_models/other.safetensors")
    assert widths.model_width("other.safetensors") == 0


def test_unknown(root):
    (root / "checkpoints/broken.safetensors").write_bytes(b"no header")
    for name in ("broken.safetensors", "missing.safetensors"):
        assert widths.model_width(name) is None


def test_of_connectors(root):
    small = build_connector(ResamplerConfig(llm_dim=64, layers=1))
    save_connector(small, root / "ella/small.safetensors")
    (root / "ella/broken.safetensors").write_bytes(b"no header")
    assert widths.connector_widths() == {"small.safetensors": 768}
