"""What a run of the lab measured: plain data between the scenario, the audit and the report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latency of one phase in milliseconds; None where the phase saw no finished call."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened in one slice of the timeline.

    Attributes:
        at_s: Start of the slice, in seconds since the run began.
        calls: Calls that finished in it, successful or not.
        errors: Calls that ended in an exception.
        unavailable: Reads answered with nothing while Redis was away: `none`, or an empty list given as an answer.
        degraded: Reads answered from a last-known copy.
        journaled: Writes acknowledged before Redis had them.
        p50_ms: Median latency of the finished calls, or None without one.
        p99_ms: 99th percentile, or None.
        max_ms: Slowest finished call, or None.
        journal_depth: Writes waiting for Redis at the end of the slice, or None where the manager has no journal.
        breaker: "closed", "open", "half_open", or None where the manager has no circuit breaker.
    """

    at_s: float
    calls: int
    errors: int
    unavailable: int
    degraded: int
    journaled: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    journal_depth: int | None
    breaker: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The account of one manager's run.

    Attributes:
        acknowledged: Writes whose call returned to the caller.
        lost: Acknowledged turn ids found neither in the final text nor in `conflicts()`.
        failed_calls: Calls that raised, or had not returned when the run ended.
        unavailable_answers: Reads answered with "nothing known" although a memory had been acknowledged.
        degraded_reads: Reads answered from a last-known copy.
        journaled: Writes acknowledged before Redis had them.
        replayed: Entries written to Redis after it healed; all pending writes of a conversation are one.
        conflicts: Conflict copies listed at the end.
        slowest_call_s: Seconds of the slowest call; None when one never returned.
        recovery_s: Seconds from healing until calls succeed again and nothing is pending; None when that did not
            happen.
        latency_ms: Percentiles of the phases "before", "during" and "after" the outage.
        attempts_in_outage: Connection and command attempts made towards Redis during the outage.
    """

    acknowledged: int
    lost: int
    failed_calls: int
    unavailable_answers: int
    degraded_reads: int
    journaled: int
    replayed: int
    conflicts: int
    slowest_call_s: float | None
    recovery_s: float | None
    latency_ms: dict[str, Percentiles]
    attempts_in_outage: int


@dataclass(frozen=True, slots=True)
class Killing:
    """What became of the worker processes that were killed in the outage, and of what they had acknowledged.

    Attributes:
        at_s: When they were killed, all at once, in seconds since the run began.
        at_work_s: When each of the new processes had begun its first call; Redis was still away.
        processes: How many were killed, and as many started in their places.
        acknowledged: Turns that the killed ones had acknowledged from the journal in this outage; 0 for a manager
            without one.
        waiting: Entries that the journal's file held when none of them was alive any more, None without a file. All
            pending writes of a conversation are one.
        lost: How many of the turns in `acknowledged` are nowhere at the end.
    """

    at_s: float
    at_work_s: float
    processes: int
    acknowledged: int
    waiting: int | None
    lost: int


@dataclass(frozen=True, slots=True)
class ManagerRun:
    """One manager's timeline and verdict.

    Attributes:
        name: "resilient", "memory-journal", "reference" or "documented".
        duration_s: Length of the measured time.
        outage: Start and end of the outage in seconds since the run began, or None where there was none.
        interval_s: Length of one slice.
        timeline: The slices, in order, without gaps.
        verdict: The account.
        unfinished: Calls that had not returned when the run ended.
        killing: Of its worker processes; None where they were left alone.
    """

    name: str
    duration_s: float
    outage: tuple[float, float] | None
    interval_s: float
    timeline: tuple[Interval, ...]
    verdict: Verdict
    unfinished: int = 0
    killing: Killing | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every manager's run under the same load and the same outage.

    Attributes:
        runs: One run per manager, the resilient one first when present.
        outage_kind: "kill", "freeze", "refuse" or "external".
        workers: Worker threads in all.
        processes: Worker processes.
        conversations: Distinct conversations in the input.
        seed: Seed of every random choice.
        versions: Name to version of what was running (remanence, python, redis-py, server, …).
    """

    runs: tuple[ManagerRun, ...]
    outage_kind: str
    workers: int
    processes: int
    conversations: int
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
