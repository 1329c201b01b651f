"""The configurations of a register while calls begin and end: the engine of the search.

This is the search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) in the form that Lowe gave it
("Testing for Linearizability", 2017): it goes through the events in order and holds all *configurations* that are
possible: what the register holds, and which of the calls under way have taken effect. A call takes effect as late as it
can, when it or another one returns; where no call is under way only the possible values are left, so the history falls
apart at its quiet moments by itself.

What keeps the number of configurations small, none of which loses an order that fits:

* a read takes effect as soon as the register holds its value, because it changes nothing;
* a value that will be read later is not left, because values are unique and it would not come back;
* writes without an end that nobody has read, and deletes without one, are all alike, so they are only counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from math import inf
from operator import and_
from typing import Any, Final

from remanence.lab.history.moves import SOMETHING, Move, reduced
from remanence.lab.history.operation import ANY

__all__ = ["UNREAD", "BudgetError", "Engine", "Purse"]

UNREAD: Final = "~"
"""Stands for the value of a write that nobody has read."""

_Configuration = tuple[int, str | None, int, int]
"""One way in which it may have gone: a bit for each call under way that took effect; what is held; how many of the
counted writes, and of the counted deletes, were used."""

_CHECKPOINT_EVERY: Final = 64
_MORE_LEVELS: Final = 3


class BudgetError(Exception):
    """The budget of configurations is used up."""


class Purse:
    """Configurations that may still be tried."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def pay(self, configurations: int) -> None:
        """Take some out.

        Raises:
            BudgetError: They are not there.
        """
        self._left -= configurations
        if self._left < 0:
            raise BudgetError


class Engine:
    """Goes through the events of some moves.

    Args:
        moves: By invocation; the values that they leave are unique.
        purse: What it may try.
        states: What the register may hold at first; `UNREAD` is any value that none of the moves needs.
        expires: When what it holds at first may be gone by itself, by value.

    Attributes:
        beam: 0 for all configurations. Else at most so many are followed, the likeliest: what need not happen (an
            optional write) happens only where nothing else fits; not many more calls take effect before the one that
            returns than must; and writes that nobody reads may do so unseen, directly before another one. An order
            that is found so is one; that none is found says nothing.
        events: Time, whether it is an end, and the place of the move; calls begin before others end at the same time.
    """

    def __init__(
        self,
        moves: Sequence[Move],
        purse: Purse,
        *,
        states: Iterable[str | None] = (None,),
        expires: Mapping[str | None, float] | None = None,
        beam: int = 0,
    ) -> None:
        self.beam = beam
        self._purse = purse
        self._moves, self._alike = reduced(moves)
        self._configurations: set[_Configuration] = {(0, state, 0, 0) for state in states}
        self._needed_until: dict[str | None, float] = {}
        for move in self._moves:
            if not (move.optional or move.needs_no_value):
                self._needed_until[move.needs] = max(self._needed_until.get(move.needs, -inf), move.invoked)
        self._expires = dict(expires or {})
        self._expires |= {move.leaves: move.expires for move in self._moves if move.expires < inf}
        self._bits: dict[Move, int] = {}
        self._free: list[int] = []
        self._reading: dict[str | None, int] = {}
        self._unread = self._deletes = self._endless = self._unseen = self._under_way = 0
        self.events = [(move.invoked, 0, place) for place, move in enumerate(self._moves)]
        self.events += [(move.until, 1, place) for place, move in enumerate(self._moves) if move.until < inf]
        self.events.sort()
        self._checkpoints: list[tuple[int, tuple[Any, ...]]] = [(0, self._saved())]

    def run(self, first: int = 0, *, last: int | None = None, stop: float = inf) -> int | None:
        """Go through the events; return the place of the one for which no configuration was left, None for none.

        Args:
            first: Place of the first event.
            last: Place of the last event, None for the very last.
            stop: The last time; calls that are under way then may end as they like.
        """
        moves = self._moves
        for place in range(first, len(self.events) if last is None else last + 1):
            now, ends, number = self.events[place]
            if now > stop:
                break
            if ends:
                if not self._end(moves[number], now):
                    return place
            else:
                if not self._under_way and place >= self._checkpoints[-1][0] + _CHECKPOINT_EVERY:
                    self._checkpoints.append((place, self._saved()))
                self._begin(moves[number])
        return None

    def go_back(self, place: int) -> int:
        """Be as at the last checkpoint that is not after the event at `place`; return the place of its event."""
        while self._checkpoints[-1][0] > max(place, 0):
            self._checkpoints.pop()
        found, saved = self._checkpoints[-1]
        self._configurations, bits, free, reading, *counts = saved
        self._bits, self._free, self._reading = dict(bits), list(free), dict(reading)
        self._unread, self._deletes, self._endless, self._unseen, self._under_way = counts
        return found

    def _saved(self) -> tuple[Any, ...]:
        counts = (self._unread, self._deletes, self._endless, self._unseen, self._under_way)
        return (self._configurations, dict(self._bits), list(self._free), dict(self._reading), *counts)

    def _begin(self, move: Move) -> None:
        if move in self._alike:
            self._deletes += move.leaves is None
            self._unread += move.leaves is not None
            return
        bit = self._bits[move] = self._free.pop() if self._free else 1 << len(self._bits)
        self._under_way += not move.optional
        if move.until == inf:
            self._endless |= bit
        if not (move.is_read or move.optional) and move.needs == ANY and move.leaves not in self._needed_until:
            self._unseen |= bit
        if move.is_read:
            needs = move.needs
            self._reading[needs] = self._reading.get(needs, 0) | bit
            self._configurations = {
                (done | bit, state, writes, deletes) if state == needs else (done, state, writes, deletes)
                for done, state, writes, deletes in self._configurations
            }

    def _end(self, move: Move, now: float) -> bool:
        """Keep the configurations in which the move has taken effect; give whether there are any."""
        bit = self._bits[move]
        missed = {each for each in self._configurations if not each[0] & bit}
        if not missed:
            self._configurations = {(each[0] ^ bit, *each[1:]) for each in self._configurations}
        elif not self.beam:
            self._configurations = self._expanded(bit, now) | (missed if move.optional else set())
        elif move.optional:
            self._configurations = {(each[0] & ~bit, *each[1:]) for each in self._configurations}
        else:
            self._configurations = self._likely(bit, now, required=True) or self._likely(bit, now)
        self._release(move, bit)
        self._under_way -= not move.optional
        if missed and self._endless:
            self._release_settled()
        return bool(self._configurations)

    def _expanded(self, bit: int, now: float) -> set[_Configuration]:
        """Let calls under way take effect, in every order, until the one with this bit has."""
        ways = _Ways(self, now, required=False, unseen=0)
        found: set[_Configuration] = set()
        seen = set(self._configurations)
        waiting = list(seen)
        while waiting:
            configuration = waiting.pop()
            if configuration[0] & bit:
                found.add((configuration[0] ^ bit, *configuration[1:]))
                continue
            following = ways.after(configuration)
            for each in following:
                if each not in seen:
                    seen.add(each)
                    waiting.append(each)
            self._purse.pay(len(following) + 1)
        return _best(found) if self._unread or self._deletes else found

    def _likely(self, bit: int, now: float, *, required: bool = False) -> set[_Configuration]:
        """Do the same along the likeliest ways alone, or along those of them in which only happens what is required."""
        ways = _Ways(self, now, required=required, unseen=self._unseen)
        level = self._configurations
        seen = set(level)
        found: set[_Configuration] = set()
        more_levels = _MORE_LEVELS
        while level and more_levels:
            following: set[_Configuration] = set()
            for configuration in level:
                if configuration[0] & bit:
                    found.add((configuration[0] ^ bit, *configuration[1:]))
                else:
                    following.update(ways.after(configuration))
            self._purse.pay(len(following) + len(level))
            if found:
                more_levels -= 1
            level = _few(following - seen, self.beam)
            seen |= level
        return _few(found, self.beam)

    def _release(self, move: Move, bit: int) -> None:
        del self._bits[move]
        self._free.append(bit)
        self._unseen &= ~bit
        if move.is_read:
            self._reading[move.needs] &= ~bit

    def _release_settled(self) -> None:
        """Let go of writes without an end that have taken effect in every configuration."""
        settled = reduce(and_, (each[0] for each in self._configurations), self._endless)
        if not settled:
            return
        self._configurations = {(each[0] & ~settled, *each[1:]) for each in self._configurations}
        self._endless &= ~settled
        for move, bit in list(self._bits.items()):
            if bit & settled:
                self._release(move, bit)


class _Ways:
    """What may happen next at the time of one event.

    Args:
        engine: As it is then.
        now: When.
        required: Whether optional writes are left out.
        unseen: Bits of the writes that may take effect unseen, directly before another one; 0 for none.
    """

    def __init__(self, engine: Engine, now: float, *, required: bool, unseen: int) -> None:
        self._now = now
        self._unseen = unseen
        self._writing = [
            (bit, move.needs, move.leaves)
            for move, bit in engine._bits.items()  # noqa: SLF001 - of this module
            if not (move.is_read or (required and move.optional))
        ]
        self._unread = 0 if required else engine._unread  # noqa: SLF001
        self._deletes = 0 if required else engine._deletes  # noqa: SLF001
        self._reading = engine._reading  # noqa: SLF001
        self._needed_until = engine._needed_until  # noqa: SLF001
        self._expires = engine._expires  # noqa: SLF001

    def after(self, configuration: _Configuration) -> list[_Configuration]:
        """Return the configurations that one more effect leads to."""
        done, state, writes, deletes = configuration
        if self._needed_until.get(state, -inf) > self._now:
            return []
        reading = self._reading
        following: list[_Configuration] = []
        for own, needs, leaves in self._writing:
            if done & own or (needs not in (ANY, state) and (needs != SOMETHING or state is None)):
                continue
            after = done | own | reading.get(leaves, 0)
            following.append((after, leaves, writes, deletes))
            if self._unseen and needs == ANY:
                following.append((after | self._unseen, leaves, writes, deletes))
        if writes < self._unread and state != UNREAD:
            following.append((done, UNREAD, writes + 1, deletes))
        if state is not None:
            nothing = done | reading.get(None, 0)
            if deletes < self._deletes:
                following.append((nothing, None, writes, deletes + 1))
            if self._expires.get(state, inf) <= self._now:
                following.append((nothing, None, writes, deletes))
        return following


def _few(configurations: set[_Configuration], most: int) -> set[_Configuration]:
    """Return those that leave most calls for later, if there are too many."""
    if len(configurations) <= most:
        return configurations
    # Whatever decides must not depend on how sets are ordered.
    ordered = sorted(configurations, key=lambda each: (each[0].bit_count(), each[0], each[1] or "", each[2:]))
    return set(ordered[:most])


def _best(configurations: set[_Configuration]) -> set[_Configuration]:
    """Leave out configurations that differ from another only in having used more of what is counted."""
    kept: dict[tuple[int, str | None], list[tuple[int, int]]] = {}
    for done, state, writes, deletes in sorted(configurations, key=lambda each: each[2:]):
        used = kept.setdefault((done, state), [])
        if not any(w <= writes and d <= deletes for w, d in used):
            used.append((writes, deletes))
    return {(*key, *each) for key, used in kept.items() for each in used}
