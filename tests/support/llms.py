"""Small random LLMs of the kinds that LLM adapters read with, and their tokenizers."""

from pathlib import Path

import torch
import transformers

# Chat templates of Gemma 3 and of Qwen 3, as far as they concern a system and a user's turn.
GEMMA_TEMPLATE = """{{ bos_token }}
{%- set first = '' -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
    {{ '<start_of_turn>' + message['role'] + '\n' + (first if loop.first else '') }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""
QWEN_TEMPLATE = """{%- for message in messages -%}
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""

GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

SIZES = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "vocab_size": 300,
    "max_position_embeddings": 1024,
}


def tokenizer_of(special: list[str], bos: str | None, template: str | None, side: str):
    """Bytes, a few pairs of them, and an optional <bos> in front of every text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("Ċ", "Ċ"), ("Ġ", "a"), ("e", "r"), ("t", "h"), ("th", "e")]
    pieces = [*special, *letters, *(a + b for a, b in pairs)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, pieces.index(bos))]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=special[1],
        pad_token=special[0],
        chat_template=template,
        padding_side=side,
    )


def write_gemma(folder: Path, template: str | None = GEMMA_TEMPLATE, width: int = 48) -> None:
    """A Gemma 3 with its language head, as the stock ones have it."""
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(
        **{**SIZES, "hidden_size": width}, sliding_window=64, sliding_window_pattern=2
    )
    transformers.Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer_of(GEMMA_TOKENS, "<bos>", template, "left").save_pretrained(folder)


def write_qwen(folder: Path) -> None:
    """A Qwen 3."""
    torch.manual_seed(0)
    transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES)).save_pretrained(folder)
    tokenizer_of(QWEN_TOKENS, None, QWEN_TEMPLATE, "left").save_pretrained(folder)


def write_t5gemma(folder: Path, side: str = "right", width: int = 48) -> None:
    """A T5Gemma, decoder and all."""
    torch.manual_seed(0)
    sizes = {**SIZES, "hidden_size": width}
    config = transformers.T5GemmaConfig(encoder=sizes, decoder=sizes, vocab_size=300)
    transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    tokenizer_of(GEMMA_TOKENS, "<bos>", None, side).save_pretrained(folder)
