"""Run the real flows of several callers and processes against a model of the store, in every order.

A third driver beside those of `remanence.flow`: a caller is a generator that yields each command on its way to the
store, and a scheduler decides who goes on, and what becomes of the command: applied and answered, refused, applied with
its answer lost, or held up and applied later, until its not-after has passed. `explore` tries every decision up to a
number of them; `wander` takes them at random. `account.check` accounts for every acknowledged write at the end.

With `fine=True` callers run in threads and are also interrupted before every access to what they share in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.explorer.account import check
from tests.explorer.model import Process
from tests.explorer.schedule import Schedule
from tests.explorer.world import World

__all__ = ["Process", "Schedule", "World", "check", "explore", "wander"]


def explore(
    scenario: Callable[[Schedule], World], *, steps: int, check: Callable[[World], None] = check, limit: int = 10**9
) -> int:
    """Play `scenario` with every combination of its first `steps` decisions; return how many there were."""
    prefix: list[int] = []
    played = 0
    while True:
        schedule = Schedule(prefix, steps)
        world = scenario(schedule)
        world.play()
        check(world)
        played += 1
        taken = schedule.taken
        place = len(taken) - 1
        while place >= 0 and taken[place][0] + 1 >= taken[place][1]:
            place -= 1
        if place < 0 or played >= limit:
            return played
        prefix = [choice for choice, _ in taken[:place]] + [taken[place][0] + 1]


def wander(scenario: Callable[[Schedule], World], *, seed: int, times: int) -> None:
    """Play `scenario` with random decisions, `times` times; a failure names its seed."""
    for number in range(times):
        world = scenario(Schedule(rng=random.Random(seed + number)))
        world.play()
        try:
            check(world)
        except AssertionError as error:
            raise AssertionError(f"seed {seed + number}: {error}") from None
