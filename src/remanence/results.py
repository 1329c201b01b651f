"""What operations return: answers that say where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Final, Literal, Self

from remanence.interface import ConversationMemoryType, IWorkingMemory

__all__ = ["DELETION", "Conflict", "Health", "Memories", "Outcome", "Receipt", "ReplayCounts", "Source", "copy_digest"]

Source = Literal["redis", "journal", "stale", "none"]
Outcome = Literal["committed", "missing", "journaled"]

DELETION: Final = b'{"data": null, "deleted": true}'
"""What a conflict copy holds where the losing write was a deletion."""


class Memories(list[IWorkingMemory]):
    """The answer to a read: a list of one memory, or of none.

    Attributes:
        source: "redis" (the store answered, found or not), "journal" (a write of ours that the store does not have
            yet), "stale" (the last-known copy) or "none" (nothing is known here: not the same as "not found").
        age: Seconds since the store was last known to hold this; 0.0 for an answer of the store.
        version: Token for `if_version`; None when there is no memory.
        metadata: JSON object stored beside the text.
        created_at, last_update: Stamps as stored, None when there is no memory.
    """

    __slots__ = ("_record", "_version", "age", "source")

    def __init__(
        self, items: Iterable[IWorkingMemory] = (), *, source: Source = "redis", age: float = 0.0, record: Any = None
    ) -> None:
        super().__init__(items)
        self.source: Source = source
        self.age = age
        self._record = record
        self._version: str | None = None

    @property
    def degraded(self) -> bool:
        """Whether the answer may be older than what an available store would have said."""
        return self.source in {"stale", "none"}

    @property
    def version(self) -> str | None:
        """Token for `if_version`; None when there is no memory."""
        if self._version is None and self._record is not None:
            self._version = self._record.version()
        return self._version

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata stored beside the text; a dict of the caller's own."""
        return deepcopy(self._record.metadata) if self._record is not None else {}

    @property
    def created_at(self) -> str | None:
        """When the memory was first stored, as stored."""
        return None if self._record is None else self._record.created_at

    @property
    def last_update(self) -> str | None:
        """When the memory was last written, as stored."""
        return None if self._record is None else self._record.last_update

    @property
    def raw(self) -> bytes | None:
        """The record's bytes as stored, None when there is no memory."""
        return None if self._record is None else self._record.raw

    def __repr__(self) -> str:
        return f"<Memories {len(self)} from {self.source}, age {self.age:.1f} s>"


class Receipt(str):
    """The acknowledgement of a write: a str equal to the key.

    Attributes:
        outcome: "committed" (the store has it), "missing" (there was nothing to update or delete), "journaled" (kept
            here until the store is back).
        version: Token of what was written, None for deletes and where nothing was written.
    """

    __slots__ = ("outcome", "raw")

    outcome: Outcome
    raw: bytes | None

    def __new__(cls, key: str, outcome: Outcome = "committed", raw: bytes | None = None) -> Self:
        """Return the receipt for `key`; `raw` is what was written."""
        self = str.__new__(cls, key)
        self.outcome = outcome
        self.raw = raw
        return self

    @property
    def version(self) -> str | None:
        """Token of what was written, for `if_version`; None where nothing was."""
        return None if self.raw is None else sha1(self.raw, usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Receipt {self.outcome}>"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A write that was acknowledged but did not replace what the store held: kept aside, not lost.

    Attributes:
        conversation_id: Whose memory.
        memory_type: Which kind.
        text: The text that is kept; None where the losing write was a deletion.
        digest: Names the copy among those of its conversation.
        kept_in: "store" once the store has the copy, "journal" while it waits there.
        last_update: Stamp of the losing record, or None.
        metadata: The losing record's.
    """

    conversation_id: str = field(repr=False)
    memory_type: ConversationMemoryType
    text: str | None = field(repr=False)
    digest: str
    kept_in: Literal["store", "journal"] = "store"
    last_update: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def copy_digest(raw: bytes | None) -> str:
    """Return the digest by which a conflict copy is known, wherever it is kept; None stands for a deletion."""
    return sha1(DELETION if raw is None else raw, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class ReplayCounts:
    """What a drain of the journal did.

    Attributes:
        replayed: Entries that the store has now.
        conflicts: Of the values involved, those that were kept as conflict copies.
        stuck: Entries set aside because the store refuses them for good.
        pending: Entries still waiting.
    """

    replayed: int = 0
    conflicts: int = 0
    stuck: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """How a manager is.

    Attributes:
        status: "ready"; "degraded" (it answers, not all from the store); "unready" (it cannot acknowledge writes).
        breaker: State of the circuit breaker for the connection, None without one.
        write_breaker: State of the one for writes, None without one.
        pending: Acknowledged writes that the store does not have yet.
        stuck: Of these, entries that the store refuses for good.
        oldest_age_s: Seconds that the oldest of them has been waiting, None without any.
        replayed: Entries replayed since construction.
        conflicts: Conflict copies made since construction.
        last_error: Class name of the last failure of the store, None when there was none.
    """

    status: Literal["ready", "degraded", "unready"]
    breaker: str | None = None
    write_breaker: str | None = None
    pending: int = 0
    stuck: int = 0
    oldest_age_s: float | None = None
    replayed: int = 0
    conflicts: int = 0
    last_error: str | None = None
