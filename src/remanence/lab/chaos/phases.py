"""The points of a worker's own code at which it can be struck: in the middle of a transaction, or between two."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from remanence.journal.disk import DiskJournal
from remanence.lab.chaos.reports import Reporter

__all__ = ["Phases"]


class Phases:
    """Strikes its own process at one point.

    ============  ===============================================================
    phase         where
    ============  ===============================================================
    journaling    the entry is in the file, the transaction not committed
    journaled     committed, its caller not told yet
    before sent   a chunk was read, it is not marked as sent yet
    sent          it is marked, nothing has left the process
    answered      Redis has answered, nothing is removed yet
    removing      it is removed, the transaction not committed
    removed       committed
    keeping       Redis has the copy, which is still in the journal
    ============  ===============================================================

    Args:
        journal: Of the worker's manager; its methods are wrapped.
        reporter: Told before it strikes.
        phase, nth, action: See `plan.Doom`.
        wait: Waits until the server has failed, for "outage".
    """

    def __init__(
        self,
        journal: DiskJournal,
        reporter: Reporter,
        *,
        phase: str,
        nth: int,
        action: str,
        wait: Callable[[], object],
    ) -> None:
        self._reporter = reporter
        self._phase, self._left, self._action = phase, nth, action
        self._wait = wait
        self._inside = threading.local()
        self._lock = threading.Lock()
        held: Any = journal
        held.record = self._around(journal.record, "journaling", after="journaled")
        held.mark_sent = self._around(journal.mark_sent, "", before="before sent", after="sent")
        held.settle = self._around(journal.settle, "removing", before="answered", after="removed")
        held.forget_kept = self._around(journal.forget_kept, "", before="keeping")
        put, transaction = journal._put, journal._file.transaction  # noqa: SLF001 - the points are inside the journal

        def reached(*arguments: Any) -> None:
            put(*arguments)
            if self._where() == "journaling":
                self._reach("journaling")

        @contextmanager
        def ending() -> Iterator[Any]:
            with transaction() as cursor:
                yield cursor
                if self._where() == "removing":
                    self._reach("removing")

        held._put, held._file.transaction = reached, ending  # noqa: SLF001

    def _where(self) -> str:
        """Return what this thread is in the middle of: under asyncio that is the journal's own."""
        return getattr(self._inside, "phase", "")

    def _around(self, method: Callable[..., Any], inside: str, *, before: str = "", after: str = "") -> Any:
        def wrapped(*arguments: Any) -> Any:
            # The drainer settles nothing, and marks nothing, now and then: that is no phase of anything.
            if before and (before == "keeping" or arguments[-1]):
                self._reach(before)
            self._inside.phase = inside
            try:
                result = method(*arguments)
            finally:
                self._inside.phase = ""
            if after and result:
                self._reach(after)
            return result

        return wrapped

    def _reach(self, phase: str) -> None:
        if phase != self._phase:
            return
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._reporter.tell("P", phase.replace(" ", "_"), self._action, time.monotonic())
        if self._action == "outage":
            self._reporter.tell("W", phase.replace(" ", "_"), time.monotonic())
            self._wait()
        else:
            os.kill(os.getpid(), signal.SIGKILL if self._action == "kill" else signal.SIGSTOP)
