"""Nodes that edit a CONDITIONING's tensor or a MODEL as other packs do."""

import comfy.model_management
import comfy.model_patcher
import torch
import torch.nn.functional as F


def in_a_buffer(tensors):
    buffer = torch.zeros(len(tensors), 77, tensors[0].shape[2])
    for i, tensor in enumerate(tensors):
        buffer[i, : tensor.shape[1]] = tensor[0]
    return buffer


EDITS = {
    "batch": torch.cat,
    "permuted": lambda tensors: torch.cat(tensors[::-1])[list(range(len(tensors)))[::-1]],
    "sliced": lambda tensors: torch.cat([*tensors, tensors[0]])[:-1],
    "fp16": lambda tensors: torch.cat(tensors).half().float(),
    "fp16 in numpy": lambda tensors: torch.from_numpy(tensors[0].half().numpy()).float(),
    "padded": lambda tensors: F.pad(torch.cat(tensors), (0, 0, 0, 77 - tensors[0].shape[1])),
    "in a buffer": in_a_buffer,
    "numpy": lambda tensors: torch.from_numpy(torch.cat(tensors).numpy() * 2),
}


class EditConditioning:
    """Makes one CONDITIONING of two; how often the two take turns in it is up to `repeat`."""

    CATEGORY = "ELLA tests"
    FUNCTION = "edit"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        conditionings = {f"conditioning_{i}": ("CONDITIONING",) for i in (1, 2)}
        options = {"repeat": ("INT", {"default": 1}), "keep_options": ("BOOLEAN", {})}
        return {"required": {**conditionings, "how": (list(EDITS),), **options}}

    def edit(self, conditioning_1, conditioning_2, how, repeat, keep_options):
        ((first, options),) = conditioning_1
        ((second, _),) = conditioning_2
        edited = EDITS[how]([first, second] * repeat)
        return ([[edited, options if keep_options else {}]],)


class OwnCrossAttention:
    """Brings a CONDITIONING's tensor into cross-attention by itself, as Attention Couple does."""

    CATEGORY = "ELLA tests"
    FUNCTION = "patch"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",), "conditioning": ("CONDITIONING",)}}

    def patch(self, model, conditioning):
        ((tensor, _),) = conditioning

        def replace(q, k, v, options):
            own = tensor.repeat(len(q) // len(tensor), 1, 1).to(k)
            return q, own, own

        model = model.clone()
        model.set_model_attn2_patch(replace)
        return (model,)


class RebuildModel:
    """Makes a new MODEL of the same weights, as tiled samplers of some packs do."""

    CATEGORY = "ELLA tests"
    FUNCTION = "rebuild"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    def rebuild(self, model):
        devices = {
            "load_device": comfy.model_management.get_torch_device(),
            "offload_device": comfy.model_management.unet_offload_device(),
        }
        return (comfy.model_patcher.ModelPatcher(model.model, **devices),)


class PooledOutput:
    """Asks a CONDITIONING for what every one of CLIP's has."""

    CATEGORY = "ELLA tests"
    FUNCTION = "scale"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"conditioning": ("CONDITIONING",)}}

    def scale(self, conditioning):
        return (
            [
                [tensor, {**options, "pooled_output": options["pooled_output"] * 2}]
                for tensor, options in conditioning
            ],
        )


NODE_CLASS_MAPPINGS = {
    "TestEditConditioning": EditConditioning,
    "TestOwnCrossAttention": OwnCrossAttention,
    "TestRebuildModel": RebuildModel,
    "TestPooledOutput": PooledOutput,
}
