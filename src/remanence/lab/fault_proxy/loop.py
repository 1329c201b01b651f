"""The proxy's one thread: it waits for sockets, for times, and for what other threads want done in it.

It asks epoll (or poll, where there is none) itself: the standard library's selectors cost as much per event as all the
rest that the idle proxy does.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

from remanence.forked import reset_after_fork
from remanence.lab.errors import ProxyNotRunningError

__all__ = ["READ", "WRITE", "Loop"]

READ: Final = 1  # POLLIN, which EPOLLIN is too; so with the others
WRITE: Final = 4
_HAS_EPOLL: Final = hasattr(select, "epoll")
_UNIT: Final = 1.0 if _HAS_EPOLL else 1000.0  # epoll counts seconds, poll milliseconds
_BUFFER: Final = 262_144
_PATIENCE: Final = 10.0
"""Seconds after which a caller no longer waits for the thread; it never does anything that takes long."""

T = TypeVar("T")


class Loop:
    """A poll in a thread of its own; sockets and times are for that thread alone.

    A child made by fork inherits the sockets. Its copies would keep a closed listener listening and a closed connection
    open, so they are closed in the child at once; the epoll is the parent's as well, and must not be told.
    """

    def __init__(self, name: str) -> None:
        self._poll: Any = select.epoll() if _HAS_EPOLL else select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._times: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        # For what is received, by one socket after the other. The usual `recv` would ask the system for so much memory
        # anew each time, which costs more than the copy out of this.
        self.buffer = memoryview(bytearray(_BUFFER))
        self._sockets: set[socket.socket] = set()
        self._owner = os.getpid()
        self._running = True
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        for one in (self._wake, self._woken):
            one.setblocking(False)
            self._sockets.add(one)
        self.watch(self._woken, 0, READ, self._run_jobs)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        reset_after_fork(self)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close every socket that it was given; in a forked child, and a second time, do nothing."""
        if os.getpid() != self._owner:
            return
        if self._thread.ident is None:
            self._end()
            return
        with suppress(ProxyNotRunningError):
            self.call(self._stop)
        self._thread.join(_PATIENCE)

    def call(self, action: Callable[[], T]) -> T:
        """Have the thread do something, between two pieces of traffic, and wait for what it returns or raises.

        Raises:
            ProxyNotRunningError: It has ended, or this process is a fork of the one whose thread it is.
        """
        job: Future[T] = Future()
        with self._lock:
            if not self._running or os.getpid() != self._owner:
                raise ProxyNotRunningError
            self._jobs.append((action, job))
            with suppress(BlockingIOError):  # then it has been woken often enough
                self._wake.send(b"\0")
        return job.result(_PATIENCE)

    def adopt(self, one: socket.socket) -> None:
        """Close this socket at the end, if it is still open."""
        self._sockets.add(one)

    def release(self, one: socket.socket) -> None:
        """Close this socket now."""
        self._sockets.discard(one)
        one.close()

    def watch(self, one: socket.socket, before: int, events: int, handler: Callable[[int], None]) -> None:
        """Have `handler(mask)` called for these events instead of those watched before; 0 stands for none.

        The mask may hold POLLERR and POLLHUP as well.
        """
        if before == events:
            return
        number = one.fileno()
        if not before:
            self._handlers[number] = handler
            self._poll.register(number, events)
        elif events:
            self._poll.modify(number, events)
        else:
            del self._handlers[number]
            self._poll.unregister(number)

    def at(self, due: float, action: Callable[[], object]) -> None:
        """Do something at a monotonic time or a little later."""
        heapq.heappush(self._times, (due, next(self._order), action))

    def after_fork(self) -> None:
        """Let go of the parent's sockets."""
        self._running = False
        self._lock = threading.Lock()
        for one in tuple(self._sockets):
            one.close()
        self._close_poll()

    def _run(self) -> None:
        poll, handlers, times = self._poll.poll, self._handlers, self._times
        try:
            while self._running:
                for number, mask in poll(max(times[0][0] - time.monotonic(), 0) * _UNIT if times else None):
                    handler = handlers.get(number)
                    if handler is not None:  # an earlier one of these has not closed it
                        handler(mask)
                if times:
                    self._ring()
        finally:
            self._end()

    def _ring(self) -> None:
        now = time.monotonic()
        while self._times and self._times[0][0] <= now:
            heapq.heappop(self._times)[2]()

    def _run_jobs(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._jobs:
            action, job = self._jobs.popleft()
            try:
                job.set_result(action())
            except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked
                job.set_exception(error)

    def _stop(self) -> None:
        self._running = False

    def _close_poll(self) -> None:
        if _HAS_EPOLL:
            self._poll.close()

    def _end(self) -> None:
        with self._lock:  # nobody adds a job any more
            self._running = False
            jobs, self._jobs = self._jobs, deque()
        self._close_poll()
        for one in self._sockets:
            one.close()
        for _, job in jobs:
            job.set_exception(ProxyNotRunningError())
