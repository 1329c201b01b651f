"""Plays many schedules, a few at a time, and adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from remanence.lab.chaos.plan import draw
from remanence.lab.chaos.show import play
from remanence.lab.chaos.shown import Shown

__all__ = ["Outcome", "Total", "campaign"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A schedule that was played.

    Attributes:
        shown: What became of it.
    """

    shown: Shown

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing came back, and nothing is unknown."""
        verdict = self.shown.verdict
        return not (verdict.lost or verdict.back or verdict.unknown or self.shown.broken)


@dataclass(slots=True)
class Total:
    """What many schedules came to.

    Attributes:
        schedules: How many.
        with_async: Of these, those with async workers.
        acknowledged: Writes that were.
        awaited: Of these, those of async workers.
        journaled: Of these, those that the journal took.
        away: Of these, those while something was wrong with the server.
        cancelled: Calls that were.
        conversations: That were written.
        lost, back, unknown: See `audit.Verdict`.
        compared, excused: See `audit.Verdict`.
        copies: Conflict copies that were left.
        struck: How often a worker was struck, by phase and action.
        struck_async: Of these, async workers.
        blows: How often the server failed, by kind.
        refused: Writes that failed, by the class of the error.
        broken: Errors that are nobody's answer, by class.
        longest: Seconds of the longest call.
    """

    schedules: int = 0
    with_async: int = 0
    acknowledged: int = 0
    awaited: int = 0
    journaled: int = 0
    away: int = 0
    cancelled: int = 0
    conversations: int = 0
    lost: int = 0
    back: int = 0
    unknown: int = 0
    compared: int = 0
    excused: int = 0
    copies: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    struck_async: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    def add(self, shown: Shown) -> None:
        """Add a schedule."""
        verdict = shown.verdict
        self.schedules += 1
        self.with_async += shown.plan.has_async
        self.awaited += shown.awaited
        self.cancelled += len(shown.cancelled)
        self.acknowledged += len(shown.acks)
        self.journaled += sum(ack.outcome == "journaled" for ack in shown.acks)
        self.away += shown.away
        self.conversations += verdict.conversations
        self.lost += len(verdict.lost)
        self.back += len(verdict.back)
        self.unknown += len(verdict.unknown)
        self.compared += verdict.compared
        self.excused += verdict.excused
        self.copies += verdict.copies
        self.struck += shown.struck
        self.struck_async += shown.struck_async
        self.blows += shown.blows
        self.refused += shown.refused
        self.broken += shown.broken
        self.longest = max(self.longest, shown.longest)

    @property
    def phases(self) -> Counter[str]:
        """How often each phase was struck."""
        found: Counter[str] = Counter()
        for name, count in self.struck.items():
            found[name.rpartition(" ")[0]] += count
        return found


def campaign(first_seed: int, schedules: int, *, writes: int, at_once: int) -> Iterator[Outcome]:
    """Play the schedules of consecutive seeds, and give each as it ends.

    Args:
        first_seed: Of the first.
        schedules: How many.
        writes: Acknowledgements of each, at least.
        at_once: How many at a time; each has processes of its own.
    """
    pool = ThreadPoolExecutor(at_once)
    try:
        for shown in pool.map(lambda seed: play(draw(seed, writes=writes)), range(first_seed, first_seed + schedules)):
            yield Outcome(shown)
    finally:
        # Those under way end by themselves in seconds, and leave nothing behind.
        pool.shutdown(cancel_futures=True)
