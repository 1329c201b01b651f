"""An entry as a row of the journal's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from remanence.journal.entry import BLIND, Entry
from remanence.record import ABSENT

__all__ = [
    "ADD",
    "CHANGE",
    "REMOVE",
    "REMOVE_UNCHANGED",
    "REVISION",
    "SELECT",
    "SELECT_OLDEST",
    "entry_of",
    "sent_of",
    "values_of",
]

_FIELDS: Final = (
    "key, operation, raw, version, expires_at, base, base_until, run_id, evictions, sent, sequence, journaled_at, "
    "not_before, conditional, stuck, committed, writer, unanswered"
)
SELECT: Final = f"SELECT {_FIELDS}, revision, in_flight FROM entries WHERE store=?"  # noqa: S608 - our own words
SELECT_OLDEST: Final = (
    # The plus keeps SQLite from the index by key: it would sort everything that waits, for each chunk.
    SELECT.replace("store=?", "+store=?")
    + " AND stuck='' AND (not_before<=? OR not_before>?) ORDER BY position LIMIT ?"
)
ADD: Final = f"INSERT INTO entries (store, {_FIELDS}) VALUES ({', '.join('?' * 19)})"  # noqa: S608
CHANGE: Final = (
    "UPDATE entries SET operation=?, raw=?, version=?, expires_at=?, base=?, base_until=?, run_id=?, evictions=?, "
    "sent=?, sequence=?, journaled_at=?, not_before=?, conditional=?, stuck=?, committed=?, writer=?, unanswered=?, "
    "revision=revision+1 WHERE store=? AND key=?"
)
REMOVE: Final = "DELETE FROM entries WHERE store=? AND key=?"
REMOVE_UNCHANGED: Final = f"{REMOVE} AND sequence=? AND not_before<=?"
"""As `transitions.settle` removes an entry, in most cases, without reading it back."""
REVISION: Final = 18
_NOTHING: Final = "-"
"""What stands for ABSENT, whose digest is empty, among the digests that were sent."""


def entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry of a row that `SELECT` gave."""
    # By position, which costs half of it by name, for every entry of a replay.
    key, operation, raw, version, expires_at, base, base_until, run_id, evictions, sent, *rest, unanswered = row[
        :REVISION
    ]
    sequence, journaled_at, not_before, conditional, stuck, committed, writer = rest
    return Entry(
        key,
        operation,
        raw,
        version,
        expires_at,
        BLIND if base is None else base,
        base_until,
        None if run_id is None else (run_id, evictions),
        tuple([ABSENT if each == _NOTHING else each for each in sent.split()]) if sent else (),
        sequence,
        journaled_at,
        not_before,
        bool(conditional),
        stuck,
        bool(committed),
        writer,
        bool(unanswered),
    )


def values_of(entry: Entry) -> tuple[Any, ...]:
    """Return what `ADD` and `CHANGE` write, the store and the key aside."""
    run_id, evictions = entry.server or (None, None)
    return (
        entry.operation,
        entry.raw,
        entry.version,
        entry.expires_at,
        entry.base,
        entry.base_until,
        run_id,
        evictions,
        sent_of(entry.sent),
        entry.sequence,
        entry.journaled_at,
        entry.not_before,
        entry.conditional,
        entry.stuck,
        entry.committed,
        entry.writer,
        entry.unanswered,
    )


def sent_of(sent: tuple[str, ...]) -> str:
    """Return the digests that were sent as one text."""
    return " ".join([each or _NOTHING for each in sent]) if len(sent) > 1 or not all(sent) else "".join(sent)
