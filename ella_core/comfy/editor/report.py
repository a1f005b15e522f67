"""Reports of conditioning nodes about a run: tokens, connector passes and their time."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from ...store import Passes
from ..llm.embeds import LLMEmbeds
from .events import send_report

if TYPE_CHECKING:
    from ...text_encoders import EncodedPrompt

logger = logging.getLogger("ella")

_NO_RUN = object()  # None is a run outside ComfyUI's queue


class Report:
    """Counts the passes that the prompts of one conditioning node need in a queued run.

    Several samplers in one run are counted together.
    """

    def __init__(self, node_id: str | None, embeds: Iterable[tuple[str, LLMEmbeds]]) -> None:
        """Begin without a pass.

        Args:
            node_id: the node that shows it, None for none.
            embeds: its prompts with what they are called, "" where there is one alone.
        """
        self._node_id = node_id
        self._prompts = [
            {"name": name, "tokens": [_length(prompt) for prompt, _ in each.parts]}
            for name, each in embeds
        ]
        self._long: dict[str, Any] | None = None  # the longest of the prompts that are too long
        self._run: Any = _NO_RUN
        self._warned_in: Any = _NO_RUN
        self._passes: list[Passes] = []

    def add(self, passes: Passes) -> None:
        """Count passes in the run that is being executed."""
        self._enter_run()
        self._passes.append(passes)

    def progress(self, done: int, of: int) -> None:
        """Move the node's own progress bar, beside the sampler's."""
        if self._node_id is None:
            return
        state = get_progress_state()
        state.update_progress(self._node_id, done, of)
        if done == of:
            state.finish_progress(self._node_id)

    def show(self) -> None:
        """Show on the node what the run has needed so far."""
        if self._node_id is None:
            return
        self._enter_run()
        computed = frozenset().union(*(passes.timesteps for passes in self._passes))
        values: dict[str, Any] = {
            "passes": sum(passes.count for passes in self._passes),
            "timesteps": len(computed),
            "milliseconds": round(1000 * sum(passes.seconds for passes in self._passes)),
        }
        text = f"{_describe(self._prompts)} ·\nconnector: {_summarise(**values)}"
        if self._long:
            text += f"\n{_describe_length(**self._long)}"
        values |= {"prompts": self._prompts, "long": self._long}
        send_report("connector", text, self._node_id, **values)

    def warn_of_change(self) -> None:
        """Say once per sampler that another node changed the prompts' tokens."""
        sampler = get_executing_context()
        if self._warned_in == sampler:
            return
        self._warned_in = sampler
        text = (
            "An ELLA conditioning stays at one timestep for this whole run: a node between it and "
            "the sampler has replaced its tokens by others. Leave that node out."
        )
        logger.warning("%s", text)
        send_report("frozen", text)

    def warn_of_length(self, connector: str, tokens: int, trained: int) -> None:
        """Say now, and in each report of a run, that a prompt is longer than the training's."""
        about: dict[str, Any] = {"connector": connector, "tokens": tokens, "trained": trained}
        text = _describe_length(**about)
        logger.warning("%s", text)
        send_report("long", text, **about)
        self._long = max(self._long or about, about, key=lambda each: each["tokens"])

    def _enter_run(self) -> None:
        context = get_executing_context()
        run = context and context.prompt_id
        if run != self._run:
            self._run, self._passes = run, []


def _length(prompt: "EncodedPrompt") -> int:
    """Return how many LLM tokens the connector reads."""
    if prompt.mask is not None:
        return int(prompt.mask.sum())
    count, length, _ = prompt.features.shape
    return count * length


def _describe(prompts: Iterable[dict[str, Any]]) -> str:
    """Describe what the connector reads, padding included: "positive 23, negative 1 tokens"."""
    words = []
    for prompt in prompts:
        lengths = " + ".join(f"{length:,}" for length in prompt["tokens"])
        words.append(f"{prompt['name']} {lengths}".strip())
    return ", ".join(words) + (" token" if words == ["1"] else " tokens")


def _summarise(passes: int, timesteps: int, milliseconds: int) -> str:
    if not passes:
        return "nothing to compute, all kept"
    took = f"{milliseconds / 1000:.2f} s" if milliseconds >= 100 else f"{milliseconds} ms"
    return f"{_number(passes, 'pass', 'passes')} for {_number(timesteps, 'timestep')}, {took}"


def _describe_length(connector: str, tokens: int, trained: int) -> str:
    return (
        f"{tokens:,} tokens: the connector {connector} was trained on {trained:,} and has not seen "
        f"longer prompts"
    )


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
