"""What SQLite says of a journal's file, in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from remanence.errors import JournalUnavailableError

__all__ = ["error_code", "in_our_words"]


@contextmanager
def in_our_words(path: Path) -> Iterator[None]:
    """Raise JournalUnavailableError for what SQLite raises, with what to do."""
    error: sqlite3.Error | None = None
    try:
        yield
    except sqlite3.Error as caught:
        error = caught
    if error is not None:
        # Outside: SQLite's own text may quote what was to be written.
        what, do = next((words for codes, words in _REASONS if error_code(error) in codes), _OTHERWISE)
        raise JournalUnavailableError(
            f"the journal {path.name!r} {what}. What it holds is intact, this write was not kept; {do}."
        )


def error_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


_REASONS: Final[tuple[tuple[frozenset[int], tuple[str, str]], ...]] = (
    (frozenset({sqlite3.SQLITE_FULL}), ("is on a full disk", "make room")),
    (
        frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}),
        ("is being written by another process for longer than a call may wait", "repeat the write"),
    ),
    (
        frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}),
        ("cannot be written", "look at the permissions of the file and its directory"),
    ),
    (
        frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}),
        ("is corrupt, or no journal", "move it away to look at it, or name another file"),
    ),
)
_OTHERWISE: Final = ("does not work", "look at the disk")
