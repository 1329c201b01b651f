"""What the search puts in order: the operations on one register, reduced to what they need and what they leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from remanence.lab.history.operation import ANY, Operation
from remanence.lab.history.zones import base_of, is_optional

__all__ = ["SOMETHING", "Move", "moves_of", "reduced"]

SOMETHING: Final = "+"
"""As `needs`: any value will do."""


class Move:
    """One operation as the register sees it.

    Attributes:
        operation: Which.
        invoked, until: Between these it takes effect.
        is_read: Whether it leaves everything as it is.
        optional: Whether it may not take effect at all.
        needs: What must be there: a value, None for nothing, `SOMETHING`, or `ANY`.
        leaves: What is there afterwards, None for nothing.
        expires: When what it leaves may be gone by itself; infinity for never.
    """

    __slots__ = ("expires", "invoked", "is_read", "leaves", "needs", "operation", "optional", "until")

    def __init__(self, operation: Operation, *, is_read: bool, needs: str | None, optional: bool = False) -> None:
        self.operation = operation
        self.invoked = operation.invoked
        self.until = operation.completed if is_read else operation.until
        self.is_read = is_read
        self.optional = optional
        self.needs = needs
        self.leaves = operation.value
        self.expires = inf

    @property
    def needs_no_value(self) -> bool:
        """Whether no one value must be there."""
        return self.needs is None or self.needs in {ANY, SOMETHING}

    def relaxed(self) -> Move:
        """Return the same write, but as one that need not take effect."""
        move = Move(self.operation, is_read=False, needs=self.needs, optional=True)
        move.expires = self.expires
        return move


def moves_of(reads: Iterable[Operation], writes: Sequence[Operation]) -> list[Move]:
    """Return the moves of a register.

    An expiry that would come after everything else is none.

    Args:
        reads: Answers of the store, None for nothing.
        writes: Those that were or may be applied.
    """
    moves = [Move(read, is_read=True, needs=read.value) for read in reads]
    moves += [Move(write, is_read=False, needs=_needs(write), optional=is_optional(write)) for write in writes]
    end = max((move.operation.completed for move in moves if move.operation.completed < inf), default=-inf)
    for move in moves:
        ttl = move.operation.ttl
        if not move.is_read and ttl is not None and move.invoked + ttl - 0.001 <= end:
            move.expires = move.invoked + ttl - 0.001
    return moves


def reduced(moves: Iterable[Move]) -> tuple[list[Move], frozenset[Move]]:
    """Return the moves that can matter, and which of them need only be counted.

    An optional write without an end whose value nobody needs only makes the register hold something: all such are
    alike, and so are all such deletes. One that needs a value to begin with adds nothing to what it replaces.
    """
    moves = list(moves)
    needed = {move.needs for move in moves}
    kept, alike = [], []
    for move in moves:
        is_unread = not move.is_read and move.optional and move.expires == inf and move.leaves not in needed
        if is_unread and move.leaves is not None and move.needs not in {ANY, None}:
            continue
        kept.append(move)
        if move.optional and move.until == inf and move.needs == ANY and (move.leaves is None or is_unread):
            alike.append(move)
    return kept, frozenset(alike)


def _needs(write: Operation) -> str | None:
    base = base_of(write)
    if base != ANY:
        return base
    finds = (write.kind == "update" and write.answer != "journaled") or write.answer == "deleted"
    return SOMETHING if finds else ANY
