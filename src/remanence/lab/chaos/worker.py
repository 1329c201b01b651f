"""A process that is killed: `python -m remanence.lab.chaos.worker JOB`, JOB being JSON.

It writes conversations as fast as it can until its input ends, then closes its manager. The text of a memory is a
*clock*: for each writer the last of its writes that whoever wrote the text had seen. So it can be told from what is
left in the end whether a write was lost, or replaced by somebody who had seen it.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import threading
import time
from typing import Any, Final

from remanence import (
    CircuitBreaker,
    CorruptRecordError,
    Fallback,
    JournalUnavailableError,
    RedisWorkingMemoryManager,
    RemanenceError,
    Retry,
    resilient,
)
from remanence.lab.chaos.phases import Phases
from remanence.lab.chaos.reports import Reporter
from remanence.policies import replayer

__all__ = ["DEADLINE", "Clock", "main", "stack"]

DEADLINE: Final = 0.6
TIMEOUT: Final = 0.25
_SHARED: Final = 0.12
_LONGEST_THOUGHT: Final = 0.03

Clock = dict[str, int]


def stack(url: str, journal: str, *, lease: float) -> Any:
    """Return the manager that every process has: the usual one, with shorter times.

    Args:
        url: Where Redis is.
        journal: Path of the journal.
        lease: Seconds after which another process may drain, in place of the usual ten.
    """
    replayer._SHARED_LEASE = lease  # type: ignore[misc]  # noqa: SLF001 - a stopped drainer would cost ten seconds each
    return resilient(
        RedisWorkingMemoryManager(url, timeout=TIMEOUT),
        fallback=Fallback(journal=journal, close_timeout=1.0),
        deadline=DEADLINE,
        retry=Retry(attempts=3),
        circuit_breaker=CircuitBreaker(open_for=0.1, open_for_max=0.4),
    )


class _Writer:
    """One thread: conversations of its own, and some that everybody writes."""

    def __init__(self, manager: Any, reporter: Reporter, name: str, job: dict[str, Any], own: list[str]) -> None:
        self._manager = manager
        self._reporter = reporter
        self._name = name
        self._own = own
        self._shared: list[str] = job["shared"]
        # A process has seen what one of its threads has read: so one thread of each has these.
        self._contested: list[str] = job["contested"] if name.endswith(".0") else []
        self._rng = random.Random(f"{job['seed']} {name}")
        self._known: dict[str, Clock] = {}
        self._written: Clock = {}
        self._sequence = 0
        self._longest = 0.0

    def turn(self) -> None:
        """Do one thing."""
        rng = self._rng
        if self._shared and rng.random() < _SHARED:
            self._write(rng.choice(self._shared), "mutate")
            return
        if self._contested and rng.random() < _SHARED:
            self._write(rng.choice(self._contested), "turn")
            return
        conversation = rng.choice(self._own)
        kind = rng.choices(("store", "turn", "update", "delete", "mutate"), (70, 10, 8, 6, 6))[0]
        # Who takes over from a dead process reads first, as an agent does.
        if kind == "turn" or conversation not in self._known:
            held = self._manager.retrieve({"conversation_id": conversation})
            self._known[conversation] = _clock(held[0].working_memory if held else None)
        self._write(conversation, "store" if kind == "turn" else kind)

    def _write(self, conversation: str, kind: str) -> None:
        self._sequence += 1
        number, begun = self._sequence, time.monotonic()
        clock = self._known.get(conversation, {}) | {self._name: number}
        value: dict[str, Any] = {"conversation_id": conversation}
        if kind == "delete":
            self._reporter.tell("D", conversation, self._name, number, begun)
        try:
            receipt = self._ask(kind, value, clock)
        finally:
            took = time.monotonic() - begun
            if took > self._longest:
                self._longest = took
                self._reporter.tell("S", begun, begun + took, kind)
        if receipt.outcome == "missing" and kind != "delete":
            self._known[conversation] = {}
            return
        if receipt.outcome != "missing":
            # Before anything else is done: what is not told was not acknowledged.
            ended = time.monotonic()
            self._reporter.tell("A", conversation, self._name, number, kind, receipt.outcome, begun, ended)
        # Only now: a write that failed may have been made or not.
        self._known[conversation] = {} if kind == "delete" else self._written

    def _ask(self, kind: str, value: dict[str, Any], clock: Clock) -> Any:
        if kind == "delete":
            return self._manager.delete(value)
        if kind == "mutate":
            own = {self._name: clock[self._name]}
            return self._manager.mutate(value, lambda text: self._text(self._seen(value, _clock(text)) | own))
        if kind == "turn":
            held = self._manager.retrieve(value)
            seen = _clock(held[0].working_memory if held else None)
            if held.source != "none":
                self._seen(value, seen)
            text = self._text(seen | {self._name: clock[self._name]})
            if held.degraded:
                # An agent thinks meanwhile, and what another process writes in that time is kept, not replaced.
                time.sleep(self._rng.uniform(0.0, _LONGEST_THOUGHT))
            # On a healthy store a plain write replaces whatever it finds; after a degraded read it may not.
            condition = {} if held.degraded else {"if_version": held.version}
            return self._manager.store({**value, "working_memory": text}, **condition)
        write = self._manager.store if kind == "store" else self._manager.update
        return write({**value, "working_memory": self._text(clock)})

    def _seen(self, value: dict[str, Any], clock: Clock) -> Clock:
        """Note what was read, whatever becomes of the write: the process has seen it, and may replace it."""
        self._known[value["conversation_id"]] = clock
        return clock

    def _text(self, clock: Clock) -> str:
        self._written = clock
        return json.dumps({"clock": clock, "said": "x" * self._rng.choice((0, 40, 400))})


def _clock(text: str | None) -> Clock:
    return {} if text is None else dict(json.loads(text)["clock"])


def _is_refusal(error: Exception) -> bool:
    """Whether a write may fail like that: anything else is a fault of the code under test."""
    if isinstance(error, JournalUnavailableError):
        return "longer than a call may wait" in str(error)
    if isinstance(error, RemanenceError):
        return not isinstance(error, CorruptRecordError)
    return type(error).__module__.startswith("redis") or isinstance(error, OSError)


def main() -> None:
    """Work until the input ends."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    logging.disable(logging.CRITICAL)
    reporter = Reporter(job["reports"])
    manager = stack(job["url"], job["journal"], lease=job["lease"])
    failed, ended = threading.Event(), threading.Event()
    if job["doom"] is not None:
        Phases(
            manager._fallback.journal,  # noqa: SLF001 - the point is inside
            reporter,
            **job["doom"],
            wait=lambda: failed.wait(3.0),
        )

    def listen() -> None:
        for _ in sys.stdin:
            failed.set()
        ended.set()

    def work(writer: _Writer) -> None:
        while not ended.is_set():
            try:
                writer.turn()
            except Exception as error:  # noqa: BLE001 - told
                reporter.tell("N" if _is_refusal(error) else "X", type(error).__name__)

    threading.Thread(target=listen, daemon=True).start()
    threads = [
        threading.Thread(target=work, args=(_Writer(manager, reporter, f"{job['name']}.{number}", job, own),))
        for number, own in enumerate(job["own"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manager.close()


if __name__ == "__main__":
    main()
