"""Makes a picture with ELLA in a real ComfyUI, from nothing but Python 3.11.

python scripts/demo.py                     a first picture, from small random image models
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

from bootstrap import ROOT, host_dir, reexec_in_environment

if TYPE_CHECKING:
    from comfyui import Server

BASE = ROOT / ".demo"
WORKFLOW = ROOT / "workflows/ella-text-to-image.json"
TITLE = "ELLA demo"  # of the workflow that --serve leaves in the editor's list


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

    choice = _assemble(arguments.models)
    workflow = _prepare_workflow(choice, arguments.prompt)
    print(f"[demo] starting ComfyUI from {host_dir()}", flush=True)
    with Server(BASE, _server_arguments(arguments.models)) as server:
        path = _make_picture(server, workflow)
        if path and arguments.serve:
            _serve(server, workflow)
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


def _assemble(models: Path | None) -> Choice:
    """Real models where they are there, small random ones and SmolLM2 elsewhere."""
    import torch

    import real_models
    import smollm2
    from tiny_models import ResamplerConfig, draw_checkpoint, draw_connector

    choice = Choice("ella-demo-sd15.safetensors", "ella-demo-tsc.safetensors", smollm2.NAME)
    found = real_models.find(models) if models else real_models.Found()
    random = []
    if found.checkpoint:
        choice.ckpt_name = found.checkpoint
    else:
        random.append("U-Net and VAE")
        path = BASE / "models/checkpoints" / choice.ckpt_name
        if not path.is_file():
            draw_checkpoint(
                path,
                dtype=torch.float16,
                transformer_depth_output=[0, 0],
                transformer_depth_middle=-2,
            )
    if found.connector and found.llm:
        choice.ella_name, choice.llm_name = found.connector, found.llm
    else:
        random.append("connector")
        path = BASE / "models/ella" / choice.ella_name
        if not path.is_file():
            draw_connector(path, ResamplerConfig(llm_dim=576, layers=2), dtype=torch.float16)
        smollm2.unpack_smollm2(BASE / "models/text_encoders" / choice.llm_name)
    if models:
        for part, name in asdict(found).items():
            print(f"[demo] {part} in {models}: {name or 'not found'}")
    for part, name in asdict(choice).items():
        print(f"[demo] {part}: {name}")
    if random:
        print(
            f"[demo] {' and '.join(random)}: random weights, so the picture is an abstract pattern"
        )
    return choice


def _prepare_workflow(choice: Choice, text: str | None) -> dict[str, Any]:
    from workflow import set_widgets

    workflow: dict[str, Any] = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    set_widgets(workflow, **asdict(choice))
    if text is not None:
        prompt_node = next(n for n in workflow["nodes"] if n.get("title", "").startswith("Prompt"))
        set_widgets({"nodes": [prompt_node]}, text=text)
    if not _has_gpu() and choice.ckpt_name.startswith("ella-demo"):
        set_widgets(workflow, width=256, height=256)
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


def _serve(server: "Server", workflow: dict[str, Any]) -> None:
    user = server.base / "user/default"
    (user / "workflows").mkdir(parents=True, exist_ok=True)
    (user / "workflows" / f"{TITLE}.json").write_text(json.dumps(workflow), encoding="utf-8")
    if not (user / "comfy.settings.json").is_file():  # no tour before the first graph
        (user / "comfy.settings.json").write_text('{"Comfy.TutorialCompleted": true}')
    print(f"[demo] ComfyUI is up; '{TITLE}' is in its Workflows panel: {server.address}")
    print("[demo] press Ctrl+C to end it", flush=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
