"""The server's side of the editor: routes, token counts, reports of a run."""
