"""Makes a picture with ELLA in a real ComfyUI, from nothing but Python 3.11.

python scripts/demo.py                     a first picture, by the miniature: a toy model
python scripts/demo.py --prompt TEXT       of other words that the miniature knows
python scripts/demo.py --models DIR        with the real weights of a ComfyUI `models` folder
python scripts/demo.py --serve             and leaves ComfyUI up, to go on in the browser
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, host_dir, reexec_in_environment

sys.path.insert(0, str(ROOT))  # ahead of this folder, whose miniature.py is a command

if TYPE_CHECKING:
    from comfyui import Server

BASE = ROOT / ".demo"
WORKFLOW = ROOT / "workflows/ella-text-to-image.json"
TITLE = "ELLA demo"  # begins the names of what --serve leaves in the editor's list
PROMPT = (
    "a red circle in the top left corner, a small blue star in the centre and a yellow triangle "
    "at the bottom right on a black background"
)
ABOUT = (
    "This is the miniature: a toy world of coloured shapes, trained in about three hours of one "
    "CPU core. For real pictures run: python scripts/demo.py --models DIR (SD1.5, the ELLA "
    "connector and FLAN-T5-XL, see README.md)"
)


@dataclass
class Choice:
    """The models that the workflow's dropdowns are set to."""

    ckpt_name: str
    ella_name: str
    llm_name: str


def main() -> int:
    """Set up, make the picture, say where it is."""
    arguments = _parse()
    reexec_in_environment()
    from comfyui import Server

    choice = _find_real(arguments.models) if arguments.models else None
    if not choice:
        unknown = _unknown_words(arguments.prompt or PROMPT)
        if unknown:
            print(f"[demo] {unknown}", file=sys.stderr)
            return 1
        choice = _install_miniature()
    workflow = _prepare_workflow(choice, arguments.prompt)
    print(f"[demo] starting ComfyUI from {host_dir()}", flush=True)
    with Server(BASE, _server_arguments(arguments.models)) as server:
        path = _make_picture(server, workflow)
        if path and arguments.serve:
            _serve(server, {TITLE: workflow, **_further_workflows(choice)})
    return 0 if path else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Makes a picture with ELLA in a real ComfyUI.")
    parser.add_argument("--prompt", help="what to paint, instead of the workflow's own text")
    parser.add_argument("--models", type=Path, help="a ComfyUI models folder with real weights")
    parser.add_argument("--serve", action="store_true", help="leave ComfyUI up afterwards")
    arguments = parser.parse_args()
    if arguments.models and not arguments.models.is_dir():
        parser.error(f"--models {arguments.models} is not a folder")
    return arguments


def _find_real(models: Path) -> Choice | None:
    """Return the real weights in a folder, or None if they are not all there."""
    import real_models

    found = real_models.find(models)
    for part, name in asdict(found).items():
        print(f"[demo] {part} in {models}: {name or 'not found'}")
    if found.checkpoint and found.connector and found.llm:
        return Choice(found.checkpoint, found.connector, found.llm)
    return None


def _unknown_words(text: str) -> str | None:
    """Say which words of a prompt mean nothing to the miniature, if any do."""
    from miniature.captions import unknown_words
    from miniature.world import BACKGROUNDS, COLOURS, SHAPES, SIZES

    words = unknown_words(text)
    if not words:
        return None
    known = ", ".join((*SIZES, *COLOURS, *SHAPES))
    return (
        f"The miniature does not know: {', '.join(words)}. It knows {known}; top, middle, bottom, "
        f"left, centre and right; left of, right of, above, below and between; on a "
        f"{', '.join(BACKGROUNDS)} background. Use these words, or real weights with --models DIR."
    )


def _install_miniature() -> Choice:
    import smollm2
    from miniature import shipping

    shipping.install(BASE / "models")
    smollm2.unpack_smollm2(BASE / "models/text_encoders" / smollm2.NAME)
    print(f"[demo] {ABOUT}")
    return Choice(shipping.CHECKPOINT, shipping.CONNECTOR, smollm2.NAME)


def _prepare_workflow(choice: Choice, text: str | None) -> dict[str, Any]:
    from miniature.evaluation import SAMPLING
    from miniature.shipping import CHECKPOINT
    from workflow import set_widgets

    workflow: dict[str, Any] = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    set_widgets(workflow, **asdict(choice))
    if choice.ckpt_name == CHECKPOINT:
        set_widgets(workflow, **SAMPLING)
        text = text or PROMPT
    if text is not None:
        prompt_node = next(n for n in workflow["nodes"] if n.get("title", "").startswith("Prompt"))
        set_widgets({"nodes": [prompt_node]}, text=text)
    return workflow


def _server_arguments(models: Path | None) -> list[str]:
    arguments = [] if _has_gpu() else ["--cpu"]
    if models:
        config = BASE / "extra_model_paths.yaml"
        folders = sorted(p.name for p in models.iterdir() if p.is_dir())
        # JSON is YAML, and quotes every path right.
        config.parent.mkdir(parents=True, exist_ok=True)
        paths = {"base_path": str(models.resolve()), **{name: name for name in folders}}
        config.write_text(json.dumps({"models": paths}), encoding="utf-8")
        arguments += ["--extra-model-paths-config", str(config)]
    return arguments


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _make_picture(server: "Server", workflow: dict[str, Any]) -> Path | None:
    from tqdm import tqdm

    from workflow import to_api

    print("[demo] queueing", WORKFLOW.relative_to(ROOT), flush=True)
    started = time.monotonic()
    prompt = to_api(workflow, server.get("/object_info"))
    with tqdm() as bar:

        def show(node: str, done: int, of: int) -> None:
            bar.total, bar.n = of, done
            bar.set_description(f"[demo] {prompt[node]['class_type']}")

        result = server.run(prompt, show)
    if result.error:
        print(
            f"[demo] ComfyUI reports: {result.error.get('exception_message', 'interrupted')}",
            file=sys.stderr,
        )
        print(f"[demo] its log is {server.log}", file=sys.stderr)
        return None
    (images,) = (output["images"] for output in result.outputs.values())
    path = server.base / "output" / images[0]["subfolder"] / images[0]["filename"]
    print(f"[demo] done in {time.monotonic() - started:.0f} s: {path}")
    return path


def _further_workflows(choice: Choice) -> dict[str, dict[str, Any]]:
    """Return the templates set to the miniature, and put their pictures and models in place."""
    from miniature import extras, shipping, templates
    from tiny_models import import_host

    if choice.ckpt_name != shipping.CHECKPOINT:
        return {}
    templates.write_inputs(BASE / "input")
    import_host()
    extras.install(BASE / "models")
    adapted = templates.adapt_all(choice.llm_name)
    return {f"{TITLE}, {name}": workflow for name, workflow in adapted.items()}


def _serve(server: "Server", workflows: dict[str, dict[str, Any]]) -> None:
    user = server.base / "user/default"
    (user / "workflows").mkdir(parents=True, exist_ok=True)
    for name, workflow in workflows.items():
        (user / "workflows" / f"{name}.json").write_text(json.dumps(workflow), encoding="utf-8")
    if not (user / "comfy.settings.json").is_file():  # no tour before the first graph
        (user / "comfy.settings.json").write_text('{"Comfy.TutorialCompleted": true}')
    print(f"[demo] ComfyUI is up; its Workflows panel has {len(workflows)}: {server.address}")
    print("[demo] press Ctrl+C to end it", flush=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
