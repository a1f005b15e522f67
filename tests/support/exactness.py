"""Compare the U-Net's context with the independent reference at the timestep of each call."""

import math
import uuid
from dataclasses import dataclass, field

import torch

from .host import EllaGraph, Host, Node, Reference, relative_error

TOLERANCE = 1e-3  # relative, L2, of one sample's tokens in one call
POSITIVE, NEGATIVE = "A red cat.", "blurry"
WIDTH = 64  # tokens that the connector makes
SMALL = "small.safetensors"


def stable_diffusion_sigmas() -> torch.Tensor:
    """(1000,) noise levels of Stable Diffusion's scaled-linear betas, smallest first."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas_cumprod = (1 - betas).cumprod(0)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def nearest_timestep(sigmas: torch.Tensor, sigma: float) -> int:
    """The index into (T,) `sigmas` that is nearest in log."""
    return int((sigmas.log() - math.log(sigma)).abs().argmin())


@dataclass
class Row:
    """One conditioning in one call of the U-Net.

    Attributes:
        index: 0 for the positive, 1 for the negative, further ones as the guider numbers them.
        timestep: what the U-Net was called with.
        sigma: what the sampler asked for.
        tokens: (B, N, W) of the batch's samples.
        call: number of the call.
    """

    index: int
    timestep: float
    sigma: float
    tokens: torch.Tensor
    call: int


@dataclass
class Exactness:
    """Runs graphs, compares rows, and remembers how far off the worst one was."""

    host: Host
    worst: float = 0.0
    compared: int = 0
    _references: dict[str, Reference] = field(default_factory=dict)

    def reference(self, text: str) -> Reference:
        if text not in self._references:
            self._references[text] = self.host.reference(text)
        return self._references[text]

    def run(self, graph: "ExactGraph"):
        result = self.host.run(graph)
        assert result.error is None, result.error["exception_message"]
        return result

    def rows(self, name: str) -> list[Row]:
        """Return the records of the recorder of that name, one row per conditioning and call."""
        found = []
        for call, record in enumerate(self.host.records(name)):
            indices = record["cond_or_uncond"].tolist()
            (timestep,), (sigma,) = (set(record[k].tolist()) for k in ("timesteps", "sigmas"))
            for index, tokens in zip(indices, record["context"].chunk(len(indices)), strict=True):
                found.append(Row(index, timestep, sigma, tokens, call))
        assert found
        return found

    def error(self, tokens: torch.Tensor, text: str, timestep: float) -> float:
        """The worst relative error of (B, N, W) tokens of one prompt."""
        expected = self.reference(text).at(timestep)
        return max(relative_error(sample, expected) for sample in tokens)

    def note(self, errors) -> None:
        """Remember the errors of rows that were compared."""
        self.worst, self.compared = max(self.worst, *errors), self.compared + len(errors)

    def assert_exact(self, tokens: torch.Tensor, text: str, timestep: float) -> None:
        error = self.error(tokens, text, timestep)
        self.note([error])
        assert error < TOLERANCE, f"off by {error:.2g} at timestep {timestep}: {text!r}"

    def one_of(self, row: Row, texts: tuple[str, ...]) -> str:
        """The prompt that the row is, exactly."""
        text = min(texts, key=lambda text: self.error(row.tokens, text, row.timestep))
        self.assert_exact(row.tokens, text, row.timestep)
        return text

    def check(self, name: str, prompts=(POSITIVE, NEGATIVE), batch: int = 1) -> list[Row]:
        """Every row of every call is the prompt of its index, and every index was seen."""
        rows = self.rows(name)
        assert {row.index for row in rows} == set(range(len(prompts)))
        for row in rows:
            assert len(row.tokens) == batch
            self.assert_exact(row.tokens, prompts[row.index], row.timestep)
        return rows

    def check_cycle(self, name: str, cycle: list[dict[int, str]]) -> None:
        """The calls repeat `cycle`: which prompts each is made with, by index."""
        calls: dict[int, list[Row]] = {}
        for row in self.rows(name):
            calls.setdefault(row.call, []).append(row)
        assert len(calls) % len(cycle) == 0
        for number, rows in calls.items():
            prompts = cycle[number % len(cycle)]
            assert sorted(row.index for row in rows) == sorted(prompts)
            for row in rows:
                self.assert_exact(row.tokens, prompts[row.index], row.timestep)

    def latents(self, result, nodes: list[Node]) -> list[torch.Tensor]:
        return [self.host.latent(result, node.id) for node in nodes]


class ExactGraph(EllaGraph):
    """The four nodes around the smallest U-Net, and any number of recorded samplers.

    Inputs of a node that are not given get the defaults that the server tells.
    """

    def __init__(self, infos: dict, ckpt: str = SMALL, positive=POSITIVE, negative=NEGATIVE):
        self._infos = infos
        self.prompts = (positive, negative)
        super().__init__(positive, negative, ckpt=ckpt)

    def add(self, class_type: str, **inputs) -> Node:
        defaults = {}
        for name, (kind, *options) in self._infos[class_type]["input"]["required"].items():
            default = (options[0] if options else {}).get("default")
            choices = kind if isinstance(kind, list) else (options or [{}])[0].get("options")
            if default is None and choices:
                default = choices[0]
            if default is not None:
                defaults[name] = default
        return super().add(class_type, **{**defaults, **inputs})

    def recorder(self, model: Node | list | None = None) -> tuple[Node, str]:
        """A MODEL that records, and the name to read the records by."""
        name = f"record-{uuid.uuid4().hex}"
        return self.add("TestRecordUNet", model=model or self.conditioning[0], name=name), name

    def sampled(self, **changes) -> str:
        """A KSampler with a recorder of its own, saved; returns the recorder's name."""
        model, name = self.recorder(changes.pop("model", None))
        self.save(self.sample(record=False, model=model, **changes))
        return name
