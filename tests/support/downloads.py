"""The download node in a graph of its own, and what the loaders offer then."""

from .host import Graph


def download(host, models="connector and LLM", on_progress=None):
    """The run's result, the text on the node while it ran, and what the node shows at the end."""
    graph = Graph()
    node = graph.add("ELLADownloadModels", models=models)
    result = host.run(graph, on_progress)
    return result, result.texts.get(node.id), result.outputs.get(node.id)


def offered(host):
    """The entries of the dropdowns of Load ELLA and Load LLM."""
    names = []
    for node, name in (("ELLALoad", "ella_name"), ("ELLALoadLLM", "llm_name")):
        info = host.server.get(f"/object_info/{node}")[node]
        names += info["input"]["required"][name][1]["options"]
    return names
