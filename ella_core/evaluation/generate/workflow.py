"""A ComfyUI workflow in API format, with the inputs that take the prompt and the seed."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import EllaError

Graph = dict[str, dict[str, Any]]

_EXPORT = "In ComfyUI use Workflow > Export (API), and name that file"
_SEED_INPUTS = ("seed", "noise_seed")  # of ComfyUI's samplers and noise nodes


@dataclass(frozen=True)
class Slot:
    """An input of a node that is set anew for every picture."""

    node: str
    input: str


@dataclass(frozen=True)
class Workflow:
    """A graph and where the prompt and the seed go.

    Attributes:
        graph: node id -> class_type, inputs and, if exported by the editor, _meta.title.
        prompts: take the text.
        seeds: take the seed.
        outputs: ids of the nodes whose pictures count; empty if the graph saves just one.
    """

    graph: Graph
    prompts: tuple[Slot, ...]
    seeds: tuple[Slot, ...]
    outputs: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        path: Path,
        prompt_nodes: Sequence[str],
        seed_nodes: Sequence[str] = (),
        output_nodes: Sequence[str] = (),
    ) -> "Workflow":
        """Read a workflow and find its slots.

        Args:
            path: JSON file in API format.
            prompt_nodes: where the text goes, each `NODE` or `NODE.INPUT`. NODE is an id or a
                title; "Prompt" also finds the title "Prompt: CLIP Text Encode". Case is ignored.
            seed_nodes: where the seed goes. None: every `seed` and `noise_seed` of the graph.
            output_nodes: the nodes whose pictures count.

        Raises:
            EllaError: the file is no API workflow, or a node or an input isn't found.
        """
        graph = _read(path)
        prompts = [slot for name in prompt_nodes for slot in _prompt_slots(graph, name)]
        seeds = [slot for name in seed_nodes for slot in _seed_slots(graph, name)]
        outputs = [node for name in output_nodes for node in _nodes(graph, name)]
        return cls(graph, tuple(prompts), tuple(seeds or _all_seeds(graph)), tuple(outputs))

    def filled(self, prompt: str, seed: int) -> Graph:
        """Return a copy of the graph with prompt and seed in their slots."""
        graph = copy.deepcopy(self.graph)
        for slots, value in ((self.prompts, prompt), (self.seeds, seed)):
            for slot in slots:
                graph[slot.node]["inputs"][slot.input] = value
        return graph

    @property
    def hash(self) -> str:
        """SHA-256 of all but prompt, seed and titles: where they go, which output counts."""
        graph = copy.deepcopy(self.graph)
        for slot in (*self.prompts, *self.seeds):
            graph[slot.node]["inputs"][slot.input] = None
        for node in graph.values():
            node.pop("_meta", None)
        text = json.dumps([graph, self.outputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> Graph:
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EllaError(f"the workflow {path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise EllaError(f"the workflow {path} is not JSON: {error}") from error
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        raise EllaError(f"{path} is a workflow in the editor's format. {_EXPORT}")
    nodes = graph.values() if isinstance(graph, dict) else [None]
    if not all(
        isinstance(node, dict) and {"class_type", "inputs"} <= node.keys() for node in nodes
    ):
        raise EllaError(f"{path} is not a workflow in API format. {_EXPORT}")
    return dict(graph)


def _title(node: dict[str, Any]) -> str:
    return str(node.get("_meta", {}).get("title", ""))


def _nodes(graph: Graph, name: str) -> list[str]:
    """The ids of the nodes that are called so."""
    if name in graph:
        return [name]
    wanted = name.casefold()
    titles = {id_: _title(node).casefold() for id_, node in graph.items()}
    found = [id_ for id_, title in titles.items() if wanted in (title, title.partition(":")[0])]
    if not found:
        raise EllaError(
            f"the workflow has no node with the id or the title {name!r}:\n{_listing(graph)}\n"
            "Name one of these, or give the node that title in ComfyUI and export again"
        )
    return found


def _slots(graph: Graph, name: str) -> tuple[list[str], str]:
    """Node ids and the input of `NODE` or `NODE.INPUT`; the input is empty for the former."""
    node, dot, input_ = name.rpartition(".")
    if dot and name not in graph:
        inputs = {key for each in graph.values() for key in each["inputs"]}
        if input_ in inputs:
            return _nodes(graph, node), input_
    return _nodes(graph, name), ""


def _prompt_slots(graph: Graph, name: str) -> list[Slot]:
    nodes, input_ = _slots(graph, name)
    return [Slot(node, _choose(graph, node, input_, str, ("text", "prompt"))) for node in nodes]


def _seed_slots(graph: Graph, name: str) -> list[Slot]:
    nodes, input_ = _slots(graph, name)
    return [Slot(node, _choose(graph, node, input_, int, _SEED_INPUTS)) for node in nodes]


def _choose(graph: Graph, node: str, wanted: str, kind: type, usual: Sequence[str]) -> str:
    """The input named, else the one with a usual name, else the only one that holds a `kind`."""
    inputs = graph[node]["inputs"]
    fitting = [key for key, value in inputs.items() if type(value) is kind]
    if wanted in fitting:
        return wanted
    if not wanted:
        for found in ([key for key in usual if key in fitting], fitting):
            if len(found) == 1:
                return found[0]
    linked = {key: value[0] for key, value in inputs.items() if isinstance(value, list)}
    what = "text" if kind is str else "whole number"
    raise EllaError(
        f"node {node} ({_title(graph[node]) or graph[node]['class_type']}) of the workflow has "
        f"{f'no {what} {wanted!r}' if wanted else f'not just one {what}'}: these inputs hold one: "
        f"{', '.join(fitting) or 'none'}; these come from other nodes: "
        f"{', '.join(f'{key} (node {id_})' for key, id_ in linked.items()) or 'none'}. "
        f"Name NODE.INPUT, or the node that it comes from"
    )


def _all_seeds(graph: Graph) -> list[Slot]:
    found = [
        Slot(id_, name)
        for id_, node in graph.items()
        for name in _SEED_INPUTS
        if type(node["inputs"].get(name)) is int
    ]
    if not found:
        raise EllaError(
            "the workflow has no input called seed or noise_seed that holds a number. Name the "
            f"node that takes the seed (--seed-node NODE.INPUT):\n{_listing(graph)}"
        )
    return found


def _listing(graph: Graph) -> str:
    return "\n".join(
        f"  {id_}: {node['class_type']} {_title(node)!r}" for id_, node in graph.items()
    )
