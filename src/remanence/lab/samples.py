"""What worker processes tell the scenario: every call, every acknowledged turn, and how the manager is doing.

Times are `time.monotonic()`, which the processes of one machine share on the systems that this runs on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Ack", "Batch", "Call", "Recorder", "Sample"]


class Call(NamedTuple):
    """One finished call to a manager.

    Attributes:
        start: When it was made.
        took: Seconds until it ended.
        kind: "read" or "write".
        answer: "redis", "empty" (a read: no memory, and no word on who says so, or Redis does), "journal", "stale",
            "none", "journaled", "raced" (a version conflict: nothing written), "error".
        conversation: Which conversation.
    """

    start: float
    took: float
    kind: str
    answer: str
    conversation: str


class Ack(NamedTuple):
    """A turn whose write was acknowledged to the caller."""

    conversation: str
    turn: int
    at: float


class Sample(NamedTuple):
    """A manager's own account at a moment."""

    at: float
    pending: int
    replayed: int
    stuck: int
    breaker: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process did since its last report.

    Attributes:
        calls: Finished calls.
        acks: Acknowledged turns.
        attempts: Times of attempts towards Redis.
        sample: The manager's account, None where it gives none.
        in_call: When each call under way began.
        errors: Class names of the errors that callers got, counted.
    """

    calls: list[Call]
    acks: list[Ack]
    attempts: list[float]
    sample: Sample | None
    in_call: list[float]
    errors: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the batch as JSON values."""
        return {
            "calls": self.calls,
            "acks": self.acks,
            "attempts": self.attempts,
            "sample": self.sample,
            "in_call": self.in_call,
            "errors": self.errors,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Batch:
        """Return the batch that `to_json` described."""
        return cls(
            calls=[Call(*call) for call in value["calls"]],
            acks=[Ack(*ack) for ack in value["acks"]],
            attempts=value["attempts"],
            sample=Sample(*value["sample"]) if value["sample"] else None,
            in_call=value["in_call"],
            errors=value["errors"],
        )


class Recorder:
    """Collects one process's calls and acknowledgements, outside the manager and from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._acks: list[Ack] = []
        self._errors: Counter[str] = Counter()
        self._in_call: dict[int, float] = {}

    def began(self, worker: int) -> float:
        """Note that a worker's call begins now."""
        now = time.monotonic()
        with self._lock:
            self._in_call[worker] = now
        return now

    def ended(self, worker: int, call: Call, *, error: str | None = None) -> None:
        """Note a worker's call as finished, with the class of the error that it raised."""
        with self._lock:
            self._in_call.pop(worker, None)
            self._calls.append(call)
            if error:
                self._errors[error] += 1

    def acknowledged(self, ack: Ack) -> None:
        """Note a turn as acknowledged."""
        with self._lock:
            self._acks.append(ack)

    def under_way(self) -> list[float]:
        """Return when each call that has not ended began."""
        with self._lock:
            return list(self._in_call.values())

    def take(self, attempts: list[float], sample: Sample | None) -> Batch:
        """Return what happened since the last time."""
        with self._lock:
            batch = Batch(self._calls, self._acks, attempts, sample, list(self._in_call.values()), dict(self._errors))
            self._calls, self._acks, self._errors = [], [], Counter()
        return batch
