"""What ELLA costs in sampling: the same run without it, with it, and with it done naively.

python benchmarks/sampling.py [--sizes 256 384] [--steps 20] [--rounds 20] [--plot FILE.png]

In one process, runs of four kinds take turns:

    static     a fixed conditioning of 64 tokens, no ELLA
    first      ELLA, with prompts that it has not seen
    new seed   ELLA, with the prompts and the schedule of the run before
    naive      prompts not seen before, the connector asked at each model call, prompt by prompt

`first` and `naive` include making the conditionings, which asks the connector once.

Every kind runs side by side with a `static` of its own: the two samplers take turns, a step each,
so that a machine that slows down slows both. A round does this once for each kind. The table gives
the ratio of their times with its 95 % confidence interval: the mean of the rounds' logarithms
without the lowest and the highest fifth, in which something else had the machine for a moment.
`user` and `system` are means of all rounds. Rounds are added until the interval of `new seed` is at
most 1 % wide, or there are `--rounds`.

On a CPU the time is the process's own (user and system together, and each by itself), on a GPU that
of the clock. On Linux the process keeps the memory that it frees: giving it back and having it anew
at each layer takes a large share of a small run, and not the same in any two.

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
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import reexec_in_environment

KINDS = ("first", "new seed", "naive")
BLOCKS = (("first", "new seed"), ("naive",))  # new seed uses what first has computed
RESOLUTION = 0.01  # width of the interval that is measured until
TRIM = (0.2, 0.2)  # of the rounds: the lowest and the highest ratios, which are left out
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
        prompts = tuple(map(_random_embeds, LENGTHS))
        self._pair: Any = self._make_pair(self._ella, prompts, (None, None), self._report)
        self._static = _frozen(self._pair)
        self._seed = 0

    def round(self, size: int, shuffled: random.Random) -> dict[str, "Pair"]:
        """Run each kind once beside a `static`, in any order that keeps `BLOCKS` together."""
        blocks = shuffled.sample(BLOCKS, len(BLOCKS))
        return {
            kind: self._side_by_side(kind, size, first=shuffled.randrange(2))
            for block in blocks
            for kind in block
        }

    def _side_by_side(self, kind: str, size: int, first: int) -> "Pair":
        """Measure a run and a `static` that take turns, a step each."""
        turns = Turns(first)
        self._seed += 1
        with ThreadPoolExecutor(2) as pool:
            names = (kind, "static")
            runs = [pool.submit(self._run, *each, size, turns) for each in enumerate(names)]
            for run in runs:
                run.result()
        return Pair(*turns.times)

    def _run(self, place: int, kind: str, size: int, turns: "Turns") -> None:
        import comfy.sample
        import torch

        model = {"static": self._model, "naive": self._naive}.get(kind, self._patched)
        latent = torch.zeros(1, 4, size // 8, size // 8)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(self._seed))
        embeds = tuple(map(_random_embeds, LENGTHS))
        with torch.inference_mode(), turns.of(place):
            if kind in ("first", "naive"):
                self._pair = self._make_pair(self._ella, embeds, (None, None), self._report)
            positive, negative = self._pair if kind != "static" else self._static
            settings = (self._steps, 7.0, "euler", "karras", positive, negative, latent)
            comfy.sample.sample(
                model,
                noise,
                *settings,
                seed=self._seed,
                callback=lambda *_: turns.next(place),
                disable_pbar=True,
            )


class Turns:
    """Two threads that run in turns, and the time that each had.

    Attributes:
        times: the time of the first and of the second thread.
    """

    def __init__(self, first: int) -> None:
        self.times = [Times(0.0, 0.0, 0.0)] * 2
        self._turn, self._alone = first, False
        self._changed = threading.Condition()
        self._start = Times(0.0, 0.0, 0.0)

    @contextmanager
    def of(self, place: int) -> Iterator[None]:
        """Run the body as the thread of this place."""
        self._wait(place)
        try:
            yield
        finally:
            self._alone = True  # also after an error: the other thread waits no more
            self._end(place)

    def next(self, place: int) -> None:
        """Let the other thread run, and wait until it has done a step."""
        self._end(place)
        self._wait(place)

    def _wait(self, place: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn == place or self._alone)
        self._start = Times.now()

    def _end(self, place: int) -> None:
        self.times[place] += Times.now() - self._start
        with self._changed:
            self._turn = 1 - place
            self._changed.notify_all()


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
        if on_gpu:
            torch.cuda.synchronize()
        return cls(time.perf_counter() if on_gpu else time.process_time(), user, system)

    def __add__(self, other: "Times") -> "Times":
        return Times(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other: "Times") -> "Times":
        return Times(*(a - b for a, b in zip(self, other, strict=True)))


class Pair(NamedTuple):
    """A run and the `static` beside it."""

    kind: Times
    static: Times


class Ratio(NamedTuple):
    """Trimmed geometric mean of paired ratios and its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[float], static: Sequence[float]) -> "Ratio":
        from scipy.stats import mstats

        logs = [math.log(a / b) for a, b in zip(times, static, strict=True)]
        mean, (low, high) = mstats.trimmed_mean(logs, TRIM), mstats.trimmed_mean_ci(logs, TRIM)
        return cls(*(math.exp(float(log)) for log in (mean, low, high)))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


class Table:
    """The rounds of one image size, compared."""

    def __init__(self, rounds: list[dict[str, Pair]]) -> None:
        self._rounds = rounds

    def ratio(self, kind: str) -> Ratio:
        pairs = [each[kind] for each in self._rounds]
        return Ratio.of([pair.kind.all for pair in pairs], [pair.static.all for pair in pairs])

    def rows(self, size: int) -> Iterator[str]:
        for kind in KINDS:
            pairs = [each[kind] for each in self._rounds]
            static = statistics.fmean(pair.static.all for pair in pairs)
            user, system = (
                100
                * statistics.fmean(getattr(p.kind, of) - getattr(p.static, of) for p in pairs)
                / static
                for of in ("user", "system")
            )
            yield f"| {size} | {kind} | {self.ratio(kind)} | {user:+.1f} | {system:+.1f} |"

    def systems_share(self) -> float:
        """The system's share of the time of all `static`, in percent."""
        static = [pair.static for each in self._rounds for pair in each.values()]
        return 100 * sum(each.system for each in static) / sum(each.all for each in static)


def keep_freed_memory() -> None:
    """Have glibc's allocator keep what it was given (see `man mallopt`); elsewhere do nothing."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold, arenas = -1, -3, -8
        libc.mallopt(arenas, 1)  # the same memory for both threads
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


def plot(shares: dict[int, dict[str, float]], where: str, file: Path) -> None:
    """Bars of the share of time that ELLA takes, per image size."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for i, kind in enumerate(KINDS):
        places = [j + 0.27 * (i - 1) for j in range(len(shares))]
        bars = axes.bar(places, [max(0.0, s[kind]) for s in shares.values()], 0.25, label=kind)
        axes.bar_label(bars, [f"{s[kind]:.1f}" for s in shares.values()], fontsize=8)
    axes.set_xticks(range(len(shares)), [f"{size} x {size}" for size in shares])
    axes.set_ylabel("% of the run's time")
    axes.set_title(f"Time that ELLA takes ({where})", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(KINDS), frameon=False)
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
            rounds: list[dict[str, Pair]] = []
            while len(rounds) < arguments.rounds:
                rounds.append(runs.round(size, shuffled))
                if len(rounds) >= 3:
                    seed = Table(rounds).ratio("new seed")
                    print(f"round {len(rounds)}: new seed {seed}", file=sys.stderr)
                    if seed.high - seed.low <= RESOLUTION:
                        break
            table = Table(rounds)
            print(*table.rows(size), sep="\n", flush=True)
            share = table.systems_share()
            print(f"\n{len(rounds)} rounds; {share:.0f} % of static is the system's\n", flush=True)
            shares[size] = {k: 100 * (1 - 1 / table.ratio(k).mean) for k in KINDS}
    if arguments.plot:
        plot(shares, where, arguments.plot)


if __name__ == "__main__":
    main()
