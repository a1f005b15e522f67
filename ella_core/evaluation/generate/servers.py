"""Painting on running ComfyUI servers, as many as there are."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from ...errors import EllaError
from .client import Client, ServerLostError
from .jobs import Job, JobFailedError, decode, save
from .work import Work
from .workflow import Workflow

log = logging.getLogger("ella")

_PATIENCE = 60  # seconds without any server after which a run stops
_LONGEST_PAUSE = 8  # seconds after errors in a row


def paint_on_servers(
    jobs: Sequence[Job],
    on_end: Callable[[], object],
    workflow: Workflow,
    addresses: Sequence[str],
    queue: int = 2,
    timeout: float = 600,
) -> list[Job]:
    """Paint the jobs' pictures, and return the jobs that failed for good.

    Each server has a few prompts in its queue. What a lost server had goes to others, and the
    server is asked for again from time to time. A prompt that fails is tried on another server.

    Args:
        jobs: at least one.
        on_end: called as often as a job ends.
        workflow: what the servers run.
        addresses: http://HOST:PORT of each server.
        queue: prompts that each server has at a time.
        timeout: seconds that a picture may take.

    Raises:
        EllaError: No server is reached or takes the workflow, or too many pictures in a row failed.
    """
    return asyncio.run(_paint(jobs, on_end, workflow, addresses, queue, timeout))


async def _paint(
    jobs: Sequence[Job],
    on_end: Callable[[], object],
    workflow: Workflow,
    addresses: Sequence[str],
    queue: int,
    timeout: float,
) -> list[Job]:
    import aiohttp

    work = Work(jobs, on_end)
    connector = aiohttp.TCPConnector(limit=0)  # `queue` is the limit
    async with aiohttp.ClientSession(connector=connector) as session:
        clients = [Client(address, session, timeout) for address in dict.fromkeys(addresses)]
        await _first_look(clients)
        workers = [_Worker(client, work, workflow, queue) for client in clients]
        await _together(worker.run() for worker in workers)
    if not work.finished:
        reasons = "\n".join(f"  {worker.unfit}" for worker in workers)
        raise EllaError(f"No server takes the workflow:\n{reasons}")
    return work.given_up


async def _first_look(clients: Sequence[Client]) -> None:
    """Refuse to begin where no server is reached."""
    joining = (client.join() for client in clients)
    answers = await asyncio.gather(*joining, return_exceptions=True)
    if all(isinstance(answer, ServerLostError) for answer in answers):
        raise EllaError(
            "No ComfyUI is reached. Start one with --listen, and give its address as --server:\n"
            + "\n".join(f"  {answer}" for answer in answers)
        )


async def _together(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first exception cancels the others and is raised when they have ended."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Worker:
    """One server's part in the work.

    Attributes:
        unfit: why the server can't run the workflow; empty as long as it can.
    """

    def __init__(self, client: Client, work: Work, workflow: Workflow, queue: int) -> None:
        self.unfit = ""
        self._client = client
        self._work = work
        self._workflow = workflow
        self._queue = queue
        self._version = ""
        self._accepted = False  # the server has begun a prompt
        self._failures = 0  # in a row

    async def run(self) -> None:
        """Paint whenever the server is there, until all jobs have ended."""
        while not (self._work.finished or self.unfit):
            try:
                self._version = await self._client.join()
            except ServerLostError as error:
                if not self._failures:
                    log.warning("not reached: %s", error)
                self._failures += 1
                if self._work.seconds_alone > _PATIENCE:
                    raise EllaError(
                        f"All servers are lost, the last one for {_PATIENCE} seconds: {error}. "
                        "Start them and run the same command again: it goes on from here."
                    ) from error
            else:
                log.info("%s paints, with ComfyUI %s", self._client.address, self._version)
                self._work.join(self._client.address)
                await _together(self._paint_in_turn() for _ in range(self._queue))
            if not self.unfit:
                await self._pause()

    async def _paint_in_turn(self) -> None:
        """Paint one picture after the other while the server is there."""
        while job := await self._work.take(self._client.address):
            await self._try(job)

    async def _try(self, job: Job) -> None:
        address = self._client.address
        try:
            await self._paint(job)
        except ServerLostError as error:
            self._leave(job, f"lost, its pictures are painted elsewhere: {error}")
        except JobFailedError as error:
            if error.refused and not self._accepted:
                self.unfit = f"{address}: {error}"
                self._leave(job, f"left out: {self.unfit}")
                return
            self._accepted = True
            self._failures += 1
            self._work.fail(job, address, str(error))
            await self._pause()
        else:
            self._accepted = True
            self._failures = 0
            self._work.painted()

    async def _paint(self, job: Job) -> None:
        graph = self._workflow.filled(job.prompt, job.seed)
        content = await self._client.paint(graph, self._workflow.outputs)
        # Writing a PNG takes a while, in which other servers would wait.
        await asyncio.to_thread(save, job, decode(content), {"comfyui": self._version})

    def _leave(self, job: Job, message: str) -> None:
        if self._client.address in self._work.living:  # else another picture has shown it
            log.warning(message)
            self._failures += 1
            self._work.leave(self._client.address)
        self._work.give_back(job)

    async def _pause(self) -> None:
        """Wait, the longer the more has failed."""
        await self._work.rest(min(2 ** (self._failures - 1), _LONGEST_PAUSE))
