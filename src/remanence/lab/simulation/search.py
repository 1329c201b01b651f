"""Looking for a schedule that breaks a promise: all of a small case, random ones of a large; the shortest one tells."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from remanence.lab.simulation.ledger import Violation
from remanence.lab.simulation.scenario import Scenario
from remanence.lab.simulation.schedule import Schedule
from remanence.lab.simulation.world import World

__all__ = ["Finding", "exhaust", "minimise", "play", "sample", "tell", "told"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A schedule that breaks a promise.

    Attributes:
        scenario: What was simulated.
        decisions: What the schedule decided.
        promise: Which promise is broken, "crash" where the code under test raised something else.
        what: In words.
        seed: Of a random schedule, None for another.
    """

    scenario: Scenario
    decisions: tuple[int, ...]
    promise: str
    what: str
    seed: int | None = None


def play(scenario: Scenario, schedule: Schedule, *, visited: set[int] | None = None) -> tuple[bool, Finding | None]:
    """Play one schedule; return whether it went to its end, and what it broke."""
    try:
        world = World(scenario, schedule)
        return world.play(visited), None
    except Violation as violation:
        promise, what = violation.promise, violation.what
    except Exception as error:  # noqa: BLE001 - whatever the code under test does, a schedule made it do so
        promise, what = "crash", f"{type(error).__name__}: {error}"
    return True, Finding(scenario, tuple(schedule.decisions), promise, what)


def exhaust(scenario: Scenario, *, limit: int = 10**9) -> tuple[int, int, Finding | None]:
    """Play every schedule of `scenario`, one of each kind of equivalent ones.

    A run ends where it meets a state from which everything has been tried: the processes have been told the same at
    the same times, and the store went through the same values.

    Returns:
        Schedules played to the end, runs that met a known state, and the first finding.
    """
    visited: set[int] = set()
    prefix: list[int] = []
    complete = met = 0
    while complete + met < limit:
        schedule = Schedule(prefix)
        ended, finding = play(scenario, schedule, visited=visited)
        if finding is not None:
            return complete, met, finding
        complete += ended
        met += not ended
        taken = schedule.taken
        place = len(taken) - 1
        while place >= 0 and taken[place][0] + 1 >= taken[place][1]:
            place -= 1
        if place < 0:
            break
        prefix = [choice for choice, _ in taken[:place]] + [taken[place][0] + 1]
    return complete, met, None


def sample(draw: Callable[[random.Random], Scenario], seed: int) -> Finding | None:
    """Play the random schedule of a random scenario that belongs to `seed`."""
    rng = random.Random(seed)
    _, finding = play(draw(rng), Schedule(rng=rng))
    return None if finding is None else replace(finding, seed=seed)


def minimise(finding: Finding) -> Finding:
    """Return a shorter schedule of a smaller scenario that breaks the same promise."""
    best = finding
    shrunk = True
    while shrunk:
        shrunk = False
        for scenario, decisions in _smaller(best):
            _, found = play(scenario, Schedule(decisions))
            if found is not None and found.promise == best.promise and _size(found) < _size(best):
                best, shrunk = replace(found, seed=best.seed), True
                break
    return best


def _size(finding: Finding) -> tuple[int, int, int]:
    scenario = finding.scenario
    things = sum(len(ops) for _, ops in scenario.programs) + len(scenario.events) + len(scenario.outages)
    return things + len(scenario.programs) + scenario.places, len(finding.decisions), sum(finding.decisions)


def _smaller(finding: Finding) -> Iterator[tuple[Scenario, list[int]]]:
    scenario, decisions = finding.scenario, list(finding.decisions)
    for number, (process, ops) in enumerate(scenario.programs):
        for place in range(len(ops)):
            fewer = (process, ops[:place] + ops[place + 1 :])
            programs = list(scenario.programs)
            programs[number : number + 1] = [fewer] if fewer[1] else []
            if programs:
                for again in (decisions, *_cuts(decisions)):
                    yield replace(scenario, programs=tuple(programs)), again
    for place in range(len(scenario.events)):
        yield replace(scenario, events=scenario.events[:place] + scenario.events[place + 1 :]), decisions
    for place in range(len(scenario.outages)):
        yield replace(scenario, outages=scenario.outages[:place] + scenario.outages[place + 1 :]), decisions
    for again in _cuts(decisions):
        yield scenario, again


def _cuts(decisions: list[int]) -> Iterator[list[int]]:
    for length in (8, 4, 2, 1):
        for place in range(max(len(decisions) - length + 1, 0)):
            yield decisions[:place] + decisions[place + length :]
    for place, choice in enumerate(decisions):
        for less in dict.fromkeys((0, choice - 1)) if choice else ():
            yield [*decisions[:place], less, *decisions[place + 1 :]]


def tell(finding: Finding) -> str:
    """Return the finding as a timeline that people can read."""
    return told(finding.scenario, Schedule(finding.decisions))


def told(scenario: Scenario, schedule: Schedule) -> str:
    """Play a schedule and return its timeline: when, who, what, and at the end whether a promise was broken."""
    world = World(scenario, schedule, tells=True)
    try:
        world.play()
    except Exception as error:  # noqa: BLE001 - told below
        last = str(error)
    else:
        last = "no promise was broken"
    programs = [f"  {'another program' if p is None else f'P{p}'}: {', '.join(ops)}" for p, ops in scenario.programs]
    lines = [f"{seconds:8.3f} s  {who:<18} {what}" for seconds, who, what in world.story.lines]
    return "\n".join([*programs, *lines, f"=> {last}", f"decisions: {schedule.decisions}"])
