"""What two managers have in common that could carry something from one test into the next.

Two things are looked for: clients, which can be closed or are spoken to, and containers which the use of one manager
changes. Whatever does not change (constants), and what is made to be shared (loops, loggers, clocks, locks, counters,
tracers), is no concern.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from contextlib import suppress
from itertools import islice
from types import ModuleType
from typing import Any, Final

from remanence.testing.conformance.trial import METHODS

__all__ = ["shared"]

_DEPTH: Final = 3
_MOST: Final = 1_000
_CONTAINERS: Final = (MutableMapping, MutableSequence, MutableSet)
_WALKED: Final = (*_CONTAINERS, tuple, frozenset)
_SPARED: Final = (type, ModuleType, asyncio.AbstractEventLoop, logging.Logger, logging.Handler, io.IOBase)
_OF_CLIENTS: Final = ("close", "aclose", "disconnect", "execute", "execute_command", "send_command", "cursor")

Found = tuple[str, Any, int]


def shared(one: object, other: object, use: Callable[[], object], marks: tuple[str, ...] = ()) -> list[str]:
    """Return what both hold: the attribute of `one` and what it is, such as "_client (a Redis)".

    Args:
        one: A manager.
        other: Another one of the same factory.
        use: Stores a memory with `one`. A container is reported only if that changes it.
        marks: Texts of that memory. A container in a part of the managers is reported only if one of them is in it:
            what else changes there, such as the counters of a metric, is the part's own concern.
    """
    if one is other:
        return ["the manager itself"]
    theirs = {id(value) for _, value, _ in _held(other)}
    common = [found for found in _held(one) if id(found[1]) in theirs]
    before = [_leaves(value) if isinstance(value, _CONTAINERS) else [] for _, value, _ in common]
    use()
    pairs = zip(common, before, strict=True)
    return [f"{found[0]} (a {type(found[1]).__name__})" for found, was in pairs if _counts(found, was, marks)]


def _counts(found: Found, before: list[Any], marks: tuple[str, ...]) -> bool:
    _, value, depth = found
    if not isinstance(value, _CONTAINERS):
        return True
    now = _leaves(value)
    if _is_same(before, now):
        return False
    return depth == 0 or any(_bears(leaf, marks) for leaf in now)


def _held(manager: object) -> Iterator[Found]:
    """Give each client and container, with the path to it and how many parts lie between."""
    waiting: list[Found] = [("", manager, 0)]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        path, owner, depth = waiting.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in _attributes(owner).items():
            place = f"{path}.{name}" if path else name
            if isinstance(value, _CONTAINERS):
                yield place, value, depth
            elif not _is_part(value):
                continue
            elif _is_client(value) or _is_manager(value):
                yield place, value, depth
                if depth < _DEPTH and _is_manager(value):
                    waiting.append((place, value, depth + 1))
            elif depth < _DEPTH:
                waiting.append((place, value, depth + 1))


def _attributes(owner: object) -> dict[str, Any]:
    """Return what an object has, and what its class has for all of them."""
    found: dict[str, Any] = {}
    for cls in type(owner).__mro__[:-1]:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with suppress(AttributeError):  # not set; and `__private` has another name
                found.setdefault(name, getattr(owner, name))
        for name, value in vars(cls).items():
            if not name.startswith(("__", "_abc_")):
                found.setdefault(name, value)
    return {**found, **getattr(owner, "__dict__", {})}


def _is_client(value: object) -> bool:
    return any(callable(getattr(type(value), name, None)) for name in _OF_CLIENTS)


def _is_manager(value: object) -> bool:
    """Whether it is a manager inside another one, whose client is looked for as well."""
    return all(callable(getattr(type(value), name, None)) for name in METHODS)


def _is_part(value: object) -> bool:
    """Whether it is an object with a state of its own, and none that is made to be shared."""
    if isinstance(value, _SPARED) or callable(getattr(type(value), "monotonic", None)):
        return False
    return type(value).__module__ != "builtins" and _has_state(value)


def _has_state(value: object) -> bool:
    if getattr(value, "__dict__", None):
        return True
    classes = type(value).__mro__[:-1]
    if any(cls.__dict__.get("__slots__") for cls in classes):
        return True
    # Objects of compiled classes (a database's connection, a socket) show no state, and have the most.
    return not hasattr(value, "__dict__") and not any("__slots__" in vars(cls) for cls in classes)


def _leaves(value: Any, depth: int = _DEPTH) -> list[Any]:
    """Return what is in a container and in those inside it: the things themselves, so that their ids stay theirs."""
    if not depth or not isinstance(value, _WALKED):
        return [value]
    items = [each for pair in list(value.items()) for each in pair] if isinstance(value, Mapping) else list(value)
    return [value, len(items), *(leaf for item in islice(items, _MOST) for leaf in _leaves(item, depth - 1))]


def _is_same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(
        was is is_now or (type(was) is type(is_now) and isinstance(was, int | float | str | bytes) and was == is_now)
        for was, is_now in zip(before, now, strict=True)
    )


def _bears(leaf: Any, marks: tuple[str, ...]) -> bool:
    """Whether it is a text with one of the marks, or an object that has such a text."""
    texts = [leaf, *getattr(leaf, "__dict__", {}).values()]
    return any(
        mark in each if isinstance(each, str) else mark.encode() in each
        for each in texts
        if isinstance(each, str | bytes)
        for mark in marks
    )
