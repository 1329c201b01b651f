"""Short ways to write operations down."""

from __future__ import annotations

from math import inf
from typing import Any

from remanence.lab.history import Ending, History, Operation

__all__ = ["delete", "ending", "history", "read", "write"]


def write(value: str, invoked: float, completed: float = inf, process: str = "p1", **more: Any) -> Operation:
    """Return an acknowledged store; `answer` "committed" unless told otherwise; without an end it is ambiguous."""
    more.setdefault("session", "1")
    more.setdefault("kind", "write")
    if completed == inf:
        more.setdefault("outcome", "ambiguous")
    more.setdefault("answer", "committed" if more.get("outcome", "ok") == "ok" else "")
    return Operation(process, key="k", value=value, invoked=invoked, completed=completed, **more)


def read(value: str | None, invoked: float, completed: float, process: str = "p1", **more: Any) -> Operation:
    """Return a read, by the store unless told otherwise."""
    more.setdefault("session", "1")
    more.setdefault("answer", "redis")
    return Operation(process, key="k", kind="read", value=value, invoked=invoked, completed=completed, **more)


def delete(invoked: float, completed: float = inf, process: str = "p1", **more: Any) -> Operation:
    """Return a delete, committed unless told otherwise."""
    if completed == inf:
        more.setdefault("outcome", "ambiguous")
    more.setdefault("answer", "committed" if more.get("outcome", "ok") == "ok" else "")
    return Operation(process, "1", "k", "delete", None, invoked, completed, **more)


def ending(value: str | None, *conflicts: str | None, at: float = 100.0) -> Ending:
    """Return what was found at the end."""
    return Ending("k", value, frozenset(conflicts), at)


def history(*found: Operation | Ending) -> History:
    """Return the history that these are."""
    operations = [each for each in found if isinstance(each, Operation)]
    return History(operations, [each for each in found if isinstance(each, Ending)])
