"""Linearizability of a register that can be empty again: deleted, expired, or updated only where something is.

"Nothing" is not unique, so zones do not decide; a search does (see `engine`). Going through a long history once is
quick if only the likeliest ways are followed. Where that leaves no order, the calls before that place are looked at
again, first the last few, then ever more of them:

* if they do not fit even when the register may have held anything before them, no order fits: that is a violation, and
  those calls are its witness;
* else, with more ways followed for these calls, an order that goes on may be found;
* with all calls from the first one on, all ways are followed, and the search is exact.

Beyond the budget of configurations the answer is "unknown".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from typing import Final

from remanence.lab.history.engine import UNREAD, BudgetError, Engine, Purse
from remanence.lab.history.moves import Move

__all__ = ["BUDGET", "Result", "is_refuted", "search"]

BUDGET: Final = 100_000
"""Configurations that may be tried for one conversation, in some tenths of a second; and `_BUDGET_EACH` for each
operation, so that the length of a history alone does not use it up."""

_BUDGET_EACH: Final = 50
_BEAM: Final = 64
_FIRST_WINDOW: Final = 24
_WINDOW_BUDGET: Final = 10_000


@dataclass(frozen=True, slots=True)
class Result:
    """How a search ended.

    Attributes:
        window: Moves that cannot be put in order; empty where an order fits, or that is not known.
        stop: The time of the return for which no configuration was left.
        states: What the register may have held before the window.
        expires: When a value that was there before the window may be gone by itself.
        exhausted: Whether the budget was used up.
    """

    window: tuple[Move, ...] = ()
    stop: float = inf
    states: frozenset[str | None] = frozenset({None})
    expires: Mapping[str | None, float] = field(default_factory=dict)
    exhausted: bool = False


def search(moves: Iterable[Move], *, budget: int = BUDGET) -> Result:
    """Look for an order of the moves that fits a register, empty at first, and their windows of time.

    Args:
        moves: In any order; the values that they leave are unique.
        budget: Configurations to try, besides a few for each move.
    """
    ordered = sorted(moves, key=attrgetter("invoked"))
    purse = Purse(budget + _BUDGET_EACH * len(ordered))
    engine = Engine(ordered, purse, beam=_BEAM)
    place = 0
    try:
        while True:
            failed = engine.run(place)
            if failed is None:
                return Result()
            result = _repaired(ordered, engine, failed)
            if result is not None:
                return result
            place = failed + 1
    except BudgetError:
        return Result(exhausted=True)


def is_refuted(moves: Iterable[Move], result: Result, *, budget: int) -> bool:
    """Return whether other moves certainly do not fit either, from the same states and up to the same time."""
    engine = Engine(list(moves), Purse(budget), states=result.states, expires=result.expires)
    try:
        return engine.run(stop=result.stop) is not None
    except BudgetError:
        return False


def _repaired(ordered: Sequence[Move], engine: Engine, failed: int) -> Result | None:
    """Find out why no configuration was left; None: the engine has one again, and is past the event."""
    stop = engine.events[failed][0]
    size, beam = _FIRST_WINDOW, _BEAM
    while True:
        refuted = _refuted(ordered, stop, size)
        if refuted is not None:
            return refuted
        size, beam = size * 2, beam * 4
        first = engine.go_back(failed - size)
        engine.beam = beam if first else 0
        again = engine.run(first, last=failed)
        engine.beam = _BEAM
        if again is None:
            return None
        if not first:
            return Result(tuple(ordered), engine.events[again][0])


def _refuted(ordered: Sequence[Move], stop: float, size: int) -> Result | None:
    """Return the last `size` calls up to `stop`, or some more, if they fit no register whatever it held before them."""
    end = bisect_right(ordered, stop, key=attrgetter("invoked"))
    if size >= end:
        return None
    window = [move for move in ordered[_quiet_before(ordered, end - size) : end] if not move.optional]
    begin = window[0].invoked
    last_need = {move.needs: move for move in ordered if not move.optional and not move.needs_no_value}
    window += [move for move in ordered[:end] if move.optional and move.until >= begin]
    needed = {move.needs for move in window} | {value for value, move in last_need.items() if move.invoked > stop}
    before = [move for move in ordered[:end] if move.invoked < begin and not move.is_read]
    # Any other value is as good as one that nobody reads; that it may expire is as good as nothing to begin with.
    held = {None, UNREAD} | {move.leaves for move in before if move.leaves in needed}
    expires = {move.leaves: move.expires for move in before}
    inside = held | {move.leaves for move in window if not move.is_read}
    # What is read later may not be left now; the last such read of each value says it for all.
    window += [need for value, need in last_need.items() if value in inside and need.invoked > stop]
    window.sort(key=attrgetter("invoked"))
    result = Result(tuple(window), stop, frozenset(held), expires)
    return result if is_refuted(window, result, budget=_WINDOW_BUDGET) else None


def _quiet_before(ordered: Sequence[Move], place: int) -> int:
    """Return the last place up to `place` at which no call was under way; 0 is one."""
    ended = -inf
    quiet = 0
    for number, move in enumerate(ordered[: place + 1]):
        if not move.optional:
            if move.invoked > ended:
                quiet = number
            ended = max(ended, move.until)
    return quiet
