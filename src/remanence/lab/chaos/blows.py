"""What happens to the server, or on the way to it: begun, held for a while, ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from remanence.journal.inspect import waiting
from remanence.lab.errors import LabError
from remanence.lab.fault_proxy import FaultProxy, HeldRequests
from remanence.lab.redis_server import RedisServer

__all__ = ["Emptied", "Stage"]


@dataclass(frozen=True, slots=True)
class Emptied:
    """The server lost its data: what was not waiting in the journal then is nobody's to bring back.

    Attributes:
        at: Monotonic seconds at which it was dead.
        waiting: What waited in the journal while it was: key and record of each.
    """

    at: float
    waiting: tuple[tuple[str, bytes | None], ...] = field(repr=False)


class Stage:
    """A server, the proxy in front of it, and what is done to them.

    Args:
        server: It runs.
        proxy: It runs, too.
        journal: Path of the journal that the workers share.
        keeps_all: Whether the server has everything that it has acknowledged when it comes back.
    """

    def __init__(self, server: RedisServer, proxy: FaultProxy, journal: str, *, keeps_all: bool) -> None:
        self.server = server
        self.proxy = proxy
        self.emptied: list[Emptied] = []
        self.away: list[tuple[float, float]] = []
        self.is_struck = False
        self.journal = journal
        self._keeps_all = keeps_all

    @contextmanager
    def blow(self, kind: str) -> Iterator[None]:
        """Have one thing wrong for the length of a block."""
        begun = time.monotonic()
        self.is_struck = True
        try:
            with self._way(kind):
                yield
        finally:
            self.is_struck = False
            self.away.append((begun, time.monotonic()))

    def _way(self, kind: str) -> AbstractContextManager[None]:
        if kind in _ON_THE_WAY:
            return self._faulty(_ON_THE_WAY[kind])
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "killed": self._killed,
            "emptied": lambda: self._killed(keep_data=False),
            "frozen": self._frozen,
        }
        return ways[kind]() if kind in ways else self._state(kind)

    @contextmanager
    def _killed(self, *, keep_data: bool = True) -> Iterator[None]:
        self.server.kill()
        dead = time.monotonic()
        try:
            yield
        finally:
            if not keep_data or not self._keeps_all:
                # What is begun from now on cannot be answered by the server that is gone.
                held = tuple((each.key, each.record) for each in waiting(self.journal))
                self.emptied.append(Emptied(dead, held))
            self.server.restart(keep_data=keep_data)

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self.server.freeze()
        try:
            yield
        finally:
            self.server.thaw()

    @contextmanager
    def _state(self, kind: str) -> Iterator[None]:
        with self.server.state(kind):
            yield

    @contextmanager
    def _faulty(self, begin: Callable[[FaultProxy], Any]) -> Iterator[None]:
        fault = begin(self.proxy)
        try:
            yield
        finally:
            if isinstance(fault, HeldRequests):
                # Late, but not too late for those whose callers still wait.
                with suppress(LabError):  # nothing may have come
                    fault.deliver()
            self.proxy.heal()


_ON_THE_WAY: Final[dict[str, Callable[[FaultProxy], Any]]] = {
    "refuse": lambda proxy: (proxy.refuse(), proxy.reset()),
    "reset": lambda proxy: proxy.reset(probability=0.3, command="EVALSHA", times=None),
    "eof": lambda proxy: proxy.eof(probability=0.3, command="EVALSHA", times=None),
    "blackhole": lambda proxy: proxy.blackhole(),
    "lost replies": lambda proxy: proxy.drop_reply(probability=0.3, times=None),
    "lost requests": lambda proxy: proxy.blackhole("requests"),
    "drip": lambda proxy: proxy.drip(size=3, every=0.01),
    "latency": lambda proxy: proxy.latency(0.15, jitter=0.15),
    "truncate": lambda proxy: proxy.truncate(1, probability=0.3, times=None),
    "hold": lambda proxy: proxy.hold(probability=0.2, command="EVALSHA", times=None),
}
