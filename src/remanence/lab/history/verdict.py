"""What the checks say: pass, fail with a witness, or unknown with the reason; and all of them together.

Unknown is never a pass: a check that found nothing to look at, or whose search was cut short, proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from remanence.lab.history.witness import Witness

__all__ = ["Report", "Status", "Verdict"]


class Status(StrEnum):
    """What a check says."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNKNOWN = "unknown"


_EXIT_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.UNKNOWN: 2}


def combined(statuses: Sequence[Status]) -> Status:
    """Return fail where one failed, pass where all passed, else unknown; of none, unknown."""
    if Status.FAIL in statuses:
        return Status.FAIL
    return Status.PASS if statuses and all(status is Status.PASS for status in statuses) else Status.UNKNOWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says of a history.

    Attributes:
        check: Its name.
        status: A failure counts even where other parts of the history could not be decided.
        checked: Operations that it judged.
        witness: The smallest of the violations, None without one.
        violations: How many were found.
        reasons: Why something could not be decided; empty for a pass.
        seconds: How long it took.
    """

    check: str
    status: Status
    checked: int
    witness: Witness | None = None
    violations: int = 0
    reasons: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; hashes in place of conversations and values."""
        return {
            "check": self.check,
            "status": self.status.value,
            "checked": self.checked,
            "violations": self.violations,
            "reasons": list(self.reasons),
            "witness": None if self.witness is None else self.witness.to_json(),
            "seconds": round(self.seconds, 4),
        }


class Findings:
    """Collects what one check finds.

    Args:
        check: Its name.
        nothing: Why it says "unknown" where nothing was judged.
    """

    def __init__(self, check: str, nothing: str) -> None:
        self.check = check
        self.checked = 0
        self._nothing = nothing
        self._witness: Witness | None = None
        self._violations = 0
        self._reasons: dict[str, int] = {}

    def violation(self, witness: Witness) -> None:
        """Note a violation; of all that are found the one with the fewest operations is kept."""
        self._violations += 1
        if self._witness is None or len(witness.operations) < len(self._witness.operations):
            self._witness = witness

    def undecided(self, reason: str) -> None:
        """Note that something could not be decided."""
        self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def verdict(self) -> Verdict:
        """Return what the check says."""
        reasons = tuple(
            reason if count == 1 else f"{reason} ({count} times)" for reason, count in self._reasons.items()
        )
        if self._violations:
            status = Status.FAIL
        elif reasons or not self.checked:
            status, reasons = Status.UNKNOWN, reasons or (self._nothing,)
        else:
            status = Status.PASS
        return Verdict(self.check, status, self.checked, self._witness, self._violations, reasons)


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks say of a history.

    Attributes:
        operations: Operations in it.
        conversations: Conversations in it.
        verdicts: One for each check, in the order in which they ran.
    """

    operations: int
    conversations: int
    verdicts: tuple[Verdict, ...]

    @property
    def status(self) -> Status:
        """Fail where one check failed, pass where all passed, else unknown."""
        return combined([verdict.status for verdict in self.verdicts])

    @property
    def exit_code(self) -> int:
        """0 for pass, 1 for fail, 2 for unknown."""
        return _EXIT_CODES[self.status]

    def verdict(self, check: str) -> Verdict:
        """Return the verdict of one check; raises KeyError where it did not run."""
        return {verdict.check: verdict for verdict in self.verdicts}[check]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "status": self.status.value,
            "operations": self.operations,
            "conversations": self.conversations,
            "checks": [verdict.to_json() for verdict in self.verdicts],
        }

    def __str__(self) -> str:
        width = max((len(verdict.check) for verdict in self.verdicts), default=0)
        lines = [f"{self.operations} operations on {self.conversations} conversation(s): {self.status}"]
        for verdict in self.verdicts:
            what = f"{verdict.violations} violation(s)" if verdict.violations else "; ".join(verdict.reasons)
            line = f"  {verdict.check:<{width}}  {verdict.status:<7}  {verdict.checked:>7} judged"
            lines.append(f"{line}  {verdict.seconds:6.3f} s  {what}".rstrip())
        lines += [f"\n{verdict.check}: {verdict.witness}" for verdict in self.verdicts if verdict.witness is not None]
        return "\n".join(lines)
