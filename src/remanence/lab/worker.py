"""A worker process of the scenario: `python -m remanence.lab.worker`, spoken to in JSON lines.

It is a program of its own and no fork: a fork would inherit the parent's threads and locks half-way. It has a session
of its own, so that Ctrl-C reaches only the parent, which then ends it. It ends by itself when nobody hears its reports
any more: a parent that is killed leaves no workers behind. Where workers are to be killed, a file tells what each has
acknowledged (`ack_log`), and one that takes a killed one's place goes on where that file ends.

    parent → worker   the job, then {"start", "end", "grace", "drain"} once every worker is ready
    worker → parent   {"ready"}, a batch every 0.1 s, {"done"} with what has not returned
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from remanence.lab.ack_log import LoggedRecorder, read_acks
from remanence.lab.agent import Agent, Seat
from remanence.lab.contenders import Contender, build
from remanence.lab.samples import Recorder, Sample
from remanence.lab.transcripts import Conversation, Turn

__all__ = ["job", "main"]

_REPORT_EVERY_S = 0.1


def job(
    *,
    manager: str,
    url: str,
    prefix: str,
    seed: int,
    own: list[int],
    workers: int,
    pause_s: float,
    conversations: tuple[Conversation, ...],
    journal: str | None = None,
    acks: str | None = None,
    predecessors: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the job of one process as JSON values.

    Args:
        manager: Which manager, see `contenders.build`.
        url: Where Redis is.
        prefix: Put before the name of each conversation.
        seed: Of the run.
        own: Numbers of the writers that this process holds.
        workers: Writers in all processes.
        pause_s: Mean time between a writer's turns, in seconds.
        conversations: What is replayed.
        journal: File of the manager's journal, None for none.
        acks: File for the acknowledgements of this process; None where only its reports tell of them.
        predecessors: The files of killed processes, whose conversations this one goes on with.
    """
    said = [[[turn.speaker, turn.text] for turn in conversation.turns] for conversation in conversations]
    return {
        "manager": manager,
        "url": url,
        "prefix": prefix,
        "seed": seed,
        "own": own,
        "workers": workers,
        "pause_s": pause_s,
        "conversations": said,
        "journal": journal,
        "acks": acks,
        "predecessors": list(predecessors),
    }


@dataclass(frozen=True, slots=True)
class _Successor(Seat):
    """The seat of a writer who was killed: the turns that were not acknowledged to it are still to be replayed."""

    done: frozenset[tuple[str, int]] = frozenset()

    def turns(self, k: int, conversations: tuple[Conversation, ...]) -> list[tuple[str, int, Turn]]:
        """Return what is left of this writer's turns of its group's conversation `k`."""
        return [turn for turn in Seat.turns(self, k, conversations) if turn[:2] not in self.done]


@dataclass(slots=True)
class _Process:
    """The process's state, shared by the thread that works and the one that reports."""

    contender: Contender
    recorder: Recorder
    sample: Sample | None = None
    unfinished: list[float] = field(default_factory=list)
    crashed: str | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def attempts(self) -> list[float]:
        """Take the attempts noted since the last time."""
        noted: deque[float] = self.contender.attempts
        return [noted.popleft() for _ in range(len(noted))]

    def watch(self) -> None:
        """Ask the manager how it is, on and on; apart from the reports, which must come even if it never answers."""
        while not self.done.wait(_REPORT_EVERY_S / 2):
            self.look()

    def look(self) -> None:
        """Ask the manager how it is."""
        status = self.contender.status()
        if status:
            self.sample = Sample(time.monotonic(), status.pending, status.replayed, status.stuck, status.breaker)


def main() -> None:
    """Do one job and end; the exit status says only whether the process itself was sound."""
    # Whatever a library prints must not end up between the reports.
    reports = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    recorder = Recorder() if task["acks"] is None else LoggedRecorder(task["acks"])
    process = _Process(build(task["manager"], task["url"], journal=task["journal"]), recorder)
    _say(reports, {"kind": "ready"})
    order = json.loads(sys.stdin.readline() or "null")
    if order is None:
        return
    threading.Thread(target=_guard, args=(process, process.watch), daemon=True).start()
    threading.Thread(target=_guard, args=(process, lambda: _work(process, task, order)), daemon=True).start()
    while not process.done.wait(_REPORT_EVERY_S):
        _report(reports, process)
    _report(reports, process)
    _say(reports, {"kind": "done", "unfinished": process.unfinished, "crashed": process.crashed})
    # Threads that never return would hold up an ordinary exit.
    os._exit(0)


def _work(process: _Process, task: dict[str, Any], order: dict[str, float]) -> None:
    conversations = tuple(
        Conversation(str(number), tuple(Turn(*turn) for turn in turns))
        for number, turns in enumerate(task["conversations"])
    )
    done = frozenset((ack.conversation, ack.turn) for path in task["predecessors"] for ack in read_acks(path))
    threads = []
    for worker in task["own"]:
        seat = Seat.of(worker, task["workers"])
        agent = Agent(
            _Successor(seat.worker, seat.group, seat.groups, seat.rank, seat.size, done) if done else seat,
            conversations,
            contender=process.contender,
            recorder=process.recorder,
            prefix=task["prefix"],
            pause_s=task["pause_s"],
            seed=task["seed"],
        )
        run = _run(agent, order)
        threads.append(threading.Thread(target=_guard, args=(process, run), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, order["end"] + order["grace"] - time.monotonic()))
    process.unfinished = process.recorder.under_way()
    drain = threading.Thread(target=_guard, args=(process, lambda: _drain(process, order["drain"])), daemon=True)
    drain.start()
    drain.join(order["drain"] + order["grace"])
    process.done.set()


def _run(agent: Agent, order: dict[str, float]) -> Any:
    return lambda: agent.run(order["start"], order["end"])


def _drain(process: _Process, timeout: float) -> None:
    process.contender.drain(timeout)
    process.look()


def _guard(process: _Process, work: Any) -> None:
    try:
        work()
    except Exception as error:
        process.crashed = type(error).__name__
        process.done.set()
        raise


def _report(reports: IO[str], process: _Process) -> None:
    batch = process.recorder.take(process.attempts(), process.sample)
    _say(reports, {"kind": "batch", **batch.to_json()})


def _say(reports: IO[str], message: dict[str, Any]) -> None:
    try:
        reports.write(json.dumps(message) + "\n")
        reports.flush()
    except BrokenPipeError:
        # The parent is gone, and threads of ours may never return.
        os._exit(1)


if __name__ == "__main__":
    main()
