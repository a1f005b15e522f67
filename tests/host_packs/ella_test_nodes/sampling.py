"""Nodes around sampling: sigmas by hand, options of conditionings, what was compiled."""

import json
from pathlib import Path

import folder_paths
import torch
from comfy.patcher_extension import WrappersMP
from safetensors.torch import save_file


class Sigmas:
    """SIGMAS from a list of numbers."""

    CATEGORY = "ELLA tests"
    FUNCTION = "make"
    RETURN_TYPES = ("SIGMAS",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"values": ("STRING", {})}}

    def make(self, values):
        return (torch.tensor(json.loads(values), dtype=torch.float32),)


class SetOptions:
    """Sets seeded tensors as options of a CONDITIONING, as unCLIP and inpainting nodes do."""

    CATEGORY = "ELLA tests"
    FUNCTION = "set"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"conditioning": ("CONDITIONING",), "seed": ("INT", {})}}

    def set(self, conditioning, seed):
        generator = torch.Generator().manual_seed(seed)
        embeds, latent = (
            torch.randn(shape, generator=generator) for shape in [(1, 1024), (1, 4, 8, 8)]
        )
        unclip = {"clip_vision_output": embeds, "strength": 0.7, "noise_augmentation": 0.1}
        options = {"unclip_conditioning": [unclip], "concat_latent_image": latent}
        return ([[tokens, {**old, **options}] for tokens, old in conditioning],)


class RecordOptions:
    """Writes the options of `SetOptions` that arrive at every call, under output/NAME."""

    CATEGORY = "ELLA tests"
    FUNCTION = "record"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",), "name": ("STRING", {})}}

    def record(self, model, name):
        folder = Path(folder_paths.get_output_directory()) / name
        folder.mkdir()

        def wrapper(executor, model, conds, *args):
            (cond,) = conds[0]
            (unclip,) = cond["unclip_conditioning"]
            record = {
                "clip_vision_output": unclip["clip_vision_output"],
                "numbers": torch.tensor([unclip["strength"], unclip["noise_augmentation"]]),
                "concat_latent_image": cond["concat_latent_image"],
            }
            save_file(record, folder / f"{len(list(folder.iterdir())):04}.safetensors")
            return executor(model, conds, *args)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "ella_test_options", wrapper)
        return (model,)


class CompiledGraphs:
    """Shows how many graphs torch.compile has made in this process, once `after` is there."""

    CATEGORY = "ELLA tests"
    FUNCTION = "count"
    RETURN_TYPES = ("LATENT",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"after": ("LATENT",)}}

    def count(self, after):
        from torch._dynamo.utils import counters

        return {"ui": {"graphs": [counters["stats"]["unique_graphs"]]}, "result": (after,)}


NODE_CLASS_MAPPINGS = {
    "TestSigmas": Sigmas,
    "TestSetOptions": SetOptions,
    "TestRecordOptions": RecordOptions,
    "TestCompiledGraphs": CompiledGraphs,
}
