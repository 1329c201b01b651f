"""A campaign: small cases exhausted and random schedules played, on several cores, with an account of both."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from remanence.lab.simulation.asyncio_cases import ASYNCIO_SEEDS, drawing
from remanence.lab.simulation.cases import Case
from remanence.lab.simulation.search import Finding, exhaust, sample

__all__ = ["BATCH", "Outcome", "Total", "campaign", "quiet", "run_case", "run_seeds"]

_log = logging.getLogger("remanence")

BATCH: Final = 500
RANDOM: Final = "random"
_NOTHING: Final = logging.CRITICAL + 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case, or of a batch of seeds.

    Attributes:
        group: The case's group, "random" for seeds, "random, asyncio" for those of that flavour.
        name: The case's name, the seeds otherwise.
        schedules: Schedules played to their ends.
        equivalent: Runs that ended early, in a state from which everything had been tried.
        seconds: Processor seconds.
        findings: What broke a promise.
    """

    group: str
    name: str
    schedules: int
    equivalent: int
    seconds: float
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True)
class Total:
    """What a campaign has come to.

    Attributes:
        cases: Cases exhausted, by group.
        schedules: Schedules played to their ends, by group.
        equivalent: Runs that ended early, by group.
        seconds: Processor seconds, by group.
        findings: What broke a promise.
    """

    cases: dict[str, int] = field(default_factory=dict)
    schedules: dict[str, int] = field(default_factory=dict)
    equivalent: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[tuple[str, Finding]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        group = outcome.group
        if not group.startswith(RANDOM):
            self.cases[group] = self.cases.get(group, 0) + 1
        self.schedules[group] = self.schedules.get(group, 0) + outcome.schedules
        self.equivalent[group] = self.equivalent.get(group, 0) + outcome.equivalent
        self.seconds[group] = self.seconds.get(group, 0.0) + outcome.seconds
        self.findings += [(outcome.name, finding) for finding in outcome.findings]


def run_case(case: Case) -> Outcome:
    """Exhaust one case."""
    begun = time.process_time()
    complete, equivalent, finding = exhaust(case.scenario)
    gc.collect()
    findings = () if finding is None else (finding,)
    return Outcome(case.group, case.name, complete, equivalent, time.process_time() - begun, findings)


def run_seeds(first: int, count: int) -> Outcome:
    """Play the random schedules of `count` seeds from `first`."""
    begun = time.process_time()
    found = []
    for seed in range(first, first + count):
        finding = sample(drawing(seed), seed)
        if finding is not None:
            found.append(finding)
    seconds = time.process_time() - begun
    name = f"seeds {first} to {first + count - 1}"
    group = RANDOM if first < ASYNCIO_SEEDS else f"{RANDOM}, asyncio"
    return Outcome(group, name, count, 0, seconds, tuple(found))


def campaign(cases: Sequence[Case], *, first_seed: int, schedules: int, processes: int) -> Iterator[Outcome]:
    """Give the outcomes as they come, those of the cases first.

    Args:
        cases: To exhaust.
        first_seed: Of the random schedules.
        schedules: How many of those.
        processes: Processes to share the work; with 1 it is done here.
    """
    batches = [
        (first, min(BATCH, first_seed + schedules - first))
        for first in range(first_seed, first_seed + schedules, BATCH)
    ]
    if processes == 1:
        yield from map(run_case, cases)
        for first, count in batches:
            yield run_seeds(first, count)
        return
    # Spawned, not forked: nothing of this process (threads, locks) comes along.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_prepare)
    try:
        todo: Iterator[Future[Outcome]] = _submitted(pool, cases, batches)
        running = {future for _, future in zip(range(2 * processes), todo, strict=False)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {future for _, future in zip(range(len(done)), todo, strict=False)}
    except BaseException:
        for process in multiprocessing.active_children():  # a case may take minutes
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing meanwhile: what the policies have to say of simulated outages is nobody's concern."""
    before = _log.level
    _log.setLevel(_NOTHING)
    try:
        yield
    finally:
        _log.setLevel(before)


def _prepare() -> None:
    _log.setLevel(_NOTHING)
    # What is loaded by now stays, and a world's parts refer to each other: the collector need not look so often.
    gc.freeze()
    gc.set_threshold(5_000)


def _submitted(
    pool: ProcessPoolExecutor, cases: Sequence[Case], batches: Sequence[tuple[int, int]]
) -> Iterator[Future[Outcome]]:
    """Submit one after the other, as they are asked for, so that an interrupt leaves little to wait for."""
    for case in cases:
        yield _submit(pool, run_case, case)
    for first, count in batches:
        yield _submit(pool, run_seeds, first, count)


def _submit(pool: ProcessPoolExecutor, work: Callable[..., Outcome], *arguments: Any) -> Future[Outcome]:
    """Submit one; a process that is started for it inherits that Ctrl-C is none of its business but ours."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(work, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
