"""Time, injected: everything that waits or measures asks a Clock, so that tests decide what time it is."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """What the library needs to know of time."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...

    def time(self) -> float:
        """Return seconds since the epoch; may be set by an operator."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the thread."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Suspend the task."""
        ...


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    time = staticmethod(time.time)  # last: it hides the module in this class

    async def sleep_async(self, seconds: float) -> None:
        """Suspend the task for `seconds`."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK: Clock = SystemClock()
