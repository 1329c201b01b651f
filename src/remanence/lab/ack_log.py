"""Acknowledgements in a file of their own, so that they are known when the process that gave them has been killed.

Each is one `write` to a file opened for appending: as soon as it returns, the line is the kernel's and outlives the
process. It is written before the caller goes on, so what is not in the file was never acknowledged to anybody. Nothing
is forced to the disk, because processes are killed here and not the machine.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import NamedTuple

from remanence.lab.samples import Ack, Call, Recorder

__all__ = ["LoggedAck", "LoggedRecorder", "read_acks"]


class LoggedAck(NamedTuple):
    """A line of the file: the turn, when it was acknowledged (monotonic), and what the manager answered."""

    conversation: str
    turn: int
    at: float
    answer: str


class LoggedRecorder(Recorder):
    """A recorder that writes every acknowledgement to a file before the caller goes on.

    Args:
        path: The file, one for each process: a line that a kill cut short must not run into another process's.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._of_thread = threading.local()

    def ended(self, worker: int, call: Call, *, error: str | None = None) -> None:
        """Note a worker's call as finished; its answer goes with the acknowledgement that this thread notes next."""
        self._of_thread.answer = call.answer
        super().ended(worker, call, error=error)

    def acknowledged(self, ack: Ack) -> None:
        """Write a turn to the file, then note it as acknowledged.

        Raises:
            OSError: It could not be written whole: the disk is full. It counts as not acknowledged.
        """
        line = json.dumps([*ack, self._of_thread.answer]).encode("ascii") + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("An acknowledgement could not be written whole. Make room on the disk, then run again.")
        super().acknowledged(ack)


def read_acks(path: str | os.PathLike[str]) -> list[LoggedAck]:
    """Return what a process acknowledged, in the order of the file; none where it never began to write.

    Args:
        path: Its file. What follows the last newline was cut short by the kill and is no acknowledgement.
    """
    try:
        whole, _, _ = Path(path).read_bytes().rpartition(b"\n")
    except FileNotFoundError:
        return []
    return [LoggedAck(*json.loads(line)) for line in whole.splitlines()]
