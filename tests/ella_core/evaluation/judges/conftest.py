import numpy as np
import pytest
from PIL import Image

from ella_core.evaluation.pictures import find_pictures, picture_path
from ella_core.evaluation.questions import Item, Question

TEXTS = ("is there a cup ?", "is there a red cup on the table and a cup ?", "table ?")


@pytest.fixture(scope="session")
def items():
    """Three prompts with questions of different lengths."""
    questions = tuple(Question(number, text) for number, text in enumerate(TEXTS, 1))
    return [Item(f"item-{i}", f"prompt {i}", questions) for i in range(3)]


@pytest.fixture(scope="session")
def folder(items, tmp_path_factory):
    """A folder with two pictures per prompt."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for item in items:
        for crop in range(2):
            pixels = generator.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((64, 64))
            image.save(picture_path(folder, item.item_id, crop))
    return folder


@pytest.fixture(scope="session")
def pictures(items, folder):
    return find_pictures(folder, [item.item_id for item in items], 2)
