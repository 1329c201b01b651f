"""From calls to figures: phases, slices, recovery and what counts as what, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from remanence.lab.audit import Account
from remanence.lab.samples import Ack, Batch, Call, Sample
from remanence.lab.timeline import Log, percentile, summarize

if TYPE_CHECKING:
    from remanence.lab.measurement import ManagerRun

START = 1000.0
OUTAGE = (START + 2.0, START + 4.0)


def call(at: float, took: float = 0.001, kind: str = "write", answer: str = "redis", conversation: str = "a") -> Call:
    """Return a call that began `at` seconds into the run."""
    return Call(START + at, took, kind, answer, conversation)


def log(*calls: Call, samples: tuple[Sample, ...] = (), acks: tuple[Ack, ...] = ()) -> Log:
    """Return what one process told, in one report per account of the manager."""
    told = Log()
    told.add(Batch(list(calls), list(acks), [], None, [], {}))
    for sample in samples:
        told.add(Batch([], [], [], sample, [], {}))
    return told


def sample(at: float, pending: int, replayed: int = 0, breaker: str = "closed") -> Sample:
    """Return a manager's account `at` seconds into the run."""
    return Sample(START + at, pending, replayed, 0, breaker)


def summary(
    *logs: Log, outage: tuple[float, float] | None = OUTAGE, unfinished: int = 0, shared_journal: bool = False
) -> ManagerRun:
    """Summarize six seconds."""
    return summarize(
        "resilient",
        logs,
        start=START,
        duration=6.0,
        outage=outage,
        unfinished=unfinished,
        account=Account(acknowledged=9, lost=(("a", 1),), only_in_conflicts=0, conflicts=3),
        shared_journal=shared_journal,
    )


def test_percentiles_are_values_that_were_measured() -> None:
    """The nearest rank: p50 of four is the second, p99 of few is the largest, of none there is none."""
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 0.99) == 4
    assert percentile(list(range(1, 201)), 0.99) == 198
    assert percentile([], 0.5) is None


def test_a_call_that_the_outage_touched_belongs_to_it() -> None:
    """Calls are before, during or after; one that began before and ended in the outage is during."""
    phases = summary(log(call(1.0, 0.010), call(1.9, 0.200), call(3.0, 0.300), call(3.9, 0.400), call(5.0, 0.020)))
    latency = phases.verdict.latency_ms
    assert (latency["before"].p50, latency["before"].p99) == (10, 10)
    assert (latency["during"].p50, latency["during"].p99) == (300, 400)
    assert (latency["after"].p50, latency["after"].p99) == (20, 20)


def test_slices_have_no_gap_and_hold_what_ended_in_them() -> None:
    """Every quarter of a second has a slice; a call counts where it ended, one that ended late in the last."""
    run = summary(log(call(0.1), call(0.2, 0.1), call(0.3, answer="error"), call(5.9, 3.0)))
    assert [interval.at_s for interval in run.timeline] == [number / 4 for number in range(24)]
    assert [interval.calls for interval in run.timeline][:3] == [1, 2, 0]
    assert [interval.errors for interval in run.timeline][:3] == [0, 1, 0]
    assert run.timeline[-1].calls == 1
    assert run.timeline[-1].max_ms == 3000
    assert run.timeline[2].p50_ms is None


def test_journal_depth_is_the_sum_and_the_breaker_the_worst_of_the_processes() -> None:
    """At the end of a slice each process's last account counts; without any there is no depth and no breaker."""
    one = log(samples=(sample(0.3, 2), sample(0.6, 5, breaker="half_open")))
    two = log(samples=(sample(0.3, 1, breaker="open"), sample(0.6, 0)))
    timeline = summary(one, two).timeline
    assert [(slot.journal_depth, slot.breaker) for slot in timeline[:3]] == [
        (None, None),
        (3, "open"),
        (5, "half_open"),
    ]
    assert timeline[-1].journal_depth == 5


def test_answers_are_counted_as_what_they_are() -> None:
    """Errors and calls that never returned failed; races did not; stale, journaled and replayed are counted apart."""
    verdict = summary(
        log(
            call(1, answer="error"),
            call(1, answer="raced"),
            call(3, answer="journaled"),
            call(3, kind="read", answer="stale"),
            call(3, kind="read", answer="journal"),
            samples=(sample(3, 4, 1), sample(5, 0, 5)),
        ),
        log(samples=(sample(5, 0, 2),)),
        unfinished=2,
    ).verdict
    assert (verdict.failed_calls, verdict.journaled, verdict.degraded_reads, verdict.replayed) == (3, 1, 1, 7)
    assert (verdict.acknowledged, verdict.lost, verdict.conflicts) == (9, 1, 3)


@pytest.mark.parametrize("answer", ["empty", "none"])
def test_nothing_known_counts_only_where_something_was_acknowledged(answer: str) -> None:
    """A read answered with nothing is unavailable once any process had a write of that conversation acknowledged."""
    reads = [
        call(at, kind="read", answer=answer, conversation=name) for at, name in ((1.0, "a"), (3.0, "a"), (3.0, "b"))
    ]
    run = summary(log(*reads), log(acks=(Ack("a", 1, START + 2.0),)))
    assert run.verdict.unavailable_answers == 1
    assert [interval.at_s for interval in run.timeline if interval.unavailable] == [3.0]


def test_attempts_are_counted_in_the_outage_alone() -> None:
    """Attempts before and after it do not count."""
    told = Log()
    told.add(Batch([], [], [START + at for at in (1.9, 2.0, 3.9, 4.0, 5.0)], None, [], {}))
    assert summary(told).verdict.attempts_in_outage == 2
    assert summary(told, outage=None).verdict.attempts_in_outage == 0


def test_recovery_needs_a_write_in_every_process() -> None:
    """The slowest process counts; journaled writes, errors and reads are no recovery; without it there is None."""
    quick = log(call(3.9, 0.2), call(5.5))
    slow = log(
        call(3.0), call(4.1, answer="journaled"), call(4.2, kind="read"), call(4.3, answer="error"), call(4.5, 0.25)
    )
    assert summary(quick, slow).verdict.recovery_s == pytest.approx(0.75)
    assert summary(quick, log(call(3.0), call(5.0, answer="error"))).verdict.recovery_s is None
    assert summary(quick, outage=None).verdict.recovery_s is None
    assert summary(quick, unfinished=1).verdict.recovery_s is None


def test_recovery_needs_an_empty_journal_after_that() -> None:
    """A process with something pending has not recovered, even if writes reach Redis again."""
    samples = (sample(3.9, 0), sample(4.2, 5), sample(4.8, 3), sample(5.0, 0), sample(5.5, 1))
    assert summary(log(call(4.1), samples=samples)).verdict.recovery_s == pytest.approx(1.0)
    assert summary(log(call(4.1), samples=samples[:3])).verdict.recovery_s is None


def test_a_call_that_never_returned_is_the_slowest() -> None:
    """The slowest call is unknown when one never returned, and known otherwise."""
    told = log(call(1, 0.5), call(2, 1.5))
    assert summary(told).verdict.slowest_call_s == 1.5
    assert summary(told, unfinished=1).verdict.slowest_call_s is None
    assert summary(log()).verdict.slowest_call_s is None


def test_an_outage_without_an_end_ends_with_the_run() -> None:
    """The window is relative to the run, and within it."""
    assert summary(log(), outage=(START + 2, float("inf"))).outage == (2.0, 6.0)


def killed(log: Log, at: float) -> Log:
    """Return the log of a process that was killed `at` seconds into the run."""
    log.killed = START + at
    return log


def test_a_journal_in_memory_dies_with_its_process() -> None:
    """What a dead process last said of journal and breaker holds up to its death, not beyond it."""
    dead = killed(log(samples=(sample(0.1, 4, breaker="open"),)), 0.6)
    new = log(samples=(sample(1.1, 1),))
    shown = [(slot.journal_depth, slot.breaker) for slot in summary(dead, new).timeline[:5]]
    assert shown == [(4, "open"), (4, "open"), (None, None), (None, None), (1, "closed")]


def test_a_shared_journal_is_counted_once_and_outlives_its_processes() -> None:
    """All processes say the same of it: the last word counts, also after the death of who said it."""
    one = killed(log(samples=(sample(0.1, 4),)), 0.6)
    two = killed(log(samples=(sample(0.2, 5),)), 0.6)
    new = log(samples=(sample(1.1, 7),))
    shown = [slot.journal_depth for slot in summary(one, two, new, shared_journal=True).timeline[:5]]
    assert shown == [5, 5, 5, 5, 7]
    assert summary(log(), shared_journal=True).timeline[0].journal_depth is None


def test_a_dead_process_need_not_recover_and_what_it_replayed_counts() -> None:
    """Recovery is that of the living; entries that a dead one brought home are counted."""
    dead = killed(log(call(3.0), samples=(sample(2.9, 3, replayed=2),)), 3.0)
    living = log(call(4.5, 0.25), samples=(sample(4.9, 0, replayed=5),))
    verdict = summary(dead, living).verdict
    assert verdict.recovery_s == pytest.approx(0.9)
    assert verdict.replayed == 7
