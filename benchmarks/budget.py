"""What each figure may be, and whether it is: met, missed, or too noisy to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from benchmarks.estimate import Estimate

__all__ = ["Budget", "Verdict", "at_least", "at_most"]


class Verdict(StrEnum):
    """What a measurement says about its budget."""

    MET = "met"
    MISSED = "missed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit: the figure may be at most (`upper`) or at least `limit`."""

    limit: float
    upper: bool

    def judge(self, found: Estimate) -> Verdict:
        """Return the verdict; it is inconclusive where the limit lies inside the estimate's interval."""
        if self.upper:
            worst, best = found.high, found.low
            return self._verdict(fits=worst <= self.limit, fails=best > self.limit)
        worst, best = found.low, found.high
        return self._verdict(fits=worst >= self.limit, fails=best < self.limit)

    @staticmethod
    def _verdict(*, fits: bool, fails: bool) -> Verdict:
        return Verdict.MET if fits else Verdict.MISSED if fails else Verdict.INCONCLUSIVE


def at_most(limit: float) -> Budget:
    """Return the budget of what must not grow."""
    return Budget(limit, upper=True)


def at_least(limit: float) -> Budget:
    """Return the budget of what must not shrink."""
    return Budget(limit, upper=False)
