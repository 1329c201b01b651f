"""What brings pending writes home while nobody calls.

A thread, or a task of the loop, that lives only as long as something waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["ReplayTask", "ReplayThread"]

_log = logging.getLogger("remanence")

_AFTER_FAILURE: Final = 1.0


class ReplayThread:
    """Runs rounds in a daemon thread until nothing waits.

    Args:
        round: Replays a chunk; gives the seconds until the next is worth trying, None when nothing waits.
        is_idle: Whether nothing waits.
    """

    def __init__(self, round: Callable[[], float | None], is_idle: Callable[[], bool]) -> None:  # noqa: A002
        self._round = round
        self._is_idle = is_idle
        self.reset()

    def reset(self) -> None:
        """Forget the thread, with fresh locks; for a child process after fork, where it does not run."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._poke = threading.Event()

    def wake(self) -> None:
        """Make sure that a thread is looking after what waits."""
        with self._lock:
            if self._thread is not None or self._stopped:
                return
            thread = threading.Thread(target=self._run, name="remanence-replay", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No more threads, or the interpreter is ending: the write is kept all the same, and the next one, a
                # replay() or the end of the interpreter takes it up.
                _log.warning("no thread could be started to replay pending writes")
            else:
                self._thread = thread

    def stop(self, timeout: float) -> None:
        """End the thread after the round that it is in, waiting at most `timeout` seconds for that."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._poke.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            try:
                pause = self._round()
            except Exception as error:  # noqa: BLE001 - a thread that ends would leave acknowledged writes behind
                _log.error("a round of the replay failed with %s; it is repeated", type(error).__name__)
                pause = _AFTER_FAILURE
            with self._lock:
                # Under the lock, so that a write that comes now either is seen here or finds no thread and starts one.
                if self._stopped or (pause is None and self._is_idle()):
                    self._thread = None
                    return
            if pause and self._poke.wait(pause):  # only stop() interrupts a pause
                self._thread = None
                return


class ReplayTask:
    """Runs rounds in a task of the running loop until nothing waits; see `ReplayThread`."""

    def __init__(self, round: Callable[[], Awaitable[float | None]], is_idle: Callable[[], bool]) -> None:  # noqa: A002
        self._round = round
        self._is_idle = is_idle
        self.reset()

    def reset(self) -> None:
        """Forget the task; for a child process after fork, where its loop does not run."""
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def wake(self) -> None:
        """Make sure that a task of this loop is looking after what waits."""
        if self._stopped:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # made where no loop runs yet, over a journal in which something waits: the first call wakes it
        task = self._task
        if task is None or task.done() or task.get_loop() is not loop:
            self._task = loop.create_task(self._run(), name="remanence-replay")

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109 - a grace, not a limit on the caller
        """End the task, waiting at most `timeout` seconds for the round that it is in."""
        self._stopped = True
        task = self._task
        if task is None or task.done():
            return
        loop = task.get_loop()
        if loop is not asyncio.get_running_loop():
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)  # it would go on writing when that loop turns again
            return
        task.cancel()
        await asyncio.wait((task,), timeout=timeout)

    async def _run(self) -> None:
        while not self._stopped:
            try:
                pause = await self._round()
            except Exception as error:  # noqa: BLE001 - a task that ends would leave acknowledged writes behind
                _log.error("a round of the replay failed with %s; it is repeated", type(error).__name__)
                pause = _AFTER_FAILURE
            if pause is None and self._is_idle():
                return
            await asyncio.sleep(pause or 0.0)
