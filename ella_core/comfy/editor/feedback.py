"""Telling the user something on the node itself."""

from comfy_execution.utils import get_executing_context


def show_on_node(node_id: str, text: str) -> None:
    """Show a line of text on a node in the editor that queued the running prompt, if one did."""
    from server import PromptServer  # not there where the library is used without the server

    server = PromptServer.instance
    if server.client_id is not None:  # it would be sent to all editors
        server.send_progress_text(text, node_id, server.client_id)


def show_on_running_node(text: str) -> None:
    """Show a line of text on the node that is being executed, such as a sampler."""
    context = get_executing_context()
    if context is not None:
        show_on_node(context.node_id, text)
