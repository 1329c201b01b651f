"""Running something for a bounded time, whatever it does."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["bounded"]

_LONGEST_WAIT: Final = 0.2


@dataclass(slots=True)
class _Ended:
    event: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


def bounded(function: Callable[[], object], seconds: float) -> tuple[bool, BaseException | None]:
    """Run a function in a thread of its own, with this thread's context variables.

    Args:
        function: What to run.
        seconds: How long to wait for it.

    Returns:
        Whether it ended in time, and what it raised. One that did not end is left to itself: its thread is a daemon.
    """
    ended = _Ended()
    context = contextvars.copy_context()

    def body() -> None:
        try:
            context.run(function)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            ended.error = error
        finally:
            ended.event.set()

    threading.Thread(target=body, name="conformance", daemon=True).start()
    until = time.monotonic() + seconds
    # In short waits: a Ctrl-C that comes just before Python begins to wait is told only when the wait is over.
    while not ended.event.wait(max(0.0, min(_LONGEST_WAIT, until - time.monotonic()))) and time.monotonic() < until:
        pass
    return ended.event.is_set(), ended.error
