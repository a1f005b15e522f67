"""Routes that tell tests what the server holds in memory; less memory for models, on request."""

import ctypes
import gc
import os
from collections import Counter
from contextlib import suppress
from typing import ClassVar

import psutil
import torch
from aiohttp import web
from comfy import model_management
from server import PromptServer

PACK = "ELLA-Nodes"


def leaves(value):
    """Number of values in nested dicts and lists."""
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(leaves, value))
    return 1


@PromptServer.instance.routes.get("/ella_test/state")
async def state(_request):
    if not model_management.current_loaded_models:
        gc.collect()  # not earlier: ComfyUI can't bear that a model dies while it unloads others
    objects = gc.get_objects()
    ours = Counter(type(o).__name__ for o in objects if PACK in str(type(o).__module__))
    models = [type(m.model.model).__name__ for m in model_management.current_loaded_models]
    patchers = [o for o in objects if hasattr(type(o), "model_patches_to")]
    largest = max((leaves(p.model_options) for p in patchers), default=0)
    return web.json_response({"ours": ours, "loaded": models, "largest_options": largest})


@PromptServer.instance.routes.get("/ella_test/memory")
async def memory(_request):
    """Bytes that are in use; those that were freed are given back to the system first."""
    with suppress(AttributeError, TypeError):  # another allocator than glibc's
        ctypes.CDLL(None).malloc_trim(0)
    found = psutil.Process().memory_info()
    # The system drops pages of files as it likes; Linux alone counts them apart.
    return web.json_response(found.rss - getattr(found, "shared", 0))


class Leak:
    """Keeps memory for ever."""

    CATEGORY = "ELLA tests"
    FUNCTION = "leak"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    kept: ClassVar = []

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"megabytes": ("INT", {}), "number": ("INT", {})}}

    def leak(self, megabytes, number):
        self.kept.append(torch.ones(megabytes * 1_000_000, dtype=torch.uint8))
        return ()


NODE_CLASS_MAPPINGS = {"TestLeak": Leak}

budget = os.environ.get("ELLA_TEST_BUDGET")  # in bytes, for the weights of each model
if budget:
    more_vram = model_management.LoadedModel.model_use_more_vram

    def model_use_more_vram(self, extra_memory, **kwargs):
        return more_vram(self, min(extra_memory, float(budget)), **kwargs)

    model_management.LoadedModel.model_use_more_vram = model_use_more_vram
