"""What travels on the ELLA wire: a connector that ComfyUI can load and evict."""

import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.ops
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from torch.nn.utils.rnn import pad_sequence
from torch.utils.weak import WeakTensorKeyDictionary

from ...errors import EllaError
from ..editor.report import Passes
from ..llm.model import LLMEmbeds
from ..memory import SharedPatcher

if TYPE_CHECKING:
    from ...connectors import Connector

#: Timestep -> tokens (1, N, W). There are 1000 timesteps: 196 MB a prompt at the very most for the
#: released connector, 4 MB for a schedule of 20 steps.
Kept = dict[int, torch.Tensor]

#: LLM tokens (and latents) times prompts times timesteps that go through the connector together.
#: 16k of them keep its largest intermediate at 200 MB for the released size.
_MAX_ROWS = 16_384

_ANY_TIMESTEP = 499  # what the result of a connector that knows no timestep is kept by


class ELLA:
    """A connector with its patcher, and what it has made of the prompts that are in use.

    Attributes:
        name: its file's name.
        patcher: how ComfyUI moves it between devices.
    """

    def __init__(self, name: str, patcher: ModelPatcher) -> None:
        self.name = name
        self.patcher = patcher
        # By the LLM's features: what is kept goes when the prompt does, and a prompt that stays
        # keeps it, whatever becomes of the other prompts, the conditioning or the sampler.
        self._kept: MutableMapping[torch.Tensor, Kept] = WeakTensorKeyDictionary()

    @property
    def connector(self) -> "Connector":
        """The module itself, wherever ComfyUI keeps it at the moment."""
        connector: Connector = self.patcher.model
        return connector

    def has(self, embeds: LLMEmbeds, timesteps: Sequence[int]) -> bool:
        """Whether `tokens` can be asked for these timesteps without another pass."""
        wanted = set(self._keys(timesteps))
        return all(self._of(features).keys() >= wanted for features, _ in embeds.parts)

    def prepare(
        self,
        embeds: Iterable[LLMEmbeds],
        timesteps: Sequence[int],
        device: torch.device,
        on_pass: Callable[[int, int], None] = lambda done, of: None,
    ) -> Passes:
        """Compute on `device` what is not kept yet: all prompts and timesteps in one pass.

        Several passes where one would take too much memory (`_MAX_ROWS`), and one for each group
        of prompts that lack the same timesteps.

        Args:
            embeds: the prompts.
            timesteps: 0-999.
            device: where the connector is.
            on_pass: called before the first pass and after each, with the number of those that
                are done and of all.
        """
        start = time.perf_counter()
        passes = list(self._lacking(embeds, list(dict.fromkeys(self._keys(timesteps)))))
        on_pass(0, len(passes))
        for done, (prompts, missing) in enumerate(passes, 1):
            tokens_PTNW = self._compute(prompts, missing, device)
            for features, tokens_TNW in zip(prompts, tokens_PTNW, strict=True):
                n = self.connector.num_tokens or features.shape[1]
                kept = self._of(features)
                for timestep, tokens_NW in zip(missing, tokens_TNW, strict=True):
                    kept[timestep] = tokens_NW[None, :n].clone()  # a view would keep them all
            on_pass(done, len(passes))
        computed = frozenset(timestep for _, missing in passes for timestep in missing)
        return Passes(len(passes), computed, time.perf_counter() - start)

    def _lacking(
        self, embeds: Iterable[LLMEmbeds], wanted: Sequence[int]
    ) -> Iterator[tuple[list[torch.Tensor], Sequence[int]]]:
        """Prompts and timesteps of each pass that is needed."""
        lacking: dict[tuple[int, ...], list[torch.Tensor]] = {}
        for features in {id(f): f for each in embeds for f, _ in each.parts}.values():
            kept = self._of(features)
            missing = tuple(t for t in wanted if t not in kept)
            if missing:
                lacking.setdefault(missing, []).append(features)
        for missing, prompts in lacking.items():
            for together in _groups(prompts):
                size = max(1, _MAX_ROWS // _rows(together))
                for i in range(0, len(missing), size):
                    yield together, missing[i : i + size]

    def tokens(
        self, embeds: LLMEmbeds, timesteps: Sequence[int], device: torch.device
    ) -> torch.Tensor:
        """The tokens of a prompt, or a mix of prompts, at timesteps that `prepare` has seen.

        Returns:
            (1, N, W) float32 on `device` if all timesteps are the same, else
            (len(timesteps), N, W).
        """
        keys = self._keys(timesteps)
        if len(set(keys)) == 1:
            parts = [self._of(features)[keys[0]] for features, _ in embeds.parts]
        else:
            parts = [
                torch.cat([self._of(features)[k] for k in keys]) for features, _ in embeds.parts
            ]
        if len({part.shape for part in parts}) > 1:
            raise EllaError(
                f"The connector {self.name} makes as many tokens as a prompt has, so prompts of "
                f"different length can't be mixed: use a strength of 1, and Conditioning (Combine) "
                f"instead of Blend Embeds."
            )
        weighted = [
            part if weight == 1 else part * weight
            for part, (_, weight) in zip(parts, embeds.parts, strict=True)
        ]
        return reduce(torch.add, weighted).to(device)

    @torch.no_grad()
    def _compute(
        self, prompts: list[torch.Tensor], timesteps: Sequence[int], device: torch.device
    ) -> torch.Tensor:
        """(P, T, N, W) float32 on ComfyUI's intermediate device.

        In float32 whatever dtype the weights are kept in: it is a small model, and what it makes
        steers the whole picture.
        """
        lengths = torch.tensor([prompt.shape[1] for prompt in prompts], device=device)
        rows_PLD = [prompt[0].to(device=device, dtype=torch.float32) for prompt in prompts]
        features = pad_sequence(rows_PLD, batch_first=True)[:, None]
        longest = features.shape[2]
        mask = None
        if any(len(row) < longest for row in rows_PLD):
            mask = (torch.arange(longest, device=device) < lengths[:, None])[:, None]
        tokens: torch.Tensor = self.connector(
            features, torch.tensor(timesteps, device=device), mask
        )
        tokens = tokens.to(model_management.intermediate_device())
        tokens.flatten()[-1].item()  # with --gpu-only nothing else waits for it, and it is timed
        return tokens

    def _of(self, features: torch.Tensor) -> Kept:
        return self._kept.setdefault(features, {})

    def _keys(self, timesteps: Sequence[int]) -> list[int]:
        """What results are kept by: a connector that knows no timestep has one for all."""
        if self.connector.timestep_aware:
            return list(timesteps)
        return [_ANY_TIMESTEP] * len(timesteps)


def _rows(prompts: list[torch.Tensor]) -> int:
    """What a pass over these prompts is long at one timestep: all are filled up to the longest."""
    return len(prompts) * (max(prompt.shape[1] for prompt in prompts) + 64)


def _groups(prompts: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """What goes through together: all, unless filling up to a huge prompt would cost too much."""
    return [prompts] if _rows(prompts) <= _MAX_ROWS else [[prompt] for prompt in prompts]


def load_ella(path: Path) -> ELLA:
    """Open a connector for ComfyUI.

    On the CPU the weights are kept in the float32 that is computed in, elsewhere in the file's
    dtype, which for the released one halves its memory.
    """
    from ...checkpoint import load_connector  # not at ComfyUI's start

    device = model_management.get_torch_device()
    dtype = torch.float32 if model_management.is_device_cpu(device) else None
    connector, _ = load_connector(path, comfy.ops.manual_cast, dtype)
    patcher = SharedPatcher(
        connector, load_device=device, offload_device=model_management.unet_offload_device()
    )
    return ELLA(path.name, patcher)


def check_features(ella: ELLA, embeds: LLMEmbeds) -> None:
    """Refuse an LLM that the connector was not made for.

    Raises:
        EllaError: their widths differ; or another pack made what is on the ELLA wire.
    """
    if not isinstance(ella, ELLA):
        raise EllaError(
            f"The ELLA input got a {type(ella).__name__}, which another node pack made. Connect "
            f"Load ELLA of this pack to it."
        )
    found, expected = embeds.width, ella.connector.llm_dim
    if found != expected:
        wanted = "the FLAN-T5-XL encoder" if expected == 2048 else f"an LLM of width {expected}"
        raise EllaError(
            f"The LLM {embeds.llm} makes features {found} wide, but the connector {ella.name} "
            f"reads features {expected} wide. Choose {wanted} in Load LLM (ELLA), or the connector "
            f"that was trained with this LLM in Load ELLA."
        )
