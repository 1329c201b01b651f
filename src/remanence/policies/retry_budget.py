"""A shared allowance of retries: when everything fails at once, repeating everything would be a storm."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from remanence.forked import reset_after_fork

__all__ = ["RetryBudget"]


class RetryBudget:
    """A token bucket: every call adds a share of a retry, every second a few, every retry takes one.

    Args:
        ratio: Retries per call, 0 to 1.
        per_second: Retries per second that are always allowed.
        seconds: How long tokens are kept, which bounds a burst: those of time up to so many seconds' worth, those of
            calls fading with this time constant.
        monotonic: The clock.
    """

    def __init__(
        self, *, ratio: float, per_second: float, monotonic: Callable[[], float], seconds: float = 10.0
    ) -> None:
        self._ratio = ratio
        self._per_second = per_second
        self._seconds = seconds
        self._monotonic = monotonic
        self._of_time = per_second
        self._of_calls = 0.0
        self._since = monotonic()
        self._calls = self._spent_calls = 0
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Take a fresh lock: in a child process the old one may be held by a thread that is gone."""
        self._lock = threading.Lock()

    def count_call(self) -> None:
        """Note a call; without the lock a racing thread may lose some, which only makes the budget smaller."""
        self._calls += 1

    def take(self) -> bool:
        """Take the token of one retry; False when there is none."""
        with self._lock:
            self._refill()
            if self._of_time + self._of_calls < 1.0:
                return False
            fading = min(1.0, self._of_calls)
            self._of_calls -= fading
            self._of_time -= 1.0 - fading
            return True

    @property
    def available(self) -> float:
        """Retries allowed right now."""
        with self._lock:
            self._refill()
            return self._of_time + self._of_calls

    def _refill(self) -> None:
        now = self._monotonic()
        elapsed, self._since = max(0.0, now - self._since), now
        # The count is never set back, or a thread that lags behind would write spent calls into it again.
        calls = max(0, self._calls - self._spent_calls)
        self._spent_calls += calls
        self._of_time = min(self._of_time + elapsed * self._per_second, max(1.0, self._seconds * self._per_second))
        kept = math.exp(-elapsed / self._seconds)
        # The calls came somewhere in `elapsed`: taken as evenly spread, so that it does not matter who asks how often.
        spread = (1.0 - kept) * self._seconds / elapsed if elapsed else 1.0
        self._of_calls = self._of_calls * kept + calls * self._ratio * spread
