"""A process that hammers a manager and records it: ``python -m remanence.lab.history.workload JOB``.

Its sessions are threads. Every text that is written is unique, and says who wrote it. It prints a line once it is
ready, and reads one that says until when, on the monotonic clock, it is to call. Then it brings home what is pending,
closes the manager, and ends with exit status 0; 3 says that something was still pending.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from remanence import (
    CircuitBreaker,
    Fallback,
    IMemoryInput,
    IWorkingMemory,
    RedisWorkingMemoryManager,
    RemanenceError,
    Retry,
    resilient,
)
from remanence.errors import InvalidInputError
from remanence.interface import ConversationMemoryType
from remanence.lab.contenders import Reference
from remanence.lab.contenders import build as build_contender
from remanence.lab.history.managers import RecordingManager
from remanence.lab.history.recorder import Recorder

__all__ = ["PENDING", "Job", "main"]

PENDING: Final = 3
"""The exit status that says that writes were still pending."""

_DEADLINE_S: Final = 0.5
_DRAIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does.

    Attributes:
        manager: "bare", "resilient" or "reference".
        url: Where Redis is.
        log: Its log.
        name: Its name in the history.
        seed: Of its choices.
        threads: How many sessions.
        conversations: How many conversations.
        pause_s: Mean time between the calls of a session.
        ttl: Of the manager, in seconds.
        deletes: Share of deletes among the calls.
    """

    manager: str
    url: str
    log: str
    name: str
    seed: int
    threads: int
    conversations: int
    pause_s: float = 0.002
    ttl: float = 3600.0
    deletes: float = 0.05

    def to_argument(self) -> str:
        """Return it for the command line of the process."""
        return json.dumps(asdict(self))


class _ReferenceManager:
    """The framework's algorithm as a manager: an update is a read and a write, between which anybody may write."""

    ttl = None

    def __init__(self, url: str) -> None:
        contender = build_contender("reference", url)
        assert isinstance(contender, Reference)  # noqa: S101 - by its name
        self._contender = contender

    def store(self, item: IMemoryInput) -> str:
        read = self._contender.read(item.conversation_id)
        return self._contender.write(item.conversation_id, (item.data or [])[-1].working_memory, read)

    def retrieve(self, item: IMemoryInput) -> list[IWorkingMemory]:
        text = self._contender.read(item.conversation_id).text
        return [] if text is None else [IWorkingMemory(working_memory=text)]

    def close(self) -> None:
        self._contender.close()


class _Session:
    """One thread's calls."""

    def __init__(self, job: Job, manager: RecordingManager, number: int, until: float) -> None:
        self._job = job
        self._until = until
        self._manager = manager
        self._draw = random.Random(f"{job.seed} {job.name} {number}")
        self._name = f"{job.name} {number}"
        self._written = 0

    def run(self) -> None:
        """Call until the time is up; the library's own errors are recorded, and part of the game."""
        while time.monotonic() < self._until:
            try:
                self._call()
            except InvalidInputError:
                raise
            except (RemanenceError, OSError):
                pass
            except Exception as error:
                if not type(error).__module__.startswith("redis"):
                    raise
            time.sleep(self._draw.expovariate(1 / self._job.pause_s))

    def _call(self) -> None:
        draw, manager = self._draw, self._manager
        conversation = f"c{draw.randrange(self._job.conversations)}"
        choice = draw.random()
        if choice < 0.35:  # noqa: PLR2004 - the mix of calls
            manager.retrieve(_item(conversation))
        elif self._job.manager == "reference":
            manager.retrieve(_item(conversation))
            time.sleep(draw.expovariate(1 / self._job.pause_s))
            manager.store(_item(conversation, self._text()))
        elif choice < 0.5:  # noqa: PLR2004
            manager.store(_item(conversation, self._text()))
        elif choice < 0.65:  # noqa: PLR2004
            seen = manager.retrieve(_item(conversation))
            time.sleep(draw.expovariate(1 / self._job.pause_s))
            manager.store(_item(conversation, self._text()), if_version=seen.version)
        elif choice < 0.8:  # noqa: PLR2004
            manager.update(_item(conversation, self._text()))
        elif choice < 1.0 - self._job.deletes:
            manager.mutate(_item(conversation), lambda _: self._text())
        else:
            manager.delete(_item(conversation))

    def _text(self) -> str:
        self._written += 1
        return f"{self._name} {self._written}"


def main() -> int:
    """Do the job of the command line; return the exit status."""
    job = Job(**json.loads(sys.argv[1]))
    manager = _build(job)
    print("ready", flush=True)  # noqa: T201 - spoken to by the trial
    until = float(sys.stdin.readline())
    with Recorder(job.log, process=job.name) as recorder:
        recording = RecordingManager(manager, recorder)
        failures: list[BaseException] = []

        def body(number: int) -> None:
            try:
                _Session(job, recording, number, until).run()
            except BaseException as error:
                failures.append(error)
                raise

        sessions = [threading.Thread(target=body, args=(number,)) for number in range(job.threads)]
        for session in sessions:
            session.start()
        for session in sessions:
            session.join()
        pending = _drain(manager) if job.manager == "resilient" else False
        manager.close()
    return 1 if failures else PENDING if pending else 0


def _build(job: Job) -> Any:
    if job.manager == "reference":
        return _ReferenceManager(job.url)
    bare = RedisWorkingMemoryManager(job.url, ttl=job.ttl, timeout=0.3)
    if job.manager == "bare":
        return bare
    return resilient(
        bare,
        fallback=Fallback(),
        deadline=_DEADLINE_S,
        retry=Retry(attempts=2),
        circuit_breaker=CircuitBreaker(open_for=0.1, open_for_max=0.2),
    )


def _drain(manager: Any) -> bool:
    """Bring home what is pending; give whether something is left."""
    end = time.monotonic() + _DRAIN_S
    while manager.has_pending_writes and time.monotonic() < end:
        manager.replay(timeout=1.0)
        time.sleep(0.01)
    return bool(manager.has_pending_writes)


def _item(conversation: str, text: str | None = None) -> IMemoryInput:
    data = None if text is None else [IWorkingMemory(working_memory=text)]
    kind = ConversationMemoryType.WORKING_MEMORY
    return IMemoryInput(conversation_id=conversation, memory_type=kind, data=data)


if __name__ == "__main__":
    sys.exit(main())
