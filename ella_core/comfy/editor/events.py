"""Reports of a run, sent to the editor as an event of the pack's own.

`web/ella-report.js` draws it on the node, in the editor's language.
"""

from typing import Any

from comfy_execution.utils import get_executing_context

EVENT = "ella.report"


def send_report(kind: str, text: str, node_id: str | None = None, **values: Any) -> None:
    """Send a report about a node to the editor or program that queued the running prompt.

    Nothing is sent outside a run, or if the one that queued it does not listen: ComfyUI would send
    the event to all editors.

    Args:
        kind: which report it is; the editor's wording depends on it.
        text: the report in English, for programs that only print it.
        node_id: the node, None for the one that is being executed.
        values: numbers and names in the report, as JSON.
    """
    context = get_executing_context()
    if context is None:
        return
    from server import PromptServer  # absent where the library is used without the server

    client = PromptServer.instance.client_id
    if client is None:
        return
    about = {
        "prompt_id": context.prompt_id,
        "workflow": _workflow_id(context.prompt_id),
        "node": node_id or context.node_id,
    }
    report = {**about, "kind": kind, "text": text, **values}
    PromptServer.instance.send_sync(EVENT, report, client)


def _workflow_id(prompt_id: str) -> str | None:
    """Return the id of the editor's graph behind a running prompt, None for a prompt without one.

    Node ids alone are ambiguous: workflows in other tabs of the editor have the same.
    """
    from server import PromptServer

    running, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    for _, running_id, _, extra_data, *_ in running:
        match extra_data:
            case {"extra_pnginfo": {"workflow": {"id": str(found)}}} if running_id == prompt_id:
                return found
    return None
