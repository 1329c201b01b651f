"""The cases: small ones, of which every schedule is played, and large ones that a seed draws."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from remanence.lab.simulation.process import ProcessSettings
from remanence.lab.simulation.scenario import Scenario
from remanence.policies.fallback import Fallback

__all__ = ["BASIC", "Case", "draw", "make_case", "small_cases"]

_KINDS: Final = ("store", "update", "delete", "retrieve", "turn", "mutate", "swap", "create")
_BATCHES: Final = ("store_many", "delete_many", "retrieve_many")
_OUTAGES: Final = ("kill", "wipe", "freeze", "cut", "readonly")
_EVENTS: Final = (
    "lose request",
    "lose reply",
    "delay",
    "refuse",
    "crash",
    "leap",
    "pause",
    "evict",
    "restart",
)


def _both(theirs: str, ours: str) -> str:
    return f"{theirs} {ours}"


@dataclass(frozen=True, slots=True)
class Case:
    """A small case.

    Attributes:
        name: Its operations and outages, by which it can be asked for.
        group: Which of the small cases it belongs to.
        scenario: What is simulated.
    """

    name: str
    group: str
    scenario: Scenario


BASIC: Final = ("retrieve", "store", "update", "delete")
_TYPICAL: Final = (
    ("retrieve", "store", "store"),
    ("store", "update", "store"),
    ("retrieve", "delete", "store"),
    ("store", "delete", "retrieve"),
    ("update", "store", "delete"),
    ("swap", "create", "mutate"),
)
_OVERLAPPING: Final = (
    (("store", "store"), ("delete",)),
    (("retrieve", "store"), ("update",)),
    (("delete", "store"), ("store",)),
)
_STRANGERS: Final = ("external", "remove")
_EXHAUSTED: Final = ("cut", "freeze")
_RESTARTS: Final = ("kill", "wipe", "readonly")
"""Outages of the small cases: a cut does all that a kill does but the server's restart, which has cases of its own."""

_FALLBACKS: Final = (
    *(Fallback() for _ in range(6)),
    Fallback(resolve=_both),
    Fallback(max_entries=1),
    Fallback(max_copies=1),
    Fallback(on_unknown="raise"),
)


def draw(rng: random.Random) -> Scenario:
    """Draw a large case: up to three processes, some with several callers, and other programs; anything may happen."""
    places = rng.choice((1, 1, 1, 2))
    shares = rng.randrange(3) == 0
    events = tuple(rng.choice(_EVENTS) for _ in range(rng.choice((0, 0, 1, 2, 3))))
    if rng.randrange(10) == 0:
        events += ("lag", "failover")
    return Scenario(
        programs=_programs(rng, places),
        outages=tuple(
            tuple(rng.sample(_OUTAGES, rng.randint(1, len(_OUTAGES)))) for _ in range(rng.choice((0, 1, 1, 2)))
        ),
        events=events,
        held=rng.randrange(10) > 2,  # noqa: PLR2004 - seven in ten
        places=places,
        settings=ProcessSettings(
            attempts=rng.choice((1, 2, 3)),
            breaker_failures=rng.choice((1, 3, 5)),
            ttl=rng.choice((None, None, 60.0, 6.0)),
            fallback=rng.choice(_FALLBACKS),
            shares=shares,
        ),
        skews=rng.choice(((0.0,), (0.0, 300.0), (7.0, -4.0, 1.0))),
        drift=rng.choice((0.0, 0.0, 0.0009, -0.0009)),
        advances=rng.choice((1, 3)),
    )


def _programs(rng: random.Random, places: int) -> tuple[tuple[int | None, tuple[str, ...]], ...]:
    count = rng.choice((1, 2, 2, 3))
    words = (f"w{number}" for number in itertools.count())
    kinds = _KINDS if places == 1 else (*_KINDS, *_BATCHES)
    programs: list[tuple[int | None, tuple[str, ...]]] = [
        (number, tuple(f"{rng.choice(kinds)} {next(words)} {rng.randrange(places)}" for _ in range(rng.randint(1, 4))))
        for number in range(count)
        for _ in range(rng.choice((1, 1, 2)))
    ]
    others = rng.randrange(10)
    if others in {0, 1, 2}:
        programs.append((rng.randrange(count), (f"replay {next(words)}",) * rng.randint(1, 2)))
    if others == 3:  # noqa: PLR2004 - one in ten
        programs.append((rng.randrange(count), (f"close {next(words)}",)))
    if rng.randrange(3) == 0:
        strangers = ("external", "external", "remove")
        programs.append((None, tuple(f"{rng.choice(strangers)} {next(words)}" for _ in range(2))))
    return tuple(programs)


def small_cases() -> Iterator[Case]:
    """Give the small cases: every schedule of each is played.

    Two processes with two and one operations, of every kind, and with three each, of typical ones; two callers of one
    process; another program beside one; one process with four operations, of every kind, in two outages; one caller
    alone, where outages must not show in the end; and two operations with one event of each kind.
    """
    yield from _two_processes()
    yield from _two_callers()
    yield from _one_process()
    yield from _alone()
    yield from _events()


def _two_processes() -> Iterator[Case]:
    for outage, first, second in itertools.product(_EXHAUSTED, itertools.product(BASIC, repeat=2), BASIC):
        yield make_case("2 processes x 2+1", ((0, first), (1, (second,))), (outage,))
    pairs = [*itertools.combinations_with_replacement(_TYPICAL[:4], 2), _TYPICAL[4:]]
    for pair, outage in itertools.product(pairs, _EXHAUSTED):
        yield make_case("2 processes x 3", tuple(enumerate(pair)), (outage,))
    few = itertools.combinations_with_replacement(_TYPICAL[:2], 2)
    for pair, outage in itertools.product(few, _RESTARTS):
        yield make_case("2 processes x 3", tuple(enumerate(pair)), (outage,))


def _two_callers() -> Iterator[Case]:
    pairs = itertools.combinations_with_replacement(BASIC, 2)
    for (first, second), outage in itertools.product(pairs, _EXHAUSTED):
        yield make_case("2 callers", ((0, (first,)), (0, (second,))), (outage,))
    for program, beside in _OVERLAPPING:
        yield make_case("2 callers", ((0, program), (0, beside)), ("cut",))
    for outage, kinds, other in itertools.product(_EXHAUSTED, itertools.product(BASIC, repeat=2), _STRANGERS):
        yield make_case("with a stranger", ((0, kinds), (None, (other,))), (outage,))


def _one_process() -> Iterator[Case]:
    for outages in itertools.product(_EXHAUSTED, repeat=2):
        for kinds in itertools.product(BASIC, repeat=4):
            yield make_case("1 process x 4", ((0, kinds),), outages)
    for kinds, outage in itertools.product(_TYPICAL, _RESTARTS):
        yield make_case("1 process x 4", ((0, (*kinds, "store")),), (outage, "cut"))


def _alone() -> Iterator[Case]:
    for outages in itertools.product(_EXHAUSTED, repeat=2):
        for kinds in itertools.product((*BASIC, "mutate"), repeat=3):
            yield make_case("alone x 3", ((0, kinds),), outages, held=False)
    for event in ("lose request", "lose reply", "delay", "refuse", "restart", "pause"):
        for kinds in itertools.product(BASIC, repeat=2):
            yield make_case("alone x 3", ((0, kinds),), ("cut",), (event,), held=False)


def _events() -> Iterator[Case]:
    for events in (*((event,) for event in _EVENTS), ("lag", "failover")):
        for kinds in itertools.product(BASIC, repeat=2):
            yield make_case("an event", ((0, kinds),), (), events)
            yield make_case("an event", ((0, kinds[:1]), (1, kinds[1:])), (), events)


def make_case(
    group: str,
    kinds: Sequence[tuple[int | None, Sequence[str]]],
    outages: Sequence[str],
    events: tuple[str, ...] = (),
    *,
    held: bool = True,
    shares: bool = False,
    awaits: bool = False,
) -> Case:
    """Make a case of kinds of operations; each gets a word of its own.

    Args:
        group: Which of the small cases it belongs to.
        kinds: For each caller the number of its process, and its operations.
        outages: Kinds of those that may happen, one after the other.
        events: What else may happen.
        held: Whether memories are stored to begin with.
        shares: Whether the processes share a journal.
        awaits: Whether they are of the asyncio flavour.
    """
    words = (f"w{number}" for number in itertools.count())
    programs = tuple((number, tuple(f"{kind} {next(words)}" for kind in each)) for number, each in kinds)
    # Callers of one process are told apart by "&", those of others by "|".
    joints = ["", *(" & " if one == other else " | " for (one, _), (other, _) in itertools.pairwise(kinds))]
    name = "".join(joint + " ".join(each) for joint, (_, each) in zip(joints, kinds, strict=True))
    name += ": " + ", ".join((*outages, *events))
    name += "" if held else ", nothing held"
    kinds_of_outages = tuple((each,) for each in outages)
    name += ", shared" if shares else ""
    scenario = Scenario(
        programs=programs,
        outages=kinds_of_outages,
        events=events,
        held=held,
        coarse=True,
        settings=ProcessSettings(shares=shares, awaits=awaits),
    )
    return Case(name, group, scenario)
