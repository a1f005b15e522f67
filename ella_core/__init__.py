"""ELLA in plain torch: connectors, their checkpoints and the LLM text encoders.

Nothing in this package imports ComfyUI except `ella_core.comfy`.
"""
