"""SDXL's CLIP-G with 3 of its 32 layers: ComfyUI knows it in its one size, 1.4 GB."""

import comfy.sdxl_clip

_init = comfy.sdxl_clip.SDXLClipG.__init__


def _with_few_layers(self, *args, model_options=None, **kwargs):
    options = {**(model_options or {}), "clip_g_model_config": {"num_hidden_layers": 3}}
    _init(self, *args, model_options=options, **kwargs)


comfy.sdxl_clip.SDXLClipG.__init__ = _with_few_layers
