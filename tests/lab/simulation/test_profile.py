"""A short profile of the simulation: some cases of every group exhausted, and random schedules, with no violation."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from remanence.flow import Call
from remanence.lab.simulation import (
    ASYNCIO_SEEDS,
    ProcessSettings,
    Scenario,
    Violation,
    World,
    asyncio_cases,
    draw,
    drawing,
    exhaust,
    minimise,
    play,
    sample,
    small_cases,
    tell,
)
from remanence.lab.simulation.schedule import Schedule
from remanence.lab.simulation.search import told
from remanence.managers.redis_backend import RedisBackend
from remanence.policies.knowledge import Knowledge
from remanence.policies.retry import _Bound

CASES = {case.name: case for case in (*small_cases(), *asyncio_cases())}
CHEAP = (
    "retrieve store | store: cut",
    "store update delete store: cut, cut",
    "retrieve store update store: freeze, cut",
    "store store mutate: cut, freeze, nothing held",
    "update store: cut, lose reply, nothing held",
    "store delete: crash",
    "store | update: lag, failover",
    "delete | store: restart",
    "store update: cut, cancel, nothing held",
    "update store: refuse, cancel, shared",
    "store delete: refuse, cancel replay, shared",
)
"""Small cases of every group but the largest, which belongs to `make simulate`."""
ACCUSED = (930326292, 930389770, 930428813)
"""Seeds where the account once missed that a process had seen a value below what was built on it, or that a deletion
which waits to be made certain removes what its own process had begun to write before it was over."""
SCHEDULES = int(os.environ.get("REMANENCE_TEST_SCHEDULES", "1500"))


def seed() -> int:
    """Return the seed of this run, which REMANENCE_TEST_SEED repeats."""
    chosen = int(os.environ.get("REMANENCE_TEST_SEED", random.SystemRandom().randrange(10**9)))
    print(f"REMANENCE_TEST_SEED={chosen}")  # noqa: T201 - shown with a failure
    return chosen


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CHEAP)
def test_no_schedule_of_some_small_cases_breaks_a_promise(name: str) -> None:
    """Every order of their events was played."""
    case = CASES[name]
    complete, _, finding = exhaust(case.scenario)
    assert finding is None, f"{case.name}\n{tell(minimise(finding))}"
    assert complete > 1


@pytest.mark.parametrize("number", ACCUSED)
def test_the_account_accuses_nobody_of_what_was_seen_or_deleted(number: int) -> None:
    """These schedules keep every promise, though it takes a second look."""
    assert sample(draw, number) is None


def test_no_random_schedule_breaks_a_promise() -> None:
    """A failure tells the shortest schedule, and `remanence simulate --seed` repeats it."""
    first = seed()
    for number in range(first, first + SCHEDULES):
        finding = sample(draw, number)
        assert finding is None, f"remanence simulate --seed {number}\n{tell(minimise(finding))}"


def test_no_random_schedule_with_cancellations_breaks_a_promise() -> None:
    """The same for the asyncio flavour, whose seeds lie apart."""
    first = ASYNCIO_SEEDS + seed()
    for number in range(first, first + SCHEDULES // 2):
        finding = sample(drawing(number), number)
        assert finding is None, f"seed {number} of asyncio\n{tell(minimise(finding))}"


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    """Nothing depends on the order of sets, on addresses or on the time of day."""
    code = (
        "import random; from remanence.lab.simulation import draw; from remanence.lab.simulation.search import told; "
        "from remanence.lab.simulation.schedule import Schedule\n"
        "for seed in range(40):\n  rng = random.Random(seed); print(told(draw(rng), Schedule(rng=rng)))"
    )
    stories = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for hashes in ("1", "2")
    ]
    assert stories[0] == stories[1]
    assert "outage begins" in stories[0]


def test_an_unknown_operation_is_named() -> None:
    """Before anything is played."""
    with pytest.raises(ValueError, match="'forget' is no operation"):
        World(Scenario(programs=((0, ("forget a",)),)), Schedule())


def _no_not_after(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RedisBackend, "_not_after", lambda *_: 2**60)


def _no_marks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Knowledge, "mark", lambda *_, **__: None)


def _no_end_of_retries(patch: pytest.MonkeyPatch) -> None:
    def delay(_: object, __: Call, ___: float, ____: Exception) -> float:
        return 1.0

    patch.setattr(_Bound, "_delay", delay)


@pytest.mark.parametrize(
    ("remove", "scenario", "promise"),
    [
        (
            _no_not_after,
            Scenario(
                programs=((0, ("store a",)), (1, ("store b",))),
                events=("delay",),
                coarse=True,
                settings=ProcessSettings(attempts=1, breaker_failures=9),
            ),
            "P1",
        ),
        (
            _no_marks,
            Scenario(
                programs=((0, ("turn a",)), (1, ("store b",))),
                events=("refuse",),
                coarse=True,
                settings=ProcessSettings(attempts=1, breaker_failures=9),
            ),
            "P2",
        ),
        (_no_end_of_retries, Scenario(programs=((0, ("store a",)),), outages=(("freeze",),), coarse=True), "P3"),
    ],
    ids=["not-after", "marks", "deadline of retries"],
)
def test_a_removed_guard_is_noticed(
    monkeypatch: pytest.MonkeyPatch, remove: Callable[[pytest.MonkeyPatch], None], scenario: Scenario, promise: str
) -> None:
    """The shortest schedule that breaks the promise is found, told, and repeated by its decisions."""
    assert exhaust(scenario, limit=4_000)[2] is None
    remove(monkeypatch)
    finding = exhaust(scenario, limit=4_000)[2]
    assert finding is not None
    assert finding.promise == promise
    shortest = minimise(finding)
    assert len(shortest.decisions) <= len(finding.decisions)
    assert f"=> {promise}" in told(shortest.scenario, Schedule(shortest.decisions))
    again = play(shortest.scenario, Schedule(shortest.decisions))[1]
    assert again is not None
    assert again.what == shortest.what


def test_a_value_that_vanishes_from_the_server_is_noticed() -> None:
    """The account is not satisfied by everything."""
    world = World(Scenario(programs=((0, ("store a",)),), held=False), Schedule())
    world.play()
    world.server.answer(("delete", world.keys[0]))
    world.ledger.changes[0].pop()
    with pytest.raises(Violation, match="a "):
        world.ledger.close()
