"""Text encoders with fewer layers, because ComfyUI knows each in its one size.

SDXL's CLIP-G has 3 of its 32 layers (1.4 GB); Qwen 3 of 0.6B, in versions that know it, 2 of 28.
"""

import comfy.sdxl_clip
from comfy.text_encoders import llama

_init = comfy.sdxl_clip.SDXLClipG.__init__


def _with_few_layers(self, *args, model_options=None, **kwargs):
    options = {**(model_options or {}), "clip_g_model_config": {"num_hidden_layers": 3}}
    _init(self, *args, model_options=options, **kwargs)


comfy.sdxl_clip.SDXLClipG.__init__ = _with_few_layers

if hasattr(llama, "Qwen3_06B"):
    _init_qwen = llama.Qwen3_06B.__init__

    def _qwen_with_few_layers(self, config, *args, **kwargs):
        _init_qwen(self, {**config, "num_hidden_layers": 2}, *args, **kwargs)

    llama.Qwen3_06B.__init__ = _qwen_with_few_layers
