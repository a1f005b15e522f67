"""The pack's own types, and what the schemas of all nodes share."""

import json
from dataclasses import fields
from pathlib import Path

from comfy_api.latest import io

CATEGORY = "ELLA"
DEPRECATED = "ELLA/deprecated"

EllaType = io.Custom("ELLA")
LLMType = io.Custom("ELLA_LLM")
EmbedsType = io.Custom("ELLA_LLM_EMBEDS")
AxesType = io.Custom("ELLA_XY")

_SEARCH_TERMS = Path(__file__).parents[1] / "web/search-terms.json"


def search_aliases(node_id: str, schema: type = io.Schema) -> dict[str, list[str]]:
    """Return the schema argument with a node's search words, from `web/search-terms.json`.

    Empty if ComfyUI's `schema` has no `search_aliases`; `web/ella-search.js` replaces it there.
    """
    if "search_aliases" not in {field.name for field in fields(schema)}:
        return {}
    terms: dict[str, list[str]] = json.loads(_SEARCH_TERMS.read_text(encoding="utf-8"))
    return {"search_aliases": terms[node_id]}


def deprecated_schema(
    pack: str,
    node_id: str,
    name: str,
    instead: str,
    inputs: list[io.Input],
    outputs: list[io.Output],
) -> io.Schema:
    """Return the schema of a node that keeps another pack's graphs running.

    Args:
        pack: the other pack.
        node_id: the node's id there.
        name: what it is called there.
        instead: the node of ours to use in new graphs.
        inputs: as they are there.
        outputs: as they are there.
    """
    return io.Schema(
        node_id=node_id,
        display_name=f"{name} (now {instead})",
        category=DEPRECATED,
        description=f"Keeps graphs running that were made with {pack}. In new graphs: {instead}.",
        inputs=inputs,
        outputs=outputs,
        is_deprecated=True,
    )
