"""The cases of the asyncio flavour: the same operations and outages, and tasks that are cancelled at any step."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from remanence.lab.simulation.cases import BASIC, Case, draw, make_case
from remanence.lab.simulation.scenario import Scenario

__all__ = ["ASYNCIO_SEEDS", "asyncio_cases", "draw_asyncio", "drawing"]

ASYNCIO_SEEDS: Final = 2 * 10**9
"""Seeds from here on belong to random schedules of the asyncio flavour."""

_PAIRS: Final = (("store", "store"), ("retrieve", "store"), ("store", "delete"), ("update", "store"))


def drawing(seed: int) -> Callable[[random.Random], Scenario]:
    """Return what draws the scenario of a seed."""
    return draw if seed < ASYNCIO_SEEDS else draw_asyncio


def draw_asyncio(rng: random.Random) -> Scenario:
    """Draw a large case of the asyncio flavour, in which one to three calls or replays may be cancelled."""
    scenario = draw(rng)
    cancelled = tuple(rng.choice(("cancel", "cancel", "cancel replay")) for _ in range(rng.choice((1, 1, 2, 3))))
    return replace(
        scenario,
        events=(*cancelled, *scenario.events),
        settings=replace(scenario.settings, awaits=True),
    )


def asyncio_cases() -> Iterator[Case]:
    """Give the small cases of the asyncio flavour: every schedule of each is played.

    One process with two operations of every kind in an outage, its journal in memory or on its host's disk; one caller
    alone, for whom no cancellation must show in the end; two processes with two operations each; two tasks of one
    process; a batch; and the task that replays: each with a cancellation at any step.
    """
    for outage, kinds in itertools.product(("cut", "freeze"), itertools.product(BASIC, repeat=2)):
        yield _case(((0, kinds),), (outage,), ("cancel",))
        yield _case(((0, kinds),), (outage,), ("cancel",), held=False)
    for kinds in itertools.product(BASIC, repeat=2):
        yield _case(((0, kinds),), ("cut",), ("cancel replay",))
        yield _case(((0, kinds),), (), ("refuse", "cancel"), shares=True)
        yield _case(((0, kinds),), (), ("refuse", "cancel replay"), shares=True)
        yield _case(((0, (*kinds, "store")),), (), ("delay", "cancel"), held=False)
    for pair in itertools.combinations_with_replacement(_PAIRS, 2):
        yield _case(tuple(enumerate(pair)), (), ("cancel",))
    for first, second in itertools.combinations_with_replacement(BASIC, 2):
        yield _case(((0, (first,)), (0, (second,))), (), ("cancel",))
        yield _case(((0, (first,)), (0, (second,))), (), ("refuse", "cancel replay"))
    for kind in ("turn", "swap", "create", "mutate"):
        yield _case(((0, (kind,)), (1, ("store",))), (), ("cancel", "refuse"))


def _case(
    kinds: Sequence[tuple[int, Sequence[str]]], outages: Sequence[str], events: tuple[str, ...], **options: bool
) -> Case:
    return make_case("asyncio", kinds, outages, events, awaits=True, **options)
