"""Histories as JSON lines: written by several processes, each into a file of its own, and read together.

::

    {"history": 1, "process": "p1-4f2a", "clock": "9be1…"}
    {"op": 1, "session": "1", "key": "3f9a…", "kind": "write", "value": "77c0…", "invoked": 812.1003}
    {"op": 1, "completed": 812.1011, "outcome": "ok", "answer": "committed"}
    {"ending": "3f9a…", "value": "77c0…", "conflicts": [], "at": 815.2}

The first line names who wrote what follows it, so files can also be put one after the other. A write is noted before it
is made, so a process that is killed leaves behind what it was about to do: a write without an end is ambiguous. A last
line that was cut short is left out: if it was the end of an operation, that one has none; if it was the beginning, the
call had not been made.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2s
from math import inf
from pathlib import Path
from typing import IO, Any, Final, get_args

from remanence.lab.errors import LabError
from remanence.lab.history.conversation import History
from remanence.lab.history.operation import ANY, Answer, Ending, Kind, Operation, Outcome

__all__ = ["HistoryFormatError", "clock_name", "header", "lines_of", "read_history", "write_history"]

_VERSION: Final = 1
_KINDS: Final = frozenset(get_args(Kind))
_OUTCOMES: Final = frozenset(get_args(Outcome))
_ANSWERS: Final = frozenset(get_args(Answer))


class HistoryFormatError(LabError):
    """A log that cannot be read as a history, or logs that cannot be compared."""


def clock_name() -> str:
    """Return what tells this machine's monotonic clock from others: a hash of its boot and time namespace."""
    parts = [platform.node()]
    with suppress(OSError):
        parts = [Path("/proc/sys/kernel/random/boot_id").read_text("ascii"), str(Path("/proc/self/ns/time").readlink())]
    return blake2s("\0".join(parts).encode(), digest_size=8).hexdigest()


def header(process: str) -> dict[str, Any]:
    """Return the line that begins what `process` writes."""
    return {"history": _VERSION, "process": process, "clock": clock_name()}


def begin_of(number: int, operation: Operation) -> dict[str, Any]:
    """Return the line that says what is about to be done."""
    line: dict[str, Any] = {
        "op": number,
        "session": operation.session,
        "key": operation.key,
        "kind": operation.kind,
        "value": operation.value,
        "invoked": operation.invoked,
    }
    if operation.expected != ANY:
        line["expected"] = operation.expected
    if operation.ttl is not None:
        line["ttl"] = operation.ttl
    if operation.not_after != inf:
        line["not_after"] = operation.not_after
    return line


def end_of(number: int, operation: Operation) -> dict[str, Any]:
    """Return the line that says how it ended."""
    line: dict[str, Any] = {"op": number, "outcome": operation.outcome, "answer": operation.answer}
    if operation.completed != inf:
        line["completed"] = operation.completed
    return line


def lines_of(history: History) -> Iterator[dict[str, Any]]:
    """Give the lines of a whole history."""
    by_process: dict[str, list[Operation]] = {}
    for operation in history.operations:
        by_process.setdefault(operation.process, []).append(operation)
    for process, operations in by_process.items():
        yield header(process)
        for number, operation in enumerate(operations):
            yield {**begin_of(number, operation), **end_of(number, operation)}
    for ending in history.endings.values():
        yield ending_line(ending)


def ending_line(ending: Ending) -> dict[str, Any]:
    """Return the line that says what was found at the end."""
    conflicts = sorted(ending.conflicts, key=lambda value: (value is not None, value))
    return {"ending": ending.key, "value": ending.value, "conflicts": conflicts, "at": ending.at}


def write_history(history: History, file: IO[str]) -> None:
    """Write a whole history, one line for each operation."""
    for line in lines_of(history):
        file.write(json.dumps(line) + "\n")


def read_history(paths: Iterable[str | os.PathLike[str]]) -> History:
    """Read logs and merge them.

    Args:
        paths: Files as a `Recorder` or `write_history` writes them.

    Raises:
        HistoryFormatError: A line is no line of a history (other than one that was cut short at the end of what a
            process wrote), or the times are not of one clock.
        OSError: A file cannot be read.
    """
    reader = _Reader()
    for path in paths:
        reader.read(Path(path))
    return reader.history()


class _Reader:
    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._endings: dict[str, Ending] = {}
        self._clock: str | None = None
        self._process: str | None = None
        self._begun: dict[int, dict[str, Any]] = {}

    def history(self) -> History:
        """Return everything read, with what has no end."""
        self._close()
        return History(self._operations, self._endings.values())

    def read(self, path: Path) -> None:
        """Read one file."""
        cut: str | None = None
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                where = f"line {number} of {path.name}"
                try:
                    line = json.loads(raw)
                except ValueError:
                    line = None
                if cut is not None and (line is None or "history" not in line):
                    raise HistoryFormatError(_broken(cut, "is no JSON, and more of the same process follows"))
                cut = where if line is None and raw.strip() else None
                if line is None:
                    continue
                try:
                    self._take(line)
                except (KeyError, TypeError, ValueError) as error:
                    # Only the kind of error: its text may quote the line.
                    raise HistoryFormatError(_broken(where, f"is not understood ({type(error).__name__})")) from None
        self._close()
        self._process = None

    def _take(self, line: dict[str, Any]) -> None:
        if "history" in line:
            self._start(line)
        elif "ending" in line:
            conflicts = frozenset(line["conflicts"])
            self._endings[line["ending"]] = Ending(line["ending"], line["value"], conflicts, float(line["at"]))
        elif "invoked" not in line:
            self._end({**self._begun.pop(line["op"]), **line})
        elif "outcome" in line:
            self._end(line)
        else:
            self._begun[line["op"]] = line

    def _start(self, line: Mapping[str, Any]) -> None:
        if line["history"] != _VERSION:
            raise HistoryFormatError(f"a log of version {line['history']!r} cannot be read, only {_VERSION}.")
        if self._clock not in {None, line["clock"]}:
            raise HistoryFormatError(
                "the logs are not of one clock: another host, another boot or another time namespace. Their times "
                "cannot be compared; check each by itself."
            )
        self._close()
        self._clock, self._process = line["clock"], line["process"]

    def _close(self) -> None:
        for line in self._begun.values():
            self._end({**line, "outcome": "failed" if line["kind"] == "read" else "ambiguous"})
        self._begun = {}

    def _end(self, line: dict[str, Any]) -> None:
        get = line.get
        operation = Operation(
            _known(self._process),
            line["session"],
            line["key"],
            line["kind"],
            line["value"],
            line["invoked"],
            get("completed", inf),
            line["outcome"],
            get("answer", ""),
            get("expected", ANY),
            get("ttl"),
            get("not_after", inf),
        )
        if operation.kind not in _KINDS or operation.outcome not in _OUTCOMES or operation.answer not in _ANSWERS:
            raise ValueError
        if not 0.0 <= operation.invoked <= operation.completed:
            raise ValueError
        self._operations.append(operation)


def _known(process: str | None) -> str:
    if process is None:
        raise ValueError
    return process


def _broken(where: str, what: str) -> str:
    return f"{where} {what}. Nothing was checked; is it a log of remanence.lab.history?"
