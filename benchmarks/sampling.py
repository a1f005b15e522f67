"""What ELLA costs in sampling: the same run without it, with it, and with it done naively.

python benchmarks/sampling.py [--sizes 256 384] [--steps 20] [--rounds 20] [--plot FILE.png]

In one process, runs of four kinds take turns:

    static     a fixed conditioning of 64 tokens, no ELLA
    first      ELLA, with prompts that it has not seen
    new seed   ELLA, with the prompts and the schedule of the run before
    naive      prompts not seen before, the connector asked at each model call, prompt by prompt

`first` and `naive` include making the conditionings, which asks the connector once.

Every round runs each kind once and divides its time by that of the round's `static`, so that a
machine that slows down slows both. The table gives the geometric mean of these ratios with its
95 % confidence interval (Student's t over the rounds' logarithms). Rounds are added until the
interval of `new seed` is at most 1 % wide, or there are `--rounds`. On a CPU the time is the
process's own (user and system together, and each by itself), on a GPU that of the clock. On Linux
the process keeps the memory that it frees: giving it back and having it anew at each layer takes a
large share of a small run, and not the same in any two.

The U-Net has Stable Diffusion 1.5's architecture and the connector the released one's, both with
random weights: the time does not depend on the weights. The LLM is no part of this.
"""

import argparse
import ctypes
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import reexec_in_environment

KINDS = ("static", "first", "new seed", "naive")
BLOCKS = (("static",), ("first", "new seed"), ("naive",))  # new seed uses what first has computed
RESOLUTION = 0.01  # width of the interval that is measured until
LENGTHS = (60, 1)  # LLM tokens of a prompt of three sentences and of an empty negative


class Runs:
    """The four kinds of runs on one U-Net and one connector."""

    def __init__(self, folder: Path, steps: int) -> None:
        import torch

        import tiny_models

        tiny_models.import_host(cpu=not torch.cuda.is_available())
        import comfy.sd

        from ella_core.comfy.editor.report import Report
        from ella_core.comfy.sampling.conditioning import make_pair, patch_model
        from ella_core.comfy.sampling.connector import load_ella
        from ella_core.config import ResamplerConfig

        tiny_models.draw_checkpoint(
            folder / "sd15.safetensors", dtype=torch.float16, **tiny_models.SD15
        )
        tiny_models.draw_connector(
            folder / "tsc.safetensors", ResamplerConfig(), dtype=torch.float16
        )
        loaded = comfy.sd.load_checkpoint_guess_config(
            str(folder / "sd15.safetensors"), output_vae=False, output_clip=False
        )
        self._steps, self._model = steps, loaded[0]
        self._ella = load_ella(folder / "tsc.safetensors")
        self._make_pair, self._patched = make_pair, patch_model(self._model)
        self._naive = naive(self._model, self._ella)
        self._report = Report(None, [])
        self._pair: Any = None
        self._seed = 0

    def round(self, size: int, shuffled: random.Random) -> dict[str, "Times"]:
        """Run each kind once, in any order that keeps `BLOCKS` together."""
        blocks = shuffled.sample(BLOCKS, len(BLOCKS))
        return {kind: self.time(kind, size) for block in blocks for kind in block}

    def time(self, kind: str, size: int) -> "Times":
        """Measure one run."""
        import comfy.sample
        import torch
        from comfy.model_management import get_torch_device

        model = {"static": self._model, "naive": self._naive}.get(kind, self._patched)
        self._seed += 1
        latent = torch.zeros(1, 4, size // 8, size // 8)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(self._seed))
        with torch.inference_mode():
            embeds = tuple(map(_random_embeds, LENGTHS))
            _synchronise(get_torch_device())
            start = Times.now()
            if kind in ("first", "naive") or self._pair is None:
                self._pair = self._make_pair(self._ella, embeds, (None, None), self._report)
            positive, negative = self._pair if kind != "static" else _frozen(self._pair)
            settings = (self._steps, 7.0, "euler", "karras", positive, negative, latent)
            comfy.sample.sample(model, noise, *settings, seed=self._seed, disable_pbar=True)
            _synchronise(get_torch_device())
        return Times.now() - start


class Times(NamedTuple):
    """Seconds: all of it (see above), and the process's in user and in system mode."""

    all: float
    user: float
    system: float

    @classmethod
    def now(cls) -> "Times":
        import torch

        user, system = os.times()[:2]
        on_gpu = torch.cuda.is_available()
        return cls(time.perf_counter() if on_gpu else time.process_time(), user, system)

    def __sub__(self, other: "Times") -> "Times":
        return Times(*(a - b for a, b in zip(self, other, strict=True)))


class Ratio(NamedTuple):
    """Geometric mean of paired ratios and its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[float], static: Sequence[float]) -> "Ratio":
        from scipy import stats

        logs = [math.log(a / b) for a, b in zip(times, static, strict=True)]
        mean, error = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
        half = error * float(stats.t.ppf(0.975, len(logs) - 1))
        return cls(*map(math.exp, (mean, mean - half, mean + half)))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


class Table:
    """The rounds of one image size, compared."""

    def __init__(self, rounds: list[dict[str, Times]]) -> None:
        self._rounds = rounds

    def ratio(self, kind: str, of: str = "all") -> Ratio:
        times, static = (
            [getattr(one[name], of) for one in self._rounds] for name in (kind, "static")
        )
        return Ratio.of(times, static)

    def mean(self, kind: str, of: str = "all") -> float:
        return statistics.fmean(getattr(one[kind], of) for one in self._rounds)

    def rows(self, size: int) -> Iterator[str]:
        for kind in KINDS[1:]:
            extra = (self.mean(kind, of) - self.mean("static", of) for of in ("user", "system"))
            user, system = (f"{100 * each / self.mean('static'):+.1f}" for each in extra)
            yield f"| {size} | {kind} | {self.ratio(kind)} | {user} | {system} |"


def keep_freed_memory() -> None:
    """Have glibc's allocator keep what it was given (see `man mallopt`); elsewhere do nothing."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def _random_embeds(length: int) -> Any:
    import torch

    from ella_core.comfy.llm.embeds import LLMEmbeds
    from ella_core.text_encoders import EncodedPrompt

    part = ((EncodedPrompt(torch.randn(1, length, 2048), tokens=length), 1.0),)
    return LLMEmbeds(part, part, "random")


def _frozen(pair: Any) -> list[Any]:
    """The same tokens as conditionings that are none of ELLA's."""
    from ella_core.comfy.sampling.context import plain

    return [[[plain(tokens), {}]] for ((tokens, _),) in pair]


def naive(model: Any, ella: Any) -> Any:
    """A clone of MODEL that asks the connector at each call, for each prompt by itself."""
    import torch
    from comfy.conds import CONDCrossAttn
    from comfy.patcher_extension import WrappersMP

    def wrapper(
        executor: Callable[..., Any],
        unet: Any,
        conds: list[Any],
        x: torch.Tensor,
        sigma: torch.Tensor,
        options: Any,
    ) -> Any:
        timestep = unet.model_sampling.timestep(sigma)[:1]
        changed = []
        for (cond,) in conds:
            model_conds = dict(cond["model_conds"])
            (prompt,) = model_conds.pop("ella").cond.parts
            tokens = ella.connector(prompt.features.to(x.device, torch.float32), timestep)
            changed.append([{**cond, "model_conds": {"c_crossattn": CONDCrossAttn(tokens)}}])
        return executor(unet, changed, x, sigma, options)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "naive", wrapper)
    return clone


def _synchronise(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plot(shares: dict[int, dict[str, float]], where: str, file: Path) -> None:
    """Bars of the share of time that ELLA takes, per image size."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for i, kind in enumerate(KINDS[1:]):
        places = [j + 0.27 * (i - 1) for j in range(len(shares))]
        bars = axes.bar(places, [max(0.0, s[kind]) for s in shares.values()], 0.25, label=kind)
        axes.bar_label(bars, [f"{s[kind]:.1f}" for s in shares.values()], fontsize=8)
    axes.set_xticks(range(len(shares)), [f"{size} x {size}" for size in shares])
    axes.set_ylabel("% of the run's time")
    axes.set_title(f"Time that ELLA takes ({where})", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(KINDS) - 1, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def main() -> None:
    """Run, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 384])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20, help="at most so many; 3 at least")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    reexec_in_environment()
    keep_freed_memory()
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    where += f", {arguments.steps} steps"
    print(f"{where}\n")
    print("| size | kind | time / static (95 %) | user, % of static | system, % of static |")
    print("|---|---|---|---|---|")
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        runs, shuffled = Runs(Path(folder), arguments.steps), random.Random(0)
        for size in arguments.sizes:
            runs.round(size, shuffled)  # once unmeasured
            rounds: list[dict[str, Times]] = []
            while len(rounds) < arguments.rounds:
                rounds.append(runs.round(size, shuffled))
                if len(rounds) >= 3:
                    seed = Table(rounds).ratio("new seed")
                    print(f"round {len(rounds)}: new seed {seed}", file=sys.stderr)
                    if seed.high - seed.low <= RESOLUTION:
                        break
            table = Table(rounds)
            print(*table.rows(size), sep="\n", flush=True)
            share = 100 * table.mean("static", "system") / table.mean("static")
            print(f"\n{len(rounds)} rounds; {share:.0f} % of static is the system's\n", flush=True)
            shares[size] = {k: 100 * (1 - 1 / table.ratio(k).mean) for k in KINDS[1:]}
    if arguments.plot:
        plot(shares, where, arguments.plot)


if __name__ == "__main__":
    main()
