"""Telling the user something on the node itself."""

from server import PromptServer


def show_on_node(node_id: str, text: str) -> None:
    """Show a line of text on a node in the editor that queued the running prompt."""
    server = PromptServer.instance
    server.send_progress_text(text, node_id, server.client_id)
