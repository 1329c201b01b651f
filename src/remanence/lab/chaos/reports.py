"""What a worker tells, a line at a time, in a file that outlives it: written before it goes on.

::

    A conversation writer sequence kind outcome begun ended     it was told that this write is kept
    C conversation writer sequence kind begun ended             this call was cancelled
    D conversation writer sequence begun                        it is about to delete
    N class                                                     a write was refused, or failed
    P phase action at                                           it is struck
    W phase at                                                  it waits until the server has failed
    X class                                                     the code under test broke
    S begun ended                                               its longest call so far
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ack", "Deletion", "Reader", "Reporter"]


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledged write, or a call that was cancelled.

    Attributes:
        conversation: Which.
        writer: Whose: the worker and its thread or task.
        sequence: The writer's own, one more with each of its writes.
        kind: "store", "turn", "update", "mutate" or "delete"; "retrieve" for a cancelled read.
        outcome: "committed" or "journaled"; "cancelled": it may have been made or not.
        begun, ended: Monotonic seconds of the call.
    """

    conversation: str
    writer: str
    sequence: int
    kind: str
    outcome: str
    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion that was asked for, whatever became of it."""

    conversation: str
    writer: str
    sequence: int
    begun: float


class Reporter:
    """Writes a worker's file; a line is with the kernel when the method returns.

    Args:
        path: Of the file.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(self, *words: object) -> None:
        """Write a line."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class Reader:
    """Reads a worker's file while it grows.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""

    def lines(self) -> list[list[str]]:
        """Return the words of the lines that have come since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode().split(" ") for line in lines]
