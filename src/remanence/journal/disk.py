"""The journal on disk: what waits in it outlives the process, and is shared by all processes of a host."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from remanence.errors import ManagerClosedError
from remanence.journal.entry import Entry, KeptValue, fold
from remanence.journal.file import JournalFile
from remanence.journal.rows import (
    ADD,
    CHANGE,
    REMOVE,
    REMOVE_UNCHANGED,
    REVISION,
    SELECT,
    SELECT_OLDEST,
    entry_of,
    sent_of,
    values_of,
)
from remanence.journal.transitions import JournalCounts, Limits, Settlement, overtake, settle, with_sent

__all__ = ["DiskJournal"]

_MOST_WAIT: Final = 60.0
"""Seconds: far more than an attempt may take. A monotonic time beyond that is of before a restart of the machine."""


_MOST_DUE: Final = 8 * 1024 * 1024
"""Bytes of records to read at a time: twice what a drainer sends in one go."""


class DiskJournal:
    """Pending writes, one a key, oldest first, in a file; see `memory.MemoryJournal` for what each method does.

    Args:
        path: Of the file.
        store: Which store the writes are for, so that managers of others leave them alone.
        max_entries: Entries of this store to hold.
        max_bytes: Bytes of their records to hold.

    Raises:
        JournalUnavailableError: The file cannot be used, with the reason; nothing was changed. Every method raises it
            where the file fails later.
    """

    is_shared = True
    waits = True

    def __init__(self, path: str | os.PathLike[str], *, store: str, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._limits = Limits(max_entries, max_bytes)
        self._store = store
        self._file = JournalFile(path)
        self._sealed = self._closed = False
        self._begin()

    def _begin(self) -> None:
        self.writer = secrets.token_hex(8)
        self._known: tuple[int, tuple[int, int, int]] = (-1, (0, 0, 0))
        self._chunk: dict[str, tuple[Entry, int]] = {}
        self._held = 0
        with self._file.opening() as cursor:
            cursor.execute("INSERT OR IGNORE INTO stores (store) VALUES (?)", (self._store,))
            last, ahead = cursor.execute(
                "SELECT last_sequence, ahead FROM stores WHERE store=?", (self._store,)
            ).fetchone()
            # The machine's monotonic clock orders the calls of all processes. When it begins anew with the machine, the
            # first process says by how much all are ahead of it from then on.
            now = time.monotonic_ns()
            if last > now + ahead:
                ahead = last - now
                cursor.execute("UPDATE stores SET ahead=? WHERE store=?", (ahead, self._store))
        self._ahead = ahead
        self._last_number = 0

    def clear(self) -> None:
        """Take a connection of its own; in a child process after fork, which shares what waits with its parent."""
        self._file.after_fork(in_child=True)  # whichever of the two comes first
        self._file.open()
        self._closed = False
        self._begin()

    def number(self) -> int:
        """Return the next number in the order of the calls of all processes."""
        self._last_number = max(self._last_number + 1, time.monotonic_ns() + self._ahead)
        return self._last_number

    def __len__(self) -> int:
        return self._current()[0]

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to bring home."""
        entries, stuck, kept = self._current()
        return not kept and entries == stuck

    @property
    def last_kept(self) -> int:
        """Number of the last value that waits to be kept as a copy, 0 where none does."""
        if not self._current()[2]:
            return 0
        return int(self._file.read("SELECT ifnull(max(position), 0) FROM kept")[0][0])

    def get(self, key: str) -> Entry | None:
        """Return the pending write of a key."""
        if not self._current()[0]:
            return None
        rows = self._file.read(f"{SELECT} AND key=?", self._store, key)
        return entry_of(rows[0]) if rows else None

    def record(
        self, key: str, build: Callable[[Entry | None], Entry | None], was_seen: Callable[[Entry], bool] | None = None
    ) -> Entry | None:
        """Add the entry that `build` makes of the pending one; return what is pending now."""
        with self._file.transaction() as cursor:
            if self._sealed:
                raise ManagerClosedError
            pending = self._pending(cursor, key)
            later = build(pending)
            if later is None:
                return pending
            lost = None
            if pending is not None:
                later, lost = fold(pending, later, was_seen=was_seen is None or was_seen(pending))
            more = later.size - (pending.size if pending else 0) + (lost.size if lost else 0)
            self._check_room(cursor, more, is_new=pending is None)
            self._put(cursor, pending, later)
            if lost is not None:
                self._keep(cursor, lost)
            return later

    def keep(self, value: KeptValue) -> None:
        """Add an acknowledged value that waits to be kept as a conflict copy."""
        with self._file.transaction() as cursor:
            if self._sealed:
                raise ManagerClosedError
            self._check_room(cursor, value.size, is_new=False)
            self._keep(cursor, value)

    def seal(self) -> None:
        """Accept nothing more from this process; what waits is brought home by others, or the next one."""
        self._sealed = True

    def supersede(self, key: str, again: Callable[[], Entry], now: float) -> None:
        """Reconcile the pending entry with a value that a call of this process has just committed past it."""
        with self._file.transaction() as cursor:
            pending = self._pending(cursor, key)
            if pending is None or pending.writer != self.writer:
                return  # another process's meets the committed value by itself
            flying = cursor.execute(
                "SELECT in_flight FROM entries WHERE store=? AND key=?", (self._store, key)
            ).fetchone()[0]
            left, lost = overtake(pending, again(), is_landing=bool(flying) or pending.not_before > now)
            if lost is not None:
                self._keep(cursor, lost)
            self._put(cursor, pending, left)

    def lease(self, now: float, seconds: float) -> int | None:
        """Return the epoch of a lease to drain for `seconds`, None while another drainer holds it."""
        if self._closed:
            return None
        with self._file.transaction() as cursor:
            epoch, until = cursor.execute(
                "SELECT epoch, lease_until FROM stores WHERE store=?", (self._store,)
            ).fetchone()
            if now < until <= now + _MOST_WAIT:
                return None
            cursor.execute(
                "UPDATE stores SET epoch=?, lease_until=? WHERE store=?", (epoch + 1, now + seconds, self._store)
            )
            # Whoever held it before did not give it back. (The plus: as for SELECT_OLDEST.)
            cursor.execute(
                "UPDATE entries SET unanswered=1, in_flight=0, revision=revision+1 WHERE in_flight<>0 AND +store=?",
                (self._store,),
            )
            self._held = int(epoch) + 1
            return self._held

    def release(self, epoch: int) -> None:
        """Give the lease back: no attempt of its holder is under way any more."""
        with self._file.transaction() as cursor:
            cursor.execute(
                "UPDATE entries SET in_flight=0 WHERE in_flight<>0 AND +store=? AND in_flight=?", (self._store, epoch)
            )
            cursor.execute("UPDATE stores SET lease_until=0 WHERE store=? AND epoch=?", (self._store, epoch))
        self._chunk = {}
        if self.is_idle:
            self._file.tidy()
        if epoch == self._held:
            self._held = 0
            if self._closed:
                self._file.close()

    def due(self, now: float, limit: int) -> list[Entry]:
        """Return the oldest entries that may be replayed by now (monotonic)."""
        self._chunk = {}
        size = 0
        with self._file.looking() as cursor:
            for row in cursor.execute(SELECT_OLDEST, (self._store, now, now + _MOST_WAIT, limit)):
                entry = entry_of(row)
                self._chunk[entry.key] = (entry, row[REVISION])
                size += entry.size
                if size > _MOST_DUE:
                    break
        return [entry for entry, _ in self._chunk.values()]

    def next_due(self) -> float | None:
        """Return the earliest `not_before` of what waits, None when nothing does."""
        with self._file.looking() as cursor:
            earliest: float | None = cursor.execute(
                "SELECT min(not_before) FROM entries WHERE store=? AND stuck=''", (self._store,)
            ).fetchone()[0]
        return earliest

    def mark_sent(self, epoch: int, entries: Sequence[Entry]) -> list[Entry]:
        """Note that the entries' values are about to be sent; return those that are still the same."""
        marked: list[Entry] = []
        with self._file.transaction() as cursor:
            if not self._holds(cursor, epoch):
                return marked
            for entry in entries:
                known, revision = self._chunk.get(entry.key, (None, -1))
                again = entry.with_sent(with_sent(entry.sent, entry.version))
                if known is entry and self._mark(cursor, again, revision, epoch):
                    self._chunk[entry.key] = (again, revision + 1)
                    marked.append(again)
        return marked

    def unmark_sent(self, entries: Sequence[Entry], marked: Sequence[Entry]) -> None:
        """Take `mark_sent` back for a chunk that never left."""
        before = {entry.key: entry for entry in entries}
        with self._file.transaction() as cursor:
            for entry in marked:
                known, revision = self._chunk.get(entry.key, (None, -1))
                if known is entry and self._mark(cursor, before[entry.key], revision, 0):
                    self._chunk[entry.key] = (before[entry.key], revision + 1)

    def settle(self, epoch: int, settlements: Sequence[Settlement]) -> int:
        """Remove entries whose matter is settled; return for how many the drainer's word still counted."""
        if not settlements:
            return 0
        counted = 0
        with self._file.transaction() as cursor:
            if not self._holds(cursor, epoch):
                return 0
            for settlement in settlements:
                entry = settlement.entry
                cursor.execute(REMOVE_UNCHANGED, (self._store, entry.key, entry.sequence, entry.not_before))
                if cursor.rowcount:
                    counted += 1
                    continue
                pending = self._pending(cursor, entry.key)
                if pending is not None:
                    counted += 1
                    left = settle(pending, settlement)
                    if left is not pending:
                        self._put(cursor, pending, left)
        return counted

    def postpone(self, entries: Sequence[Entry], not_before: float) -> None:
        """Leave entries for later (monotonic), whoever asks for it: waiting is always safe."""
        with self._file.transaction() as cursor:
            cursor.executemany(
                "UPDATE entries SET not_before=?, revision=revision+1 WHERE store=? AND key=? AND not_before<?",
                [(not_before, self._store, entry.key, not_before) for entry in entries],
            )

    def set_aside(self, epoch: int, entry: Entry, error: str) -> bool:
        """Mark an entry as stuck, unless it has changed."""
        with self._file.transaction() as cursor:
            if not self._holds(cursor, epoch):
                return False
            cursor.execute(
                "UPDATE entries SET stuck=?, revision=revision+1 WHERE store=? AND key=? AND sequence=? AND stuck=''",
                (error, self._store, entry.key, entry.sequence),
            )
            return bool(cursor.rowcount)

    def kept(self) -> list[KeptValue]:
        """Return the values that wait to be kept as conflict copies."""
        with self._file.looking() as cursor:
            rows = cursor.execute("SELECT key, raw FROM kept WHERE store=? ORDER BY position", (self._store,))
            return [KeptValue(key, raw) for key, raw in rows]

    def forget_kept(self, value: KeptValue) -> None:
        """Remove a value that the store has as a copy now."""
        with self._file.transaction() as cursor:
            cursor.execute(
                "DELETE FROM kept WHERE position=(SELECT min(position) FROM kept WHERE store=? AND key=? AND raw IS ?)",
                (self._store, value.key, value.raw),
            )

    def forget_kept_of(self, key: str, until: int) -> None:
        """Remove what waits to be kept for a memory that was deleted on purpose, up to the value of that number."""
        with self._file.transaction() as cursor:
            cursor.execute("DELETE FROM kept WHERE store=? AND key=? AND position<=?", (self._store, key, until))

    def retry_stuck(self) -> None:
        """Give every entry that was set aside another chance."""
        if self._current()[1]:
            with self._file.transaction() as cursor:
                cursor.execute(
                    "UPDATE entries SET stuck='', revision=revision+1 WHERE store=? AND stuck<>''", (self._store,)
                )

    def entries(self) -> list[Entry]:
        """Return everything that is pending, oldest first."""
        with self._file.looking() as cursor:
            return [entry_of(row) for row in cursor.execute(f"{SELECT} ORDER BY position", (self._store,))]

    def counts(self) -> JournalCounts:
        """Return what is held."""
        rows = self._file.read(
            "SELECT entries, stuck, size, kept, (SELECT journaled_at FROM entries WHERE store=stores.store "
            "ORDER BY position LIMIT 1) FROM stores WHERE store=?",
            self._store,
        )
        entries, stuck, size, kept, oldest = rows[0]
        return JournalCounts(entries=entries, stuck=stuck, size=size, oldest=oldest, kept=kept)

    def close(self) -> None:
        """Close the file: once a round that is under way has given its lease back."""
        self._closed = True
        if not self._held:
            self._file.close()

    # What they are made of --------------------------------------------------------------------------------------------

    def _current(self) -> tuple[int, int, int]:
        """Return entries, stuck ones and kept values; asked for again only where somebody has written."""
        if self._closed:
            return 0, 0, 0
        changes = self._file.changes()
        known = self._known
        if known[0] == changes:
            return known[1]
        rows = self._file.read("SELECT entries, stuck, kept FROM stores WHERE store=?", self._store)
        self._known = (changes, rows[0])  # at once: other threads do the same
        found: tuple[int, int, int] = rows[0]
        return found

    def _holds(self, cursor: Any, epoch: int) -> bool:
        row = cursor.execute("SELECT epoch FROM stores WHERE store=?", (self._store,)).fetchone()
        return bool(row[0] == epoch)

    def _pending(self, cursor: Any, key: str) -> Entry | None:
        row = cursor.execute(f"{SELECT} AND key=?", (self._store, key)).fetchone()
        return None if row is None else entry_of(row)

    def _put(self, cursor: Any, pending: Entry | None, later: Entry | None) -> None:
        if later is None:
            cursor.execute(REMOVE, (self._store, pending.key if pending is not None else ""))
        elif pending is None:
            cursor.execute(ADD, (self._store, later.key, *values_of(later)))
        else:
            cursor.execute(CHANGE, (*values_of(later), self._store, later.key))

    def _keep(self, cursor: Any, value: KeptValue) -> None:
        cursor.execute("INSERT INTO kept (store, key, raw) VALUES (?, ?, ?)", (self._store, value.key, value.raw))

    def _mark(self, cursor: Any, entry: Entry, revision: int, epoch: int) -> bool:
        cursor.execute(
            "UPDATE entries SET sent=?, in_flight=?, revision=revision+1 WHERE store=? AND key=? AND revision=?",
            (sent_of(entry.sent), epoch, self._store, entry.key, revision),
        )
        return bool(cursor.rowcount)

    def _check_room(self, cursor: Any, more: int, *, is_new: bool) -> None:
        entries, size = cursor.execute("SELECT entries, size FROM stores WHERE store=?", (self._store,)).fetchone()
        self._limits.check(entries, size, more, is_new=is_new)
