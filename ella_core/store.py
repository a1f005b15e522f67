"""Contexts that a connector has computed, kept for as long as their prompts are in use.

Shapes: P prompts, R texts (a prompt is one, or several chunks), T timesteps, L LLM tokens, D LLM
width, N context tokens, C context width, E width of the pooled embedding.
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

#: Timestep -> context (1, N, C), and pooled embedding (1, P) or None. There are 1000 timesteps:
#: 196 MB a prompt at the very most for the released connector, 4 MB for a schedule of 20 steps.
_Kept = dict[int, tuple[torch.Tensor, torch.Tensor | None]]

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
            contexts_RTNC, pooled_RTE = self._compute(together, missing, device)
            first = 0
            for prompt in together:
                count, n = (
                    len(prompt.features),
                    self.connector.num_tokens or prompt.features.shape[1],
                )
                kept = self._kept.setdefault(prompt, {})
                for i, timestep in enumerate(missing):
                    # Chunks follow each other. Copies: a view would keep all contexts.
                    context_NC = contexts_RTNC[first : first + count, i, :n].flatten(0, 1).clone()
                    pooled = None if pooled_RTE is None else pooled_RTE[first, i][None].clone()
                    kept[timestep] = context_NC[None], pooled
                first += count
            on_pass(done, len(passes))
        computed = frozenset(timestep for _, missing in passes for timestep in missing)
        return Passes(len(passes), computed, time.perf_counter() - start)

    def context(self, prompt: "EncodedPrompt", timesteps: Sequence[int]) -> torch.Tensor:
        """Return a prompt's context at timesteps that `prepare` has computed.

        Returns:
            (1, N, C) float32 if all timesteps are the same, else (T, N, C). Do not write into it.
        """
        return _joined([self._kept[prompt][key][0] for key in self._keys(timesteps)])

    def pooled(self, prompt: "EncodedPrompt", timesteps: Sequence[int]) -> torch.Tensor:
        """Return a prompt's pooled embedding, its first chunk's if it has several; see `context`.

        Returns:
            (1, E) float32 if all timesteps are the same, else (T, E).
        """
        pooled = [self._kept[prompt][key][1] for key in self._keys(timesteps)]
        return _joined([each for each in pooled if each is not None])

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
        texts = sum(len(prompt.features) for prompt in prompts)
        return texts * (longest + (self.connector.num_tokens or 0))

    def _groups(self, prompts: list["EncodedPrompt"]) -> list[list["EncodedPrompt"]]:
        """All prompts together, unless padding to a huge one would cost too much."""
        return [prompts] if self._rows(prompts) <= _MAX_ROWS else [[prompt] for prompt in prompts]

    @torch.no_grad()
    def _compute(
        self, prompts: list["EncodedPrompt"], timesteps: Sequence[int], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return contexts (R, T, N, C) and pooled embeddings (R, T, E), all float32.

        In float32 whatever the dtype of the weights: the model is small, and its output steers
        the whole picture.
        """
        rows_RLD: list[torch.Tensor] = []
        masks_RL: list[torch.Tensor] = []
        for prompt in prompts:
            rows_RLD += prompt.features.to(device, torch.float32).unbind()
            everything = torch.ones(prompt.features.shape[:2], dtype=torch.bool)
            masks_RL += (everything if prompt.mask is None else prompt.mask).unbind()
        features = pad_sequence(rows_RLD, batch_first=True)[:, None]
        attended = None
        if any(prompt.mask is not None for prompt in prompts) or len(set(map(len, rows_RLD))) > 1:
            attended = pad_sequence(masks_RL, batch_first=True)[:, None].to(device)
        at = torch.tensor(timesteps, device=device)
        contexts = self.connector(features, at, attended)
        pooled = None
        if self.connector.pooled_dim is not None:
            pooled = self.connector.pooled(contexts)
            pooled = pooled.to(self._device or pooled.device)
        return contexts.to(self._device or contexts.device), pooled

    def _keys(self, timesteps: Sequence[int]) -> list[int]:
        """Keys of the kept contexts; a connector that ignores the timestep has a single one."""
        if self.connector.timestep_aware:
            return list(timesteps)
        return [_ANY_TIMESTEP] * len(timesteps)


def _joined(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join values of several timesteps; equal ones are one object, and stay one."""
    if len(set(map(id, values))) == 1:
        return values[0]
    return torch.cat(list(values))
