"""CLIP score and spatial score with small random models of transformers' own classes."""

import json

import pytest
import torch
import transformers
from PIL import Image

from bootstrap import host_dir
from ella_core.evaluation.cli import main
from ella_core.evaluation.metrics import ClipScore, SpatialScore
from ella_core.evaluation.pictures import picture_path
from ella_core.evaluation.questions import Item, Question, write_csv
from ella_core.vision import load

PROMPTS = ["a dog next to a cat", "a red box"]
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 2, "projection_dim": 8}


def tokenizer(limit):
    folder = host_dir() / "comfy/sd1_tokenizer"
    return transformers.CLIPTokenizer.from_pretrained(str(folder), model_max_length=limit)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=SMALL,
        vision_config=SMALL | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    folder = tmp_path_factory.mktemp("clip")
    transformers.CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    transformers.CLIPProcessor(images, tokenizer(77)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(2):
        for crop in range(3):
            image = Image.effect_noise((48, 40), 40 + 40 * crop).convert("RGB")
            image.save(picture_path(folder, f"p-{index}", crop))
    return folder


def test_clip_score_is_the_cosine_of_the_embeddings(clip, pictures):
    loaded = load("CLIPModel", str(clip), "", "cpu")
    images = [Image.open(picture_path(pictures, "p-0", crop)) for crop in range(3)]
    found = ClipScore(loaded)(PROMPTS[0], images)
    expected = []
    for image in images:
        inputs = loaded.processor(text=[PROMPTS[0]], images=image, return_tensors="pt")
        with torch.inference_mode():
            vision = loaded.model.vision_model(pixel_values=inputs["pixel_values"]).pooler_output
            text = loaded.model.text_model(input_ids=inputs["input_ids"]).pooler_output
            a, b = loaded.model.visual_projection(vision), loaded.model.text_projection(text)
        expected.append(torch.nn.functional.cosine_similarity(a, b).item())
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(found)) == 3


def test_clip_score_as_a_command(clip, pictures, tmp_path, capsys):
    items = [
        Item(f"p-{index}", prompt, (Question(1, "?", category="non-spatial"),))
        for index, prompt in enumerate([PROMPTS[0], "dog " * 200])
    ]
    write_csv(tmp_path / "q.csv", items)
    files = ["--questions", tmp_path / "q.csv", "--folder", pictures, "--json", tmp_path / "s.json"]
    command = ["measure", "clip-score", "--model", str(clip), "--pictures", "3", "--device", "cpu"]
    assert main([*command, *map(str, files)]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    loaded = load("CLIPModel", str(clip), "", "cpu")
    images = [Image.open(picture_path(pictures, "p-1", crop)) for crop in range(3)]
    found = scores["per_prompt"]["p-1"]
    assert found["pictures"] == pytest.approx(ClipScore(loaded)("dog " * 200, images), abs=1e-6)
    means = [entry["mean"] for entry in scores["per_prompt"].values()]
    assert scores["score"] == pytest.approx(sum(means) / 2)
    assert scores["l1"] == pytest.approx({"non-spatial": sum(means) / 2})
    assert "protocol clip-score" in capsys.readouterr().out


class Token:
    def __init__(self, text):
        self.text, self.pos_ = text, "NOUN" if text in ("dog", "cat") else "X"


def test_a_detector_of_transformers_gives_boxes_in_pixels():
    torch.manual_seed(0)
    small = SMALL | {"projection_dim": 16}  # OWL-ViT adds both widths up
    config = transformers.OwlViTConfig(
        text_config=small | {"max_position_embeddings": 16},
        vision_config=small | {"image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    model = transformers.OwlViTForObjectDetection(config).eval()
    images = transformers.OwlViTImageProcessor(size={"height": 32, "width": 32})
    processor = transformers.OwlViTProcessor(images, tokenizer(16))

    class Loaded:
        pass

    loaded = Loaded()
    loaded.model, loaded.processor = model, processor
    metric = SpatialScore(loaded, lambda text: [Token(word) for word in text.split()])
    image = Image.effect_noise((64, 48), 90).convert("RGB")
    boxes = metric._detect(image, ["cat", "dog"])
    inputs = processor(text=[["cat", "dog"]], images=image, return_tensors="pt")
    with torch.inference_mode():
        raw = model(**inputs)
    chances = raw.logits[0].sigmoid().max(-1)
    kept = chances.values > 0.1
    assert len(boxes) == kept.sum() > 0
    assert [box.confidence for box in boxes] == pytest.approx(
        sorted(chances.values[kept].tolist(), reverse=True)
    )
    best = int(chances.values.argmax())
    x, y, width, _ = raw.pred_boxes[0, best].tolist()
    assert boxes[0].label == ["cat", "dog"][int(chances.indices[best])]
    assert boxes[0].right - boxes[0].left == pytest.approx(64 * width, abs=1e-3)
    assert boxes[0].center == pytest.approx((64 * x, 48 * y), abs=1e-3)
    (score,) = metric(PROMPTS[0], [image])
    assert 0 <= score <= 1
