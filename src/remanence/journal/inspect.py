"""What waits in a journal's file, for people: nothing is changed, and no process is kept from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from remanence.errors import JournalUnavailableError
from remanence.journal.file import JournalFile

__all__ = ["Waiting", "waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One acknowledged write that the store does not have yet.

    Attributes:
        store: Which store it is for: address, database and prefix.
        key: Of the memory.
        operation: "store", "update" or "delete"; "copy" for a value that lost and waits to be kept.
        record: The record's bytes, None for a deletion.
        journaled_at: Epoch seconds of the first write that is folded in; None for a copy.
        stuck: Class name of the error for which it was set aside, "" while it is not.
    """

    store: str
    key: str
    operation: str
    record: bytes | None = field(repr=False)
    journaled_at: float | None
    stuck: str


def waiting(path: str | os.PathLike[str]) -> Iterator[Waiting]:
    """Give what waits in a journal, store by store, oldest first.

    Args:
        path: Of the file, which must exist.

    Raises:
        JournalUnavailableError: There is none, or it cannot be used; nothing was changed.
    """
    if not Path(path).exists():
        message = f"there is no journal {Path(path).name!r}. Nothing was made; look at the path."
        raise JournalUnavailableError(message)
    file = JournalFile(path)
    try:
        entries = file.read(
            "SELECT store, key, operation, raw, journaled_at, stuck FROM entries ORDER BY store, position"
        )
        copies = file.read("SELECT store, key, 'copy', raw, NULL, '' FROM kept ORDER BY store, position")
    finally:
        file.close()
    yield from (Waiting(*row) for row in (*entries, *copies))
