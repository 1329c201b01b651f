"""The file of a journal on disk: checked before it is used, opened for one process, its errors in our words."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from remanence.errors import JournalUnavailableError

__all__ = ["JournalFile"]

_log = logging.getLogger("remanence")

_APPLICATION_ID: Final = 0x52454D41  # "REMA"
_SCHEMA_VERSION: Final = 1
_BUSY_SECONDS: Final = 0.02
"""What a call may wait for another process's transaction, which takes a fraction of a millisecond."""

_TURN_SECONDS: Final = 0.2
"""What a thread may wait for the others of its process."""
_BUSY_MESSAGE: Final = (
    "the journal {name!r} is being written for longer than a call may wait. What it holds is intact, this write was "
    "not kept; repeat the write."
)

_OPENING_SECONDS: Final = 2.0
"""What opening may wait: nobody has been told anything yet, and another process may be in the middle of its own."""
_PAUSE: Final = 0.002

_SCHEMA: Final = """
CREATE TABLE entries (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  store TEXT NOT NULL,
  key TEXT NOT NULL,
  operation TEXT NOT NULL,
  raw BLOB,
  version TEXT NOT NULL,
  expires_at REAL,
  base TEXT,
  base_until REAL,
  run_id TEXT,
  evictions INTEGER,
  sent TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  journaled_at REAL NOT NULL,
  not_before REAL NOT NULL,
  conditional INTEGER NOT NULL,
  stuck TEXT NOT NULL,
  committed INTEGER NOT NULL,
  writer TEXT NOT NULL,
  unanswered INTEGER NOT NULL,
  revision INTEGER NOT NULL DEFAULT 0,
  in_flight INTEGER NOT NULL DEFAULT 0,
  UNIQUE (store, key)
);
CREATE INDEX flying ON entries (in_flight) WHERE in_flight <> 0;
CREATE TABLE kept (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  store TEXT NOT NULL,
  key TEXT NOT NULL,
  raw BLOB
);
CREATE TABLE stores (
  store TEXT PRIMARY KEY,
  entries INTEGER NOT NULL DEFAULT 0,
  stuck INTEGER NOT NULL DEFAULT 0,
  kept INTEGER NOT NULL DEFAULT 0,
  size INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0,
  lease_until REAL NOT NULL DEFAULT 0,
  last_sequence INTEGER NOT NULL DEFAULT 0,
  ahead INTEGER NOT NULL DEFAULT 0
);
CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
  UPDATE stores SET entries = entries + 1, stuck = stuck + (new.stuck <> ''), size = size + ifnull(length(new.raw), 0),
    last_sequence = max(last_sequence, new.sequence) WHERE store = new.store;
END;
CREATE TRIGGER entry_changed AFTER UPDATE OF raw, stuck, sequence ON entries BEGIN
  UPDATE stores SET stuck = stuck + (new.stuck <> '') - (old.stuck <> ''),
    size = size + ifnull(length(new.raw), 0) - ifnull(length(old.raw), 0),
    last_sequence = max(last_sequence, new.sequence) WHERE store = new.store;
END;
CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
  UPDATE stores SET entries = entries - 1, stuck = stuck - (old.stuck <> ''),
    size = size - ifnull(length(old.raw), 0) WHERE store = old.store;
END;
CREATE TRIGGER kept_added AFTER INSERT ON kept BEGIN
  UPDATE stores SET kept = kept + 1, size = size + ifnull(length(new.raw), 0) WHERE store = new.store;
END;
CREATE TRIGGER kept_removed AFTER DELETE ON kept BEGIN
  UPDATE stores SET kept = kept - 1, size = size - ifnull(length(old.raw), 0) WHERE store = old.store;
END;
"""


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
        with self._lock, self._reading, _opening(), _in_our_words(self.path):
            if self._connections is None:
                _check(self.path)
                self._connections = (_connect(self.path), _plain(self.path))

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
                self._connections = (_connect(self.path, is_known=True), _plain(self.path))
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
            with _in_our_words(self.path):
                connection = self._connected()[0]
                # Nor does each of many calls wait for a process that has just been waited for.
                if self._refused_at and time.monotonic() - self._refused_at < _BUSY_SECONDS:
                    connection.execute("PRAGMA busy_timeout = 0")
                try:
                    yield connection
                except sqlite3.OperationalError as error:
                    self._refused_at = time.monotonic() if _code(error) == sqlite3.SQLITE_BUSY else 0.0
                    raise
                finally:
                    if self._refused_at:
                        connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1_000:.0f}")
        finally:
            self._lock.release()

    @contextmanager
    def opening(self) -> Iterator[sqlite3.Cursor]:
        """Write as `transaction` does, but wait longer for others: no call waits for this."""
        with self._alone() as connection, _patiently(connection), _transaction(connection) as cursor:
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
        with self._reading, _in_our_words(self.path):
            return self._connected()[1].execute(sql, values).fetchall()

    def changes(self) -> int:
        """Return a number that changes when anybody has written."""
        number: int = self.read("PRAGMA data_version")[0][0]
        return number


_locks: dict[int, threading.Lock] = {}


def _opening() -> threading.Lock:
    """Return the lock of this process; a child's parent may have held its own as it forked.

    A file that this process has open in SQLite must never be opened and closed by other means: that would end the locks
    that the process holds on it (POSIX), and other processes would take it for gone. So only a new file is made here,
    and by one thread at a time. Source: https://www.sqlite.org/howtocorrupt.html, section 2.2.
    """
    return _locks.setdefault(os.getpid(), threading.Lock())


@contextmanager
def _patiently(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute(f"PRAGMA busy_timeout = {_OPENING_SECONDS * 1_000:.0f}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1_000:.0f}")


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


def _plain(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _connect(path: Path, *, is_known: bool = False) -> sqlite3.Connection:
    connection = _plain(path)
    try:
        with _patiently(connection):
            _prepare(connection, path, is_known=is_known)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, *, is_known: bool) -> None:
    # In one transaction: another process may be making the journal just now.
    connection.execute("BEGIN")
    try:
        application_id, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        is_new = not application_id and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        connection.execute("ROLLBACK")
    if not is_new and application_id != _APPLICATION_ID:
        _refuse(path, "is a database of another program", "name another file")
    if version > _SCHEMA_VERSION:
        _refuse(path, f"was made by a newer version of remanence (schema {version})", "upgrade, or name another file")
    if _switch_to_wal(connection) != "wal":
        _refuse(path, "is on a file system without shared memory, such as a network's", "name a file on a local disk")
    # A commit is in the operating system's hands: it outlives every process, though not a machine without power.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Texts are private: what was brought home is not left behind in the file.
    connection.execute("PRAGMA secure_delete = ON")
    if is_new:
        _create(connection)
    elif not is_known and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        _refuse(path, "is corrupt", "move it away to look at it, or name another file")


def _switch_to_wal(connection: sqlite3.Connection) -> str:
    """Have the file keep a log of changes; give the mode that it is in then.

    Where several processes open a new file SQLite does not wait, but refuses at once what might be a deadlock.
    """
    deadline = time.monotonic() + _OPENING_SECONDS
    while True:
        try:
            mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return mode


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not connection.execute("PRAGMA application_id").fetchone()[0]:  # another process may have been faster
            for statement in _statements(_SCHEMA):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _check(path: Path) -> None:
    """Raise unless the path is a file of ours, or one that may be made, where nobody else can put another."""
    folder = path.parent
    try:
        around = folder.stat()
    except OSError as error:
        _refuse(folder, f"cannot be used ({error.strerror})", "make the directory, or name another file")
    if not stat.S_ISDIR(around.st_mode):
        _refuse(folder, "is no directory", "name another file")
    if around.st_mode & 0o022 and not around.st_mode & stat.S_ISVTX:
        _refuse(folder, "can be written by others", "chmod go-w it, or name a file elsewhere")
    try:
        if not os.path.lexists(path):
            # With these permissions from the start; SQLite gives its other two files the same.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        held = path.lstat()
    except OSError as error:
        _refuse(path, f"cannot be opened ({error.strerror})", "change its permissions, or name another file")
    if not stat.S_ISREG(held.st_mode):
        _refuse(path, "is no file", "name another one")
    if held.st_mode & 0o077:
        _refuse(path, "can be read by others, and holds memories", "chmod 600 it, or name another file")
    if hasattr(os, "getuid") and held.st_uid != os.getuid():
        _refuse(path, "belongs to another user", "name another file")


def _refuse(path: Path, what: str, do: str) -> NoReturn:
    message = f"the journal's {path.name!r} {what}. Nothing was changed; {do}."
    raise JournalUnavailableError(message)


@contextmanager
def _in_our_words(path: Path) -> Iterator[None]:
    error: sqlite3.Error | None = None
    try:
        yield
    except sqlite3.Error as caught:
        error = caught
    if error is not None:
        # Outside: SQLite's own text may quote what was to be written.
        what, do = next((words for codes, words in _REASONS if _code(error) in codes), _OTHERWISE)
        raise JournalUnavailableError(
            f"the journal {path.name!r} {what}. What it holds is intact, this write was not kept; {do}."
        )


def _code(error: sqlite3.Error) -> int:
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
