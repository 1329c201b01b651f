"""What two managers have in common that could carry something from one test into the next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from typing import Any, Final

from remanence.testing.conformance.trial import METHODS

__all__ = ["shared"]

_DEPTH: Final = 3
_MOST: Final = 1_000
_CONTAINERS: Final = (MutableMapping, MutableSequence, MutableSet)
_LOCKS: Final = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Semaphore,
    asyncio.Lock,
    asyncio.Condition,
    asyncio.Semaphore,
)
_CLOSING: Final = ("close", "aclose", "disconnect", "shutdown")


def shared(one: object, other: object) -> list[str]:
    """Return what both hold: the attribute of `one` and what it is, such as "_client (a Redis)".

    Looked for are containers that can be changed, held by the managers themselves, and locks and clients (whatever can
    be closed) also within their parts. What a class holds for all its instances is not looked at, nor are clocks.
    """
    if one is other:
        return ["the manager itself"]
    theirs = {id(value) for _, value in _held(other)}
    return [f"{path} (a {type(value).__name__})" for path, value in _held(one) if id(value) in theirs]


def _held(manager: object) -> Iterator[tuple[str, Any]]:
    """Give each thing that must not be shared, with the path to it."""
    waiting: list[tuple[str, Any, int]] = [("", manager, 0)]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        path, owner, depth = waiting.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in _attributes(owner):
            place = f"{path}.{name}" if path else name
            if isinstance(value, _LOCKS) or _is_client(value):
                yield place, value
                if depth < _DEPTH and _is_manager(value):
                    waiting.append((place, value, depth + 1))
            elif isinstance(value, _CONTAINERS):
                if depth == 0:
                    yield place, value
            elif depth < _DEPTH and _is_part(value):
                waiting.append((place, value, depth + 1))


def _attributes(owner: object) -> list[tuple[str, Any]]:
    found = dict(getattr(owner, "__dict__", {}))
    for cls in type(owner).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(owner, name):
                found[name] = getattr(owner, name)
    return list(found.items())


def _is_client(value: object) -> bool:
    return _is_part(value) and any(callable(getattr(type(value), name, None)) for name in _CLOSING)


def _is_manager(value: object) -> bool:
    """Whether it is a manager inside another one, whose client is looked for as well."""
    return all(callable(getattr(value, name, None)) for name in METHODS)


def _is_part(value: object) -> bool:
    """Whether it is an object with a state of its own, other than a clock."""
    if isinstance(value, type) or callable(getattr(type(value), "monotonic", None)):
        return False
    return type(value).__module__ != "builtins" and bool(_state(value))


def _state(value: object) -> bool:
    if _attributes(value):
        return True
    # Objects of compiled classes (a database's connection, a socket) show no state, and have the most.
    classes = type(value).__mro__[:-1]
    return not hasattr(value, "__dict__") and not any("__slots__" in vars(cls) for cls in classes)
