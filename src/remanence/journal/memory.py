"""The journal in this process's memory: as safe as the process."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from remanence.errors import ManagerClosedError
from remanence.journal.entry import Entry, KeptValue, fold
from remanence.journal.transitions import JournalCounts, Limits, Settlement, overtake, settle, with_sent

__all__ = ["MemoryJournal"]


class MemoryJournal:
    """Pending writes, one a key, oldest first; thread-safe, no I/O.

    One drainer at a time holds the *lease*; what a drainer whose lease ran out still reports changes nothing.

    Args:
        max_entries: Entries to hold.
        max_bytes: Bytes of their records to hold.
    """

    is_shared = False
    waits = False
    writer = ""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._limits = Limits(max_entries, max_bytes)
        self.number: Callable[[], int] = itertools.count(1).__next__
        self.clear()

    def close(self) -> None:
        """Nothing is open."""

    def clear(self) -> None:
        """Forget everything, with a fresh lock; for a child process after fork, whose parent keeps the entries."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._kept: dict[int, KeptValue] = {}
        self._last_kept = 0
        self._stuck = 0
        self._size = 0
        self._in_flight: dict[str, int] = {}
        self._epoch = 0
        self._sealed = False
        self._lease_until = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to bring home."""
        return not self._kept and len(self._entries) == self._stuck

    @property
    def last_kept(self) -> int:
        """Number of the last value that waits to be kept as a copy, 0 where none does."""
        return self._last_kept if self._kept else 0

    def get(self, key: str) -> Entry | None:
        """Return the pending write of a key."""
        if not self._entries:
            return None
        with self._lock:
            return self._entries.get(key)

    def record(
        self, key: str, build: Callable[[Entry | None], Entry | None], was_seen: Callable[[Entry], bool] | None = None
    ) -> Entry | None:
        """Add the entry that `build` makes of the pending one; return what is pending now.

        Args:
            key: Whose.
            build: Gets the pending entry or None; gives the new one, or None to change nothing. Must be pure.
            was_seen: Whether this process has seen a pending entry's value, or has written it; None: it has.

        Raises:
            JournalFullError: Nothing was changed.
            ManagerClosedError: After `seal`.
        """
        with self._lock:
            if self._sealed:
                raise ManagerClosedError
            pending = self._entries.get(key)
            later = build(pending)
            if later is None:
                return pending
            lost = None
            if pending is not None:
                later, lost = fold(pending, later, was_seen=was_seen is None or was_seen(pending))
            more = later.size - (pending.size if pending else 0) + (lost.size if lost else 0)
            self._limits.check(len(self._entries), self._size, more, is_new=pending is None)
            self._put(pending, later)
            if lost is not None:
                self._keep(lost)
            return later

    def keep(self, value: KeptValue) -> None:
        """Add an acknowledged value that waits to be kept as a conflict copy.

        Raises:
            JournalFullError: Nothing was changed.
            ManagerClosedError: After `seal`.
        """
        with self._lock:
            if self._sealed:
                raise ManagerClosedError
            self._limits.check(len(self._entries), self._size, value.size, is_new=False)
            self._keep(value)

    def seal(self) -> None:
        """Accept nothing more: from here on nobody would bring it home."""
        with self._lock:
            self._sealed = True

    def supersede(self, key: str, again: Callable[[], Entry], now: float) -> None:
        """Reconcile the pending entry with a value that a call of this process has just committed past it.

        Args:
            key: Whose.
            again: Gives an entry that would write the committed value once more, over itself.
            now: Monotonic seconds.
        """
        with self._lock:
            pending = self._entries.get(key)
            if pending is None or pending.writer != self.writer:
                return  # another process's meets the committed value by itself
            is_landing = key in self._in_flight or pending.not_before > now
            left, lost = overtake(pending, again(), is_landing=is_landing)
            if lost is not None:
                self._keep(lost)
            if left is None:
                self._drop(pending)
            else:
                self._put(pending, left)

    def lease(self, now: float, seconds: float) -> int | None:
        """Return the epoch of a lease to drain for `seconds`, None while another drainer holds it."""
        with self._lock:
            if now < self._lease_until:
                return None
            self._epoch += 1
            self._lease_until = now + seconds
            # Whoever held it before did not give it back.
            for key in self._in_flight.keys() & self._entries.keys():
                self._entries[key] = replace(self._entries[key], unanswered=True)
            self._in_flight = {}
            return self._epoch

    def release(self, epoch: int) -> None:
        """Give the lease back: no attempt of its holder is under way any more."""
        with self._lock:
            self._in_flight = {key: by for key, by in self._in_flight.items() if by != epoch}
            if epoch == self._epoch:
                self._lease_until = 0.0

    def due(self, now: float, limit: int) -> list[Entry]:
        """Return the oldest entries that may be replayed by now (monotonic)."""
        with self._lock:
            found: list[Entry] = []
            for entry in self._entries.values():
                if not entry.stuck and entry.not_before <= now:
                    found.append(entry)
                    if len(found) >= limit:
                        break
            return found

    def next_due(self) -> float | None:
        """Return the earliest `not_before` of what waits, None when nothing does."""
        with self._lock:
            return min((entry.not_before for entry in self._entries.values() if not entry.stuck), default=None)

    def mark_sent(self, epoch: int, entries: Sequence[Entry]) -> list[Entry]:
        """Note that the entries' values are about to be sent; return those that are still the same."""
        with self._lock:
            marked: list[Entry] = []
            for entry in entries:
                if epoch == self._epoch and self._entries.get(entry.key) is entry:
                    again = entry.with_sent(with_sent(entry.sent, entry.version))
                    self._entries[entry.key] = again
                    self._in_flight[entry.key] = epoch
                    marked.append(again)
            return marked

    def unmark_sent(self, entries: Sequence[Entry], marked: Sequence[Entry]) -> None:
        """Take `mark_sent` back for a chunk that never left: else a long outage would make the guards long.

        Args:
            entries: As they were before.
            marked: As `mark_sent` gave them.
        """
        before = {entry.key: entry for entry in entries}
        with self._lock:
            for entry in marked:
                if self._entries.get(entry.key) is entry:
                    self._entries[entry.key] = before[entry.key]

    def settle(self, epoch: int, settlements: Sequence[Settlement]) -> int:
        """Remove entries whose matter is settled, unless a later write has been folded in meanwhile.

        Returns:
            For how many the drainer's word still counted.
        """
        counted = 0
        with self._lock:
            if epoch != self._epoch:
                return 0
            for settlement in settlements:
                pending = self._entries.get(settlement.entry.key)
                if pending is None:
                    continue
                counted += 1
                left = settle(pending, settlement)
                if left is None:
                    self._drop(pending)
                    self._in_flight.pop(pending.key, None)  # it was answered
                else:
                    self._entries[pending.key] = left
        return counted

    def postpone(self, entries: Sequence[Entry], not_before: float) -> None:
        """Leave entries for later (monotonic), whoever asks for it: waiting is always safe."""
        with self._lock:
            for entry in entries:
                pending = self._entries.get(entry.key)
                if pending is not None and pending.not_before < not_before:
                    self._entries[entry.key] = replace(pending, not_before=not_before)

    def set_aside(self, epoch: int, entry: Entry, error: str) -> bool:
        """Mark an entry as stuck, unless it has changed."""
        with self._lock:
            pending = self._entries.get(entry.key)
            if epoch != self._epoch or pending is None or pending.sequence != entry.sequence or pending.stuck:
                return False
            self._entries[entry.key] = replace(pending, stuck=error)
            self._stuck += 1
            return True

    def kept(self) -> list[KeptValue]:
        """Return the values that wait to be kept as conflict copies."""
        with self._lock:
            return list(self._kept.values())

    def forget_kept(self, value: KeptValue) -> None:
        """Remove a value that the store has as a copy now."""
        with self._lock:
            number = next((number for number, each in self._kept.items() if each == value), None)
            if number is not None:
                del self._kept[number]
                self._size -= value.size

    def forget_kept_of(self, key: str, until: int) -> None:
        """Remove what waits to be kept for a memory that was deleted on purpose, up to the value of that number."""
        with self._lock:
            gone = [number for number, value in self._kept.items() if value.key == key and number <= until]
            self._size -= sum(self._kept.pop(number).size for number in gone)

    def retry_stuck(self) -> None:
        """Give every entry that was set aside another chance."""
        with self._lock:
            if self._stuck:
                self._entries.update({e.key: replace(e, stuck="") for e in self._entries.values() if e.stuck})
                self._stuck = 0

    def entries(self) -> list[Entry]:
        """Return everything that is pending, oldest first."""
        with self._lock:
            return list(self._entries.values())

    def counts(self) -> JournalCounts:
        """Return what is held."""
        with self._lock:
            oldest = next(iter(self._entries.values()), None)
            return JournalCounts(
                entries=len(self._entries),
                stuck=self._stuck,
                size=self._size,
                oldest=None if oldest is None else oldest.journaled_at,
                kept=len(self._kept),
            )

    def _put(self, pending: Entry | None, later: Entry) -> None:
        if pending is not None:
            self._size -= pending.size
            # A write that folds into a stuck entry gets a new chance.
            self._stuck -= bool(pending.stuck)
            self._stuck += bool(later.stuck)
        self._entries[later.key] = later
        self._size += later.size

    def _drop(self, pending: Entry) -> None:
        del self._entries[pending.key]
        self._size -= pending.size
        self._stuck -= bool(pending.stuck)

    def _keep(self, value: KeptValue) -> None:
        self._last_kept += 1
        self._kept[self._last_kept] = value
        self._size += value.size
