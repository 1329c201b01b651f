"""Record what callers of a memory saw, and check it: nothing lost, nothing old, nothing that no register could do.

::

    recorder = Recorder("p1.jsonl")
    manager = RecordingManager(resilient(RedisWorkingMemoryManager(url)), recorder)
    ...
    print(check(read_history(["p1.jsonl", "p2.jsonl", "ending.jsonl"])))

``python -m remanence.lab.history FILE...`` does the same from the command line.
"""

from __future__ import annotations

from remanence.lab.history.checking import CHECKS, check
from remanence.lab.history.conversation import History
from remanence.lab.history.log import HistoryFormatError, read_history, write_history
from remanence.lab.history.managers import AsyncRecordingManager, RecordingManager
from remanence.lab.history.operation import Ending, Operation
from remanence.lab.history.recorder import Recorder
from remanence.lab.history.verdict import Report, Status, Verdict
from remanence.lab.history.witness import Witness

__all__ = [
    "CHECKS",
    "AsyncRecordingManager",
    "Ending",
    "History",
    "HistoryFormatError",
    "Operation",
    "Recorder",
    "RecordingManager",
    "Report",
    "Status",
    "Verdict",
    "Witness",
    "check",
    "read_history",
    "write_history",
]
