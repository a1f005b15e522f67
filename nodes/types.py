"""The pack's own wires."""

from comfy_api.latest import io

CATEGORY = "ELLA"

EllaType = io.Custom("ELLA")
LLMType = io.Custom("ELLA_LLM")
EmbedsType = io.Custom("ELLA_LLM_EMBEDS")
