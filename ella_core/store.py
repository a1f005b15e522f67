"""Contexts that a connector has computed, kept for as long as their prompts are in use.

Shapes: P prompts, T timesteps, L LLM tokens, D LLM width, N context tokens, C context width.
"""

import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:  # not needed to run, and heavy
    from .connectors import Connector
    from .text_encoders import EncodedPrompt

#: Timestep -> context (1, N, C). There are 1000 timesteps: 196 MB a prompt at the very most for
#: the released connector, 4 MB for a schedule of 20 steps.
_Kept = dict[int, torch.Tensor]

#: Rows (LLM tokens and latents) times prompts times timesteps in one pass through the connector.
#: 16k of them keep its largest intermediate at 200 MB for the released size.
_MAX_ROWS = 16_384

_ANY_TIMESTEP = 499  # the key of the only context of a connector that ignores the timestep


@dataclass(frozen=True)
class Passes:
    """Passes through a connector.

    Attributes:
        count: number of passes.
        timesteps: the timesteps that they computed.
        seconds: their time together. Work that a GPU still has in its queue is not waited for.
    """

    count: int
    timesteps: frozenset[int]
    seconds: float


class ContextStore:
    """Computes contexts in large batches and keeps them.

    A prompt is known by its identity (the `EncodedPrompt` object), not by its value. Its contexts
    are dropped with it and live as long as it does.

    Attributes:
        connector: the connector that makes the contexts.
    """

    def __init__(self, connector: "Connector", device: torch.device | None = None) -> None:
        """Start empty.

        Args:
            connector: makes the contexts.
            device: where contexts are kept; None keeps them where they were computed.
        """
        self.connector = connector
        self._device = device
        self._kept: MutableMapping[EncodedPrompt, _Kept] = WeakKeyDictionary()

    def has(self, prompts: Iterable["EncodedPrompt"], timesteps: Sequence[int]) -> bool:
        """Return whether `context` would find all these prompts at all these timesteps."""
        wanted = set(self._keys(timesteps))
        return all(self._kept.get(prompt, {}).keys() >= wanted for prompt in prompts)

    def prepare(
        self,
        prompts: Iterable["EncodedPrompt"],
        timesteps: Sequence[int],
        device: torch.device,
        on_pass: Callable[[int, int], None] = lambda done, of: None,
    ) -> Passes:
        """Compute the contexts that are missing, all prompts and timesteps in one pass.

        There are several passes where one would take too much memory (`_MAX_ROWS`), and one for
        each group of prompts that miss the same timesteps.

        Args:
            prompts: the prompts; one that occurs twice is computed once.
            timesteps: 0-999.
            device: where the connector computes.
            on_pass: called before the first pass and after each, with the number of passes done
                and of all passes.
        """
        start = time.perf_counter()
        passes = list(self._missing(prompts, list(dict.fromkeys(self._keys(timesteps)))))
        on_pass(0, len(passes))
        for done, (together, missing) in enumerate(passes, 1):
            contexts_PTNC = self._compute(together, missing, device)
            for prompt, contexts_TNC in zip(together, contexts_PTNC, strict=True):
                n = self.connector.num_tokens or prompt.features.shape[1]
                kept = self._kept.setdefault(prompt, {})
                for timestep, context_NC in zip(missing, contexts_TNC, strict=True):
                    kept[timestep] = context_NC[None, :n].clone()  # a view would keep them all
            on_pass(done, len(passes))
        computed = frozenset(timestep for _, missing in passes for timestep in missing)
        return Passes(len(passes), computed, time.perf_counter() - start)

    def context(self, prompt: "EncodedPrompt", timesteps: Sequence[int]) -> torch.Tensor:
        """Return a prompt's context at timesteps that `prepare` has computed.

        Returns:
            (1, N, C) float32 if all timesteps are the same, else (T, N, C). Do not write into it.
        """
        keys, kept = self._keys(timesteps), self._kept[prompt]
        if len(set(keys)) == 1:
            return kept[keys[0]]
        return torch.cat([kept[key] for key in keys])

    def _missing(
        self, prompts: Iterable["EncodedPrompt"], wanted: Sequence[int]
    ) -> Iterator[tuple[list["EncodedPrompt"], Sequence[int]]]:
        """Yield the prompts and timesteps of each pass that is needed."""
        missing_in: dict[tuple[int, ...], list[EncodedPrompt]] = {}
        for prompt in dict.fromkeys(prompts):
            kept = self._kept.get(prompt, {})
            missing = tuple(timestep for timestep in wanted if timestep not in kept)
            if missing:
                missing_in.setdefault(missing, []).append(prompt)
        for missing, together in missing_in.items():
            for group in self._groups(together):
                size = max(1, _MAX_ROWS // self._rows(group))
                for i in range(0, len(missing), size):
                    yield group, missing[i : i + size]

    def _rows(self, prompts: list["EncodedPrompt"]) -> int:
        """Rows of a pass per timestep; every prompt is padded to the longest."""
        longest = max(prompt.features.shape[1] for prompt in prompts)
        return len(prompts) * (longest + (self.connector.num_tokens or 0))

    def _groups(self, prompts: list["EncodedPrompt"]) -> list[list["EncodedPrompt"]]:
        """All prompts together, unless padding to a huge one would cost too much."""
        return [prompts] if self._rows(prompts) <= _MAX_ROWS else [[prompt] for prompt in prompts]

    @torch.no_grad()
    def _compute(
        self, prompts: list["EncodedPrompt"], timesteps: Sequence[int], device: torch.device
    ) -> torch.Tensor:
        """Return (P, T, N, C) float32.

        In float32 whatever the dtype of the weights: the model is small, and its output steers
        the whole picture.
        """
        rows_PLD = [prompt.features[0].to(device, torch.float32) for prompt in prompts]
        features = pad_sequence(rows_PLD, batch_first=True)[:, None]
        longest = features.shape[2]
        mask = None
        if any(len(row) < longest for row in rows_PLD):
            lengths = torch.tensor([len(row) for row in rows_PLD], device=device)
            mask = (torch.arange(longest, device=device) < lengths[:, None])[:, None]
        contexts: torch.Tensor = self.connector(
            features, torch.tensor(timesteps, device=device), mask
        )
        return contexts.to(self._device or contexts.device)

    def _keys(self, timesteps: Sequence[int]) -> list[int]:
        """Keys of the kept contexts; a connector that ignores the timestep has a single one."""
        if self.connector.timestep_aware:
            return list(timesteps)
        return [_ANY_TIMESTEP] * len(timesteps)
