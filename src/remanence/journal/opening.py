"""How a journal's file is opened: its place is checked, it is told from a stranger's, a new one gets its tables."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from remanence.errors import JournalUnavailableError
from remanence.journal.words import error_code

__all__ = ["BUSY_SECONDS", "check_place", "connect", "opening_lock", "patiently", "plain"]

_APPLICATION_ID: Final = 0x52454D41  # "REMA"
_SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 0.02
"""What a call may wait for another process's transaction, which takes a fraction of a millisecond."""

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


_locks: dict[int, threading.Lock] = {}


def opening_lock() -> threading.Lock:
    """Return the lock of this process; a child's parent may have held its own as it forked.

    A file that this process has open in SQLite must never be opened and closed by other means: that would end the locks
    that the process holds on it (POSIX), and other processes would take it for gone. So only a new file is made here,
    and by one thread at a time. Source: https://www.sqlite.org/howtocorrupt.html, section 2.2.
    """
    return _locks.setdefault(os.getpid(), threading.Lock())


@contextmanager
def patiently(connection: sqlite3.Connection) -> Iterator[None]:
    """Have the connection wait longer for others than a call may."""
    connection.execute(f"PRAGMA busy_timeout = {_OPENING_SECONDS * 1_000:.0f}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1_000:.0f}")


def plain(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is known to be a journal."""
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def connect(path: Path, *, is_known: bool = False) -> sqlite3.Connection:
    """Return a connection to a file that is, or now becomes, a journal.

    Args:
        path: Of the file, whose place is checked.
        is_known: Whether it was looked through before.

    Raises:
        JournalUnavailableError: It is none, or is corrupt; it was left alone.
        sqlite3.Error: It cannot be opened.
    """
    connection = plain(path)
    try:
        with patiently(connection):
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
            if error_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
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


def check_place(path: Path) -> None:
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
