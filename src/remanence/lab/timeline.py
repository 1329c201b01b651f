"""From what the workers told to what the report shows: slices, phases, recovery, verdict. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from remanence.lab.audit import Account
from remanence.lab.measurement import Interval, Killing, ManagerRun, Percentiles, Verdict
from remanence.lab.samples import Batch, Call, Sample

__all__ = ["SLICE_S", "Log", "percentile", "summarize", "waiting"]

SLICE_S = 0.25
"""Length of one slice of the timeline."""

_NOTHING = ("empty", "none")
_BREAKERS = ("open", "half_open", "closed")


@dataclass(slots=True)
class Log:
    """Everything heard from one process.

    Attributes:
        calls: Finished calls.
        attempts: Times of attempts towards Redis.
        samples: The manager's own accounts, in order.
        acknowledged: Conversation to the numbers of its acknowledged turns.
        first_acknowledged: Conversation to the time of its first acknowledged turn.
        errors: Class name of an error to how often callers got it.
        in_call: When each call under way at the last report began.
        killed: When the process was killed, None while it lives.
    """

    calls: list[Call] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    acknowledged: dict[str, set[int]] = field(default_factory=dict)
    first_acknowledged: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    in_call: list[float] = field(default_factory=list)
    killed: float | None = None

    def add(self, batch: Batch) -> None:
        """Take in a report."""
        self.calls += batch.calls
        self.attempts += batch.attempts
        self.in_call = batch.in_call
        if batch.sample and (not self.samples or batch.sample.at > self.samples[-1].at):
            self.samples.append(batch.sample)
        for ack in batch.acks:
            self.acknowledged.setdefault(ack.conversation, set()).add(ack.turn)
            self.first_acknowledged.setdefault(ack.conversation, ack.at)
        for name, times in batch.errors.items():
            self.errors[name] = self.errors.get(name, 0) + times

    def sample(self, before: float) -> Sample | None:
        """Return the manager's last account before a moment, None also once the process is dead."""
        if self.killed is not None and self.killed < before:
            return None
        return self.last_sample(before)

    def last_sample(self, before: float) -> Sample | None:
        """Return the manager's last account before a moment, dead or alive."""
        return next((sample for sample in reversed(self.samples) if sample.at < before), None)


def waiting(logs: Iterable[Log], before: float, *, shared: bool) -> int | None:
    """Return how many entries waited for Redis at a moment, None where no manager said.

    Args:
        logs: One per process.
        before: The moment.
        shared: Whether the processes have one journal, so that the last of them to speak speaks for all, and what it
            said holds beyond its death. Else each has its own, which dies with it.
    """
    if shared:
        last = [sample for log in logs if (sample := log.last_sample(before))]
        return max(last, key=lambda sample: sample.at).pending if last else None
    standing = [sample for log in logs if (sample := log.sample(before))]
    return sum(sample.pending for sample in standing) if standing else None


def summarize(
    name: str,
    logs: Sequence[Log],
    *,
    start: float,
    duration: float,
    outage: tuple[float, float] | None,
    unfinished: int,
    account: Account,
    killing: Killing | None = None,
    shared_journal: bool = False,
) -> ManagerRun:
    """Make one manager's run out of its processes' logs.

    A call belongs to the phase "during" if any part of it was in the outage, so that the calls which the outage held up
    count there; in the timeline it is in the slice in which it ended.

    Args:
        name: The manager.
        logs: One per process.
        start: When the run began; as all times of the logs, on the monotonic clock.
        duration: Length of the run in seconds.
        outage: When the server was away, or None.
        unfinished: Calls that had not returned at the end.
        account: What the audit found.
        killing: Of the worker processes, None where they were left alone.
        shared_journal: Whether all processes have one journal.
    """
    calls = [call for log in logs for call in log.calls]
    known = _first_known(logs)
    verdict = Verdict(
        acknowledged=account.acknowledged,
        lost=len(account.lost),
        failed_calls=sum(call.answer == "error" for call in calls) + unfinished,
        unavailable_answers=sum(_unavailable(call, known) for call in calls),
        degraded_reads=sum(call.answer == "stale" for call in calls),
        journaled=sum(call.answer == "journaled" for call in calls),
        replayed=sum(log.samples[-1].replayed for log in logs if log.samples),
        conflicts=account.conflicts,
        slowest_call_s=None if unfinished else max((call.took for call in calls), default=None),
        recovery_s=None
        if unfinished or outage is None
        else _recovery([log for log in logs if log.killed is None], outage[1]),
        latency_ms=_phases(calls, outage),
        attempts_in_outage=sum(_within(at, outage) for log in logs for at in log.attempts),
    )
    return ManagerRun(
        name=name,
        duration_s=duration,
        outage=None if outage is None else (outage[0] - start, min(outage[1] - start, duration)),
        interval_s=SLICE_S,
        timeline=_timeline(calls, logs, known, start, duration, shared_journal=shared_journal),
        verdict=verdict,
        unfinished=unfinished,
        killing=killing,
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of the values do not exceed (nearest rank), None of none.

    Args:
        ordered: The values, ascending.
        share: Above 0, at most 1.
    """
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None


def _first_known(logs: Iterable[Log]) -> dict[str, float]:
    known: dict[str, float] = {}
    for log in logs:
        for conversation, at in log.first_acknowledged.items():
            known[conversation] = min(at, known.get(conversation, at))
    return known


def _unavailable(call: Call, known: dict[str, float]) -> bool:
    """Tell whether a read was answered with nothing although a memory had been acknowledged before it began."""
    nothing = call.kind == "read" and call.answer in _NOTHING
    return nothing and known.get(call.conversation, float("inf")) < call.start


def _within(at: float, outage: tuple[float, float] | None) -> bool:
    return outage is not None and outage[0] <= at < outage[1]


def _recovery(logs: Sequence[Log], healed: float) -> float | None:
    """Return the seconds until every process had a write answered by Redis and, from then, once nothing pending."""
    recovered = []
    for log in logs:
        written = (call.start + call.took for call in log.calls if call.kind == "write" and call.answer == "redis")
        at = min((end for end in written if end >= healed), default=None)
        if at is not None and log.samples:
            at = min((sample.at for sample in log.samples if sample.at >= at and not sample.pending), default=None)
        if at is None:
            return None
        recovered.append(at - healed)
    return max(recovered, default=None)


def _phases(calls: Iterable[Call], outage: tuple[float, float] | None) -> dict[str, Percentiles]:
    phases: dict[str, list[float]] = {"before": [], "during": [], "after": []}
    for call in calls:
        if outage is None or call.start + call.took <= outage[0]:
            phases["before"].append(call.took)
        else:
            phases["during" if call.start < outage[1] else "after"].append(call.took)
    return {phase: _percentiles(sorted(took)) for phase, took in phases.items()}


def _percentiles(ordered: Sequence[float]) -> Percentiles:
    return Percentiles(p50=_ms(percentile(ordered, 0.5)), p99=_ms(percentile(ordered, 0.99)))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _timeline(
    calls: Iterable[Call],
    logs: Sequence[Log],
    known: dict[str, float],
    start: float,
    duration: float,
    *,
    shared_journal: bool,
) -> tuple[Interval, ...]:
    slices: list[list[Call]] = [[] for _ in range(max(1, ceil(duration / SLICE_S)))]
    for call in calls:
        # What ended after the measured time is shown in the last slice rather than nowhere.
        number = int((call.start + call.took - start) / SLICE_S)
        slices[min(max(number, 0), len(slices) - 1)].append(call)
    return tuple(
        _interval(number * SLICE_S, ended, logs, start + (number + 1) * SLICE_S, known, shared_journal=shared_journal)
        for number, ended in enumerate(slices)
    )


def _interval(
    at_s: float,
    calls: Sequence[Call],
    logs: Sequence[Log],
    until: float,
    known: dict[str, float],
    *,
    shared_journal: bool,
) -> Interval:
    took = sorted(call.took for call in calls)
    states = {sample.breaker for log in logs if (sample := log.sample(until))}
    return Interval(
        at_s=at_s,
        calls=len(calls),
        errors=sum(call.answer == "error" for call in calls),
        unavailable=sum(_unavailable(call, known) for call in calls),
        degraded=sum(call.answer == "stale" for call in calls),
        journaled=sum(call.answer == "journaled" for call in calls),
        p50_ms=_ms(percentile(took, 0.5)),
        p99_ms=_ms(percentile(took, 0.99)),
        max_ms=_ms(took[-1] if took else None),
        journal_depth=waiting(logs, until, shared=shared_journal),
        breaker=next((state for state in _BREAKERS if state in states), None),
    )
