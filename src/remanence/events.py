"""What listeners are told: frozen dataclasses without texts, keys or ids.

A listener is any callable; it runs in the thread or task of the call, outside all locks. One that raises is logged by
class name and never disturbs the call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CircuitTransition",
    "ConflictKept",
    "EntryStuck",
    "Event",
    "Listener",
    "ReadDegraded",
    "ReplayFinished",
    "RetryScheduled",
    "WriteJournaled",
    "WriteRefused",
    "notify",
]

_log = logging.getLogger("remanence")


@dataclass(frozen=True, slots=True)
class Event:
    """The root of the events."""


@dataclass(frozen=True, slots=True)
class CircuitTransition(Event):
    """A circuit breaker changed its state: `name` of the target, states before and after."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """A failed attempt will be repeated: its number from 1, the wait in seconds, the class name of the failure."""

    operation: str
    attempt: int
    delay: float
    error: str


@dataclass(frozen=True, slots=True)
class WriteJournaled(Event):
    """A write was acknowledged from the journal.

    `reason` is the class name of the failure, or why the store was not asked: "pending" (an earlier write to the key
    waits there), "unsettled" (an abandoned attempt may still be applied), "unseen" (the store held something else).
    """

    operation: str
    reason: str


@dataclass(frozen=True, slots=True)
class WriteRefused(Event):
    """A write could not be kept either: class name of the refusal."""

    operation: str
    error: str


@dataclass(frozen=True, slots=True)
class ReadDegraded(Event):
    """A read was answered from elsewhere: `source` as in `Memories`, age in seconds, class name of the failure."""

    source: str
    age: float
    reason: str


@dataclass(frozen=True, slots=True)
class ReplayFinished(Event):
    """A chunk of the journal was replayed: entries that the store has now, entries still waiting."""

    replayed: int
    pending: int


@dataclass(frozen=True, slots=True)
class ConflictKept(Event):
    """A value was kept aside: `loser` says whose, "ours" (the pending write) or "theirs" (what the store held)."""

    loser: Literal["ours", "theirs"]


@dataclass(frozen=True, slots=True)
class EntryStuck(Event):
    """The store refuses a pending write for good: class name of the refusal."""

    error: str


Listener = Callable[[Event], object]


def notify(listeners: Iterable[Listener], event: Event) -> None:
    """Tell every listener; call it with no lock held."""
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - a listener must not break a call
            _log.warning("a listener raised %s on %s", type(error).__name__, type(event).__name__)
