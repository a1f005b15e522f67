"""Types on the wires of the official pack, TencentQQGYLab/ComfyUI-ELLA.

That pack computes the context of every step beforehand, so MODEL may go to the sampler unpatched.
Here the conditionings of such graphs bring what a patched MODEL has.
"""

from dataclasses import dataclass
from typing import Any

from comfy.hooks import HookGroup, TransformerOptionsHook
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import get_wrappers_with_key
from comfy.sd1_clip import escape_important, token_weights, unescape_important

from ..errors import EllaError
from .editor.report import Report
from .llm.embeds import LLMEmbeds
from .llm.model import LLM
from .sampling.conditioning import Conditioning, make_conditioning
from .sampling.connector import ELLA
from .sampling.prompt import KEY
from .sampling.wrappers import WRAPPERS


@dataclass(frozen=True)
class TextEncoderSettings:
    """T5_TEXT_ENCODER: an LLM, and the length that its prompts are read at (0: their own)."""

    llm: LLM
    max_length: int

    def encode(self, text: str) -> "OfficialEmbeds":
        """Read a prompt as the official pack does: weights are taken out, and not applied.

        Raises:
            EllaError: see `LLM.encode`.
        """
        embeds = self.llm.encode(without_weights(text), self.max_length, markup=False)
        return OfficialEmbeds(embeds=embeds)


@dataclass(frozen=True)
class OfficialEmbeds:
    """ELLA_EMBEDS: a prompt as the LLM read it, as CLIP read it, or both.

    Attributes:
        embeds: the LLM's reading.
        clip: CLIP's conditioning, whose tokens follow ELLA's.
    """

    embeds: LLMEmbeds | None = None
    clip: Conditioning | None = None

    def updated_with(self, other: "OfficialEmbeds") -> "OfficialEmbeds":
        """Return both together; where both have the same part, the other's."""
        return OfficialEmbeds(other.embeds or self.embeds, other.clip or self.clip)

    def conditioning(self, ella: ELLA) -> Conditioning:
        """Return CONDITIONING that needs no patched MODEL.

        Raises:
            EllaError: no LLM has read a prompt, or it is not the connector's LLM.
        """
        if self.embeds is None:
            raise EllaError(
                "These ELLA_EMBEDS hold CLIP's tokens alone. Join them with those of T5 Text "
                "Encode #ELLA, or better move over to ELLA Timestep Conditioning."
            )
        made = make_conditioning(ella, self.embeds, self.clip, Report(None, []))
        return [[context, {**options, "hooks": _hooked(options)}] for context, options in made]


def without_weights(text: str) -> str:
    r"""Take ComfyUI's own markup out of a prompt: `a (red:1.2) \(big\) cat` has four words."""
    words = token_weights(escape_important(text), 1.0)
    return "".join(unescape_important(part) for part, _ in words)


class WrapperHook(TransformerOptionsHook):
    """Brings to a run what `patch_model` puts on a MODEL, where it is not there yet.

    It registers nothing of its own: ComfyUI then takes it off the conditionings, so that these
    are batched and computed as they would be without it.
    """

    def __init__(self) -> None:
        wrappers = {kind: {KEY: [wrapper]} for kind, wrapper in WRAPPERS.items()}
        super().__init__({"wrappers": wrappers})

    def add_hook_patches(
        self,
        model: ModelPatcher,
        model_options: dict[str, Any],
        target_dict: dict[str, Any],
        registered: HookGroup,
    ) -> bool:
        """Add the wrappers to the run's own copy of MODEL's options; called before a run."""
        if not any(get_wrappers_with_key(kind, KEY, model_options, True) for kind in WRAPPERS):
            super().add_hook_patches(model, model_options, target_dict, HookGroup())
        return False


_HOOKS = HookGroup()
_HOOKS.add(WrapperHook())


def _hooked(options: dict[str, Any]) -> HookGroup:
    """Return the hooks of a conditioning and ours; always the same group if it has none."""
    return HookGroup.combine_all_hooks([options.get("hooks"), _HOOKS])
