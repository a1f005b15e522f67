"""BLIP-VQA, the judge of T2I-CompBench.

Shapes: N tokens of the picture, D dimensions of one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...vision import load
from ..pictures import Picture
from ..questions import Question
from .base import QUESTION, Reply
from .tokens import YesNo

if TYPE_CHECKING:
    import torch

_SIDE = 480  # pixels; BLIP's VQA models were trained at it, though their files on the hub say 384
_NEW_TOKENS = 10


class BlipJudge:
    """BLIP-VQA. Its answer is open: yes and no are two of many.

    Args:
        model: folder or repository on the Hugging Face hub.
        revision: branch or commit there.
        device: where it runs; empty for a GPU if there is one.
    """

    parallel = 1

    def __init__(self, model: str, revision: str, device: str) -> None:
        loaded = load("BlipForQuestionAnswering", model, revision, device)
        self.name = model
        self.revision = loaded.revision
        self.template = QUESTION
        self._model, self._processor = loaded.model, loaded.processor
        self._tokens = YesNo.of(self._processor.tokenizer)

    def ask(self, picture: Picture, questions: Sequence[Question]) -> list[Reply]:
        """Return a reply to each question. The picture is encoded once for all."""
        import torch

        size = {"height": _SIDE, "width": _SIDE}
        pixels = self._processor.image_processor(picture.open(), size=size, return_tensors="pt")
        pixels = pixels.to(self._model.device, self._model.dtype)
        with torch.inference_mode():
            encoded = self._model.vision_model(**pixels, interpolate_pos_encoding=True)
            return [self._ask(encoded.last_hidden_state, question.text) for question in questions]

    def _ask(self, picture_1ND: "torch.Tensor", question: str) -> Reply:
        """Return a reply to one question.

        Not to several at once: transformers 5.24 drops the mask of the decoder's cross-attention,
        so that the decoder would read the padding of the shorter ones.
        """
        model, tokenizer = self._model, self._processor.tokenizer
        text = tokenizer(question, return_tensors="pt").to(model.device)
        read = model.text_encoder(
            input_ids=text.input_ids,
            attention_mask=text.attention_mask,
            encoder_hidden_states=picture_1ND,
        )
        output = model.text_decoder.generate(
            input_ids=text.input_ids.new_full((1, 1), model.decoder_start_token_id),
            encoder_hidden_states=read.last_hidden_state,
            eos_token_id=model.config.text_config.sep_token_id,
            pad_token_id=model.config.text_config.pad_token_id,
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        ((p_yes, p_no),) = self._tokens.probabilities(output.logits[0])
        written = tokenizer.decode(output.sequences[0, 1:], skip_special_tokens=True)
        return Reply(written, p_yes, p_no, written)
