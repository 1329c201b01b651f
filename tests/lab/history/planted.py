"""Violations to plant into a correct history, each certain by construction.

Most are a read that is put into a gap in the middle of the history: the calls after that moment are moved later, the
calls around it take longer, so the history stays correct but for what is put there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf

from remanence.lab.history import Ending, History, Operation
from remanence.lab.history.operation import ANY, Answer, Kind

__all__ = ["PLANTS", "Plant", "widened"]

GAP = 1.0


@dataclass(frozen=True, slots=True)
class Plant:
    """A kind of violation.

    Attributes:
        plant: Makes the history with it; None where this history offers no place for it.
        caught_by: The checks that must fail.
    """

    plant: Callable[[History, random.Random], History | None]
    caught_by: tuple[str, ...]


def widened(history: History, at: float) -> list[Operation]:
    """Return the operations with a gap of `GAP` seconds at a moment, in which no call begins or ends."""
    later = []
    for each in history.operations:
        invoked = each.invoked + GAP if each.invoked >= at else each.invoked
        completed = each.completed + GAP if each.completed >= at else each.completed
        later.append(replace(each, invoked=invoked, completed=completed))
    return later


def _call(  # noqa: PLR0917 - reads as a line of the history
    kind: Kind, key: str, value: str | None, at: float, process: str = "new", answer: Answer = "redis"
) -> Operation:
    return Operation(process, "1", key, kind, value, at, at + 0.01, answer=answer)


def _with(history: History, at: float, *calls: Operation) -> History:
    endings = [replace(each, at=each.at + GAP) for each in history.endings.values()]
    return History([*widened(history, at), *calls], endings)


def _read_in_a_gap(
    choose: Callable[[list[Operation], random.Random], tuple[Operation, Operation] | None],
    process: Callable[[Operation], str] = lambda _: "new",
) -> Callable[[History, random.Random], History | None]:
    """Plant a read of the first of two operations' value after both, by a process that the second one tells."""

    def plant(history: History, draw: random.Random) -> History | None:
        conversations = list(history.conversations)
        draw.shuffle(conversations)
        for conversation in conversations:
            pair = choose(list(conversation.operations), draw)
            if pair is not None:
                at = pair[1].completed + 1e-6
                return _with(history, at, _call("read", conversation.key, pair[0].value, at + 0.1, process(pair[1])))
        return None

    return plant


def _is_committed(each: Operation) -> bool:
    return each.kind in {"write", "update"} and each.outcome == "ok" and each.answer == "committed"


def _pairs(
    operations: list[Operation], draw: random.Random, second: Callable[[Operation], bool]
) -> Iterator[tuple[Operation, Operation]]:
    firsts = [each for each in operations if _is_committed(each)]
    seconds = [each for each in operations if second(each)]
    draw.shuffle(firsts)
    draw.shuffle(seconds)
    for first in firsts[:50]:
        for other in seconds:
            if first.completed < other.invoked and first.value != other.value:
                yield first, other


def _overwritten(operations: list[Operation], draw: random.Random) -> tuple[Operation, Operation] | None:
    return next(_pairs(operations, draw, _is_committed), None)


def _deleted(operations: list[Operation], draw: random.Random) -> tuple[Operation, Operation] | None:
    return next(_pairs(operations, draw, lambda each: each.kind == "delete" and each.answer == "deleted"), None)


def _passed(operations: list[Operation], draw: random.Random) -> tuple[Operation, Operation] | None:
    """Choose a write and a later read, by the store, of what was written after it."""
    values = {each.value: each for each in operations if _is_committed(each)}
    for first, read in _pairs(operations, draw, lambda each: each.kind == "read" and each.answer == "redis"):
        if read.value in values and first.completed < values[read.value].invoked:
            return first, read
    return None


def _vanished(history: History, draw: random.Random) -> History | None:
    written = [each for each in history.operations if _is_committed(each)]
    if not written or any(each.kind == "delete" or each.ttl is not None for each in history.operations):
        return None
    write = draw.choice(written)
    at = write.completed + 1e-6
    return _with(history, at, _call("read", write.key, None, at + 0.1, write.process))


def _from_the_future(history: History, draw: random.Random) -> History:
    write = draw.choice([each for each in history.operations if _is_committed(each)])
    return _with(history, write.invoked, _call("read", write.key, write.value, write.invoked + 0.1))


def _from_nowhere(history: History, draw: random.Random) -> History:
    near = draw.choice(history.operations)
    return _with(history, near.invoked, _call("read", near.key, "ffffffffffffffff", near.invoked + 0.1))


def _of_a_failed_write(history: History, draw: random.Random) -> History | None:
    failed = [each for each in history.operations if each.outcome == "failed" and each.kind == "write"]
    if not failed:
        return None
    write = draw.choice(failed)
    at = write.completed + 1e-6
    return _with(history, at, _call("read", write.key, write.value, at + 0.1))


def _taking_turns(history: History, draw: random.Random) -> History | None:
    write = next(iter(_pairs(list(history.operations), draw, _is_committed)), None)
    if write is None:
        return None
    at = write[1].completed + 1e-6
    values = [write[1].value, "fffffffffffffffe", write[1].value]
    calls = [_call("write", write[1].key, values[1], at + 0.01, answer="committed")]
    calls += [_call("read", write[1].key, value, at + 0.1 * turn) for turn, value in enumerate([*values, values[1]], 1)]
    return _with(history, at, *calls)


def _both_conditions(history: History, draw: random.Random) -> History | None:
    done = {each.expected for each in history.operations if each.is_conditional and each.outcome == "ok"}
    refused = [
        each
        for each in history.operations
        if each.outcome == "failed" and each.expected not in {ANY, None} and each.expected in done
    ]
    if not refused:
        return None
    changed = draw.choice(refused)
    operations = [
        replace(each, outcome="ok", answer="committed") if each is changed else each for each in history.operations
    ]
    return History(operations, history.endings.values())


def _update_of_nothing(history: History, draw: random.Random) -> History:
    near = draw.choice(history.operations)
    return _with(history, near.invoked, _call("update", "new", "77", near.invoked + 0.1, answer="committed"))


def _with_ending(history: History, value: str | None, *calls: Operation) -> History:
    end = max(each.completed for each in history.operations if each.completed < inf)
    moved = [replace(each, invoked=each.invoked + end, completed=each.completed + end) for each in calls]
    ending = Ending("new", value, frozenset(), end + 2)
    return History([*history.operations, *moved], [*history.endings.values(), ending])


def _lost_write(history: History, draw: random.Random) -> History:
    _ = draw
    first = _call("write", "new", "71", 0.1, "p0", "committed")
    return _with_ending(history, "71", first, _call("write", "new", "72", 0.2, "p1", "committed"))


def _lost_journaled_write(history: History, draw: random.Random) -> History:
    _ = draw
    return _with_ending(history, None, _call("write", "new", "71", 0.1, "p0", "journaled"))


def _blind_overwrite(history: History, draw: random.Random) -> History:
    _ = draw
    calls = [
        _call("write", "new", "71", 0.1, "p0", "committed"),
        _call("read", "new", None, 0.2, "p1", "none"),
        _call("write", "new", "72", 0.3, "p1", "committed"),
    ]
    return _with_ending(history, "72", *calls)


def _lost_delete(history: History, draw: random.Random) -> History:
    _ = draw
    calls = [
        _call("write", "new", "71", 0.1, "p0", "committed"),
        _call("delete", "new", None, 0.2, "p1", "committed"),
    ]
    return _with_ending(history, "71", *calls)


PLANTS = {
    "stale read": Plant(_read_in_a_gap(_overwritten), ("linearizable",)),
    "own write not read": Plant(
        _read_in_a_gap(_overwritten, lambda other: other.process), ("linearizable", "own-writes")
    ),
    "reads go back": Plant(_read_in_a_gap(_passed, lambda other: other.process), ("linearizable", "monotonic-reads")),
    "resurrected after delete": Plant(
        _read_in_a_gap(_deleted, lambda other: other.process), ("linearizable", "own-writes")
    ),
    "vanished": Plant(_vanished, ("linearizable", "own-writes")),
    "read from the future": Plant(_from_the_future, ("linearizable", "values")),
    "never written": Plant(_from_nowhere, ("linearizable", "values")),
    "read of a failed write": Plant(_of_a_failed_write, ("linearizable", "values")),
    "two values by turns": Plant(_taking_turns, ("linearizable", "monotonic-reads")),
    "lost update": Plant(_both_conditions, ("linearizable",)),
    "update of nothing": Plant(_update_of_nothing, ("linearizable",)),
    "lost write": Plant(_lost_write, ("acknowledged",)),
    "lost journaled write": Plant(_lost_journaled_write, ("acknowledged",)),
    "blind overwrite": Plant(_blind_overwrite, ("acknowledged",)),
    "lost delete": Plant(_lost_delete, ("acknowledged",)),
}
"""Name of a violation to how it is planted, and what must catch it."""
