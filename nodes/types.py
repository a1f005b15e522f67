"""The pack's own types, and what the schemas of all nodes share."""

import json
from dataclasses import fields
from pathlib import Path

from comfy_api.latest import io

CATEGORY = "ELLA"

EllaType = io.Custom("ELLA")
LLMType = io.Custom("ELLA_LLM")
EmbedsType = io.Custom("ELLA_LLM_EMBEDS")

_SEARCH_TERMS = Path(__file__).parents[1] / "web/search-terms.json"


def search_aliases(node_id: str, schema: type = io.Schema) -> dict[str, list[str]]:
    """Return the schema argument with a node's search words, from `web/search-terms.json`.

    Empty if ComfyUI's `schema` has no `search_aliases`; `web/ella-search.js` replaces it there.
    """
    if "search_aliases" not in {field.name for field in fields(schema)}:
        return {}
    terms: dict[str, list[str]] = json.loads(_SEARCH_TERMS.read_text(encoding="utf-8"))
    return {"search_aliases": terms[node_id]}
