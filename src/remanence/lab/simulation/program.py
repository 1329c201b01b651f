"""What a simulated caller does: operations on conversations, each write with a word that no other writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KINDS", "Op", "parse"]

KINDS = {
    "retrieve": "read",
    "store": "write: what the caller read last, and its word",
    "update": "write its word into what is there",
    "delete": "delete",
    "turn": "read, then store what was read and its word, as an agent does",
    "swap": "read, then store the same on the version that was read",
    "create": "store where nothing is stored",
    "mutate": "read, change and write until nobody came in between",
    "store_many": "store a word of its own in every conversation, in one batch",
    "retrieve_many": "read every conversation in one batch",
    "delete_many": "delete every conversation in one batch",
    "replay": "replay now, beside the background's replay",
    "close": "drain and close",
    "external": "another program's plain write, past everything",
    "remove": "another program's plain delete",
}
"""The operations, and what they do."""

READS = frozenset({"retrieve", "retrieve_many"})
UNACCOUNTED = frozenset({"retrieve", "retrieve_many", "replay", "close", "store_many", "delete_many"})
SINGLE = frozenset({"retrieve", "store", "update", "delete", "create"})
"""Operations that are one call, and so end within one deadline."""

CONDITIONAL = frozenset({"mutate", "swap", "create"})
CANCELLED = "CancelledError"
"""Outcome of what was cancelled."""


@dataclass(slots=True, eq=False)
class Op:
    """One operation of a caller, and what became of it.

    Attributes:
        kind: One of `KINDS`.
        word: What its text ends with and no other's does.
        place: Number of the conversation.
        process: Whose it is, None for another program's.
        invoked, completed: When, in steps of the world; -1 for not yet.
        acknowledged: Whether its caller was told that it is kept.
        made_at: The same in seconds of the world: its time to live counts from here.
        until: Of one that was cancelled, seconds of the world until which what it has sent may still be applied.
        outcome: What its caller was told: "committed", "journaled", "missing", a source, or the class of an error.
        since: How often its memory had changed as it began.
        asked: The same as it last asked the store, of each conversation for a batch.
        made: When its text was settled: what its process was shown later it has not seen.
        sight: How its process saw the memory as it was made: "clear" (the store had told), "stale" (a last-known copy
            was served), "none" (a read was not answered), None (it had never asked).
        items: Its items, for a batch.
    """

    kind: str
    word: str
    place: int = 0
    process: Any = None
    invoked: int = -1
    completed: int = -1
    acknowledged: bool = False
    made_at: float = 0.0
    until: float = 0.0
    outcome: str = ""
    since: int = 0
    asked: Any = 0
    made: int = -1
    sight: str | None = None
    caller: Any = None
    items: list[Op] = field(default_factory=list)

    @property
    def is_write(self) -> bool:
        """Whether it is to be accounted for by itself."""
        return self.kind not in UNACCOUNTED

    @property
    def deletes(self) -> bool:
        """Whether it is a deletion."""
        return self.kind in {"delete", "remove"}

    @property
    def is_open(self) -> bool:
        """Whether it may be applied at any time: it is under way, waits in a journal, or was cancelled."""
        return self.outcome in {"journaled", "", CANCELLED}

    def before(self, other: Op) -> bool:
        """Whether it was over when `other` began."""
        return 0 <= self.completed < other.invoked


def parse(program: Sequence[str], process: Any) -> list[Op]:
    """Return the operations of a program: each a kind, a word, and the conversation's number if it is not 0."""
    ops = []
    for line in program:
        kind, word, *place = line.split()
        if kind not in KINDS:
            message = f"{kind!r} is no operation; there are {', '.join(KINDS)}."
            raise ValueError(message)
        ops.append(Op(kind, word, int(place[0]) if place else 0, process))
    return ops
