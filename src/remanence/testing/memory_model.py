"""What a memory manager may hold, as far as its caller can know: the model beside which `MemoryMachine` runs one.

Without faults that is one dictionary. A write that raised because the store was away may have been applied or not, so
a memory may then be in one of several states, until a read tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = [
    "Change",
    "Held",
    "MemoryModel",
    "Name",
    "creating",
    "deletion",
    "mutation",
    "nothing_done",
    "store",
    "update",
]


class Name(NamedTuple):
    """Which memory."""

    conversation_id: str
    memory_type: str


@dataclass(frozen=True, slots=True)
class Held:
    """A memory that is stored."""

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


State = Held | None
Change = Callable[[State], State]


class MemoryModel:
    """The states that each memory may be in."""

    def __init__(self) -> None:
        self._states: dict[Name, list[State]] = {}

    @property
    def names(self) -> list[Name]:
        """Every memory that was ever written or read."""
        return list(self._states)

    def states(self, name: Name) -> list[State]:
        """Return the states that a memory may be in; None stands for nothing stored."""
        return self._states.setdefault(name, [None])

    def apply(self, name: Name, *changes: Change) -> None:
        """Make a change; of several it is not known which one is made."""
        self._set(name, [change(state) for change in changes for state in self.states(name)])

    def narrow(self, name: Name, fits: Callable[[State], bool]) -> bool:
        """Learn something about a memory; False, and nothing learnt, where it cannot be so."""
        states = [state for state in self.states(name) if fits(state)]
        if states:
            self._set(name, states)
        return bool(states)

    def _set(self, name: Name, states: Iterable[State]) -> None:
        self._states[name] = []
        for state in states:
            if state not in self._states[name]:
                self._states[name].append(state)


def store(text: str, metadata: dict[str, Any] | None) -> Change:
    """Replace whatever there is."""
    return lambda _: Held(text, metadata or {})


def update(text: str, metadata: dict[str, Any] | None) -> Change:
    """Replace the text and merge the metadata; what is missing stays missing."""
    return lambda held: None if held is None else Held(text, {**held.metadata, **(metadata or {})})


def creating(change: Change) -> Change:
    """Make an update store what is missing: one that is kept for later does, for it cannot know that it is missing."""
    return lambda held: change(held) or change(Held(""))


def mutation(fn: Callable[[str | None], str]) -> Change:
    """Make the text anew from what it was; the metadata stay."""
    return lambda held: Held(fn(None)) if held is None else Held(fn(held.text), held.metadata)


def nothing_done(held: State) -> State:
    """Leave everything."""
    return held


def deletion(_: State) -> State:
    """Leave nothing."""
    return None
