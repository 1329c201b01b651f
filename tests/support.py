"""Small helpers that several test modules share."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from remanence import AsyncInMemoryManager, InMemoryManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remanence.flow import Call

__all__ = [
    "AsyncScriptedManager",
    "FakeClock",
    "Script",
    "ScriptedManager",
    "case_id",
    "run",
    "run_bounded",
    "threads",
    "wait_until",
]


class FakeClock:
    """A clock that moves only when it is told to, or slept on."""

    def __init__(self, monotonic: float = 1_000.0, epoch: float = 1_800_000_000.0) -> None:
        self.now = monotonic
        self.epoch = epoch
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary start."""
        return self.now

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self.epoch

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds` at once."""
        self.slept.append(seconds)
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Move on by `seconds` at once, letting other tasks run."""
        self.sleep(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds
        self.epoch += seconds


def case_id(value: object) -> str:
    """Return a test's name for a value: without addresses, for workers must agree on the names."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def run(value: Any) -> Any:
    """Return `value`, awaited in a loop of its own if it has to be: one test text for both kinds of manager."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def run_bounded(coroutine: Any, seconds: float = 10.0) -> Any:
    """Run a coroutine in a loop of its own; one that hangs fails instead."""

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await coroutine

    return asyncio.run(bounded())


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    """Wait for a condition; fail with `what` was awaited once the deadline has passed."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s until {what}"
        time.sleep(0.002)


class Script:
    """What a store does, attempt by attempt: raise an exception, give what a function gives for the call, or work.

    Once the steps are used up, `then` is what it does from then on.
    """

    def __init__(self, *steps: Any, then: Any = None) -> None:
        self._steps = iter(steps)
        self._lock = threading.Lock()
        self.then = then
        self.calls: list[Call] = []

    @property
    def attempts(self) -> int:
        """How many attempts have reached the store."""
        return len(self.calls)

    def play(self, call: Call) -> Any:
        """Do the next step for `call`."""
        with self._lock:
            self.calls.append(call)
            step = next(self._steps, self.then)
        if isinstance(step, BaseException):
            call.attempts += 1
            raise step.with_traceback(None)  # one object raised many times would drag all its frames along
        return step(call) if callable(step) else None


class ScriptedManager(InMemoryManager):
    """An in-memory manager whose attempts follow a script."""

    def __init__(self, script: Script, **options: Any) -> None:
        super().__init__(**options)
        self.script = script

    def perform(self, call: Call) -> Any:
        """Follow the script; where it gives nothing, do the work."""
        answer = self.script.play(call)
        return super().perform(call) if answer is None else answer

    _submit = perform


class AsyncScriptedManager(AsyncInMemoryManager):
    """See `ScriptedManager`; a step's function may give an awaitable."""

    def __init__(self, script: Script, **options: Any) -> None:
        super().__init__(**options)
        self.script = script

    async def perform(self, call: Call) -> Any:
        """Follow the script; where it gives nothing, do the work."""
        answer = self.script.play(call)
        if inspect.isawaitable(answer):
            answer = await answer
        return await super().perform(call) if answer is None else answer

    _submit = perform


@contextmanager
def threads(count: int, target: Callable[[int], object]) -> Iterator[None]:
    """Run `target(number)` in `count` threads that begin together; leaving waits for them and raises what one did."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def body(number: int) -> None:
        barrier.wait(10)
        try:
            target(number)
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's thread
            failures.append(error)

    running = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(count)]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join(20)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]
