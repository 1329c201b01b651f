"""What a history is made of: operations with their windows of time, and what was found at the end.

All times are seconds of one clock, `time.monotonic()`. On Linux and macOS that clock is the same for all processes of a
host since it was booted; processes on several hosts, or in containers with a time namespace of their own, cannot be
compared. One operation comes before another only if it had completed before the other was invoked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

__all__ = ["ANY", "UNKNOWN", "Answer", "Ending", "Kind", "Operation", "Outcome"]

Kind = Literal["read", "write", "update", "delete"]
Outcome = Literal["ok", "failed", "ambiguous"]
Answer = Literal["", "redis", "journal", "stale", "none", "committed", "deleted", "missing", "journaled"]

ANY: Final = "*"
"""As `expected`: the write replaces whatever is there."""

UNKNOWN: Final = "?"
"""As `expected`: the write was conditional, but on what is not known. Values are hexadecimal, so neither is a value."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call on one conversation.

    Attributes:
        process: Who called; one name for all that shares a manager.
        session: The caller within the process: a thread or a task.
        key: The conversation, hashed.
        kind: "read"; "write" stores; "update" replaces only what is there; "delete".
        value: What was read or written, hashed; None is nothing. Of the values written to one conversation no two are
            the same: a check of one that has two alike ends in "unknown".
        invoked: When the call began.
        completed: When it returned or raised; infinity where it never did.
        outcome: "ok"; "failed": certainly not applied; "ambiguous": an error, or no return, of a write that may have
            been applied and may still be.
        answer: Of a read who answered: "redis", "journal", "stale", "none", or "" where that is not known. Of a write
            that is ok: "committed"; "journaled" (acknowledged, the store has it later or never, if it loses);
            "missing" (there was nothing to update or delete: it read an absent value); "deleted" (committed, and there
            was something); or "" where none of these is known.
        expected: For a conditional write the value it was made over, None for nothing; `ANY` or `UNKNOWN`.
        ttl: Seconds that a written value lives; None for ever.
        not_after: For an ambiguous write the time from which the store refuses it; infinity where nothing does.
    """

    process: str
    session: str
    key: str
    kind: Kind
    value: str | None
    invoked: float
    completed: float = inf
    outcome: Outcome = "ok"
    answer: Answer = ""
    expected: str | None = ANY
    ttl: float | None = field(default=None)
    not_after: float = inf

    @property
    def until(self) -> float:
        """When the write has certainly taken its effect, if it ever does."""
        return self.completed if self.outcome == "ok" and self.answer != "journaled" else self.not_after

    @property
    def is_effective(self) -> bool:
        """Whether it is a write that was, or may be, applied."""
        return self.kind != "read" and self.outcome != "failed" and not self.reads_absent and not self.is_void

    @property
    def reads_absent(self) -> bool:
        """Whether it is an update or a delete that the store itself told there was nothing."""
        return self.answer == "missing" and self.outcome == "ok"

    @property
    def is_void(self) -> bool:
        """Whether it is an update that did nothing, for a reason that is not known: nothing in the store, or here."""
        return self.kind == "update" and self.outcome == "ok" and not self.answer

    @property
    def is_conditional(self) -> bool:
        """Whether it was to be applied over one value only."""
        return self.expected != ANY


@dataclass(frozen=True, slots=True)
class Ending:
    """What the store held of a conversation when all was over.

    Attributes:
        key: The conversation, hashed.
        value: What is stored, hashed; None for nothing.
        conflicts: The values that were kept as conflict copies; None among them is a deletion that lost.
        at: When it was looked at: after every pending write had been given its chance.
    """

    key: str
    value: str | None
    conflicts: frozenset[str | None]
    at: float
