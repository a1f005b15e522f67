"""Types on the wires of NeuroSenko/ComfyUI_LLM_SDXL_Adapter.

That pack conditions unpatched MODELs, which its adapters allow: they know no timestep.
"""

from typing import Any, TypeVar

from ..config import ADAPTER_RECIPES, PromptTemplate
from ..errors import EllaError
from .editor.report import Report
from .llm.embeds import LLMEmbeds
from .llm.model import LLM
from .sampling.conditioning import Conditioning
from .sampling.connector import ELLA
from .sampling.prompt import make_prompts

T = TypeVar("T")


def read_as_gemma(model: LLM, text: str, system_prompt: str, skip_first: int) -> LLMEmbeds:
    """Read a prompt as it stands, within the LLM's chat template.

    Raises:
        EllaError: another pack made `model`, or see `LLM.encode`.
    """
    template = PromptTemplate(system_prompt, None, skip_first)
    return _ours(model, LLM, "model").encode(text, 0, markup=False, template=template)


def read_as_t5gemma(model: LLM, text: str, max_length: int) -> LLMEmbeds:
    """Read a prompt as it stands, filled up to `max_length` or to what the adapter reads at most.

    Raises:
        EllaError: another pack made `model`, or see `LLM.encode`.
    """
    longest = ADAPTER_RECIPES["t5gemma"].max_tokens
    length = max_length if max_length < longest else 0
    return _ours(model, LLM, "llm_model").encode(text, length, markup=False)


def adapt(ella: ELLA, embeds: LLMEmbeds) -> Conditioning:
    """Return CONDITIONING that needs no patched MODEL: context and pooled embedding.

    Raises:
        EllaError: another pack made one of the two, the LLM is not the adapter's, or what is there
            in the adapter's place depends on the timestep or has no pooled embedding.
    """
    embeds = _ours(embeds, LLMEmbeds, "llm_hidden_states")
    ella = _ours(ella, ELLA, "llm_adapter")
    (prompt,) = make_prompts(ella, [embeds], Report(None, []))
    if ella.connector.timestep_aware or prompt.pooled is None:
        raise EllaError(
            f"{ella.name} is no LLM adapter for SDXL. Connect it to ELLA Timestep Conditioning, "
            f"or choose an adapter in LLM Adapter Loader."
        )
    # Copies: other nodes may write into them.
    return [[prompt.static.clone(), {"pooled_output": prompt.pooled.static.clone()}]]


def _ours(value: Any, expected: type[T], name: str) -> T:
    if not isinstance(value, expected):
        raise EllaError(
            f"The input {name} got a {type(value).__name__}, which another node pack made. Connect "
            f"the nodes of one pack to each other."
        )
    return value
