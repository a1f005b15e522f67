"""Bases: on the same weights, diffusers' models and ComfyUI's compute the same."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_models
from ella_core.errors import EllaError
from ella_core.training.bases import load_base
from ella_core.training.config import BaseConfig
from ella_core.training.contract import weights_identity
from ella_core.training.encoding import encode_pixels
from support.training import SMALL_SDXL

SMALL = {
    "sd15": {},
    "sd15 without middle": {"transformer_depth_output": [0, 0], "transformer_depth_middle": -2},
    "sd15 with a block without transformer": {
        "transformer_depth_output": [1, 0],
        "transformer_depth_middle": -2,
    },
    "sd15 of two levels": {
        "channel_mult": [1, 1],
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_output": [1, 1, 0, 0],
    },
    "sdxl": SMALL_SDXL,
}


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_unet_equals_comfyuis(name, tmp_path):
    tiny_models.import_host()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    path = tmp_path / "base.safetensors"
    tiny_models.draw_checkpoint(path, **SMALL[name])
    prefix = "model.diffusion_model."
    theirs = UNetModel(**{**tiny_models.UNET, **SMALL[name]})
    state = load_file(path)
    theirs.load_state_dict(
        {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}
    )
    base = load_base(BaseConfig(path))

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 16, 16, generator=generator)
    context = torch.randn(2, 64, base.context_dim, generator=generator)
    t = torch.tensor([7.0, 901.0])
    expected, added = {}, {}
    if base.family == "sdxl":
        pooled = torch.randn(2, 1280, generator=generator)
        sizes = torch.tensor([[512.0, 512, 0, 0, 512, 512]] * 2)
        added = {"text_embeds": pooled, "time_ids": sizes}
        expected = {
            "y": torch.cat([pooled, base.unet.add_time_proj(sizes.flatten()).view(2, -1)], 1)
        }
    ours = base.unet(x, t, context, added_cond_kwargs=added or None).sample
    theirs = theirs(x, t, context, **expected)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


@torch.no_grad()
def test_taesd_equals_comfyuis(tmp_path):
    tiny_models.import_host()
    import comfy.sd

    path = tmp_path / "base.safetensors"
    tiny_models.draw_checkpoint(path)
    prefix = "first_stage_model."
    vae = comfy.sd.VAE(
        {k.removeprefix(prefix): t for k, t in load_file(path).items() if prefix in k}
    )
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ours = load_base(BaseConfig(path)).vae
    latents = ours.encode(2 * picture - 1).latents * ours.config.scaling_factor
    theirs = vae.encode(picture.movedim(1, -1)) * 0.18215
    torch.testing.assert_close(latents, theirs.float(), rtol=0, atol=1e-5)
    decoded = ours.decode(latents / ours.config.scaling_factor).sample / 2 + 0.5
    theirs = vae.decode(theirs / 0.18215).movedim(-1, 1)
    torch.testing.assert_close(decoded.clamp(0, 1), theirs.float(), rtol=0, atol=1e-4)


KL_VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 32,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2, 2, 2],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


@pytest.fixture(scope="module")
def with_kl_vae(tmp_path_factory):
    """A single file with Stable Diffusion's own kind of VAE."""
    tiny_models.import_host()
    from comfy.ldm.models.autoencoder import AutoencoderKL

    path = tmp_path_factory.mktemp("kl") / "base.safetensors"
    tiny_models.draw_checkpoint(path)
    state = {k: t for k, t in load_file(path).items() if not k.startswith("first_stage_model.")}
    vae = AutoencoderKL(ddconfig=KL_VAE, embed_dim=4)
    tiny_models.draw(vae, torch.Generator().manual_seed(0))
    state |= {f"first_stage_model.{k}": t.contiguous() for k, t in vae.state_dict().items()}
    save_file(state, path)
    return path, vae


@torch.no_grad()
def test_kl_vae_equals_comfyuis(with_kl_vae):
    path, theirs = with_kl_vae
    ours = load_base(BaseConfig(path)).vae
    pixels = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    mean, std = encode_pixels(ours, pixels)
    expected, log_variance = theirs.quant_conv(theirs.encoder(pixels)).chunk(2, dim=1)
    assert expected.std() > 0.1
    torch.testing.assert_close(mean, 0.18215 * expected, rtol=0, atol=1e-4)
    deviation = 0.18215 * (log_variance.clamp(-30, 20) / 2).exp()
    torch.testing.assert_close(std, deviation, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        ours.decode(expected).sample, theirs.decode(expected), rtol=0, atol=1e-4
    )


@torch.no_grad()
def test_a_diffusers_folder_is_the_same_base(with_kl_vae, tmp_path):
    file = load_base(BaseConfig(with_kl_vae[0]))
    file.unet.save_pretrained(tmp_path / "unet")
    file.vae.save_pretrained(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    folder = load_base(BaseConfig(tmp_path, "v"))
    assert (folder.family, folder.context_dim, folder.prediction) == ("sd15", 768, "v_prediction")
    assert weights_identity(folder.vae) == weights_identity(file.vae)
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 768)
    pixels = torch.rand(1, 3, 16, 16)
    one, other = (
        (base.unet(x, 500, context).sample, encode_pixels(base.vae, pixels)[0])
        for base in (folder, file)
    )
    # Where weights lie in memory changes the last digit on some processors.
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)

    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text('{"prediction_type": "epsilon"}')
    with pytest.raises(EllaError, match=r"predicts epsilon, .* is v. Set base.prediction to eps"):
        load_base(BaseConfig(tmp_path, "v"))
    assert load_base(BaseConfig(tmp_path)).prediction == "epsilon"
    (tmp_path / "scheduler/scheduler_config.json").write_text('{"prediction_type": "sample"}')
    for ours in ("epsilon", "v"):
        with pytest.raises(EllaError, match=r"predicts sample, .* Only bases that predict eps"):
            load_base(BaseConfig(tmp_path, ours))

    (tmp_path / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    with pytest.raises(EllaError, match="diffusers can't open it"):
        load_base(BaseConfig(tmp_path))


def test_a_file_that_says_that_it_predicts_the_velocity(tmp_path):
    path = tmp_path / "base.safetensors"
    tiny_models.draw_checkpoint(path)
    save_file({**load_file(path), "v_pred": torch.tensor([])}, path)
    with pytest.raises(EllaError, match=r"predicts v_prediction, .* is epsilon. Set .* to v"):
        load_base(BaseConfig(path))
    assert load_base(BaseConfig(path, "v")).prediction == "v_prediction"


def test_what_is_no_base_is_refused(tmp_path):
    other = tmp_path / "sd2.safetensors"
    tiny_models.draw_checkpoint(other, context_dim=1024, use_linear_in_transformer=True)
    inpainting = tmp_path / "inpainting.safetensors"
    tiny_models.draw_checkpoint(inpainting, in_channels=9)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(other.read_bytes()[:-100])
    none = tmp_path / "none.safetensors"
    save_file({"a": torch.zeros(1)}, none)
    for path, reason in (
        (other, "1024"),
        (inpainting, "reads 9 channels, as one for inpainting"),
        (cut, "safetensors"),
        (none, "no U-Net"),
        (tmp_path / "absent", "no such file"),
        (tmp_path, "model_index.json"),
    ):
        with pytest.raises(EllaError, match=reason):
            load_base(BaseConfig(path))
