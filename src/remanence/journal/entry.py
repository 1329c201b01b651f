"""A pending write, and how a later one folds into it: pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

__all__ = ["BLIND", "Entry", "Identity", "KeptValue", "fold"]

BLIND = None
"""The base of a write that was made without knowing what the store held."""

Identity = tuple[str, int]
"""Which server answered: its run id, and the evictions it had made by then."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One pending write; there is at most one for a key.

    Attributes:
        key: Of the memory.
        operation: What it is; folded ones are what they amount to.
        raw: The record to write, None for a deletion.
        version: Digest of what the store holds once that is written, ABSENT for a deletion.
        expires_at: Epoch seconds at which the record would have expired, None for never.
        base: Digest of what the store held when the write was made (ABSENT for nothing), or BLIND.
        base_until: Epoch seconds until which that lives; None where unknown.
        server: Identity of the server that held the base, None where unknown.
        sent: Digests of values that may have reached the store for this entry.
        sequence: Order of entry of the call among its process's; a higher one is the later call.
        journaled_at: Epoch seconds of the first write that is folded in.
        not_before: Monotonic seconds until which an abandoned attempt may still be applied.
        conditional: Whether it was made on a version that its caller had read.
        stuck: Class name of the error for which it was set aside, "" while it is not.
        writer: Which process's call it is, where several share a journal.
        committed: Whether the store has acknowledged it once: whoever has replaced it since was free to.
        unanswered: Whether somebody who is gone had begun to send it: the store may have held it, and somebody may have
            deleted or replaced it since.
    """

    key: str = field(repr=False)
    operation: Literal["store", "update", "delete"]
    raw: bytes | None = field(repr=False)
    version: str
    expires_at: float | None
    base: str | None
    base_until: float | None
    server: Identity | None
    sent: tuple[str, ...]
    sequence: int
    journaled_at: float
    not_before: float = 0.0
    conditional: bool = False
    stuck: str = ""
    committed: bool = False
    writer: str = ""
    unanswered: bool = False

    def with_sent(self, sent: tuple[str, ...]) -> Entry:
        """Return it with other `sent`; `replace` costs four times that, for every entry of a replay."""
        return Entry(
            self.key,
            self.operation,
            self.raw,
            self.version,
            self.expires_at,
            self.base,
            self.base_until,
            self.server,
            sent,
            self.sequence,
            self.journaled_at,
            self.not_before,
            self.conditional,
            self.stuck,
            self.committed,
            self.writer,
            self.unanswered,
        )

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return len(self.raw or b"")


@dataclass(frozen=True, slots=True)
class KeptValue:
    """An acknowledged value that no longer stands and waits to be kept as a conflict copy."""

    key: str = field(repr=False)
    raw: bytes | None = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return len(self.raw or b"")


def fold(pending: Entry, later: Entry, *, was_seen: bool = True) -> tuple[Entry, KeptValue | None]:
    """Return what is pending after `later` too, and the value that has to be kept as a copy, if any.

    Whichever call entered later stays. What the pending entry knows of the store stays too: both were made over that.

    Args:
        pending: What waits.
        later: What is added.
        was_seen: Whether the later one's process has seen the pending value, or has written it.
    """
    if later.sequence < pending.sequence:
        # Two plain writes at the same time: the one that entered first is the one replaced. A conditional write has
        # not seen it, and neither has another process.
        is_unseen = pending.conditional or later.conditional or pending.writer != later.writer
        lost = KeptValue(later.key, later.raw) if is_unseen else None
        stays = replace(
            pending, not_before=max(pending.not_before, later.not_before), sent=_union(pending.sent, later.sent)
        )
        return stays, lost
    operation = later.operation
    if operation == "update" and pending.operation == "store":
        operation = "store"
    folded = replace(
        later,
        operation=operation,
        sent=_union(pending.sent, later.sent),
        journaled_at=pending.journaled_at,
        not_before=max(pending.not_before, later.not_before),
        unanswered=pending.unanswered,
    )
    if not was_seen:
        # Nor has it seen what the pending one was made over.
        return folded, KeptValue(pending.key, pending.raw)
    return replace(folded, base=pending.base, base_until=pending.base_until, server=pending.server), None


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return (*first, *(item for item in second if item not in first))
