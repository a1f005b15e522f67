"""Score pictures without a judge.

clip-score   cosine of CLIP's embeddings of picture and prompt: T2I-CompBench's non-spatial
spatial      T2I-CompBench's spatial with a zero-shot detector in place of UniDet: not comparable
             with published scores; needs spaCy and its English model
"""

import argparse
from pathlib import Path

from ..metrics import ClipScore, Metric, SpatialScore, measure
from ..pictures import find_pictures
from ..questions import load_items
from .options import count
from .output import show

_MODELS = {
    "clip-score": "openai/clip-vit-base-patch32",
    "spatial": "google/owlv2-base-patch16-ensemble",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("metric", choices=_MODELS)
    add("--questions", type=Path, required=True, help="the question file that has the prompts")
    add("--folder", type=Path, required=True, help="where the pictures are")
    add("--pictures", type=count, default=4, help="of each prompt (default: 4)")
    add("--resolution", type=count, help="side of one picture, if they are in grids of 2 x 2")
    add("--model", help=f"folder, or repository on the hub (default: {_MODELS})")
    add("--revision", default="", help="of the model: branch or commit")
    add("--device", default="", help="where it runs (a GPU if there is one)")
    add("--json", type=Path, help="write the scores to this file too")


def run(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    from tqdm import tqdm

    items = load_items(arguments.questions)
    ids = [item.item_id for item in items]
    pictures = find_pictures(arguments.folder, ids, arguments.pictures, arguments.resolution)
    model = arguments.model or _MODELS[arguments.metric]
    metric, revision = _open(arguments, model)
    with tqdm(total=len(items), unit="prompt") as bar:
        result = measure(arguments.metric, metric, items, pictures, bar.update)
    show(result, f"{model} {revision}".strip(), arguments.pictures, arguments.json)


def _open(arguments: argparse.Namespace, model: str) -> tuple[Metric, str]:
    from ...vision import load
    from ..compbench import load_parser

    if arguments.metric == "clip-score":
        loaded = load("CLIPModel", model, arguments.revision, arguments.device)
        return ClipScore(loaded), loaded.revision
    parser = load_parser()
    kind = "AutoModelForZeroShotObjectDetection"
    loaded = load(kind, model, arguments.revision, arguments.device)
    return SpatialScore(loaded, parser), loaded.revision
