"""What every journal can do; see `memory.MemoryJournal` for the details."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from remanence.journal.entry import Entry, KeptValue
from remanence.journal.transitions import JournalCounts, Settlement

__all__ = ["Journal"]


class Journal(Protocol):
    """Pending writes, one a key, oldest first.

    Attributes:
        max_entries, max_bytes: The most it holds.
        is_shared: Whether other processes write into it, and it outlives this one.
        waits: Whether its changes may wait, for a disk or another process; looking at one key never does.
        writer: What tells the entries of this process from those of others.
    """

    max_entries: int
    max_bytes: int
    is_shared: bool
    waits: bool
    writer: str

    def __len__(self) -> int:
        """Return the number of entries."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to bring home."""
        ...

    @property
    def last_kept(self) -> int:
        """Number of the last value that waits to be kept as a copy, 0 where none does."""
        ...

    def clear(self) -> None:
        """Begin anew in a child process after fork."""
        ...

    def close(self) -> None:
        """Give up what is open; nothing is asked of it any more."""
        ...

    def number(self) -> int:
        """Return the next number in the order of calls."""
        ...

    def get(self, key: str) -> Entry | None:
        """Return the pending write of a key."""
        ...

    def record(
        self, key: str, build: Callable[[Entry | None], Entry | None], was_seen: Callable[[Entry], bool] | None = None
    ) -> Entry | None:
        """Add the entry that `build` makes of the pending one; return what is pending now."""
        ...

    def keep(self, value: KeptValue) -> None:
        """Add an acknowledged value that waits to be kept as a conflict copy."""
        ...

    def seal(self) -> None:
        """Accept nothing more."""
        ...

    def supersede(self, key: str, again: Callable[[], Entry], now: float) -> None:
        """Reconcile the pending entry with a value that a call of this process has just committed past it."""
        ...

    def lease(self, now: float, seconds: float) -> int | None:
        """Return the epoch of a lease to drain for `seconds`, None while another drainer holds it."""
        ...

    def release(self, epoch: int) -> None:
        """Give the lease back."""
        ...

    def due(self, now: float, limit: int) -> list[Entry]:
        """Return the oldest entries that may be replayed by now."""
        ...

    def next_due(self) -> float | None:
        """Return the earliest `not_before` of what waits."""
        ...

    def mark_sent(self, epoch: int, entries: Sequence[Entry]) -> list[Entry]:
        """Note that the entries' values are about to be sent; return those that are still the same."""
        ...

    def unmark_sent(self, entries: Sequence[Entry], marked: Sequence[Entry]) -> None:
        """Take `mark_sent` back for a chunk that never left."""
        ...

    def settle(self, epoch: int, settlements: Sequence[Settlement]) -> int:
        """Remove entries whose matter is settled; return for how many the drainer's word still counted."""
        ...

    def postpone(self, entries: Sequence[Entry], not_before: float) -> None:
        """Leave entries for later."""
        ...

    def set_aside(self, epoch: int, entry: Entry, error: str) -> bool:
        """Mark an entry as stuck, unless it has changed."""
        ...

    def kept(self) -> list[KeptValue]:
        """Return the values that wait to be kept as conflict copies."""
        ...

    def forget_kept(self, value: KeptValue) -> None:
        """Remove a value that the store has as a copy now."""
        ...

    def forget_kept_of(self, key: str, until: int) -> None:
        """Remove what waits to be kept for a memory that was deleted on purpose, up to the value of that number."""
        ...

    def retry_stuck(self) -> None:
        """Give every entry that was set aside another chance."""
        ...

    def entries(self) -> list[Entry]:
        """Return everything that is pending, oldest first."""
        ...

    def counts(self) -> JournalCounts:
        """Return what is held."""
        ...
