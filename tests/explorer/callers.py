"""Callers that a scheduler lets go on step by step: generators, or threads that stop anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["DONE", "PlainCaller", "ThreadedCaller", "Wait", "interrupt"]


@dataclass(frozen=True)
class Wait:
    """Wait until then (monotonic)."""

    until: float


START, DONE, INTERRUPTED = "start", "done", "interrupted"


class PlainCaller:
    """A caller as a generator."""

    def __init__(self, body: Iterator[Any]) -> None:
        self.body: Any = body
        self.state: Any = START
        self.reply: Any = None
        self.answered = False

    def resume(self, reply: Any) -> None:
        """Let it go on with an answer."""
        self._go(self.body.send, reply)

    def fail(self, error: Exception) -> None:
        """Let it go on with an error."""
        self._go(self.body.throw, error)

    def _go(self, how: Callable[[Any], Any], value: Any) -> None:
        self.reply, self.answered = None, False
        try:
            self.state = how(value)
        except StopIteration:
            self.state = DONE


class ThreadedCaller(PlainCaller):
    """A caller as a generator that runs in a thread, which stops before every access to shared memory."""

    def __init__(self, body: Iterator[Any], world: Any) -> None:
        super().__init__(body)
        self._world = world
        self._go_on, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._todo: tuple[Callable[[Any], Any], Any] = (self.body.send, None)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _go(self, how: Callable[[Any], Any], value: Any) -> None:
        if self.state is not INTERRUPTED:
            self._todo = (how, value)
        self.reply, self.answered = None, False
        self._world.current = self
        self._go_on.release()
        self._back.acquire()

    def _run(self) -> None:
        while self.state is not DONE:
            self._go_on.acquire()
            how, value = self._todo
            try:
                self.state = how(value)
            except StopIteration:
                self.state = DONE
            self._back.release()

    def interrupt(self) -> None:
        """Stop here until it is chosen again; called in its thread."""
        self.state = INTERRUPTED
        self._back.release()
        self._go_on.acquire()


def interrupt(shared: Any, names: Sequence[str], world: Any) -> None:
    """Have callers stop before these methods of something that they share."""
    for name in names:
        setattr(shared, name, _interrupting(getattr(shared, name), world))


def _interrupting(method: Callable[..., Any], world: Any) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        caller = world.current
        if world.nested or not isinstance(caller, ThreadedCaller) or threading.current_thread() is not caller.thread:
            return method(*args, **kwargs)
        caller.interrupt()
        world.nested += 1  # what a method calls in turn happens under its lock
        try:
            return method(*args, **kwargs)
        finally:
            world.nested -= 1

    return wrapper
