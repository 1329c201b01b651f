"""How a manager's methods are called: as they are, or awaited in an event loop of a thread of its own.

The requirements are written once, as plain functions. For an asynchronous manager each call becomes a task of the loop,
so what threads do to the one kind of manager, tasks do to the other.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol

from remanence.testing.conformance.errors import MustBeAwaitedError, NotTestableError

__all__ = ["Awaiting", "Caller", "Direct", "caller_for"]

_PATIENCE: Final = 2.0
_SWITCH: Final = 1e-5
_TURN: Final = 1e-4


class Caller(Protocol):
    """Calls a function of the manager's."""

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what `function` returns in the end."""
        ...

    def frequent_switches(self) -> AbstractContextManager[None]:
        """Have calls that are made at once come between each other's steps as often as can be."""
        ...

    def close(self) -> None:
        """Give up what is still under way, and end."""
        ...


class Direct:
    """Calls a synchronous manager."""

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call it in this thread.

        Raises:
            MustBeAwaitedError: The result would have to be awaited.
        """
        result = function(*args, **options)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()  # or it would complain that nobody awaited it
            raise MustBeAwaitedError(
                "a method must be awaited: AsyncMemoryManagerConformance is for asynchronous managers"
            )
        return result

    @contextmanager
    def frequent_switches(self) -> Iterator[None]:
        """Have threads switch more often than every 5 ms: races are lost that would be won by luck."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        try:
            yield
        finally:
            sys.setswitchinterval(before)

    def close(self) -> None:
        """Nothing to end."""


class Awaiting:
    """Calls an asynchronous manager, in the event loop of a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: a method that blocks the loop for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._loop.run_forever, name="conformance-loop", daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._is_closed = False

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call it in the loop and await what it returns."""

        async def awaited() -> tuple[Any, BaseException | None]:
            try:
                result = function(*args, **options)
                return (await result if inspect.isawaitable(result) else result), None
            except (SystemExit, KeyboardInterrupt) as error:
                return None, error  # as a value: raised in a task, these two end the loop

        with self._lock:
            if self._is_closed:
                raise NotTestableError("the requirement was given up")
            future = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        result, error = future.result()
        if error is not None:
            raise error
        return result

    @contextmanager
    def frequent_switches(self) -> Iterator[None]:
        """Hold up each turn of the loop: calls arrive between two turns, and a turn that takes no time meets none."""
        ended = threading.Event()

        def hold_up() -> None:
            time.sleep(_TURN)
            if not ended.is_set():
                self._loop.call_soon(hold_up)

        with Direct().frequent_switches():
            self._loop.call_soon_threadsafe(hold_up)
            try:
                yield
            finally:
                ended.set()

    def close(self) -> None:
        """Cancel what is left and end the loop; one that is blocked is left to itself."""
        with self._lock:  # what is called later is refused: nobody would await it
            if self._is_closed:
                return  # a requirement that hung is given up, and may end by itself meanwhile
            self._is_closed = True
            self._loop.call_soon_threadsafe(self._finish)
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()

    def _finish(self) -> None:
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        ending = self._loop.create_task(_ended(left))
        ending.add_done_callback(lambda _: self._loop.stop())


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def caller_for(*, asynchronous: bool) -> Caller:
    """Return a new caller for a kind of manager."""
    return Awaiting() if asynchronous else Direct()
