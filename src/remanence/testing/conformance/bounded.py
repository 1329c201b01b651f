"""Running something for a bounded time, whatever it does."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["bounded"]


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
    return ended.event.wait(seconds), ended.error
