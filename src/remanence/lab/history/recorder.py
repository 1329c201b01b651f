"""Records operations while they happen, into memory or into a file that survives the process."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2s
from math import inf
from types import TracebackType
from typing import Final, Self

from remanence.clock import SYSTEM_CLOCK, Clock
from remanence.lab.history.conversation import History
from remanence.lab.history.log import begin_of, end_of, ending_line, header, read_history
from remanence.lab.history.operation import ANY, UNKNOWN, Answer, Ending, Kind, Operation, Outcome

__all__ = ["Recorder", "hashed"]

_MAX_VERSIONS: Final = 200_000


def hashed(text: str | None) -> str | None:
    """Return the hash by which a history knows a text or an id; None for None."""
    return None if text is None else blake2s(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


class Recorder:
    """Takes down the operations of one process; thread-safe.

    Args:
        path: A file to add to, for this process alone: every line is with the operating system before the call goes
            on, so it survives kill -9. None keeps the operations in memory.
        process: Name of the process in the history; None makes one that is unique.
        clock: Its monotonic time must be the same for all recorders of a history, as the system's is.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, process: str | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.process = f"p{os.getpid()}-{secrets.token_hex(2)}" if process is None else process
        self.monotonic = clock.monotonic
        self._path = path
        self._numbers = itertools.count(1)
        self._sessions = itertools.count(1)
        self._thread = threading.local()
        self._begun: dict[int, Operation] = {}
        self._ended: list[Operation] = []
        self._endings: list[Ending] = []
        self._versions: dict[str, str] = {}
        self._file = None if path is None else _open(path)
        self._write(header(self.process))

    def __repr__(self) -> str:
        return f"<Recorder {self.process}>"

    def session(self) -> str:
        """Return the name of the calling thread's session: a number, never given to another thread."""
        name: str | None = getattr(self._thread, "name", None)
        if name is None:
            name = self._thread.name = str(next(self._sessions))
        return name

    def new_session(self) -> str:
        """Return the name of a session that nobody has yet."""
        return str(next(self._sessions))

    def begin(
        self,
        kind: Kind,
        key: str,
        value: str | None = None,
        *,
        session: str | None = None,
        expected: str | None = ANY,
        ttl: float | None = None,
        not_after_s: float = inf,
        invoked: float | None = None,
    ) -> int:
        """Note what is about to be done, now; return its number, for `end`.

        Args:
            kind: What.
            key: The conversation, hashed.
            value: What is written, hashed; None for reads and deletes.
            session: Who, None for the calling thread.
            expected: See `Operation`.
            ttl: See `Operation`.
            not_after_s: Seconds from now after which the store refuses the write.
            invoked: When it began, None for now.
        """
        number = next(self._numbers)
        now = self.monotonic() if invoked is None else invoked
        operation = Operation(
            self.process,
            self.session() if session is None else session,
            key,
            kind,
            value,
            now,
            inf,
            "failed" if kind == "read" else "ambiguous",
            "",
            expected,
            ttl,
            now + not_after_s,
        )
        self._begun[number] = operation
        if kind != "read":
            # A read that never ends says nothing; a write must be known before it can be applied.
            self._write(begin_of(number, operation))
        return number

    def end(
        self,
        number: int,
        outcome: Outcome,
        answer: Answer = "",
        *,
        value: str | None = None,
        completed: float | None = None,
    ) -> None:
        """Note how an operation ended.

        Args:
            number: What `begin` returned.
            outcome: See `Operation`.
            answer: See `Operation`.
            value: For reads what was read, hashed.
            completed: When it ended, None for now.
        """
        now = self.monotonic() if completed is None else completed
        begun = self._begun.pop(number)
        if begun.kind != "read":
            value = begun.value
        operation = Operation(
            begun.process,
            begun.session,
            begun.key,
            begun.kind,
            value,
            begun.invoked,
            now,
            outcome,
            answer,
            begun.expected,
            begun.ttl,
            begun.not_after if outcome == "ambiguous" else inf,
        )
        if self._file is None:
            self._ended.append(operation)
        elif operation.kind == "read":
            self._write({**begin_of(number, operation), **end_of(number, operation)})
        else:
            self._write(end_of(number, operation))

    def add_endings(self, endings: Iterable[Ending]) -> None:
        """Note what the store holds at the end."""
        for ending in endings:
            self._endings.append(ending)
            self._write(ending_line(ending))

    def learn_version(self, version: str | None, value: str | None) -> None:
        """Note which value a version token stands for, so that a conditional write can say what it was made over."""
        if version is None or value is None:
            return
        if len(self._versions) >= _MAX_VERSIONS:
            self._versions = {}
        self._versions[version] = value

    def value_of(self, version: str | None) -> str | None:
        """Return the value that a version stands for, `UNKNOWN` where nobody has read it here."""
        return None if version is None else self._versions.get(version, UNKNOWN)

    def history(self) -> History:
        """Return what was recorded so far; calls under way are ambiguous."""
        if self._path is not None:
            return read_history([self._path])
        under_way = [operation for operation in list(self._begun.values()) if operation.kind != "read"]
        return History([*self._ended, *(replace(operation) for operation in under_way)], self._endings)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: dict[str, object]) -> None:
        if self._file is not None:
            # One call for the whole line, unbuffered: lines of several threads do not mix.
            os.write(self._file, json.dumps(line).encode() + b"\n")


def _open(path: str | os.PathLike[str]) -> int:
    """Open a log for adding to it; what a killed process left unfinished keeps a line of its own."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
    return file
