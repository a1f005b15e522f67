"""A vision-language model of transformers, asked through its chat template."""

from collections.abc import Sequence
from typing import Any

from ..pictures import Picture
from ..questions import Question
from .base import Reply, yes_or_no
from .loading import load
from .tokens import YesNo

_NEW_TOKENS = 8  # enough for "Yes, it is."


class ChatJudge:
    """Any image-text-to-text model with a chat template.

    Args:
        model: folder, or repository on the Hugging Face hub, which is downloaded if it isn't there.
        revision: branch or commit there.
        template: the words around a question.
        device: where it runs; empty for a GPU if there is one.
        batch: questions at a time.
    """

    parallel = 1

    def __init__(self, model: str, revision: str, template: str, device: str, batch: int) -> None:
        loaded = load("AutoModelForImageTextToText", model, revision, device)
        self.name = model
        self.revision = loaded.revision
        self.template = template
        self._model, self._processor = loaded.model, loaded.processor
        self._processor.tokenizer.padding_side = "left"  # so that all answers begin at the end
        self._tokens = YesNo.of(self._processor.tokenizer)
        self._batch = batch

    def ask(self, picture: Picture, questions: Sequence[Question]) -> list[Reply]:
        """Return a reply to each question."""
        image = picture.open()
        texts = [self.template.replace("{question}", question.text) for question in questions]
        starts = range(0, len(texts), self._batch)
        return [
            reply
            for start in starts
            for reply in self._ask(image, texts[start : start + self._batch])
        ]

    def _ask(self, image: Any, texts: Sequence[str]) -> list[Reply]:
        import torch

        processor = self._processor
        turns = [[{"type": "image"}, {"type": "text", "text": text}] for text in texts]
        chats = [[{"role": "user", "content": content}] for content in turns]
        prompts = processor.apply_chat_template(chats, add_generation_prompt=True)
        # Where the template begins a text as the tokenizer would, this would be done twice.
        bos = processor.tokenizer.bos_token
        inputs = processor(
            text=prompts,
            images=[[image] for _ in texts],
            padding=True,
            return_tensors="pt",
            add_special_tokens=not (bos and prompts[0].startswith(bos)),
        ).to(self._model.device, self._model.dtype)
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                max_new_tokens=_NEW_TOKENS,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        new = output.sequences[:, inputs["input_ids"].shape[1] :]
        written = processor.batch_decode(new, skip_special_tokens=True)
        pairs = self._tokens.probabilities(output.logits[0])
        return [Reply(yes_or_no(text), *p, text) for text, p in zip(written, pairs, strict=True)]
