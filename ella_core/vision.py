"""Models of transformers that see pictures: opening one, and asking it through its chat template.

Shapes: B pictures, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import EllaError

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True)
class Loaded:
    """A model that is ready.

    Attributes:
        model: on its device, in the dtype of its file on a GPU, else in float32.
        processor: what prepares its inputs.
        revision: the commit on the hub; empty for a folder.
    """

    model: Any
    processor: Any
    revision: str


def load(
    kind: str, name: str, revision: str, device: str, processor_kind: str = "AutoProcessor"
) -> Loaded:
    """Open a model.

    Args:
        kind: class of transformers.
        name: folder, or repository on the Hugging Face hub.
        revision: branch or commit there; empty for the newest.
        device: where it runs; empty for a GPU if there is one.
        processor_kind: class of transformers of what prepares its inputs.

    Raises:
        EllaError: It isn't found, or transformers can't open it as that kind.
    """
    import torch
    import transformers

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if device == "cpu" else "auto"
    dtype_argument = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    where = {"revision": revision} if revision else {}
    try:
        processor = getattr(transformers, processor_kind).from_pretrained(name, **where)
        model, report = getattr(transformers, kind).from_pretrained(
            name, **where, **{dtype_argument: dtype}, output_loading_info=True
        )
    except (ImportError, OSError, ValueError) as error:  # a processor may need another package
        raise EllaError(
            f"{name} can't be opened as {kind}: {error}\nExpected a folder with a model "
            "and its processor, or the name of such a repository on the Hugging Face hub."
        ) from error
    if report["missing_keys"]:
        raise EllaError(
            f"{name} lacks {len(report['missing_keys'])} weights of {type(model).__name__}, the "
            f"first of them {min(report['missing_keys'])}. They would be random: choose a complete "
            "model."
        )
    commit = getattr(model.config, "_commit_hash", None) or revision
    return Loaded(model.to(device).eval(), processor, commit)


class ChatModel:
    """An image-text-to-text model that is asked through its chat template."""

    def __init__(self, loaded: Loaded) -> None:
        """Take a model that was loaded as `AutoModelForImageTextToText`.

        Raises:
            EllaError: it has no chat template.
        """
        self._model, self.processor = loaded.model, loaded.processor
        if not getattr(self.processor, "chat_template", None):
            raise EllaError(
                f"{type(self._model).__name__} has no chat template, through which it would be "
                "asked. Choose a model that was trained on instructions."
            )
        self.processor.tokenizer.padding_side = "left"  # so that all answers begin at the end

    def write(
        self, images: "Sequence[Image.Image]", texts: Sequence[str], new_tokens: int
    ) -> list[str]:
        """Answer a text about each picture, with the likeliest token each time.

        Args:
            images: in RGB.
            texts: as many.
            new_tokens: length of an answer, at most.
        """
        return self._generate(images, texts, new_tokens)[0]

    def write_with_logits(
        self, images: "Sequence[Image.Image]", texts: Sequence[str], new_tokens: int
    ) -> "tuple[list[str], torch.Tensor]":
        """Answer as `write` does, and return the (B, V) logits of the first tokens beside it."""
        answers, output = self._generate(images, texts, new_tokens, output_logits=True)
        return answers, output.logits[0]

    def _generate(
        self,
        images: "Sequence[Image.Image]",
        texts: Sequence[str],
        new_tokens: int,
        **options: bool,
    ) -> tuple[list[str], Any]:
        import torch

        processor = self.processor
        turns = [[{"type": "image"}, {"type": "text", "text": text}] for text in texts]
        chats = [[{"role": "user", "content": content}] for content in turns]
        prompts = processor.apply_chat_template(chats, add_generation_prompt=True)
        # Where the template begins a text as the tokenizer would, this would be done twice.
        bos = processor.tokenizer.bos_token
        inputs = processor(
            text=prompts,
            images=[[image] for image in images],
            padding=True,
            return_tensors="pt",
            add_special_tokens=not (bos and prompts[0].startswith(bos)),
        ).to(self._model.device, self._model.dtype)
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                max_new_tokens=new_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                **options,
            )
        new = output.sequences[:, inputs["input_ids"].shape[1] :]
        return processor.batch_decode(new, skip_special_tokens=True), output
