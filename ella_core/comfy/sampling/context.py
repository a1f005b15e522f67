"""The tensor of a CONDITIONING, which can be computed again at any timestep.

Other nodes edit a conditioning's tensor: they concatenate, average, pad, cast or slice it, or
stack several along the batch. `TimestepContext` records these edits. At each model call the
wrapper repeats them on the contexts of that call's timestep, so the edits hold at every timestep.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...store import send
from .prompt import PooledPrompt, TimestepPrompt, not_prepared


class Edit:
    """A torch function that was called on contexts, to be called again on other contexts.

    Attributes:
        sources: the contexts among its arguments.
    """

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._function = function
        values, self._structure = tree_flatten((args, kwargs))
        self._writes = _writes(function)
        if self._writes and not isinstance(args[0], TimestepContext):
            values[0] = values[0].clone()  # as it was before the call
        self._values = [
            value.origin if isinstance(value, TimestepContext) else value for value in values
        ]
        self.sources = [value for value in self._values if isinstance(value, Origin)]

    def __call__(self, results: dict["Origin", Any], place: "Place") -> Any:
        """Call the function at `place` with `results` in place of the sources."""
        if self._function in (torch.Tensor.cpu, torch.Tensor.cuda):
            return results[self.sources[0]]
        values = [
            results[value] if isinstance(value, Origin) else place.moved(value)
            for value in self._values
        ]
        if self._writes:
            values[0] = values[0].clone()
        args, kwargs = tree_unflatten(values, self._structure)
        with torch._C.DisableTorchFunctionSubclass():
            result = self._function(*args, **kwargs)
        return values[0] if self._writes else result


class Item:
    """One of several results of an edit, such as a chunk."""

    def __init__(self, edit: Edit, index: int) -> None:
        self.sources: list[Origin] = [edit]
        self._index = index

    def __call__(self, results: dict["Origin", Any], place: "Place") -> Any:
        """Return this result of the edit."""
        return results[self.sources[0]][self._index]


Leaf = TimestepPrompt | PooledPrompt  # these have a value at every timestep
Origin = Leaf | Edit | Item  # how a context came about


class Place:
    """A device that edits are repeated on, with what had to be moved there."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._moved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def moved(self, value: Any) -> Any:
        """Return an argument of an edit for this device; it may be on another, or name another."""
        if isinstance(value, torch.Tensor):
            if value.device == self.device:
                return value
            if id(value) not in self._moved:
                self._moved[id(value)] = value, send(value, self.device)
            return self._moved[id(value)][1]
        is_device = isinstance(value, torch.device) or (
            isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda", "mps", "xpu")
        )
        return self.device if is_device else value


def replay(origin: Origin, value: Callable[[Leaf], torch.Tensor], place: Place) -> torch.Tensor:
    """Repeat all edits that led to `origin`.

    Args:
        origin: of the context wanted.
        value: gives the value of a prompt, on the device of `place`.
        place: where to compute.
    """
    results: dict[Origin, Any] = {}
    waiting = [origin]  # no recursion: a chain of edits may be long
    while waiting:
        last = waiting[-1]
        missing = [source for source in _sources(last) if source not in results]
        waiting += missing
        if not missing:
            if isinstance(last, Leaf):
                results[last] = value(last)
            else:
                results[last] = last(results, place)
            waiting.pop()
    result: torch.Tensor = results[origin]
    return result


def prompts_of(tensor: torch.Tensor | None) -> list[TimestepPrompt]:
    """Return the prompts that a tensor was made of; none for any but a `TimestepContext`."""
    if not isinstance(tensor, TimestepContext):
        return []
    seen = waiting = {tensor.origin: None}
    while waiting:
        waiting = dict.fromkeys(s for origin in waiting for s in _sources(origin) if s not in seen)
        seen = {**seen, **waiting}
    prompts = (each.prompt if isinstance(each, PooledPrompt) else each for each in seen)
    return list(dict.fromkeys(each for each in prompts if isinstance(each, TimestepPrompt)))


def _sources(origin: Origin) -> list[Origin]:
    return [] if isinstance(origin, Leaf) else origin.sources


#: During a model call: gives a context at the timesteps of this call.
current_value: ContextVar[Callable[["TimestepContext"], torch.Tensor] | None]
current_value = ContextVar("current_value", default=None)

# Where contexts end. Attention Couple, NAG and others bring contexts into cross-attention by
# themselves; such a context takes its value of the current model call there.
_LAYERS = (F.linear, torch._scaled_mm)


class TimestepContext(torch.Tensor):
    """(B, N, C) context at a middle timestep, which knows how to be made at any timestep.

    A pooled embedding (B, E) is one too.

    Attributes:
        origin: the prompt that it is the context of, or the edit that it came from.
    """

    origin: Origin

    @classmethod
    def of(cls, tensor: torch.Tensor, origin: Origin) -> "TimestepContext":
        """Return `tensor`, sharing its memory, with its origin."""
        with torch._C.DisableTorchFunctionSubclass():
            context = tensor.as_subclass(cls)
        context.origin = origin
        return context

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `func` and note on its results how they came about."""
        kwargs = kwargs or {}
        if func in _LAYERS:
            return func(*map(_current, args), **kwargs)
        edit = Edit(func, args, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if _writes(func):
            args[0].__class__ = cls  # a buffer that a context was written into is one, too
            args[0].origin = edit
        elif _depends_on_values(func):
            if isinstance(result, torch.Tensor) and not isinstance(result, cls):
                return cls.of(result, edit)
            if type(result) in (list, tuple) and all(isinstance(r, torch.Tensor) for r in result):
                return type(result)(cls.of(r, Item(edit, i)) for i, r in enumerate(result))
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> "TimestepContext":
        return TimestepContext.of(plain(self).clone(), self.origin)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same tensor without an origin."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(torch.Tensor)


def _current(value: Any) -> Any:
    if not isinstance(value, TimestepContext):
        return value
    at_this_call = current_value.get()
    if at_this_call is None:
        raise not_prepared()
    return at_this_call(value)


def _writes(function: Callable[..., Any]) -> bool:
    """Return whether a function of torch writes into its first argument."""
    name: str = getattr(function, "__name__", "")
    return name in ("__setitem__", "__set__") or (name.endswith("_") and not name.endswith("__"))


def _depends_on_values(function: Callable[..., Any]) -> bool:
    """Return whether a function uses more of its arguments than shape, dtype and device."""
    name: str = getattr(function, "__name__", "")
    return not (name.endswith("_like") or name.startswith("new_"))
