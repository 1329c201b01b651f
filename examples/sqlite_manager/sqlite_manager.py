"""A memory manager on SQLite: an example of how to write one, and of what the conformance kit asks of it."""

# ruff: noqa: A002, INP001 - `input` is the interface's own name; an example is no package

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from remanence import IWorkingMemory

_TABLE = """
CREATE TABLE IF NOT EXISTS memories (
    kind TEXT, conversation_id TEXT, text TEXT NOT NULL, metadata TEXT NOT NULL, ends REAL NOT NULL,
    PRIMARY KEY (kind, conversation_id)
)
"""
_READ = "SELECT text, metadata FROM memories WHERE kind = ? AND conversation_id = ? AND ends > ?"
_WRITE = "INSERT OR REPLACE INTO memories VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM memories WHERE (kind = ? AND conversation_id = ?) OR ends <= ?"


class Found(list[IWorkingMemory]):
    """The answer to a read, with the metadata that stands beside the text."""

    def __init__(self, text: str | None, metadata: dict[str, Any]) -> None:
        super().__init__([] if text is None else [IWorkingMemory(working_memory=text)])
        self.metadata = metadata


class SqliteMemoryManager:
    """Memories in a file of SQLite, one row for each conversation and kind.

    Args:
        path: The file.
        ttl: Seconds that a memory lives after its last write.
        wait: Seconds to wait while another process has the file locked.
        clock: Gives the seconds since the epoch; for tests.
    """

    def __init__(
        self, path: str, *, ttl: float = 43_200, wait: float = 1.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
        self._connection.execute(_TABLE)

    def store(self, input: Any) -> str:
        """Write the memory, replacing any."""
        with self._transaction("IMMEDIATE"):
            return self._write(input, input.metadata or {})

    def retrieve(self, input: Any) -> Found:
        """Return the memory as a list of one, or an empty list."""
        with self._transaction("DEFERRED"):
            return self._read(input)

    def update(self, input: Any) -> str | None:
        """Replace the text of an existing memory, and merge its metadata; a missing one stays missing."""
        # The lock is taken before the read: nobody deletes the memory between it and the write.
        with self._transaction("IMMEDIATE"):
            found = self._read(input)
            return self._write(input, {**found.metadata, **(input.metadata or {})}) if found else None

    def delete(self, input: Any) -> None:
        """Remove the memory, if there is one; and whatever has expired."""
        with self._transaction("IMMEDIATE"):
            self._connection.execute(_DELETE, self._about(input))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        with self._lock:
            self._connection.execute(f"BEGIN {kind}")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def _about(self, input: Any) -> tuple[str, str, float]:
        return str(input.memory_type), input.conversation_id, self._clock()

    def _read(self, input: Any) -> Found:
        row = self._connection.execute(_READ, self._about(input)).fetchone()
        return Found(None, {}) if row is None else Found(row[0], json.loads(row[1]))

    def _write(self, input: Any, metadata: dict[str, Any]) -> str:
        if not input.data:
            raise ValueError("no data to write; pass [IWorkingMemory(…)]")
        kind, conversation_id, now = self._about(input)
        row = (kind, conversation_id, input.data[-1].working_memory, json.dumps(metadata), now + self._ttl)
        self._connection.execute(_WRITE, row)
        return f"{kind}:{conversation_id}"
