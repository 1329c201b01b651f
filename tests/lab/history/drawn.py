"""Tiny histories at random: some correct, most not."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from remanence.lab.history.operation import ANY, Answer, Kind, Operation, Outcome

if TYPE_CHECKING:
    from random import Random

__all__ = ["doubtful", "tiny"]


def tiny(draw: Random, *, most: int = 6, vanishing: bool = True) -> list[Operation]:
    """Return up to `most` operations on one conversation; values are unique, moments are few so that they meet."""
    count = draw.randint(1, most)
    values = ["a", "b", "c", "d", "e", "f"][:count]
    kinds: list[Kind] = ["write", "write", "read", "read", "update"]
    if vanishing:
        kinds += ["delete", "delete"]
    return [_one(draw, draw.choice(kinds), place, values, vanishing=vanishing) for place in range(count)]


def _one(draw: Random, kind: Kind, place: int, values: list[str], *, vanishing: bool) -> Operation:
    invoked, completed = sorted([float(draw.randint(0, 12)), float(draw.randint(0, 12))])
    process = draw.choice(["p1", "p2"])
    if kind == "read":
        value = draw.choice([None, *values])
        return Operation(process, "1", "k", kind, value, invoked, completed, answer="redis")
    answer, outcome = _ending(draw, kind, vanishing=vanishing)
    expected: str | None = ANY
    ttl, not_after = None, inf
    if kind == "write" and draw.randint(0, 3) == 0:
        expected = draw.choice([None, *values])
    if outcome == "ambiguous":
        not_after = draw.choice([inf, completed, completed + 2])
        completed = draw.choice([completed, inf]) if not_after == inf else completed
    if vanishing and kind != "delete" and draw.randint(0, 4) == 0:
        ttl = draw.choice([1.001, 3.001, 20.0])
    value = None if kind == "delete" else values[place]
    return Operation(process, "1", "k", kind, value, invoked, completed, outcome, answer, expected, ttl, not_after)


def _ending(draw: Random, kind: Kind, *, vanishing: bool) -> tuple[Answer, Outcome]:
    outcome: Outcome = draw.choice(["ok", "ok", "ok", "ambiguous", "failed"])
    if outcome != "ok":
        return "", outcome
    answers: list[Answer] = ["committed", "committed", "journaled"]
    if kind == "delete":
        answers += ["deleted", "missing"]
    if kind == "update":
        answers += ["missing", ""] if vanishing else ["missing"]
    return draw.choice(answers), outcome


def doubtful(draw: Random) -> list[Operation]:
    """Return some operations of which most writes are ambiguous and have no end, as after a long outage."""
    values = ["a", "b", "c", "d", "e", "f", "g", "h"][: draw.randint(4, 8)]
    kinds: list[Kind] = ["write", "write", "write", "read", "read", "delete", "update"]
    found = []
    for written in values:
        kind = draw.choice(kinds)
        invoked, completed = sorted([float(draw.randint(0, 14)), float(draw.randint(0, 14))])
        if kind == "read":
            seen = draw.choice([None, None, *values])
            found.append(Operation("p1", "1", "k", kind, seen, invoked, completed, answer="redis"))
            continue
        outcome: Outcome = "ambiguous" if draw.random() < 0.55 else "ok"
        answer: Answer = "" if outcome == "ambiguous" else "committed"
        if kind == "delete" and answer:
            answer = draw.choice(["deleted", "deleted", "committed", "missing"])
        value = None if kind == "delete" else written
        ttl = draw.choice([None, None, None, 3.001]) if value else None
        end = completed if answer else inf
        found.append(Operation("p1", "1", "k", kind, value, invoked, end, outcome, answer, ANY, ttl))
    return found
