"""A child process after fork starts afresh.

The parent keeps the pending writes, and the locks may be held by threads that are gone.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable
from multiprocessing import util
from typing import Protocol

__all__ = ["at_process_end", "reset_after_fork"]


class _Resettable(Protocol):
    def after_fork(self) -> None: ...


_log = logging.getLogger("remanence")

_objects: weakref.WeakSet[_Resettable] = weakref.WeakSet()


def reset_after_fork(target: _Resettable) -> None:
    """Have `target.after_fork()` called in every child that this process forks."""
    _objects.add(target)


def at_process_end(action: Callable[[], None]) -> None:
    """Have `action` called when this process ends, and when a child ends that it forks."""
    atexit.register(action)
    # The children of multiprocessing end without atexit, and forget at their start what was registered before.
    util.register_after_fork(action, _finalize)


def _finalize(action: Callable[[], None]) -> None:
    util.Finalize(None, action, exitpriority=0)


def _reset_all() -> None:
    for target in list(_objects):
        try:
            target.after_fork()
        except Exception as error:  # noqa: BLE001 - the others have to begin anew all the same
            _log.error("a manager cannot be used after a fork (%s)", type(error).__name__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
