"""The file of a journal on disk: opened for one process, its errors in our words."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from remanence.errors import JournalUnavailableError
from remanence.journal.opening import BUSY_SECONDS, check_place, connect, opening_lock, patiently, plain
from remanence.journal.words import error_code, in_our_words

__all__ = ["JournalFile"]

_log = logging.getLogger("remanence")

_TURN_SECONDS: Final = 0.2
"""What a thread may wait for the others of its process."""
_BUSY_MESSAGE: Final = (
    "the journal {name!r} is being written for longer than a call may wait. What it holds is intact, this write was "
    "not kept; repeat the write."
)


class JournalFile:
    """One process's way to a journal's file; its methods may be called by any thread.

    Short questions have a connection of their own: they wait for nobody, not for other processes, nor for a write of
    this one, which may have to wait for the disk.

    Args:
        path: Of the file; it is made if there is none, its directory is not.

    Raises:
        JournalUnavailableError: The path cannot be used, with the reason; nothing was changed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - a link must be seen as one, not followed
        self._connections: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._refused_at = 0.0
        self.open()
        _files.add(self)

    def open(self) -> None:
        """Connect; one that is open is left alone."""
        with self._lock, self._reading, opening_lock(), in_our_words(self.path):
            if self._connections is None:
                check_place(self.path)
                self._connections = (connect(self.path), plain(self.path))

    def close(self) -> None:
        """Close the connections."""
        with self._lock, self._reading:
            self._shut()

    def _shut(self) -> None:
        connections, self._connections = self._connections, None
        for connection in connections or ():
            connection.close()

    def _connected(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        if self._connections is None:
            message = f"the journal {self.path.name!r} is closed. What it holds is intact, this write was not kept."
            raise JournalUnavailableError(message)
        return self._connections

    def before_fork(self) -> None:
        """Close the connections, whose locks a child would take for its own, and hold everybody up until after it.

        Source: https://www.sqlite.org/howtocorrupt.html, section 2.6.
        """
        self._lock.acquire()
        self._reading.acquire()
        self._was_open = self._connections is not None
        self._shut()

    def after_fork(self, *, in_child: bool) -> None:
        """Go on in the parent; in the child somebody has to `open` it."""
        if in_child:
            self._lock, self._reading = threading.Lock(), threading.Lock()
            return
        try:
            if self._was_open:
                self._connections = (connect(self.path, is_known=True), plain(self.path))
        except (sqlite3.Error, JournalUnavailableError) as error:
            _log.error("the journal could not be opened again after a fork (%s)", type(error).__name__)
        finally:
            self._reading.release()
            self._lock.release()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        # A lock that another process holds costs each waiting thread its time, one after the other.
        if not self._lock.acquire(timeout=_TURN_SECONDS):
            raise JournalUnavailableError(_BUSY_MESSAGE.format(name=self.path.name))
        try:
            with in_our_words(self.path):
                connection = self._connected()[0]
                # Nor does each of many calls wait for a process that has just been waited for.
                if self._refused_at and time.monotonic() - self._refused_at < BUSY_SECONDS:
                    connection.execute("PRAGMA busy_timeout = 0")
                try:
                    yield connection
                except sqlite3.OperationalError as error:
                    self._refused_at = time.monotonic() if error_code(error) == sqlite3.SQLITE_BUSY else 0.0
                    raise
                finally:
                    if self._refused_at:
                        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1_000:.0f}")
        finally:
            self._lock.release()

    @contextmanager
    def opening(self) -> Iterator[sqlite3.Cursor]:
        """Write as `transaction` does, but wait longer for others: no call waits for this."""
        with self._alone() as connection, patiently(connection), _transaction(connection) as cursor:
            yield cursor

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """Write, all or nothing; nobody else does at the same time.

        Raises:
            JournalUnavailableError: Nothing was changed.
        """
        with self._alone() as connection, _transaction(connection) as cursor:
            yield cursor

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Cursor]:
        """Ask what takes long, over the connection for writing: no short question waits for it."""
        with self._alone() as connection, closing(connection.cursor()) as cursor:
            yield cursor

    def tidy(self) -> None:
        """Leave no text behind in the log of changes, unless somebody is reading it."""
        with suppress(JournalUnavailableError), self._alone() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def read(self, sql: str, *values: Any) -> list[Any]:
        """Return the rows of a short question."""
        with self._reading, in_our_words(self.path):
            return self._connected()[1].execute(sql, values).fetchall()

    def changes(self) -> int:
        """Return a number that changes when anybody has written."""
        number: int = self.read("PRAGMA data_version")[0][0]
        return number


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        yield cursor
        cursor.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")
        raise


_files: weakref.WeakSet[JournalFile] = weakref.WeakSet()
_paused: list[JournalFile] = []


def _before_fork() -> None:
    _paused[:] = list(_files)
    for file in _paused:
        file.before_fork()


def _after_fork(*, in_child: bool) -> None:
    for file in reversed(_paused):
        file.after_fork(in_child=in_child)
    _paused.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(in_child=False),
        after_in_child=lambda: _after_fork(in_child=True),
    )
