"""What became of a schedule that was played."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from remanence.lab.chaos.audit import Verdict
from remanence.lab.chaos.plan import Plan
from remanence.lab.chaos.reports import Ack, Deletion

__all__ = ["Shown"]


@dataclass(slots=True)
class Shown:
    """What became of a schedule.

    Attributes:
        plan: The schedule.
        acks: Acknowledged writes.
        deletions: Deletions that were asked for.
        cancelled: Calls that were cancelled: nobody knows whether they were made.
        awaited: Acknowledgements to async workers.
        struck: How often a worker was struck, by phase and action.
        struck_async: Of these, async workers.
        refused: Writes that failed, by the class of the error.
        broken: Errors that are nobody's answer, by class.
        away: Acknowledgements while something was wrong with the server.
        longest: Seconds of the longest call.
        blows: How often each kind of failure of the server was played.
        lines: The timeline: seconds since the beginning, and what happened.
        verdict: Of the audit.
        begun: Monotonic seconds.
        seconds: It took.
    """

    plan: Plan
    acks: list[Ack] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    cancelled: list[Ack] = field(default_factory=list)
    awaited: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    struck_async: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    away: int = 0
    longest: float = 0.0
    blows: Counter[str] = field(default_factory=Counter)
    lines: list[tuple[float, str]] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    begun: float = 0.0
    seconds: float = 0.0

    def told(self) -> str:
        """Return the timeline, and what was acknowledged in the conversations in which something is wrong."""
        lines = list(self.lines)
        for conversation in dict.fromkeys(self.verdict.where):
            told = sorted((*self.acks, *self.cancelled), key=lambda each: each.ended)
            for ack in [each for each in told if each.conversation == conversation][-12:]:
                what = f"  {conversation}: {ack.kind} {ack.sequence} of {ack.writer} {ack.outcome}"
                lines.append((ack.ended - self.begun, f"{what}, begun {ack.begun - self.begun:.3f} s"))
        verdict = self.verdict
        found = [
            *(f"lost: {each}" for each in verdict.lost),
            *(f"came back: {each}" for each in verdict.back),
            *(f"unknown: {each}" for each in verdict.unknown),
            *(f"broken: {name}, {count} times" for name, count in self.broken.items()),
        ]
        timeline = [f"{seconds:9.3f} s  {what}" for seconds, what in sorted(lines)]
        return "\n".join([*timeline, *(f"=> {each}" for each in found or ["nothing was lost"])])
