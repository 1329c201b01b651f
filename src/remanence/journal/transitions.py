"""What becomes of a pending write: pure, so that every journal follows the same rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

from remanence.errors import JournalFullError
from remanence.journal.entry import BLIND, Entry, Identity, KeptValue

__all__ = ["JournalCounts", "Limits", "Settlement", "overtake", "settle", "with_sent"]


@dataclass(frozen=True, slots=True)
class JournalCounts:
    """What a journal holds.

    Attributes:
        entries: Pending writes, stuck ones included.
        stuck: Stuck ones.
        size: Bytes of the records, of those that wait to be kept as copies too.
        oldest: Epoch seconds at which the oldest entry came, None without any.
        kept: Values that wait to be kept as copies.
    """

    entries: int
    stuck: int
    size: int
    oldest: float | None
    kept: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a journal holds: entries, and bytes of their records."""

    max_entries: int
    max_bytes: int

    def check(self, entries: int, size: int, more: int, *, is_new: bool) -> None:
        """Raise unless there is room.

        Args:
            entries: Held now.
            size: Bytes held now.
            more: Bytes that come in addition; what makes it smaller always gets in.
            is_new: Whether an entry comes in addition.

        Raises:
            JournalFullError: There is none.
        """
        limit = ""
        if is_new and entries >= self.max_entries:
            limit = f"{self.max_entries} entries"
        elif more > 0 and size + more > self.max_bytes:
            limit = f"{self.max_bytes} bytes"
        if limit:
            raise JournalFullError(limit)


@dataclass(frozen=True, slots=True)
class Settlement:
    """An entry whose matter is settled.

    Attributes:
        entry: As it was sent.
        written: Digest of what the store holds now because of it, which is what a later write folded in meanwhile was
            made over; None when that one must meet the store by itself.
        server: The store's identity.
        until: Epoch seconds until which the written value lives, None for unknown.
    """

    entry: Entry
    written: str | None = None
    server: Identity | None = None
    until: float | None = None


def overtake(pending: Entry, committed: Entry, *, is_landing: bool) -> tuple[Entry | None, KeptValue | None]:
    """Return what is pending, and what has to be kept as a copy, once a call has been committed past a pending write.

    Args:
        pending: What waits.
        committed: An entry that would write the committed value once more, over itself.
        is_landing: Whether an attempt for the pending write may still be applied.
    """
    if pending.sequence > committed.sequence:
        return (pending if pending.conditional else _over(pending, committed.version)), None
    lost = KeptValue(pending.key, pending.raw) if pending.conditional or committed.conditional else None
    if not is_landing:
        return None, lost
    # It may land even over what is written next, and no guard can tell "nothing" from "nothing again": the committed
    # value stays pending until that attempt is over.
    sent = with_sent(pending.sent, pending.version)
    return replace(committed, sent=sent, not_before=pending.not_before), lost


def settle(pending: Entry, settlement: Settlement) -> Entry | None:
    """Return what is left of a pending entry: nothing, unless a later write has been folded in meanwhile."""
    entry = settlement.entry
    if pending.sequence == entry.sequence and pending.not_before <= entry.not_before:
        return None
    if settlement.written is None:
        return pending
    written, until, server = settlement.written, settlement.until, settlement.server
    return replace(pending, base=written, base_until=until, server=server, unanswered=False)


def with_sent(sent: tuple[str, ...], version: str) -> tuple[str, ...]:
    """Return the digests that were sent, and this one."""
    return sent if version in sent else (*sent, version)


def _over(pending: Entry, version: str) -> Entry:
    """Have a pending write replace an earlier one of its process; what was made blind stays blind to all others."""
    if pending.base is BLIND:
        return replace(pending, sent=with_sent(pending.sent, version))
    return replace(pending, base=version, base_until=None)
