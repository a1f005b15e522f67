"""LLMs as text encoders: a prompt in, the last hidden state out."""

from .encoder import EncodedPrompt, TextEncoder
from .loading import TokenizerPlaces, check_text_encoder, load_text_encoder, load_tokenizer
from .prompts import encode_prompt
from .quantize import weight_bytes
from .tokenizer import PromptCounts, PromptTokenizer

__all__ = [
    "EncodedPrompt",
    "PromptCounts",
    "PromptTokenizer",
    "TextEncoder",
    "TokenizerPlaces",
    "check_text_encoder",
    "encode_prompt",
    "load_text_encoder",
    "load_tokenizer",
    "weight_bytes",
]
