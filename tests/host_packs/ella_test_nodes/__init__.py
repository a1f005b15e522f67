"""Nodes for the tests only: a recorder around the U-Net, and models that are costly to make."""

import copy
import time
from pathlib import Path
from typing import ClassVar

import comfy.model_patcher
import comfy.supported_models
import folder_paths
import torch
from comfy.ldm.flux.model import FluxParams
from comfy.model_management import loaded_models
from comfy.patcher_extension import WrappersMP
from safetensors.torch import save_file

from . import clip  # noqa: F401
from .edits import NODE_CLASS_MAPPINGS as EDITS
from .prompts import NODE_CLASS_MAPPINGS as PROMPTS
from .sampling import NODE_CLASS_MAPPINGS as SAMPLING
from .state import NODE_CLASS_MAPPINGS as STATE


class RecordUNet:
    """Writes what every call of the diffusion model gets, one file a call, under output/NAME."""

    CATEGORY = "ELLA tests"
    FUNCTION = "record"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",), "name": ("STRING", {})}}

    def record(self, model, name):
        folder = Path(folder_paths.get_output_directory()) / name
        folder.mkdir()

        def wrapper(executor, x, timesteps, context=None, *args, **kwargs):
            options = args[2] if len(args) > 2 else kwargs["transformer_options"]
            write(x, timesteps, context, args[0] if args else kwargs.get("y"), options)
            return executor(x, timesteps, context, *args, **kwargs)

        @torch.compiler.disable
        def write(x, timesteps, context, y, options):
            loaded = [m.model for m in loaded_models() if m is not None]  # None: its patcher died
            record = {
                "x": x.float().contiguous().cpu(),
                "context": context.float().contiguous().cpu(),
                "timesteps": timesteps.cpu(),
                "sigmas": options["sigmas"].cpu(),
                "cond_or_uncond": torch.tensor(options["cond_or_uncond"]),
                "loaded_connectors": torch.tensor(
                    sum(type(model).__name__ == "Resampler" for model in loaded)
                ),
            }
            if y is not None:  # SDXL's vector
                record["y"] = y.float().contiguous().cpu()
            save_file(record, folder / f"{len(list(folder.iterdir())):04}.safetensors")

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "ella_test_recorder", wrapper)
        return (model,)


class SigmaPerSample:
    """Gives each sample of a batch another sigma: all of it, a half, a third ..."""

    CATEGORY = "ELLA tests"
    FUNCTION = "patch"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        def wrapper(executor, x, sigma, *args, **kwargs):
            shares = torch.arange(1, len(sigma) + 1, device=sigma.device)
            return executor(x, sigma / shares, *args, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "ella_test_sigmas", wrapper)
        return (model,)


class RecordControl:
    """Writes the tokens that the ControlNet of a conditioning is called with, under output/NAME."""

    CATEGORY = "ELLA tests"
    FUNCTION = "record"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"conditioning": ("CONDITIONING",), "name": ("STRING", {})}}

    def record(self, conditioning, name):
        folder = Path(folder_paths.get_output_directory()) / name
        folder.mkdir()
        control = conditioning[0][1]["control"]
        original = control.get_control

        def get_control(x_noisy, t, cond, *args):
            record = {"context": cond["c_crossattn"].float().contiguous().cpu(), "sigmas": t.cpu()}
            if "y" in cond:  # SDXL's vector
                record["y"] = cond["y"].float().contiguous().cpu()
            save_file(record, folder / f"{len(list(folder.iterdir())):04}.safetensors")
            return original(x_noisy, t, cond, *args)

        control.get_control = get_control
        return (conditioning,)


class CountPasses:
    """Writes the timesteps and the number of prompts of each pass through a connector."""

    CATEGORY = "ELLA tests"
    FUNCTION = "count"
    RETURN_TYPES = ("ELLA",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"ella": ("ELLA",), "name": ("STRING", {})}}

    def count(self, ella, name):
        folder = Path(folder_paths.get_output_directory()) / name
        folder.mkdir()

        def hook(module, inputs):
            features, timesteps = inputs[:2]
            record = {"prompts": torch.tensor(len(features)), "timesteps": timesteps.cpu()}
            save_file(record, folder / f"{len(list(folder.iterdir())):04}.safetensors")

        ella.connector.register_forward_pre_hook(hook)
        return (ella,)


class PlainConditioning:
    """A fixed CONDITIONING of 77 tokens that is none of ELLA's, in place of CLIP's."""

    CATEGORY = "ELLA tests"
    FUNCTION = "make"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"seed": ("INT", {}), "width": ("INT", {}), "batch": ("INT", {})}}

    def make(self, seed, width, batch):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randn(batch, 77, width, generator=generator)
        pooled = torch.randn(batch, 1280, generator=generator)
        return ([[tokens, {"pooled_output": pooled} if width == 2048 else {}]],)


class DeepCopy:
    """Gives a deep copy of a CONDITIONING, as some packs make of what they change."""

    CATEGORY = "ELLA tests"
    FUNCTION = "copy"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"conditioning": ("CONDITIONING",)}}

    def copy(self, conditioning):
        return (copy.deepcopy(conditioning),)


class SlowConnector:
    """A copy of a connector of which each pass takes some seconds more."""

    CATEGORY = "ELLA tests"
    FUNCTION = "slow"
    RETURN_TYPES = ("ELLA",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"ella": ("ELLA",), "seconds": ("FLOAT", {})}}

    def slow(self, ella, seconds):
        connector, of = copy.deepcopy(ella.connector), ella.patcher
        connector.register_forward_pre_hook(lambda *_: time.sleep(seconds))
        patcher = type(of)(connector, load_device=of.load_device, offload_device=of.offload_device)
        return (type(ella)(ella.name, patcher),)


class ForeignConnector:
    """Another pack's outputs on wires that are called as ours are."""

    CATEGORY = "ELLA tests"
    FUNCTION = "make"
    RETURN_TYPES = ("ELLA", "LLM_MODEL")

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {}}

    def make(self):
        return ({}, {})


class ModelWithoutWeights:
    """A MODEL of ComfyUI's own class and real size, without memory for its weights."""

    CATEGORY = "ELLA tests"
    FUNCTION = "make"
    RETURN_TYPES = ("MODEL",)

    KINDS: ClassVar = {
        "SDXL": {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 320,
            "num_res_blocks": [2, 2, 2],
            "channel_mult": [1, 2, 4],
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10,
            "context_dim": 2048,
            "adm_in_channels": 2816,
            "num_classes": "sequential",
            "num_head_channels": 64,
            "use_linear_in_transformer": True,
            "use_spatial_transformer": True,
            "legacy": False,
        },
        "SDXLRefiner": {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 384,
            "num_res_blocks": [2, 2, 2, 2],
            "channel_mult": [1, 2, 4, 4],
            "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
            "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
            "transformer_depth_middle": 4,
            "context_dim": 1280,
            "adm_in_channels": 2560,
            "num_classes": "sequential",
            "num_head_channels": 64,
            "use_linear_in_transformer": True,
            "use_spatial_transformer": True,
            "legacy": False,
        },
        "Flux": {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "vec_in_dim": 768,
            "context_in_dim": 4096,
            "hidden_size": 3072,
            "mlp_ratio": 4.0,
            "num_heads": 24,
            "depth": 1,
            "depth_single_blocks": 1,
            "axes_dim": [16, 56, 56],
            "theta": 10000,
            "qkv_bias": True,
            "guidance_embed": True,
            # Newer ComfyUI alone has it.
            **{name: [] for name in ["txt_ids_dims"] if name in FluxParams.__annotations__},
        },
        "SD3": {
            "in_channels": 16,
            "pos_embed_scaling_factor": None,
            "depth": 2,
            "patch_size": 2,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 4096, "out_features": 128},
            },
            "adm_in_channels": 2048,
            "pos_embed_max_size": 192,
            "num_patches": 36864,
        },
    }

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"kind": (list(cls.KINDS),)}}

    def make(self, kind):
        config = getattr(comfy.supported_models, kind)(dict(self.KINDS[kind]))
        model = config.get_model({}, "", device="meta")
        meta = torch.device("meta")
        return (comfy.model_patcher.ModelPatcher(model, load_device=meta, offload_device=meta),)


NODE_CLASS_MAPPINGS = {
    "TestRecordUNet": RecordUNet,
    "TestRecordControl": RecordControl,
    "TestSigmaPerSample": SigmaPerSample,
    "TestCountPasses": CountPasses,
    "TestPlainConditioning": PlainConditioning,
    "TestDeepCopy": DeepCopy,
    "TestSlowConnector": SlowConnector,
    "TestForeignConnector": ForeignConnector,
    "TestModelWithoutWeights": ModelWithoutWeights,
    **PROMPTS,
    **EDITS,
    **SAMPLING,
    **STATE,
}
