"""A history sorted for the checks: by conversation, with who wrote what and until when that can have taken effect."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from math import inf
from operator import attrgetter

from remanence.lab.history.operation import Ending, Operation

__all__ = ["Conversation", "Disappearances", "History"]

_INVOKED = attrgetter("invoked")


class History:
    """Operations of any number of processes, and what was found at the end.

    Args:
        operations: In any order.
        endings: What the store held at the end, at most one for each conversation; none where nobody looked.
    """

    def __init__(self, operations: Iterable[Operation], endings: Iterable[Ending] = ()) -> None:
        self.operations: Sequence[Operation] = sorted(operations, key=_INVOKED)
        self.endings = {ending.key: ending for ending in endings}

    def __repr__(self) -> str:
        return f"<History of {len(self.operations)} operations on {len(self.conversations)} conversations>"

    @cached_property
    def conversations(self) -> Sequence[Conversation]:
        """The conversations, each with its operations in order of invocation."""
        by_key: dict[str, list[Operation]] = {}
        for operation in self.operations:
            by_key.setdefault(operation.key, []).append(operation)
        return [Conversation(key, operations, self.endings.get(key)) for key, operations in by_key.items()]


class Conversation:
    """The operations on one conversation.

    Attributes:
        key: The conversation, hashed.
        operations: By invocation.
        reads: Those that returned, by invocation.
        writes: Those that were or may be applied, deletes among them, by invocation.
        writer: Value to the operation that wrote it, one that was or may be applied before one that failed.
        repeated: Values that more than one operation wrote or may have written.
        until: Value to the time by which its write had certainly taken effect.
        ending: What the store held at the end, None where nobody looked.
    """

    def __init__(self, key: str, operations: Sequence[Operation], ending: Ending | None) -> None:
        self.key = key
        self.operations = operations
        self.ending = ending
        self.reads: list[Operation] = []
        self.writes: list[Operation] = []
        self.writer: dict[str, Operation] = {}
        self.repeated: set[str] = set()
        self.until: dict[str, float] = {}
        self._sort()

    def _sort(self) -> None:
        reads, writes, writer, until = self.reads, self.writes, self.writer, self.until
        for operation in self.operations:
            value = operation.value
            if operation.kind == "read":
                if operation.outcome == "ok":
                    reads.append(operation)
            elif operation.is_effective:
                writes.append(operation)
                if value is not None:
                    if value in until:
                        self.repeated.add(value)
                    writer[value] = operation
                    until[value] = operation.until
            elif value is not None:
                writer.setdefault(value, operation)
        for read in reads:
            # Once the store has answered with a value, its write has taken effect, however that ended for the caller.
            if read.answer == "redis" and read.value is not None and read.completed < until.get(read.value, -inf):
                until[read.value] = read.completed

    @cached_property
    def disappearances(self) -> Disappearances:
        """Why the conversation may have been found empty."""
        return Disappearances(self.writes)


class Disappearances:
    """Deletions and expiries of one conversation, to be asked in O(log n).

    Args:
        writes: The writes that were or may be applied.
    """

    def __init__(self, writes: Sequence[Operation]) -> None:
        ways = [(write.invoked, write.until) for write in writes if write.kind == "delete"]
        # Redis counts a TTL in whole milliseconds, rounded down.
        ways += [(write.invoked + write.ttl - 0.001, inf) for write in writes if write.ttl is not None]
        ways.sort()
        self._from = [since for since, _ in ways]
        self._until = list(accumulate((until for _, until in ways), max))

    def possible(self, after: float, before: float) -> bool:
        """Whether something stored at `after` may have been deleted, or have expired, by `before`."""
        count = bisect_right(self._from, before)
        return count > 0 and self._until[count - 1] >= after
