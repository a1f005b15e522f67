"""A vision-language model of transformers, asked through its chat template."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...vision import ChatModel, load
from ..pictures import Picture
from ..questions import Question
from .base import Reply, yes_or_no
from .tokens import YesNo

if TYPE_CHECKING:
    from PIL import Image

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
        self._model = ChatModel(loaded)
        self._tokens = YesNo.of(self._model.processor.tokenizer)
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

    def _ask(self, image: "Image.Image", texts: Sequence[str]) -> list[Reply]:
        answers, logits_BV = self._model.write_with_logits([image] * len(texts), texts, _NEW_TOKENS)
        pairs = self._tokens.probabilities(logits_BV)
        return [Reply(yes_or_no(text), *p, text) for text, p in zip(answers, pairs, strict=True)]
