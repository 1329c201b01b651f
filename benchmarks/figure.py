"""One line of the result: what was measured, how much it is, and what it may be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.budget import Budget, Verdict
from benchmarks.estimate import Estimate

__all__ = ["Figure"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured quantity.

    Attributes:
        row: Name of the row that measured it.
        what: What it is, in words.
        unit: Of the value; "x" for ratios.
        value: The estimate; None where it could not be measured here.
        budget: What it may be; None for what is only shown.
        note: Why it is missing, or what has to be known to read it.
    """

    row: str
    what: str
    unit: str
    value: Estimate | None
    budget: Budget | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None without a budget or a value."""
        return None if self.budget is None or self.value is None else self.budget.judge(self.value)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        verdict = self.verdict
        return {**asdict(self), "verdict": None if verdict is None else verdict.value}
