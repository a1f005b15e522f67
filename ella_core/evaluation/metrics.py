"""Scores that need no questions: CLIP's similarity, and where a detector finds two objects.

T2I-CompBench has the first for its non-spatial category (CLIP ViT-B/32) and the second for its
spatial one, with the detector UniDet. Here a zero-shot detector of transformers takes UniDet's
place, so these scores are not comparable with published ones and are named after the detector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..vision import Loaded
from .pictures import Picture
from .questions import Item
from .scores import ItemScore, PictureScore, Score, Tally
from .spatial import Box, objects_of, relation_of, spatial_score

if TYPE_CHECKING:
    from PIL import Image

#: Return the score of each picture of a prompt.
Metric = Callable[[str, "Sequence[Image.Image]"], list[float]]

_CONFIDENCE = 0.1  # of a detector's box, at least


@dataclass(frozen=True)
class ClipScore:
    """The cosine between CLIP's embeddings of a picture and the prompt, cut at CLIP's length."""

    clip: Loaded

    def __call__(self, prompt: str, images: "Sequence[Image.Image]") -> list[float]:
        """Return it for each picture."""
        import torch

        model, processor = self.clip.model, self.clip.processor
        inputs = processor(
            text=[prompt], images=list(images), return_tensors="pt", truncation=True
        ).to(model.device, model.dtype)
        with torch.inference_mode():
            output = model(**inputs)
        cosines: list[float] = (output.image_embeds @ output.text_embeds.T).squeeze(1).tolist()
        return cosines


@dataclass(frozen=True)
class SpatialScore:
    """T2I-CompBench's spatial score by a zero-shot detector.

    Attributes:
        detector: looks for the two objects by their names.
        parse: spaCy's pipeline, or what else makes a `Doc` of a text.
    """

    detector: Loaded
    parse: Any

    def __call__(self, prompt: str, images: "Sequence[Image.Image]") -> list[float]:
        """Return it for each picture."""
        first, second = objects_of(self.parse(prompt))
        found = [self._detect(image, sorted({first, second})) for image in images]
        return [spatial_score(relation_of(prompt), first, second, boxes) for boxes in found]

    def _detect(self, image: "Image.Image", labels: list[str]) -> list[Box]:
        """Return the boxes of the objects, the most confident first."""
        import torch

        model, processor = self.detector.model, self.detector.processor
        inputs = processor(text=[labels], images=image, return_tensors="pt").to(
            model.device, model.dtype
        )
        with torch.inference_mode():
            outputs = model(**inputs)
        (found,) = processor.post_process_grounded_object_detection(
            outputs, threshold=_CONFIDENCE, target_sizes=[(image.height, image.width)]
        )
        boxes = [
            Box(labels[label], score, *corners)
            for label, score, corners in zip(
                found["labels"].tolist(),
                found["scores"].tolist(),
                found["boxes"].tolist(),
                strict=True,
            )
        ]
        return sorted(boxes, key=lambda box: -box.confidence)


def measure(
    name: str,
    metric: Metric,
    items: Sequence[Item],
    pictures: Sequence[Picture],
    on_prompt: Callable[[], object],
) -> Score:
    """Score pictures with a metric. `l1` has the categories.

    Args:
        name: of the metric.
        metric: computes the scores.
        items: the prompts.
        pictures: those of all prompts.
        on_prompt: called after each prompt.
    """
    by_item: dict[str, list[Picture]] = {item.item_id: [] for item in items}
    for picture in pictures:
        by_item[picture.item_id].append(picture)
    result = Score("T2I-CompBench", name, "mean over prompts", 1, {})
    for item in items:
        values = metric(item.prompt, [picture.open() for picture in by_item[item.item_id]])
        scores = tuple(PictureScore(value, ()) for value in values)
        result.items[item.item_id] = ItemScore(item, scores)
        tally = result.l1.setdefault(item.questions[0].category, Tally())
        tally.add(item.item_id, result.items[item.item_id].mean)
        on_prompt()
    return result
