"""Made-up histories that are correct: several processes on registers that are atomic, with outages of single processes.

What a checker must let pass, from a seed. Every call takes effect at one moment of its window; an ambiguous one may do
so later, or never. A process in an outage keeps its writes in a journal and brings them home by the simplest honest
rules: over what it had seen they are applied, else they become conflict copies.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from remanence.lab.history.conversation import History
from remanence.lab.history.operation import ANY, Answer, Ending, Kind, Operation, Outcome

__all__ = ["Shape", "correct_history"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a made-up history looks like; shares are from 0 to 1.

    Attributes:
        operations: How many.
        processes: How many processes.
        sessions: Sessions of each.
        conversations: How many conversations.
        reads: Share of reads.
        updates: Of the writes, the share of updates.
        deletes: Of the writes, the share of deletes.
        conditional: Of the writes, the share of conditional ones, made over what the session saw last.
        ambiguous: Of the writes, the share that end in an error and may be applied late or never.
        outage: Share of the time that each process spends without the store.
        ttl: Seconds that values live, None for ever; an operation takes about a millisecond.
    """

    operations: int = 1_000
    processes: int = 2
    sessions: int = 4
    conversations: int = 4
    reads: float = 0.5
    updates: float = 0.1
    deletes: float = 0.0
    conditional: float = 0.2
    ambiguous: float = 0.02
    outage: float = 0.0
    ttl: float | None = None


def correct_history(seed: int, shape: Shape | None = None) -> History:
    """Return a correct history.

    Args:
        seed: The same seed and shape give the same history.
        shape: What it looks like.
    """
    return _World(random.Random(seed), shape or Shape()).run()


@dataclass(slots=True)
class _Register:
    """One conversation as the store has it."""

    value: str | None = None
    gone_at: float = inf
    conflicts: set[str | None] = field(default_factory=set)

    def held(self, now: float) -> str | None:
        """Return the value, unless it has expired."""
        if now >= self.gone_at:
            self.value, self.gone_at = None, inf
        return self.value

    def put(self, value: str | None, now: float, ttl: float | None) -> None:
        """Write or delete."""
        self.value = value
        self.gone_at = inf if ttl is None or value is None else now + ttl


@dataclass(frozen=True, slots=True)
class _Seat:
    """Who calls, in which window, on what."""

    process: str
    session: str
    key: str
    invoked: float
    completed: float


class _World:
    def __init__(self, draw: random.Random, shape: Shape) -> None:
        self._draw = draw
        self._shape = shape
        self._registers = {f"{number:016x}": _Register() for number in range(shape.conversations)}
        self._keys = list(self._registers)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = itertools.count(1)
        self._pending: dict[tuple[str, str], tuple[str | None, str | None]] = {}  # the value, and what it is made over
        self._shown: dict[tuple[str, str], str | None] = {}  # by an answer that was not the store's
        self._known: dict[tuple[str, str], str | None] = {}  # to a process
        self._seen: dict[tuple[str, str, str], str | None] = {}  # by a session
        self._operations: list[Operation] = []

    def run(self) -> History:
        """Go through the moments at which something takes effect."""
        for process in range(self._shape.processes):
            for session in range(self._shape.sessions):
                self._next_call(f"p{process}", str(session), self._draw.random() / 1_000)
        now = 0.0
        while self._events:
            now, _, event = heapq.heappop(self._events)
            event(now)
        end = now + 1.0
        endings = [Ending(key, each.held(end), frozenset(each.conflicts), end) for key, each in self._registers.items()]
        return History(self._operations, endings)

    def _at(self, moment: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._count), event))

    def _next_call(self, process: str, session: str, now: float) -> None:
        if len(self._operations) >= self._shape.operations:
            return
        draw = self._draw
        invoked = now + draw.random() / 2_000
        completed = invoked + draw.expovariate(1_000)
        seat = _Seat(process, session, draw.choice(self._keys), invoked, completed)

        def happens(moment: float) -> None:
            self._call(seat, moment)
            self._next_call(process, session, completed)

        self._at(draw.uniform(invoked, completed), happens)

    def _call(self, seat: _Seat, now: float) -> None:
        if self._draw.random() < self._shape.reads:
            self._read(seat, now)
            return
        choice, shape = self._draw.random(), self._shape
        own, seen = (seat.process, seat.key), self._seen.get((seat.process, seat.session, seat.key))
        kind: Kind = "write"
        if choice < shape.deletes:
            kind = "delete"
        elif choice < shape.deletes + shape.updates:
            kind = "update"
        is_conditional = kind == "write" and choice > 1.0 - shape.conditional
        value = None if kind == "delete" else f"{next(self._count):016x}"
        if own in self._pending or self._is_away(seat, now):
            if kind == "write" and not is_conditional:
                self._keep(seat, value, now, kind)
            return
        if self._draw.random() < shape.ambiguous:
            self._fail(seat, now, kind, value, seen if is_conditional else ANY)
            return
        self._write(seat, now, kind, value, seen if is_conditional else ANY)

    def _is_away(self, seat: _Seat, now: float) -> bool:
        """Whether the process is in an outage: each has its own, ten milliseconds in every twenty or more."""
        share = self._shape.outage
        return share > 0 and (now * 50 + hash_of(seat.process)) % 1.0 < share

    def _note(
        self,
        seat: _Seat,
        kind: Kind,
        value: str | None,
        answer: Answer,
        outcome: Outcome = "ok",
        *,
        expected: str | None = ANY,
    ) -> None:
        ttl = None if value is None or kind == "read" else self._shape.ttl
        window = (seat.invoked, seat.completed)
        self._operations.append(
            Operation(seat.process, seat.session, seat.key, kind, value, *window, outcome, answer, expected, ttl)
        )

    def _read(self, seat: _Seat, now: float) -> None:
        own = (seat.process, seat.key)
        answer: Answer = "redis"
        if own in self._pending:
            value, answer = self._pending[own][0], "journal"
        elif self._is_away(seat, now):
            value, answer = self._known.get(own), "stale" if own in self._known else "none"
        else:
            value = self._registers[seat.key].held(now)
        self._look(seat, value, is_shown=answer != "redis")
        self._note(seat, "read", value, answer)

    def _look(self, seat: _Seat, value: str | None, *, is_shown: bool) -> None:
        own = (seat.process, seat.key)
        self._seen[seat.process, seat.session, seat.key] = value
        if is_shown:
            self._shown[own] = value
        else:
            self._known[own] = value
            self._shown.pop(own, None)

    def _write(self, seat: _Seat, now: float, kind: Kind, value: str | None, expected: str | None) -> None:
        own, register = (seat.process, seat.key), self._registers[seat.key]
        held = register.held(now)
        if own in self._shown and held != self._shown[own]:
            return  # what it was shown is not there: a guarded write of somebody who then gives up
        if expected not in {ANY, held}:
            self._note(seat, kind, value, "", "failed", expected=expected)
            return
        if held is None and kind != "write":
            if kind == "delete":
                register.conflicts.clear()
            self._note(seat, kind, value, "missing")
            return
        register.put(value, now, self._shape.ttl)
        if kind == "delete":
            register.conflicts.clear()
        self._known[own] = self._seen[seat.process, seat.session, seat.key] = value
        if own in self._shown:
            self._shown[own] = value
        self._note(seat, kind, value, "deleted" if kind == "delete" else "committed", expected=expected)

    def _fail(self, seat: _Seat, now: float, kind: Kind, value: str | None, expected: str | None) -> None:
        """End in an error; be applied within the window, later, or never."""
        self._note(seat, kind, value, "", "ambiguous", expected=expected)
        guard = self._shown.get((seat.process, seat.key), ANY)
        base = self._registers[seat.key].held(now)

        def applied(moment: float) -> None:
            register = self._registers[seat.key]
            held = register.held(moment)
            # Later than its own call it is applied only where that costs nobody an acknowledged write.
            is_free = moment == now or held == base
            if is_free and {expected, guard} <= {ANY, held} and (kind == "write" or held is not None):
                register.put(value, moment, self._shape.ttl)

        late = self._draw.choice([0.0, 0.001, 0.01, inf])
        if late < inf:
            self._at(now + late, applied)

    def _keep(self, seat: _Seat, value: str | None, now: float, kind: Kind) -> None:
        """Acknowledge a write that the store does not have yet."""
        own = (seat.process, seat.key)
        if own not in self._pending:
            base = self._shown.get(own, self._known.get(own))
            self._at(now + self._draw.expovariate(100), lambda moment: self._bring_home(own, moment))
        else:
            base = self._pending[own][1]
        self._pending[own] = (value, base)
        self._seen[seat.process, seat.session, seat.key] = value
        self._note(seat, kind, value, "journaled")

    def _bring_home(self, own: tuple[str, str], now: float) -> None:
        value, base = self._pending.pop(own)
        register = self._registers[own[1]]
        if register.held(now) in {base, None}:
            register.put(value, now, self._shape.ttl)
            self._known[own] = value
        else:
            register.conflicts.add(value)


def hash_of(name: str) -> float:
    """Return a number in [0, 1) for a name, always the same."""
    return random.Random(name).random()
