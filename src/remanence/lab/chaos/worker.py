"""A process that is killed: `python -m remanence.lab.chaos.worker JOB`, JOB being JSON.

It writes conversations as fast as it can until its input ends, then closes its manager. Some have threads, some an
event loop with tasks, which are cancelled now and then in the middle of a call (`tasks`); what a thread or a task does
is one `writer`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from remanence import (
    AsyncRedisWorkingMemoryManager,
    CircuitBreaker,
    Fallback,
    RedisWorkingMemoryManager,
    Retry,
    resilient,
)
from remanence.lab.chaos.phases import Phases
from remanence.lab.chaos.reports import Reporter
from remanence.lab.chaos.tasks import work_in_tasks
from remanence.lab.chaos.writer import Writer
from remanence.policies import replayer

__all__ = ["DEADLINE", "main", "stack"]

DEADLINE: Final = 0.6
TIMEOUT: Final = 0.25


def stack(url: str, journal: str, *, lease: float, is_async: bool = False) -> Any:
    """Return the manager that every process has: the usual one, with shorter times.

    Args:
        url: Where Redis is.
        journal: Path of the journal.
        lease: Seconds after which another process may drain, in place of the usual ten.
        is_async: Whether its methods are awaited; then it is made in its loop.
    """
    replayer._SHARED_LEASE = lease  # type: ignore[misc]  # noqa: SLF001 - a stopped drainer would cost ten seconds each
    kind: Any = AsyncRedisWorkingMemoryManager if is_async else RedisWorkingMemoryManager
    return resilient(
        kind(url, timeout=TIMEOUT),
        fallback=Fallback(journal=journal, close_timeout=1.0),
        deadline=DEADLINE,
        retry=Retry(attempts=3),
        circuit_breaker=CircuitBreaker(open_for=0.1, open_for_max=0.4),
    )


def _awaited(blocks: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a function that blocks as one to be awaited: what awaits nothing else runs to its end in one step."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        return blocks(*args, **kwargs)

    return call


class _Awaited:
    """A manager whose methods block, to be awaited."""

    def __init__(self, manager: Any) -> None:
        self.retrieve, self.store = _awaited(manager.retrieve), _awaited(manager.store)
        self.update, self.delete = _awaited(manager.update), _awaited(manager.delete)
        self.mutate = _awaited(manager.mutate)


def _run(turn: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for no loop."""
    try:
        turn.send(None)
    except StopIteration:
        return
    message = "a worker with threads has no event loop to wait for"
    raise RuntimeError(message)


class _Worker:
    """What both flavours share: the job, and who tells them that it is over."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._reporter = Reporter(job["reports"])
        self._failed, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for _ in sys.stdin:
            self._failed.set()
        self._ended.set()

    def _manager(self) -> Any:
        """Return the manager, doomed."""
        job = self._job
        manager = stack(job["url"], job["journal"], lease=job["lease"], is_async=job["is_async"])
        if job["doom"] is not None:
            Phases(
                manager._fallback.journal,  # noqa: SLF001 - the point is inside
                self._reporter,
                **job["doom"],
                wait=lambda: self._failed.wait(3.0),
            )
        return manager

    def _writers(self, manager: Any, think: Callable[[float], Awaitable[None]]) -> list[Writer]:
        """Return one for each thread or task."""
        job = self._job
        return [
            Writer(manager, think, self._reporter, name=f"{job['name']}.{number}", job=job, own=own)
            for number, own in enumerate(job["own"])
        ]

    def in_threads(self) -> None:
        """Work with a thread for each writer."""

        def work(writer: Writer) -> None:
            while not self._ended.is_set():
                _run(writer.turn())

        manager = self._manager()
        writers = self._writers(_Awaited(manager), _awaited(time.sleep))
        threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manager.close()

    async def in_tasks(self) -> None:
        """Work with a task for each writer."""
        manager = self._manager()
        writers = self._writers(manager, asyncio.sleep)
        seed = f"{self._job['seed']} {self._job['name']}"
        await work_in_tasks(writers, self._reporter, is_over=self._ended.is_set, seed=seed)
        await manager.aclose()
        await manager.inner.aclose()


def main() -> None:
    """Work until the input ends."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    logging.disable(logging.CRITICAL)
    worker = _Worker(job)
    if job["is_async"]:
        asyncio.run(worker.in_tasks())
    else:
        worker.in_threads()


if __name__ == "__main__":
    main()
