"""LLMs as text encoders: a prompt in, the last hidden state out."""

from .encoder import EncodedPrompt, TextEncoder
from .loading import check_text_encoder, load_text_encoder
from .quantize import weight_bytes

__all__ = [
    "EncodedPrompt",
    "TextEncoder",
    "check_text_encoder",
    "load_text_encoder",
    "weight_bytes",
]
