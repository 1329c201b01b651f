"""The slow truth: linearizability by trying every order, for histories of a handful of operations.

Written from the definition, sharing nothing with the checkers but the operations.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from remanence.lab.history.operation import ANY, UNKNOWN, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["fits_a_register"]


def fits_a_register(operations: Sequence[Operation]) -> bool:
    """Try every order that keeps real time, with every optional write done or left out, and every expiry."""
    relevant = [each for each in operations if _counts(each)]
    return _extend(tuple(relevant), None, -inf)


def _counts(operation: Operation) -> bool:
    if operation.kind == "read":
        return operation.outcome == "ok" and operation.answer == "redis"
    return operation.outcome != "failed" and not (
        operation.kind == "update" and not operation.answer and _ok(operation)
    )


def _ok(operation: Operation) -> bool:
    return operation.outcome == "ok"


def _must(operation: Operation) -> bool:
    return _ok(operation) and operation.answer != "journaled"


def _end(operation: Operation) -> float:
    return operation.completed if _must(operation) else operation.not_after


def _extend(left: tuple[Operation, ...], held: Operation | None, clock: float) -> bool:
    """Whether the operations that are left can follow, `held` being stored and nothing having happened after `clock`.

    An order keeps real time exactly if moments can be given to its operations, each within its window and none before
    the one of its predecessor; the earliest such moments are as good as any others.
    """
    if not any(_must(each) for each in left):
        return True
    if held is not None and held.ttl is not None:
        gone = max(clock, held.invoked + held.ttl - 0.001)
        if _extend(left, None, gone):
            return True
    for place, operation in enumerate(left):
        moment = max(clock, operation.invoked)
        if moment > _end(operation):
            continue
        following = _after(operation, held)
        if following is not None and _extend(left[:place] + left[place + 1 :], following[0], moment):
            return True
    return False


def _after(operation: Operation, held: Operation | None) -> tuple[Operation | None] | None:
    """Return what is stored after the operation, None where it cannot come now."""
    value = None if held is None else held.value
    is_journaled = operation.answer == "journaled"
    if operation.kind == "read":
        return (held,) if operation.value == value else None
    if operation.answer == "missing":
        return (held,) if held is None else None
    if operation.kind == "delete":
        return None if operation.answer == "deleted" and held is None else (None,)
    if operation.kind == "update" and not is_journaled and held is None:
        return None
    if operation.expected not in {ANY, UNKNOWN} and not is_journaled and operation.expected != value:
        return None
    return (operation,)
