"""A clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
import threading

__all__ = ["ManualClock", "check_seconds"]


class ManualClock:
    """A `remanence.clock.Clock` on which time passes by `advance`, or by whoever sleeps on it, and not otherwise.

    It is for managers that live in this process, such as ``InMemoryManager(clock=clock)``, and for everything that
    decorates them. A manager on a real server needs the machine's clock, because sockets know no other: there
    ``remanence_redis.advance()`` moves the server's expiry times instead. It may be used by several threads.

    Args:
        monotonic: Where its monotonic seconds begin.
        epoch: Where its seconds since 1970 begin.

    Attributes:
        slept: The seconds of each sleep so far, oldest first: what a retry's backoff has waited, for instance.
    """

    def __init__(self, *, monotonic: float = 1_000.0, epoch: float = 1_800_000_000.0) -> None:
        self._monotonic = monotonic
        self._epoch = epoch
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary start."""
        return self._monotonic

    def time(self) -> float:
        """Return the seconds since 1970."""
        return self._epoch

    def sleep(self, seconds: float) -> None:
        """Return at once, `seconds` later on this clock."""
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))

    async def sleep_async(self, seconds: float) -> None:
        """Do the same, letting other tasks run."""
        self.sleep(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; 0 or more.

        Raises:
            ValueError: Time would run backwards.
        """
        check_seconds(seconds)
        with self._lock:
            self._monotonic += seconds
            self._epoch += seconds

    def __repr__(self) -> str:
        return f"<ManualClock monotonic={self._monotonic:g} epoch={self._epoch:.3f}>"


def check_seconds(seconds: float) -> float:
    """Return `seconds`.

    Raises:
        ValueError: They are not a finite number of at least 0.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"advance({seconds!r}): time does not run backwards or without end; give seconds from 0 on.")
    return seconds
