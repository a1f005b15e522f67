"""ELLA in diffusers: the U-Net gets the connector's context at the timestep that it gets."""

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from ella_core.config import MLPConfig, ResamplerConfig, TimeConfig
from ella_core.connectors import build_connector
from ella_core.diffusers_adapter import attached
from ella_core.errors import EllaError
from ella_core.text_encoders import EncodedPrompt

UNET = {
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TSC = ResamplerConfig(48, 32, 1, 4, 8, TimeConfig(16, 24))


def connector_of(config):
    torch.manual_seed(0)
    connector = build_connector(config)
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return connector.eval()


def prompt(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return EncodedPrompt(torch.randn(1, length, 48, generator=generator), tokens=length)


def pipeline_of(kind=StableDiffusionPipeline, unet=None, **parts):
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(4, 4),
        decoder_block_out_channels=(4, 4),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    unet = UNet2DConditionModel(sample_size=8, **UNET, **(unet or {}))
    scheduler = diffusers.DDIMScheduler(**SCHEDULE)
    if kind is StableDiffusionXLPipeline:
        return kind(vae, None, None, None, None, unet, scheduler)
    rest = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = kind(vae, None, None, unet=unet, scheduler=scheduler, **rest, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def seen():
    """Arguments of each pass of the models that `watch` was called with."""

    class Seen(list):
        def watch(self, model):
            def note(_, args, kwargs):
                self.append({"timestep": args[1], **kwargs})

            model.register_forward_pre_hook(note, with_kwargs=True)

    return Seen()


SCHEDULERS = {
    "DDIMScheduler": {},
    "EulerDiscreteScheduler": {"use_karras_sigmas": True},
    "EulerAncestralDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {"use_exponential_sigmas": True},
    "UniPCMultistepScheduler": {"use_beta_sigmas": False},
    "LCMScheduler": {},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_row_gets_its_prompt_at_the_timestep_of_the_pass(name, seen):
    connector, pipe = connector_of(TSC), pipeline_of()
    pipe.scheduler = getattr(diffusers, name)(**SCHEDULE, **SCHEDULERS[name])
    prompts, negatives = [prompt(5, 1), prompt(9, 2)], [prompt(2, 3), prompt(3, 4)]
    with attached(pipe, connector) as embed:
        seen.watch(pipe.unet)  # after ours, so it sees what we have made
        embeds = embed(prompts, negatives)
        pipe(**embeds, num_inference_steps=4, num_images_per_prompt=2, output_type="latent",
             guidance_scale=3)  # fmt: skip
    rows = [p for p in (*negatives, *prompts) for _ in range(2)]
    timesteps = [float(passed["timestep"]) for passed in seen]
    assert len(set(timesteps)) >= 4
    for passed, timestep in zip(seen, timesteps, strict=True):
        at = torch.tensor([timestep])
        expected = torch.cat([connector(row.features, at) for row in rows])
        torch.testing.assert_close(passed["encoder_hidden_states"], expected, rtol=0, atol=1e-6)


def test_sdxl_gets_the_pooled_context_too(seen):
    connector = connector_of(ResamplerConfig(48, 32, 1, 4, 8, TimeConfig(16, 24), pooled_dim=24))
    pipe = pipeline_of(StableDiffusionXLPipeline, SDXL)
    prompts = prompt(5, 1), prompt(2, 2)
    with attached(pipe, connector) as embed:
        seen.watch(pipe.unet)
        pipe(**embed(prompts[:1], prompts[1:]), num_inference_steps=2, output_type="latent")
    for passed in seen:
        at = passed["timestep"].reshape(1)
        contexts = torch.cat([connector(p.features, at) for p in reversed(prompts)])
        pooled = passed["added_cond_kwargs"]["text_embeds"]
        torch.testing.assert_close(pooled, connector.pooled(contexts), rtol=0, atol=1e-6)


def test_a_controlnet_gets_the_same_context(seen):
    unet = UNet2DConditionModel(sample_size=8, **UNET)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4))
    pipe = pipeline_of(StableDiffusionControlNetPipeline, controlnet=controlnet)
    hint = torch.rand(1, 3, 16, 16)
    with attached(pipe, connector_of(TSC)) as embed:
        for model in (pipe.controlnet, pipe.unet):
            seen.watch(model)
        embeds = embed([prompt(5, 1)], [prompt(2, 2)])
        pipe(**embeds, image=hint, num_inference_steps=2, output_type="latent")
    for control, noise in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(control["encoder_hidden_states"], noise["encoder_hidden_states"])


def test_contexts_of_different_length_are_masked():
    connector, pipe = connector_of(MLPConfig(48, 32)), pipeline_of()
    x, at = torch.randn(2, 4, 8, 8), torch.tensor(500)
    short, long = prompt(3, 1), prompt(7, 2)
    with attached(pipe, connector) as embed:
        embeds = embed([long], [short])
        both = torch.cat([embeds["negative_prompt_embeds"], embeds["prompt_embeds"]])
        together = pipe.unet(x, at, encoder_hidden_states=both).sample
    for i, alone in enumerate((short, long)):
        context = connector(alone.features, at[None])
        expected = pipe.unet(x[i : i + 1], at, encoder_hidden_states=context).sample
        torch.testing.assert_close(together[i : i + 1], expected, rtol=0, atol=1e-5)


def test_leaves_nothing_and_leaves_other_embeddings_alone():
    connector, pipe = connector_of(TSC), pipeline_of()
    x, at, context = torch.randn(1, 4, 8, 8), torch.tensor(500), torch.randn(1, 77, 32)
    expected = pipe.unet(x, at, encoder_hidden_states=context).sample
    with attached(pipe, connector) as embed:
        placeholder = embed([prompt(3, 1)], [prompt(3, 1)])["prompt_embeds"]
        assert torch.equal(pipe.unet(x, at, encoder_hidden_states=context).sample, expected)
        with pytest.raises(EllaError, match="timestep 1200"):
            pipe.unet(x, torch.tensor(1200), encoder_hidden_states=placeholder)
    assert not pipe.unet._forward_pre_hooks
    with (
        pytest.raises(EllaError, match=r"width 32.*makes 64"),
        attached(pipe, connector_of(ResamplerConfig(48, 64, 1, 4, 8, TimeConfig(16, 24)))),
    ):
        pass
