"""The worker processes as the scenario sees them: started, told what to do, heard, and ended whatever their state."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import IO, Any, Self

from remanence.lab.errors import LabError

__all__ = ["Crew", "CrewError"]


class CrewError(LabError):
    """A worker process could not start, or ended before its time."""


class Crew:
    """Worker processes, one per job; a context manager that leaves none behind.

    Args:
        jobs: What each process is to do, see `worker.job`. A process is known by the number of its job.
    """

    def __init__(self, jobs: Sequence[dict[str, Any]]) -> None:
        self._jobs = list(jobs)
        self._processes: list[subprocess.Popen[str]] = []
        self._complaints: list[IO[str]] = []
        self._heard: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
        self._listeners: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, timeout: float) -> None:
        """Start every process and wait until each is ready.

        Args:
            timeout: Seconds for all of them.

        Raises:
            CrewError: One ended or is not ready in time.
        """
        for _ in self._jobs:
            self._spawn()
        for number, job in enumerate(self._jobs):
            self._tell(number, job)
        self._await_ready(time.monotonic() + timeout)

    def go(self, order: dict[str, float], numbers: Iterable[int] | None = None) -> None:
        """Let processes begin.

        Args:
            order: "start" and "end" on the monotonic clock; "grace" and "drain" in seconds.
            numbers: Which ones; None for all.
        """
        for number in range(len(self._jobs)) if numbers is None else numbers:
            self._tell(number, order)

    def kill(self, numbers: Iterable[int]) -> None:
        """Kill processes with SIGKILL, all of them before waiting for any; what they had told is still heard."""
        victims = [self._processes[number] for number in numbers]
        for process in victims:
            process.kill()
        for process in victims:
            process.wait(timeout=10)

    def add(self, job: dict[str, Any]) -> int:
        """Start one more process and return its number; it reports "ready" and then waits for `go`.

        Raises:
            CrewError: It ended at once.
        """
        self._jobs.append(job)
        number = self._spawn()
        self._tell(number, job)
        return number

    def hear(self, timeout: float) -> tuple[int, dict[str, Any] | None] | None:
        """Return the next report and the number of its process (a report of None: the process has ended), or None.

        Args:
            timeout: Seconds to wait.
        """
        try:
            return self._heard.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    def ended_early(self, number: int) -> CrewError:
        """Return the error for a process that ended before it was done."""
        self._processes[number].wait(timeout=5)
        complaints = self._complaints[number]
        complaints.seek(0)
        last = next((line.strip() for line in reversed(complaints.readlines()) if line.strip()), "no message")
        return CrewError(f"A worker process ended before it was done: {last}. The run is invalid; run it again.")

    def close(self) -> None:
        """End every process and let go of the pipes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(timeout=10)
        for listener in self._listeners:
            listener.join(timeout=10)
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    _close(pipe)
        for complaints in self._complaints:
            complaints.close()
        self._processes, self._listeners, self._complaints = [], [], []

    def _spawn(self) -> int:
        number = len(self._processes)
        # The children find the same package and the same libraries, from wherever this interpreter has them.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._complaints.append(complaints)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "remanence.lab.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            text=True,
            encoding="utf-8",
            # Ctrl-C is the parent's to handle; it ends the workers itself.
            start_new_session=True,
        )
        self._processes.append(process)
        listener = threading.Thread(target=self._listen, args=(number, process), daemon=True)
        listener.start()
        self._listeners.append(listener)
        return number

    def _await_ready(self, deadline: float) -> None:
        ready = 0
        while ready < len(self._jobs):
            heard = self.hear(deadline - time.monotonic())
            if heard is None:
                raise CrewError(
                    "The worker processes were not ready in time. Close other programs, or use fewer workers."
                )
            number, report = heard
            if report is None:
                raise self.ended_early(number)
            ready += 1

    def _tell(self, number: int, message: dict[str, Any]) -> None:
        pipe = self._processes[number].stdin
        if pipe is None:  # pragma: no cover - it was asked for
            raise CrewError("A worker process has no standard input.")
        try:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()
        except BrokenPipeError:
            raise self.ended_early(number) from None

    def _listen(self, number: int, process: subprocess.Popen[str]) -> None:
        if process.stdout:
            for line in process.stdout:
                # A process that is killed may leave half a line.
                if line.endswith("\n"):
                    self._heard.put((number, json.loads(line)))
        self._heard.put((number, None))


def _close(pipe: IO[str]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        # What could not be told to a process that is gone need not be.
        return
