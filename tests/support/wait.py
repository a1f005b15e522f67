"""Waiting for what another process or thread does."""

import time


def free(server, done, **flags):
    """Ask ComfyUI to free its memory until `done()` holds.

    A single request can be lost: ComfyUI's worker does not hear of one that comes while it
    collects garbage.
    """

    def asked():
        server.post("/free", flags)
        return done()

    wait_until(asked)


def wait_until(condition, seconds=30):
    """Return once `condition()` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
