"""Every order in which concurrent callers, the replay and strangers can meet, and random orders beyond.

What is checked at the end of each is in `tests.explorer.account`: every acknowledged write is current, or replaced by a
writer that had seen it or by a plain one on a healthy store, or kept as a conflict copy; nothing displaced what its
process had not seen; and nothing is pending any more.
"""

from __future__ import annotations

import itertools
import os
import random
from typing import Any

import pytest

from remanence.journal.replay import concatenate
from tests.explorer import Process, Schedule, World, check, explore, wander

STEPS = int(os.environ.get("REMANENCE_TEST_STEPS", "8"))
"""All decisions are tried up to this one; after it everybody goes on in turn and nothing more goes wrong."""

P, Q, STRANGER = 0, 1, None

SCENARIOS: dict[str, tuple[list[tuple[int | None, list[str]]], dict[str, Any]]] = {
    "two plain stores and the replay": ([(P, ["store a"]), (P, ["store b"]), (P, ["replay r"])], {}),
    "one store after the other": ([(P, ["store a", "store b"]), (P, ["replay r"])], {}),
    "an agent and a stranger": ([(P, ["rewrite a", "rewrite b"]), (STRANGER, ["external x"])], {}),
    "an agent, the replay and a stranger": (
        [(P, ["rewrite a"]), (P, ["replay r"]), (STRANGER, ["external x"])],
        {"faults": 3},
    ),
    "a read before, a plain store after": (
        [(P, ["retrieve g", "store a", "store b"]), (STRANGER, ["external x"])],
        {"faults": 3},
    ),
    "a deletion among stores": ([(P, ["store a", "delete d"]), (P, ["store b"]), (P, ["replay r"])], {"base": False}),
    "an update and a store": ([(P, ["update a"]), (P, ["store b"]), (P, ["replay r"])], {}),
    "an update of nothing and a store": ([(P, ["update a"]), (P, ["store b"])], {"base": False}),
    "a deletion, newer than a stranger's write": (
        [(P, ["retrieve g", "delete d"]), (P, ["replay r"]), (STRANGER, ["external x"])],
        {"ticks": 1, "leap": 7.0},
    ),
    "a conditional and a plain store": ([(P, ["swap a"]), (P, ["store b"]), (P, ["replay r"])], {}),
    "a creation and a deletion": ([(P, ["create a"]), (P, ["delete d", "store b"])], {"base": False}),
    "two processes": ([(P, ["rewrite a"]), (Q, ["rewrite b"]), (P, ["replay r"])], {"faults": 1}),
    "two processes with a retry": ([(P, ["store a"]), (Q, ["store b"])], {"retry": True, "faults": 3}),
    "two texts merged": (
        [(P, ["rewrite a", "store b"]), (P, ["replay r"]), (STRANGER, ["external x"])],
        {"resolve": concatenate},
    ),
}


def scenario(
    callers: list[tuple[int | None, list[str]]],
    *,
    base: bool = True,
    faults: int = 2,
    fine: bool = False,
    ticks: int = 0,
    leap: float = 0.6,
    **settings: Any,
) -> Any:
    """Return the function that makes the world of these callers."""

    def make(schedule: Schedule) -> World:
        world = World(schedule, faults=faults, fine=fine, ticks=ticks, leap=leap)
        count = 1 + max(which or 0 for which, _ in callers)
        processes = [Process(world, f"P{number}", **settings) for number in range(count)]
        if base:
            world.external("base")
        for which, program in callers:
            world.spawn(None if which is None else processes[which], *program)
        return world

    return make


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_order_accounts_for_every_acknowledged_write(name: str) -> None:
    """Whatever order the first steps come in, and whichever commands fail, nothing acknowledged is lost."""
    callers, options = SCENARIOS[name]
    assert explore(scenario(callers, **options), steps=STEPS) > 20


@pytest.mark.exhaustive
def test_one_caller_after_another_leaves_the_last_write_and_no_copies() -> None:
    """With one process and one call at a time, outages never make conflicts: the last acknowledged text stands."""
    kinds = ("store", "update", "delete", "rewrite", "mutate")
    for first, second in itertools.product(kinds, repeat=2):
        programs = [f"{first} a", f"{second} b", "replay r", "store c"]

        def exactly(world: World) -> None:
            check(world)
            assert world.shown() == ["c"], world.tell(f"c was the last, but {world.shown()} is held")

        explore(scenario([(P, programs)], base=False), steps=STEPS, check=exactly)


def _random_callers(rng: random.Random) -> tuple[list[tuple[int | None, list[str]]], dict[str, Any]]:
    kinds = ("store", "update", "delete", "retrieve", "mutate", "rewrite", "swap", "create")
    tokens = (f"t{number}" for number in itertools.count())
    count = rng.choice([1, 1, 2])
    callers: list[tuple[int | None, list[str]]] = [
        (rng.randrange(count), [f"{rng.choice(kinds)} {next(tokens)}" for _ in range(rng.randint(1, 3))])
        for _ in range(rng.randint(1, 3))
    ]
    callers.append((count - 1, [f"replay {next(tokens)}" for _ in range(rng.randint(0, 3))]))
    if rng.random() < 0.4:
        callers.append((STRANGER, [f"external {next(tokens)}"]))
    options = {
        "faults": rng.randint(0, 4),
        "base": rng.random() < 0.5,
        "ticks": rng.choice([0, 0, 3]),
        "leap": rng.choice([0.6, 7.0]),
        "retry": rng.random() < 0.3,
    }
    return callers, options


def _seed() -> int:
    return int(os.environ.get("REMANENCE_TEST_SEED", random.SystemRandom().randrange(10**9)))


@pytest.mark.parametrize(("fine", "programs"), [(False, 500), (True, 60)], ids=["between commands", "anywhere"])
def test_random_orders_account_for_every_acknowledged_write(*, fine: bool, programs: int) -> None:
    """Longer programs under random orders lose nothing either; between accesses to memory too, as threads can.

    A failure names the seed of its program (REMANENCE_TEST_SEED repeats it) and tells the story.
    """
    seed = _seed()
    print(f"seed {seed}")  # noqa: T201 - shown with a failure
    for number in range(seed, seed + programs):
        rng = random.Random(number)
        callers, options = _random_callers(rng)
        try:
            wander(scenario(callers, fine=fine, **options), seed=rng.randrange(10**9), times=10)
        except AssertionError as error:
            pytest.fail(f"program of seed {number}: {callers} {options}\n{error}")


def test_the_check_notices_a_write_that_is_gone() -> None:
    """The account is not satisfied by everything: a write that vanishes from the store is reported with its story."""
    world = scenario([(P, ["store a"])], base=False, faults=0)(Schedule())
    world.play()
    world.held = None
    world.log.clear()
    with pytest.raises(AssertionError, match="a never reached the store"):
        check(world)


def test_the_check_notices_a_displaced_stranger() -> None:
    """Neither is it by a write after a degraded read over what its process had never seen."""
    world = scenario([(P, ["retrieve g", "store a"])], base=True, faults=1)(Schedule([0, 1]))
    _break_marks(world)
    world.play()
    with pytest.raises(AssertionError, match="a displaced base unseen"):
        check(world)


def _break_marks(world: World) -> None:
    world.processes[0].fallback.knowledge.mark = lambda *_: None  # type: ignore[method-assign]
