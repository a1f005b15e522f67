"""The connectors of the paper's Table 6 in miniature, trained alike.

They are half as wide as the shipped one, read captions of one thing, and read them from the first
half of the LLM's layers, so that six blocks, too, learn it in the captions that a CPU gets through.
"""

from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import yaml

from . import layers
from .recipe import HELD_OUT, ella_train, scalars, source_settings, write_pictures
from .world import PIXELS, draw_scene

#: Of the LLM, whose features are read.
LAYERS = layers.ALL // 2
_RESAMPLER = {"llm_dim": 576, "width": 128, "context_dim": 768, "num_latents": 16, "time": None}
_TIME = {"dim": 256}
#: What `connector` is in the config, by the names of `ella_core.config.PAPER_CONNECTORS`.
KINDS: dict[str, dict[str, Any]] = {
    "mlp": {"mlp": {"llm_dim": 576, "width": 768}},
    "resampler-1": {"resampler": {**_RESAMPLER, "layers": 1}},
    "resampler-6": {"resampler": {**_RESAMPLER, "layers": 6}},
    "adaln-zero": {"resampler": {**_RESAMPLER, "layers": 6, "time": {**_TIME, "gated": True}}},
    "adaln": {"resampler": {**_RESAMPLER, "layers": 6, "time": _TIME}},
}


def prepare(run: Path, captions: int, held_out: int, settings: Sequence[str] = ()) -> None:
    """Cut the LLM; write and encode captioned pictures of one thing each, or what is left of them.

    Args:
        run: folder of a finished `recipe.train`.
        captions: to train on.
        held_out: captions that losses are measured on.
        settings: that differ from the config, such as llm.dtype=fp32.
    """
    layers.write_cut(run / layers.folder_name(layers.ALL), _llm(run), LAYERS)
    for folder, first, number in (
        (_data(run), 0, captions),
        (_data(run) / "held-out", HELD_OUT, held_out),
    ):
        single = (seed for seed in count(first) if len(draw_scene(seed).things) == 1)
        write_pictures(folder / "pictures", islice(single, number), draw_scene)
    ella_train("precompute", "noise", run, [*_alike(run), *settings])


def train(
    run: Path, kind: str, seed: int, steps: int, noise_steps: int, settings: Sequence[str] = ()
) -> Path:
    """Train a connector, or on from an interruption, and return its run's folder.

    Args:
        run: folder that `prepare` was called for.
        kind: one of `KINDS`.
        seed: of initial weights, order, timesteps and noise.
        steps: of the alignment, 0 for none. An MLP goes without: its context is as long as the
            caption, and the base's scene tokens are not.
        noise_steps: on the noise loss, ELLA's own objective, after the alignment.
        settings: further ones that differ from the configs, such as batch=8.
    """
    folder = run / f"connectors/{kind}-{seed}-{steps}-{noise_steps}"
    connector = KINDS[kind]
    if steps and "mlp" not in connector:
        aligned = _aligned(folder)
        _train("align", run, aligned, connector, seed, steps, settings)
        connector = {"init_from": str(aligned / "connector.safetensors")}
        settings = ["optimiser.lr=3.0e-4", *settings]
    _train("noise", run, folder, connector, seed, noise_steps, settings)
    return folder


def _train(
    config: str,
    run: Path,
    folder: Path,
    connector: dict[str, Any],
    seed: int,
    steps: int,
    settings: Sequence[str],
) -> None:
    made = [f"run={folder}", f"connector={_inline(connector)}", f"seed={seed}", f"steps={steps}"]
    ella_train("train", config, run, [*_alike(run), *made, *settings])


def _alike(run: Path) -> list[str]:
    """Return what differs from the configs for all kinds."""
    same = [f"llm.path={_llm(run)}", "batch=16", "micro_batch=16", f"data.resolution={PIXELS}"]
    return [*same, *source_settings(_data(run))]


def _llm(run: Path) -> Path:
    return run / layers.folder_name(LAYERS)


def _data(run: Path) -> Path:
    return run / "connectors/data"


def measured(folder: Path) -> dict[str, float]:
    """Return what is known of a training that `train` has ended.

    Returns:
        The connector's parameters, its last loss on held-out captions in the alignment if there
        was one, and its last noise losses on them: the mean, and that of each band of timesteps.
    """
    from ella_core.checkpoint import load_connector

    connector = load_connector(folder / "connector.safetensors")
    numbers = {"parameters": float(sum(p.numel() for p in connector.parameters()))}
    aligned = _aligned(folder)
    if aligned.is_dir():
        numbers["alignment"] = _last(scalars(aligned)["validation/loss"])
    return numbers | {
        name.removeprefix("validation/"): _last(values)
        for name, values in scalars(folder).items()
        if name.startswith("validation/")
    }


def _aligned(folder: Path) -> Path:
    """Return the folder of the alignment from which a training on the noise loss goes on."""
    return folder.with_name(folder.name.rpartition("-")[0])


def _last(values: dict[int, float]) -> float:
    return values[max(values)]


def _inline(value: Any) -> str:
    """Return YAML in one line, as settings on a command line are."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.strip()
