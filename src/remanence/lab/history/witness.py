"""A witness: the few operations that cannot all be right, drawn against time.

::

    conversation 3f9a12bc: v1 was read after v2 had replaced it.
      p1 1  write v1      ├────┤                            committed    0.000     1.203 ms
      p1 1  write v2              ├────┤                    committed    2.000     2.911 ms
      p2 1  read  v1                        ├────┤          redis        3.100     3.500 ms

Values are numbered in the order in which they come; neither texts nor ids are known here. The picture keeps the order
of events, not their distances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from remanence.lab.history.operation import ANY, UNKNOWN, Operation

__all__ = ["Names", "Witness"]

_WIDTH = 48


class Names:
    """Short names for the values of some operations, in the order in which they come.

    Args:
        operations: By invocation.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._names: dict[str, str] = {}
        for operation in operations:
            for value in (operation.expected, operation.value):
                if value not in {None, ANY, UNKNOWN}:
                    self._names.setdefault(str(value), f"v{len(self._names) + 1}")

    def __call__(self, value: str | None) -> str:
        """Return the name of a value."""
        if value is None:
            return "nothing"
        return "something" if value == UNKNOWN else self._names.setdefault(value, f"v{len(self._names) + 1}")


@dataclass(frozen=True, slots=True)
class Witness:
    """Operations that cannot all be right.

    Attributes:
        key: The conversation, hashed.
        sentence: Why, in words.
        operations: By invocation.
    """

    key: str
    sentence: str
    operations: tuple[Operation, ...]

    @classmethod
    def of(cls, operations: Iterable[Operation | None], sentence: str, *values: str | None) -> Witness:
        """Return the witness that these operations are.

        Args:
            operations: In any order, at least one; None and repetitions are left out.
            sentence: With `{}` for the name of each of `values`.
            values: The values that the sentence names.
        """
        # By identity: two operations with equal fields are two operations.
        distinct = {id(operation): operation for operation in operations if operation is not None}
        ordered = tuple(sorted(distinct.values(), key=lambda operation: (operation.invoked, operation.completed)))
        return cls(ordered[0].key, sentence.format(*map(Names(ordered), values)), ordered)

    def __str__(self) -> str:
        lines = [f"conversation {self.key[:8]}: {self.sentence}"]
        names, places = Names(self.operations), _places(self.operations)
        people = {(each.process, each.session): f"{each.process} {each.session}" for each in self.operations}
        whats = [_what(operation, names) for operation in self.operations]
        wide, width = max(map(len, people.values())), max(map(len, whats))
        start = self.operations[0].invoked
        for operation, what in zip(self.operations, whats, strict=True):
            who = people[operation.process, operation.session]
            times = f"{_ms(operation.invoked - start)} {_ms(operation.completed - start)} ms"
            lines.append(
                f"  {who:<{wide}}  {what:<{width}}  {_bar(operation, places)}  {_how(operation):<10} {times}".rstrip()
            )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        names = Names(self.operations)
        return {
            "conversation": self.key,
            "sentence": self.sentence,
            "operations": [
                {
                    "process": operation.process,
                    "session": operation.session,
                    "kind": operation.kind,
                    "value": names(operation.value),
                    "over": None if operation.expected == ANY else names(operation.expected),
                    "outcome": operation.outcome,
                    "answer": operation.answer,
                    "invoked": operation.invoked,
                    "completed": None if operation.completed == inf else operation.completed,
                }
                for operation in self.operations
            ],
            "timeline": str(self),
        }


def _what(operation: Operation, names: Names) -> str:
    if operation.kind == "delete":
        return "delete"
    over = f" over {names(operation.expected)}" if operation.is_conditional else ""
    return f"{operation.kind:<6} {names(operation.value)}{over}"


def _how(operation: Operation) -> str:
    return operation.answer or "ok" if operation.outcome == "ok" else operation.outcome


def _ms(seconds: float) -> str:
    return "    never" if seconds == inf else f"{seconds * 1000:9.3f}"


def _places(operations: tuple[Operation, ...]) -> dict[float, int]:
    """Give each moment a column, in order."""
    moments = sorted({moment for each in operations for moment in (each.invoked, each.completed)})
    step = max(2, min(7, _WIDTH // max(1, len(moments) - 1)))
    return {moment: place * step for place, moment in enumerate(moments)}


def _bar(operation: Operation, places: dict[float, int]) -> str:
    first, last = places[operation.invoked], places[operation.completed]
    is_open = operation.kind != "read" and operation.until == inf
    end = "→" if is_open else "┤"
    width = max(places.values()) + 1
    return (" " * first + "├" + "─" * max(0, last - first - 1) + end).ljust(width + 1)
