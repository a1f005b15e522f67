"""Contexts that a connector has computed, kept for as long as their prompts are in use.

Shapes: P prompts, R texts (a prompt is one, or several chunks), T timesteps, L LLM tokens, D LLM
width, N context tokens, C context width, E width of the pooled embedding.
"""

import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:  # not needed to run, and heavy
    from .connectors import Connector
    from .text_encoders import EncodedPrompt


class _Value(NamedTuple):
    """Context (1, N, C), and pooled embedding (1, E) if the connector makes one."""

    context: torch.Tensor
    pooled: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        return self.context.nbytes + (0 if self.pooled is None else self.pooled.nbytes)


#: By timestep. There are 1000 timesteps: 196 MB a prompt at the very most for the released
#: connector, 4 MB for a schedule of 20 steps.
_Kept = dict[int, _Value]

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


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device, if it is not there, without waiting for a CUDA GPU.

    CUDA copies from pinned memory when it gets there, in order with all else; for a copy from
    other memory the caller waits until the GPU's queue is empty.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class ContextStore:
    """Computes contexts in large batches and keeps them.

    A prompt is known by its identity (the `EncodedPrompt` object), not by its value. Its contexts
    are dropped with it and live as long as it does.

    Contexts are kept on one device (system memory, say) and used on another (a GPU). What is
    computed stays on the latter, and what is needed there is copied to it, until `settle`. Until
    then nothing waits for the GPU, unless there is more than `room`.

    Attributes:
        connector: the connector that makes the contexts.
    """

    def __init__(
        self, connector: "Connector", device: torch.device | None = None, room: int = 0
    ) -> None:
        """Start empty.

        Args:
            connector: makes the contexts.
            device: where contexts are kept; None keeps them where they were computed.
            room: bytes of contexts that may be on other devices until `settle`.
        """
        self.connector = connector
        self._device = device
        self._room = room
        self._in_use: MutableMapping[EncodedPrompt, _Kept] = WeakKeyDictionary()
        self._kept: MutableMapping[EncodedPrompt, _Kept] = WeakKeyDictionary()

    def has(self, prompts: Iterable["EncodedPrompt"], timesteps: Sequence[int]) -> bool:
        """Return whether `context` would find all these prompts at all these timesteps."""
        keys = self._keys(timesteps)
        return all(key in known for known in map(self._known, prompts) for key in keys)

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
            here = self._kept if self._device in (None, contexts_RTNC.device) else self._in_use
            first = 0
            for prompt in together:
                count, n = (
                    len(prompt.features),
                    self.connector.num_tokens or prompt.features.shape[1],
                )
                kept = here.setdefault(prompt, {})
                for i, timestep in enumerate(missing):
                    # Chunks follow each other. Copies: a view would keep all contexts.
                    context_NC = contexts_RTNC[first : first + count, i, :n].flatten(0, 1).clone()
                    pooled = None if pooled_RTE is None else pooled_RTE[first, i][None].clone()
                    kept[timestep] = _Value(context_NC[None], pooled)
                first += count
            if self._bytes_in_use() > self._room:
                self.settle()
            on_pass(done, len(passes))
        computed = frozenset(timestep for _, missing in passes for timestep in missing)
        return Passes(len(passes), computed, time.perf_counter() - start)

    def bring(
        self, prompts: Iterable["EncodedPrompt"], timesteps: Sequence[int], device: torch.device
    ) -> None:
        """Copy contexts that `prepare` has computed to where they will be used.

        A prompt whose contexts have no `room` is left where it is: `context` copies each of its
        contexts when it is asked for.
        """
        for prompt in prompts:
            in_use, kept = self._in_use.setdefault(prompt, {}), self._kept.get(prompt, {})
            away = {
                key: kept[key]
                for key in self._keys(timesteps)
                if key not in in_use and kept[key].context.device != device
            }
            size = sum(value.nbytes for value in away.values())
            if away and self._bytes_in_use() + size <= self._room:
                in_use |= _moved(away, lambda values: send(values, device))

    def settle(self) -> None:
        """Leave no context on other devices than the one where they are kept; wait for those."""
        for prompt, in_use in self._in_use.items():
            kept = self._kept.setdefault(prompt, {})
            new = {key: value for key, value in in_use.items() if key not in kept}
            if new:
                kept |= _moved(new, lambda values: values.to(self._device))
        self._in_use.clear()

    def context(
        self, prompt: "EncodedPrompt", timestep: int, device: torch.device | None = None
    ) -> torch.Tensor:
        """Return a prompt's context at a timestep that `prepare` has computed.

        Args:
            prompt: one that `prepare` got.
            timestep: 0-999.
            device: where to; None for wherever it is.

        Returns:
            (1, N, C) float32. Do not write into it.
        """
        context = self._value(prompt, timestep).context
        return context if device is None else send(context, device)

    def pooled(
        self, prompt: "EncodedPrompt", timestep: int, device: torch.device | None = None
    ) -> torch.Tensor:
        """Return a prompt's pooled embedding, its first chunk's if it has several; see `context`.

        Returns:
            (1, E) float32.
        """
        pooled = self._value(prompt, timestep).pooled
        assert pooled is not None
        return pooled if device is None else send(pooled, device)

    def _value(self, prompt: "EncodedPrompt", timestep: int) -> _Value:
        (key,) = self._keys([timestep])
        return self._known(prompt)[key]

    def _known(self, prompt: "EncodedPrompt") -> Mapping[int, _Value]:
        """Return all that is known of a prompt, first what is in use."""
        return ChainMap(self._in_use.get(prompt, {}), self._kept.get(prompt, {}))

    def _bytes_in_use(self) -> int:
        return sum(value.nbytes for kept in self._in_use.values() for value in kept.values())

    def _missing(
        self, prompts: Iterable["EncodedPrompt"], wanted: Sequence[int]
    ) -> Iterator[tuple[list["EncodedPrompt"], Sequence[int]]]:
        """Yield the prompts and timesteps of each pass that is needed."""
        missing_in: dict[tuple[int, ...], list[EncodedPrompt]] = {}
        for prompt in dict.fromkeys(prompts):
            known = self._known(prompt)
            missing = tuple(timestep for timestep in wanted if timestep not in known)
            if missing:
                missing_in.setdefault(missing, []).append(prompt)
        for missing, together in missing_in.items():
            for group in self._groups(together):
                size = max(1, _MAX_ROWS // self._rows(group))
                for i in range(0, len(missing), size):
                    yield group, missing[i : i + size]

    def _rows(self, prompts: list["EncodedPrompt"]) -> int:
        """Return the rows of a pass per timestep; every prompt is padded to the longest."""
        longest = max(prompt.features.shape[1] for prompt in prompts)
        texts = sum(len(prompt.features) for prompt in prompts)
        return texts * (longest + (self.connector.num_tokens or 0))

    def _groups(self, prompts: list["EncodedPrompt"]) -> list[list["EncodedPrompt"]]:
        """Put all prompts together, unless padding to a huge one would cost too much."""
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
            rows_RLD += send(prompt.features, device).float().unbind()
            everything = torch.ones(prompt.features.shape[:2], dtype=torch.bool)
            masks_RL += (everything if prompt.mask is None else prompt.mask).unbind()
        features = pad_sequence(rows_RLD, batch_first=True)[:, None]
        attended = None
        if any(prompt.mask is not None for prompt in prompts) or len(set(map(len, rows_RLD))) > 1:
            attended = send(pad_sequence(masks_RL, batch_first=True)[:, None], device)
        at = send(torch.tensor(timesteps), device)
        contexts = self.connector(features, at, attended)
        pooled = None
        if self.connector.pooled_dim is not None:
            pooled = self.connector.pooled(contexts)
        return contexts, pooled

    def _keys(self, timesteps: Sequence[int]) -> list[int]:
        """Return the keys of contexts; a connector that ignores the timestep has a single one."""
        if self.connector.timestep_aware:
            return list(timesteps)
        return [_ANY_TIMESTEP] * len(timesteps)


def _moved(values: _Kept, move: Callable[[torch.Tensor], torch.Tensor]) -> _Kept:
    """Move the values of one prompt, all contexts with a single copy."""
    contexts = move(torch.cat([value.context for value in values.values()]))
    pooled = [value.pooled for value in values.values() if value.pooled is not None]
    embeddings = move(torch.cat(pooled)) if pooled else [None] * len(values)
    return {
        key: _Value(context[None], None if embedding is None else embedding[None])
        for key, context, embedding in zip(values, contexts, embeddings, strict=True)
    }
