"""What the editor asks of the server and is told by it."""
