"""Ending managers after a test, whatever state it left the server and its event loop in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from remanence.decorated import DecoratedManager
from remanence.lab.errors import LabError

__all__ = ["close", "close_async"]

_PATIENCE: Final = 10.0
"""Seconds after which the thread that closes is left behind: a test run must end."""


def close(manager: DecoratedManager, *unblock: Callable[[], object]) -> None:
    """Close a decorated manager, leaving what is still pending: nobody needs it after the test.

    Args:
        manager: As it was left.
        unblock: What heals the server and the way to it. The thread that replays may be waiting for them, and must not
            write any more once the next test has begun, or the keys of this one were removed.
    """
    manager.close(0.0)
    for heal in unblock:
        with suppress(LabError, OSError):  # who made the server or the proxy tells of it
            heal()
    replay = manager._background  # noqa: SLF001 - the package's own; users need no such wait
    if replay is not None:
        replay.stop(_PATIENCE)


def close_async(manager: Any, *args: float) -> None:
    """Close an asynchronous manager after the test's loop has ended, or while it stands still.

    In a thread of its own, because pytest-asyncio and anyio keep a loop for this one, current or even running, and
    nothing of theirs may be changed.

    Args:
        manager: Decorated or not.
        args: For its `aclose`.

    Raises:
        RuntimeError: It did not end in time.
        Exception: What `aclose` raised.
    """
    raised: list[BaseException] = []

    def body() -> None:
        try:
            asyncio.run(manager.aclose(*args))
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=body, name="remanence-closing", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        raise RuntimeError(f"A manager of remanence's fixtures did not close within {_PATIENCE:g} s and was left open.")
    if raised:
        raise raised[0]
