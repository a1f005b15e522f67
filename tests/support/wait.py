"""Waiting for what another process or thread does."""

import time


def wait_until(condition, seconds=30):
    """Return once `condition()` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
