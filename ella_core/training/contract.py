"""Settings that a shard of cached features and latents was made with; others are refused."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EllaError
from .config import TrainConfig

#: Version of the shards' layout and of how their numbers are computed.
FORMAT = 1

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Contract:
    """All that the numbers in a shard depend on, beside pictures and captions.

    Attributes:
        llm: file or folder name of the LLM, for people.
        llm_identity: hash of its files, see `llm_identity`.
        llm_type: its `model_type` in transformers' terms.
        llm_layers: number of its hidden layers.
        llm_dim: width of its last hidden state.
        llm_dtype: dtype that it computed in.
        tokens: see `TextConfig`.
        flexible: see `TextConfig`.
        vae_identity: hash of the VAE's weights.
        resolution: see `DataConfig`.
        buckets: see `DataConfig`.
        bucket_step: see `DataConfig`.
        format: version of the layout.
    """

    llm: str
    llm_identity: str
    llm_type: str
    llm_layers: int
    llm_dim: int
    llm_dtype: str
    tokens: int
    flexible: bool
    vae_identity: str
    resolution: int
    buckets: bool
    bucket_step: int
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the text for a shard's metadata."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Contract":
        """Read `to_json`'s text.

        Raises:
            EllaError: it is of another version of the layout.
        """
        values = json.loads(text)
        if values.get("format") != FORMAT:
            raise EllaError(
                f"it has layout {values.get('format')}, this version reads {FORMAT}: precompute it "
                f"again"
            )
        return cls(**values)

    def check(self, other: "Contract", shard: str) -> None:
        """Raise an `EllaError` that names `shard` and how `other`, its contract, differs."""
        found = dataclasses.asdict(other)
        differences = [
            f"{name} {found[name]!r} instead of {expected!r}"
            for name, expected in dataclasses.asdict(self).items()
            if found[name] != expected
        ]
        if differences:
            raise EllaError(
                f"The shard {shard} was precomputed with {', '.join(differences)}. Delete it and "
                f"run precompute again, or change the config to match."
            )


def check_config(contract: Contract, config: TrainConfig, shard: str) -> None:
    """Raise an `EllaError` if the settings of a config are not those of a shard."""
    wanted = dataclasses.replace(
        contract,
        tokens=config.text.tokens,
        flexible=config.text.flexible,
        resolution=config.data.resolution,
        buckets=config.data.buckets,
        bucket_step=config.data.bucket_step,
    )
    wanted.check(contract, shard)


def llm_identity(path: Path) -> str:
    """Hash an LLM's files.

    Of each weight file size, first and last megabyte count, which reads 26 GB in no time; of all
    other files, such as the tokenizer's, everything.
    """
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        if path.is_dir():  # a single file may be renamed
            digest.update(file.name.encode())
        size = file.stat().st_size
        digest.update(str(size).encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_MEGABYTE))
            if file.suffix in (".safetensors", ".gguf"):
                stream.seek(max(0, size - _MEGABYTE))
            digest.update(stream.read())
    return digest.hexdigest()[:16]


def weights_identity(module: Any) -> str:
    """Hash a module's tensors, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
