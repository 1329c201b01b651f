"""What can be seen of a run while it goes on: the last second of it, for a live view or a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remanence.lab.measurement import ManagerRun
from remanence.lab.samples import Call
from remanence.lab.timeline import Log, percentile, waiting

__all__ = ["Observer", "Tick", "look"]

_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A run at a moment.

    Attributes:
        manager: Which manager runs.
        number: Which of the managers it is, from 1.
        managers: How many there are.
        phase: "starting", "before", "outage", "after", "draining" or "auditing".
        elapsed_s: Seconds since the run began.
        duration_s: Seconds that it will last.
        calls_per_s: Calls that ended in the last second.
        errors: Of these, those that raised.
        p50_ms: Their median latency, None without one.
        p99_ms: Their 99th percentile, None without one.
        answers: Who answered them, counted: "redis", "journal", "stale", "none", "journaled" and so on.
        waiting_s: For how long the oldest call under way has been waiting, 0 without one.
        breaker: State of the circuit breaker, the worst of the processes; None without one.
        pending: Writes waiting for Redis, None without a journal.
        acknowledged: Turns acknowledged so far.
    """

    manager: str
    number: int
    managers: int
    phase: str
    elapsed_s: float
    duration_s: float
    calls_per_s: float = 0.0
    errors: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    answers: tuple[tuple[str, int], ...] = ()
    waiting_s: float = 0.0
    breaker: str | None = None
    pending: int | None = None
    acknowledged: int = 0


class Observer:
    """Sees runs go on; this one looks away."""

    def tick(self, tick: Tick) -> None:
        """See the state of the run, four times a second and at each change of phase."""

    def told(self, what: str) -> None:
        """See a sentence about what was just done to the run, beyond the outage."""

    def finished(self, run: ManagerRun) -> None:
        """See what came of a manager's run."""


def look(
    logs: Sequence[Log],
    *,
    manager: str,
    number: int,
    managers: int,
    phase: str,
    start: float,
    duration: float,
    now: float,
    shared_journal: bool = False,
) -> Tick:
    """Describe a run as it is.

    Args:
        logs: What was heard so far, one per process.
        manager: Which manager runs.
        number: Which of the managers it is, from 1.
        managers: How many there are.
        phase: What is going on.
        start: When the run began.
        duration: Seconds that it will last.
        now: The moment.
        shared_journal: Whether all processes have one journal.
    """
    recent = [call for log in logs for call in _since(log.calls, now - _WINDOW_S)]
    took = sorted(call.took * 1000 for call in recent)
    living = [log for log in logs if log.killed is None]
    states = {log.samples[-1].breaker for log in living if log.samples}
    return Tick(
        manager=manager,
        number=number,
        managers=managers,
        phase=phase,
        elapsed_s=now - start,
        duration_s=duration,
        calls_per_s=len(recent) / _WINDOW_S,
        errors=sum(call.answer == "error" for call in recent),
        p50_ms=percentile(took, 0.5),
        p99_ms=percentile(took, 0.99),
        answers=tuple(Counter(call.answer for call in recent).most_common()),
        waiting_s=max((now - began for log in living for began in log.in_call), default=0.0),
        breaker=next((state for state in ("open", "half_open", "closed") if state in states), None),
        pending=waiting(logs, now, shared=shared_journal),
        acknowledged=sum(len(turns) for log in logs for turns in log.acknowledged.values()),
    )


def _since(calls: Sequence[Call], since: float) -> Iterable[Call]:
    """Walk back through the calls, which are nearly in the order of their ends, to the first that is too old."""
    for call in reversed(calls):
        if call.start + call.took < since:
            return
        yield call
