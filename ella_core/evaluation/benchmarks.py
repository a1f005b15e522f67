"""Addresses and checksums of the benchmarks' published files."""

from dataclasses import dataclass

_ELLA = "TencentQQGYLab/ELLA/3c228f1dc6c4d3cad0a47493816151a419f14db3"
_COMPBENCH = "Karine-Huang/T2I-CompBench/1b7094991a57f3c22abdd4f6e8ba6c1a15517073"
_GENEVAL = "djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f"


@dataclass(frozen=True)
class BenchmarkFile:
    """A published file.

    Attributes:
        url: where it is. `{hub}` stands for the Hugging Face hub.
        name: what it is called on the disk.
        checksum: "git:" and the SHA-1 of git's blob, or "md5:" and its MD5.
    """

    url: str
    name: str
    checksum: str


def _github(repository: str, path: str, blob: str) -> BenchmarkFile:
    """A file of a repository at a commit, `owner/name/commit`."""
    url = f"https://raw.githubusercontent.com/{repository}/{path}"
    return BenchmarkFile(url, path.rpartition("/")[2], f"git:{blob}")


BENCHMARKS = {
    "dpg-bench": (
        _github(_ELLA, "dpg_bench/dpg_bench.csv", "98457fc9901943f51ff9a30367250fc292533bed"),
    ),
    # The same prompts and questions, in a row a prompt.
    "dpg-bench-rows": (
        BenchmarkFile(
            "{hub}/datasets/CaraJ/ULMEvalKit/resolve/main/DPG_Bench.tsv",
            "DPG_Bench.tsv",
            "md5:c1551e34ea5477eaee81153eae19c8bc",
        ),
    ),
    "t2i-compbench": tuple(
        _github(_COMPBENCH, f"examples/dataset/{name}_val.txt", blob)
        for name, blob in (
            ("color", "700badf7bd0989c45eb307ff3573f127ecee0a53"),
            ("shape", "b82835d72b25c2aa2962736f091fe04ee6a39a21"),
            ("texture", "61d35c8e7127e530f221780fd117c905315ce00a"),
            ("spatial", "e453b999d311ddc47f303d389db02818b63a256c"),
            ("non_spatial", "046d5689c35fb1270fdce8aa003c068e4a360726"),
        )
    ),
    "geneval": (
        _github(
            _GENEVAL,
            "prompts/evaluation_metadata.jsonl",
            "efc21c7e639cd45554a1e44fac87157211f16d51",
        ),
    ),
}
