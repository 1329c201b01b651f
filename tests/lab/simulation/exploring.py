"""Explore a scenario run by run, with the worlds at hand: `exhaust` tells only whether a promise was broken."""

from __future__ import annotations

from collections.abc import Iterator

from remanence.lab.simulation import Scenario, World
from remanence.lab.simulation.schedule import Schedule

__all__ = ["Outcome", "between", "in_order", "outcome", "runs", "story", "with_line", "without_line"]

Outcome = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""What a run has come to: the texts that are held, those of the copies, and what each caller was told."""


def runs(scenario: Scenario, *, limit: int = 10**9, pruned: bool = True, tells: bool = False) -> Iterator[World]:
    """Give the world of each schedule after its end.

    Args:
        scenario: What to explore.
        limit: Runs to make at most, those included that end early.
        pruned: Whether a run ends where it meets a known state, as in `exhaust`.
        tells: Whether the worlds keep their stories.

    Raises:
        Violation: A promise was broken.
    """
    visited: set[int] | None = set() if pruned else None
    prefix: list[int] = []
    for _ in range(limit):
        schedule = Schedule(prefix)
        world = World(scenario, schedule, tells=tells)
        if world.play(visited):
            yield world
        taken = schedule.taken
        place = len(taken) - 1
        while place >= 0 and taken[place][0] + 1 >= taken[place][1]:
            place -= 1
        if place < 0:
            return
        prefix = [choice for choice, _ in taken[:place]] + [taken[place][0] + 1]


def outcome(world: World) -> Outcome:
    """Return what a run has come to."""
    held = tuple(_text(world.server.value(key)) for key in world.keys)
    return held, tuple(sorted(map(_text, world.ledger.kept))), tuple(op.outcome for op in world.ops)


def story(world: World) -> list[str]:
    """Return what happened, without when."""
    return [f"{who}: {what}" for _, who, what in world.story.lines]


def _text(raw: bytes | None) -> str:
    parts = (raw or b"").split(b'"')
    return parts[5].decode() if len(parts) > 5 else ""


def with_line(worlds: list[World], *parts: str) -> list[list[str]]:
    """Return the stories in which lines with these parts follow one another, others between them; at least one."""
    found = [lines for lines in map(story, worlds) if in_order(lines, parts)]
    assert found, f"no run in which {parts} follow one another; one is {story(worlds[-1])}"
    return found


def without_line(worlds: list[World], part: str) -> list[list[str]]:
    """Return the stories that have no line with a part; at least one."""
    found = [lines for lines in map(story, worlds) if not in_order(lines, (part,))]
    assert found, f"every run has {part!r}"
    return found


def between(lines: list[str], first: str, last: str) -> list[str]:
    """Return what a story tells from the line with one part to the next one with another."""
    begin = next(number for number, line in enumerate(lines) if first in line)
    end = next(number for number, line in enumerate(lines) if last in line and number > begin)
    return lines[begin : end + 1]


def in_order(lines: list[str], parts: tuple[str, ...]) -> bool:
    """Return whether lines with these parts follow one another."""
    rest = iter(lines)
    return all(any(part in line for line in rest) for part in parts)
