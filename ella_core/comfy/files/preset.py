"""Which connector and which LLM "auto" stands for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...config import LLM_NAMES, ConnectorConfig, ConnectorMetadata, LLMIdentity
from ...errors import EllaError
from .folders import (
    NO_CONNECTOR,
    NO_LLM,
    RELEASED_CONNECTOR,
    RELEASED_LLM,
    connector_names,
    connector_path,
    llm_names,
    llm_path,
)

if TYPE_CHECKING:
    from ...text_encoders.model_type import LLMKind

AUTO = "auto"


def choose_connector(name: str) -> str:
    """Return the connector that an entry of the dropdown stands for: the only one for `AUTO`.

    Raises:
        EllaError: there is none, or there are several.
    """
    if name != AUTO:
        return name
    names = connector_names()
    if names == [NO_CONNECTOR]:
        connector_path(RELEASED_CONNECTOR)  # says where to get it
    return _only(names, "connectors are installed", "ella_name")


def choose_llm(name: str, ella_name: str) -> str:
    """Return the LLM that an entry of the dropdown stands for: for `AUTO`, the connector's.

    That is the only one that is installed, or the only one that the connector can read.

    Args:
        name: the entry.
        ella_name: the connector's entry. It is looked for only if several LLMs are installed.

    Raises:
        EllaError: none is installed, none or several fit, or see `choose_connector`.
    """
    if name != AUTO:
        return name
    names = llm_names()
    if names == [NO_LLM]:
        llm_path(RELEASED_LLM)  # says where to get it
    if len(names) == 1:
        return names[0]
    from ...checkpoint import read_header  # not at ComfyUI's start

    ella_name = choose_connector(ella_name)
    config, metadata = read_header(connector_path(ella_name))
    kinds = {each: kind for each in names if (kind := _kind(each))}
    fitting = [each for each, kind in kinds.items() if _fits(kind, config, metadata)]
    if len(fitting) > 1 and metadata.llm_type is None:
        # Connectors that say nothing are the released one and its copies, whose LLM is a T5.
        fitting = [each for each in fitting if kinds[each].model_type == "t5"] or fitting
    if not fitting:
        wanted = metadata.llm or LLM_NAMES.get(config.llm_dim, "one")
        raise EllaError(
            f"None of the {len(names)} LLMs installed fits the connector {ella_name}, which reads "
            f"features {config.llm_dim} wide: it needs {wanted}. Install that, or choose another "
            f"connector as ella_name in Load ELLA Models."
        )
    return _only(fitting, f"LLMs fit the connector {ella_name}", "llm_name")


def _only(names: Sequence[str], what: str, widget: str) -> str:
    if len(names) > 1:
        raise EllaError(
            f"{len(names)} {what}, and auto takes the only one: {', '.join(names[:8])}. Choose one "
            f"as {widget} in Load ELLA Models."
        )
    return names[0]


def _kind(name: str) -> "LLMKind | None":
    """Return what an LLM is; None where its files are no usable ones."""
    from ...text_encoders.model_type import kind_of

    try:
        return kind_of(llm_path(name))
    except (EllaError, OSError, ValueError):  # Load LLM says what is wrong, if it is chosen
        return None


def _fits(kind: "LLMKind", config: ConnectorConfig, metadata: ConnectorMetadata) -> bool:
    if kind.width != config.llm_dim:
        return False
    if kind.model_type is None or kind.layers is None:
        return True
    identity = LLMIdentity(kind.model_type, kind.layers)
    return not identity.is_other_than(metadata.llm_type, metadata.llm_layers)
