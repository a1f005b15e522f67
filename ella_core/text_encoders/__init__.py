"""LLMs as text encoders: a prompt in, the last hidden state out."""

from .encoder import EncodedPrompt, TextEncoder
from .loading import load_text_encoder

__all__ = ["EncodedPrompt", "TextEncoder", "load_text_encoder"]
