"""Deadline: a call ends in time, all its attempts together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

from remanence.classify import is_transient
from remanence.errors import DeadlineExceededError
from remanence.flow import PROCEED, Call, Flow
from remanence.policies.base import Context, Decorator
from remanence.settings import positive

__all__ = ["Deadline"]

_log = logging.getLogger("remanence")

_EARLY = 0.02
"""Seconds by which a socket's timeout may end an attempt before its deadline: see `redis_connection`."""


class Deadline(Decorator):
    """Ends every call within `seconds`.

    The time left reaches the socket (or, under asyncio, the await) below every other policy, so an attempt that was
    cut off counts as a failure there. A foreign synchronous manager, or a client that was handed in, cannot be
    interrupted: the deadline then holds between attempts, and that is logged once when it is decorated.

    Args:
        seconds: For all attempts and waits of a call, more than 0.

    Raises:
        ConfigurationError: `seconds` is out of range.
    """

    place: ClassVar[int] = 30

    def __init__(self, seconds: float = 1.5) -> None:
        self.seconds: float = positive("seconds", seconds)

    def bind(self, context: Context) -> Callable[[Call], Flow]:
        """Return the flow around every call of one manager."""
        if not context.interruptible:
            _log.warning(
                "an attempt of this manager cannot be interrupted (it is synchronous and not ours, or its client was "
                "handed in): the deadline of %g s holds between attempts. Give the client a timeout.",
                self.seconds,
            )
        monotonic, seconds = context.clock.monotonic, self.seconds

        def flow(call: Call) -> Flow:
            outer = call.deadline
            now = monotonic()
            deadline = now + seconds
            if outer is not None and outer < deadline:
                deadline = outer
            if deadline <= now:
                # No time to ask: an attempt without any would only look like a failure of the store.
                raise DeadlineExceededError(seconds)
            call.deadline = deadline
            try:
                return (yield PROCEED)
            except Exception as error:
                if is_transient(error) and monotonic() >= deadline - _EARLY:
                    raise DeadlineExceededError(seconds) from None
                raise
            finally:
                call.deadline = outer

        return flow
