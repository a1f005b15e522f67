"""Small judges with random weights, made on the spot."""

from pathlib import Path

import torch

WORDS = [
    *("is", "there", "a", "cup", "on", "the", "table", "?", "red", "and", "answer", "with"),
    *("yes", "Yes", "no", "No", "or", "maybe"),
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<s> {% for part in message.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}: {% endif %}"
)


def _tokenizer(special: list[str], **named: str):
    """A tokenizer that knows `WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: id_ for id_, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=named["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def write_chat(folder: Path) -> None:
    """A LLaVA with a chat template."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    special = ["<pad>", "<unk>", "<s>", "</s>", "<image>", ":"]
    tokenizer = _tokenizer(
        special, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    torch.manual_seed(0)
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image)
    _save(LlavaForConditionalGeneration(config), processor, folder)


def write_blip(folder: Path) -> None:
    """A BLIP-VQA."""
    from transformers import (
        BlipConfig,
        BlipForQuestionAnswering,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]
    tokenizer = _tokenizer(
        special, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = BlipTextConfig(
        vocab_size=len(tokenizer),
        encoder_hidden_size=32,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=4,
        eos_token_id=3,
        sep_token_id=3,
        **shape,
    )
    vision = BlipVisionConfig(image_size=96, patch_size=48, num_attention_heads=2, **shape)
    torch.manual_seed(0)
    config = BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    processor = BlipProcessor(BlipImageProcessor(), tokenizer)
    _save(BlipForQuestionAnswering(config), processor, folder)


def _save(model, processor, folder: Path) -> None:
    """Save both, with larger weights: as drawn, all answers would be about as likely."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=3 * parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
