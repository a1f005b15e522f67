"""The jobs of a run, shared by all servers."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from ...errors import EllaError
from .jobs import Job

_TRIES = 2  # errors after which a job is given up
_HOPELESS = 8  # as many jobs given up in a row mean that the fault is not theirs


class Work:
    """Hands out jobs so that each ends once: painted, or given up after errors.

    Args:
        jobs: all of them.
        on_end: called as often as a job ends.

    Attributes:
        living: servers that take jobs.
        given_up: jobs that failed for good.
    """

    def __init__(self, jobs: Iterable[Job], on_end: Callable[[], object]) -> None:
        self.living: set[str] = set()
        self.given_up: list[Job] = []
        self._waiting = deque(jobs)
        self._open = len(self._waiting)
        self._failures_in_row = 0
        self._last_seen = time.monotonic()
        self._on_end = on_end
        self._changed, self._ended = asyncio.Event(), asyncio.Event()

    @property
    def finished(self) -> bool:
        """Whether every job has ended."""
        return self._ended.is_set()

    @property
    def seconds_alone(self) -> float:
        """For how long no server has been living."""
        return 0.0 if self.living else time.monotonic() - self._last_seen

    async def take(self, server: str) -> Job | None:
        """Return the next job for a server, waiting for one if need be.

        A job goes back to a server that failed on it only if no other is living.

        Returns:
            None if all jobs have ended or the server has left.
        """
        while not self.finished and server in self.living:
            for job in self._waiting:
                others = any(not job.failed_on(each) for each in self.living - {server})
                if not (job.failed_on(server) and others):
                    self._waiting.remove(job)
                    return job
            await self._changed.wait()
        return None

    async def rest(self, seconds: float) -> None:
        """Wait, but no longer than there are jobs."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    def join(self, server: str) -> None:
        """Note that a server takes jobs."""
        self.living.add(server)

    def leave(self, server: str) -> None:
        """Note that a server takes no more jobs; others may now take those that it failed on."""
        self.living.discard(server)
        self._last_seen = time.monotonic()
        self._notify()

    def give_back(self, job: Job) -> None:
        """Put a job in front of the others."""
        self._waiting.appendleft(job)
        self._notify()

    def painted(self) -> None:
        """Note that a job is done."""
        self._failures_in_row = 0
        self._end()

    def fail(self, job: Job, server: str, message: str) -> None:
        """Note a server's error; the job waits for another server, or is given up.

        Raises:
            EllaError: Too many jobs in a row were given up.
        """
        job.errors.append((server, message))
        if len(job.errors) < _TRIES:
            self.give_back(job)
            return
        self.given_up.append(job)
        self._failures_in_row += 1
        self._end()
        if self._failures_in_row == _HOPELESS:
            raise EllaError(
                f"{_HOPELESS} pictures in a row failed, the last one on {server}: {message}. Mend "
                "the workflow or the servers and run the same command again: it goes on from here."
            )

    def _end(self) -> None:
        self._open -= 1
        if not self._open:
            self._ended.set()
        self._on_end()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
