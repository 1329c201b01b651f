"""The worker processes of a schedule: those that die are replaced, those that are stopped are woken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from remanence.lab.chaos.blows import Stage
from remanence.lab.chaos.reports import Ack, Deletion, Reader
from remanence.lab.chaos.shown import Shown
from remanence.lab.chaos.worker import DEADLINE

__all__ = ["LEASE", "Crew"]

LEASE: Final = 1.0
"""Seconds: in place of the usual ten, which a stopped drainer would cost each time."""
_PATIENCE: Final = 8.0
"""Seconds for any number of acknowledgements: a schedule goes on when there are fewer."""
_SECOND_OUTAGE: Final = 0.3


@dataclass(slots=True)
class _Worker:
    name: str
    number: int
    process: subprocess.Popen[bytes]
    reader: Reader
    is_async: bool
    wake_at: float = 0.0
    may_die: bool = False


class Crew:
    """The worker processes of a schedule; a context manager.

    Args:
        shown: Filled with what they tell.
        stage: Where they write.
        folder: For their journal and their reports.
    """

    def __init__(self, shown: Shown, stage: Stage, folder: Path) -> None:
        self._shown, self._stage, self._folder = shown, stage, folder
        self._plan = shown.plan
        self._workers: list[_Worker] = []
        self._gone: list[_Worker] = []
        self._dooms = list(self._plan.dooms)
        self._due: list[tuple[float, int]] = []
        self._started = 0
        self._told: dict[str, Callable[[_Worker, list[str]], None]] = {
            "A": self._acknowledged,
            "C": self._cancelled,
            "D": self._deleting,
            "N": self._refused,
            "X": self._broken,
            "P": self._struck,
            "W": self._waits,
            "S": self._longest,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            _end(worker)

    def note(self, what: str) -> None:
        """Add a line to the timeline."""
        self._shown.lines.append((time.monotonic() - self._shown.begun, what))

    def begin(self) -> None:
        """Start the workers, and wait until they write."""
        for number in range(self._plan.workers):
            self._start(number)
        self._until(
            lambda: {ack.writer[:2] for ack in self._shown.acks} >= {f"{n}w" for n in range(len(self._workers))}
        )

    def await_acks(self, count: int) -> None:
        """Wait until so many more writes are acknowledged."""
        goal = len(self._shown.acks) + count
        self._until(lambda: len(self._shown.acks) >= goal)

    def kill(self, number: int) -> None:
        """Kill a worker wherever it is."""
        for worker in self._workers:
            if worker.number == number:
                self.note(f"worker {worker.name}: killed somewhere")
                self._count(worker, "anywhere kill")
                worker.may_die = True
                worker.process.kill()

    def end(self, *, is_abrupt: bool) -> None:
        """Have the workers close their managers, or kill them."""
        self._dooms = []
        for worker in self._workers:
            # One that is stopped cannot close anything.
            worker.process.send_signal(signal.SIGCONT)
            worker.may_die = is_abrupt
            if is_abrupt:
                worker.process.kill()
            elif worker.process.stdin is not None:
                with suppress(BrokenPipeError):
                    worker.process.stdin.close()
        self.note("workers: killed" if is_abrupt else "workers: told to end")
        deadline = time.monotonic() + _PATIENCE
        while any(worker.process.poll() is None for worker in self._workers) and time.monotonic() < deadline:
            time.sleep(0.005)
            self._read()
            self._wake()  # one may meet its doom while it drains
        for worker in self._workers:
            self._bury(worker)
        self._read()

    # The loop ---------------------------------------------------------------------------------------------------------

    def _until(self, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not is_over() and time.monotonic() < deadline:
            time.sleep(0.005)
            self._read()
            self._replace()

    def _replace(self) -> None:
        now = time.monotonic()
        for worker in [each for each in self._workers if each.process.poll() is not None]:
            self._workers.remove(worker)
            self._gone.append(worker)
            self._bury(worker)
            # Not before its last call is over in any case: two that write one conversation at a time, without reading
            # it, replace each other's writes even where nothing fails.
            self._due.append((now + DEADLINE, worker.number))
        for due in [each for each in self._due if each[0] <= now]:
            self._due.remove(due)
            self._start(due[1])
        self._wake()

    def _wake(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.wake_at and worker.wake_at <= now:
                worker.wake_at = 0.0
                self.note(f"worker {worker.name}: woken")
                worker.process.send_signal(signal.SIGCONT)

    def _bury(self, worker: _Worker) -> None:
        """Note a worker that ended by a fault of its own."""
        if worker.process.poll() is None:
            self._shown.broken["worker did not end"] += 1
        _end(worker)
        for line in worker.reader.lines():
            self._hear(worker, line)
        status = worker.process.returncode
        if status and not (status == -signal.SIGKILL and worker.may_die):
            complaint = (self._folder / f"{worker.name}.stderr").read_text("utf-8", "replace").strip()
            self._shown.broken[f"worker ended with {status}: {complaint.rpartition(chr(10))[2][:200]}"] += 1

    def _start(self, number: int) -> None:
        plan = self._plan
        self._started += 1
        name = f"{number}w{self._started}"
        doom = self._dooms.pop(0) if self._dooms else None
        tasks = plan.tasks[(self._started - 1) % len(plan.tasks)]
        writers = tasks or plan.threads
        own = [f"{plan.seed}-{number}-{each}" for each in range(plan.own * plan.threads)]
        job = {
            "name": name,
            "seed": plan.seed,
            "url": self._stage.proxy.url,
            "journal": str(self._folder / "journal"),
            "reports": str(self._folder / name),
            "lease": LEASE,
            "doom": None if doom is None else asdict(doom),
            "is_async": bool(tasks),
            "own": [own[writer::writers] for writer in range(writers)],
            "shared": [f"{plan.seed}-shared-{each}" for each in range(plan.shared)],
            "contested": [f"{plan.seed}-contested-{each}" for each in range(plan.contested)],
        }
        with (self._folder / f"{name}.stderr").open("wb") as complaints:
            process = subprocess.Popen(
                [sys.executable, "-m", "remanence.lab.chaos.worker", json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        flavour = f", {tasks} tasks" if tasks else ""
        self.note(f"worker {name}: started{flavour}" + (f", {doom.action} at {doom.phase} {doom.nth}" if doom else ""))
        self._workers.append(_Worker(name, number, process, Reader(self._folder / name), is_async=bool(tasks)))

    def _read(self) -> None:
        for worker in (*self._workers, *self._gone):
            for line in worker.reader.lines():
                self._hear(worker, line)

    def _hear(self, worker: _Worker, line: list[str]) -> None:
        self._told[line[0]](worker, line[1:])

    # What they tell ---------------------------------------------------------------------------------------------------

    def _acknowledged(self, worker: _Worker, words: list[str]) -> None:
        conversation, writer, sequence, kind, outcome, begun, ended = words
        self._shown.acks.append(Ack(conversation, writer, int(sequence), kind, outcome, float(begun), float(ended)))
        self._shown.awaited += worker.is_async

    def _cancelled(self, _: _Worker, words: list[str]) -> None:
        conversation, writer, sequence, kind, begun, ended = words
        self._shown.cancelled.append(
            Ack(conversation, writer, int(sequence), kind, "cancelled", float(begun), float(ended))
        )

    def _deleting(self, _: _Worker, words: list[str]) -> None:
        conversation, writer, sequence, begun = words
        self._shown.deletions.append(Deletion(conversation, writer, int(sequence), float(begun)))

    def _refused(self, _: _Worker, words: list[str]) -> None:
        self._shown.refused[words[0]] += 1

    def _broken(self, _: _Worker, words: list[str]) -> None:
        self._shown.broken[words[0]] += 1

    def _struck(self, worker: _Worker, words: list[str]) -> None:
        phase, action, _ = words
        worker.may_die = action == "kill"
        if action != "outage":
            self._count(worker, f"{phase.replace('_', ' ')} {action}")
        self.note(f"worker {worker.name}: {action} at {phase}")
        if action == "stop":
            worker.wake_at = time.monotonic() + 1.5 * LEASE

    def _count(self, worker: _Worker, what: str) -> None:
        self._shown.struck[what] += 1
        if worker.is_async:
            self._shown.struck_async[what] += 1

    def _waits(self, worker: _Worker, words: list[str]) -> None:
        stage = self._stage
        if stage.is_struck:
            self._go(worker)
            return
        self._count(worker, f"{words[0].replace('_', ' ')} outage")
        self.note("server: killed, in the middle of a replay")
        with stage.blow("killed"):
            self._go(worker)
            time.sleep(_SECOND_OUTAGE)
        self.note("server: well again")

    def _go(self, worker: _Worker) -> None:
        if worker.process.stdin is not None and not worker.process.stdin.closed:
            with suppress(OSError):
                worker.process.stdin.write(b"go\n")
                worker.process.stdin.flush()

    def _longest(self, _: _Worker, words: list[str]) -> None:
        self._shown.longest = max(self._shown.longest, float(words[1]) - float(words[0]))


def _end(worker: _Worker) -> None:
    process = worker.process
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
