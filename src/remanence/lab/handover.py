"""Kills a run's worker processes in the outage, and has new ones go on in their places.

All are killed at once, so that for a moment nobody is left who remembers anything: what they had acknowledged is in the
journal's file, or nowhere. The new ones are at work before Redis is back.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from remanence.lab.ack_log import LoggedAck, read_acks
from remanence.lab.crew import Crew
from remanence.lab.errors import LabError
from remanence.lab.measurement import Killing
from remanence.lab.outage import Outage
from remanence.lab.timeline import Log

__all__ = ["Evidence", "Handover"]

_SHARE = 0.4
"""How much of the outage has passed when the workers are killed: enough for acknowledgements before and after."""

_PATIENCE = 0.8
"""How much of it may have passed where a worker has not acknowledged anything yet, as on a server that was frozen."""


class Evidence:
    """The files of a run whose workers are killed, in a directory that only we may enter.

    Args:
        on_disk: Whether the manager has its journal there too.

    Attributes:
        directory: Of the files.
        journal: The journal's file, None where the manager has none.
        keep: Whether the files stay after `close`.
    """

    def __init__(self, *, on_disk: bool) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="remanence-demo-"))
        self.journal = self.directory / "memories.journal" if on_disk else None
        self.keep = False

    def acks(self, number: int) -> Path:
        """Return the file in which a process writes what it has acknowledged."""
        return self.directory / f"acknowledged-{number}.jsonl"

    def close(self) -> None:
        """Remove the files, unless they are kept; best effort, as whoever ends must not be kept from it."""
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


class Handover:
    """One killing of all workers, and what came of it.

    Args:
        evidence: Where the processes write.
        processes: How many there are.
        lasts: Length of the outage in seconds.

    Attributes:
        killed: When the workers had been killed, on the monotonic clock; None before.
        at_work: When each new one had begun its first call; None before.
        waiting: Entries in the journal's file in between, None without a file.
        over: Set when the new ones are at work; Redis may come back.
    """

    def __init__(self, evidence: Evidence, processes: int, lasts: float) -> None:
        self.killed: float | None = None
        self.at_work: float | None = None
        self.waiting: int | None = None
        self.over = threading.Event()
        self._evidence = evidence
        self._processes = processes
        self._lasts = lasts

    @property
    def successors(self) -> range:
        """The numbers of the new processes: those of the killed ones and as many more."""
        return range(self._processes, 2 * self._processes)

    def is_due(self, outage: Outage, logs: Sequence[Log]) -> bool:
        """Tell whether to kill now: well into the outage, when every worker has acknowledged something in it."""
        hurt = outage.hurt
        if self.killed is not None or hurt is None:
            return False
        passed = (time.monotonic() - hurt) / self._lasts
        return passed >= _PATIENCE or (passed >= _SHARE and all(_has_nothing_to_wait_for(log, hurt) for log in logs))

    def make(self, crew: Crew, logs: list[Log], job: Callable[[int], dict[str, Any]]) -> None:
        """Kill all and start as many.

        Args:
            crew: The processes.
            logs: Theirs; the new ones' are added.
            job: What the successor of a process is to do.
        """
        crew.kill(range(self._processes))
        self.killed = time.monotonic()
        for log in logs:
            log.killed = self.killed
        self.waiting = _waiting(self._evidence.journal)
        for number in range(self._processes):
            logs.append(Log())
            crew.add(job(number))

    def look(self, logs: Sequence[Log]) -> bool:
        """Tell whether this is the first time that all new ones are seen at work."""
        if self.killed is None or self.at_work is not None:
            return False
        begun = [_first_begun(logs[number]) for number in self.successors]
        known = [at for at in begun if at is not None]
        if len(known) < len(begun):
            return False
        self.at_work = max(known)
        self.over.set()
        return True

    def acknowledged(self) -> dict[str, set[int]]:
        """Return what all processes, dead or alive, have acknowledged: conversation to numbers of turns."""
        turns: dict[str, set[int]] = {}
        for number in range(2 * self._processes):
            for ack in read_acks(self._evidence.acks(number)):
                turns.setdefault(ack.conversation, set()).add(ack.turn)
        return turns

    def held(self, number: int, since: float) -> list[LoggedAck]:
        """Return what one of the killed processes had acknowledged from the journal since a moment."""
        return [ack for ack in read_acks(self._evidence.acks(number)) if ack.answer == "journaled" and ack.at >= since]

    def problem(self, logs: Sequence[Log], hurt: float, healing: float) -> str | None:
        """Say why the run shows nothing, None where it does.

        Args:
            logs: All processes'.
            hurt: When the outage had begun.
            healing: When its end began.
        """
        if self.killed is None or self.at_work is None or self.at_work > healing:
            return "The workers were not killed and replaced while Redis was away. Run it again."
        if all(self.held(number, hurt) for number in range(self._processes) if logs[number].samples):
            return None
        return (
            "A worker was killed before it had acknowledged anything from the journal. Run it again, or with a longer "
            "outage."
        )

    def account(self, start: float, since: float, lost: AbstractSet[tuple[str, int]]) -> Killing | None:
        """Return what became of it, None where it did not happen.

        Args:
            start: When the run began, on the monotonic clock.
            since: When the outage began.
            lost: Conversation and number of every turn that is nowhere.
        """
        if self.killed is None or self.at_work is None:
            return None
        held = {(ack.conversation, ack.turn) for n in range(self._processes) for ack in self.held(n, since)}
        return Killing(
            at_s=self.killed - start,
            at_work_s=self.at_work - start,
            processes=self._processes,
            acknowledged=len(held),
            waiting=self.waiting,
            lost=len(held & lost),
        )


def _has_nothing_to_wait_for(log: Log, since: float) -> bool:
    return not log.samples or any(call.answer == "journaled" and call.start >= since for call in reversed(log.calls))


def _first_begun(log: Log) -> float | None:
    return min([*(call.start for call in log.calls), *log.in_call], default=None)


def _waiting(journal: Path | None) -> int | None:
    """Count what waits, in a copy: opening the file itself would tidy up what the new workers should find as left."""
    if journal is None:
        return None
    # Imported here: the lab's other managers run without the core.
    from remanence.errors import JournalUnavailableError  # noqa: PLC0415
    from remanence.journal.inspect import waiting  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=journal.parent) as copies:
        for file in journal.parent.glob(f"{journal.name}*"):
            shutil.copy(file, copies)
        try:
            return sum(1 for _ in waiting(Path(copies, journal.name)))
        except JournalUnavailableError as error:
            raise LabError(f"What the killed workers left in their journal cannot be read: {error}") from error
