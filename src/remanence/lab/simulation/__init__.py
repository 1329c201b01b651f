"""Simulation: the real flows of several processes against a model of Redis, under every order of events.

Between two steps a flow is pure, so a third driver beside those of `remanence.flow` can decide who goes on, and what
becomes of each command: applied and answered, refused, applied with its answer lost, held up and delivered later.
Processes crash, clocks are wrong, servers restart with and without their data or are replaced by a replica that missed
the last writes. At each change of the store and at the end of each schedule the promises are checked.

    finding = sample(draw, seed=7)                    # a random schedule of a random scenario
    complete, equivalent, finding = exhaust(scenario)  # every schedule of a small one
    print(tell(minimise(finding)))                    # the shortest one that breaks the promise, as a timeline

The parts: `scenario`, `program` and `caller` (what is done), `process` (the real policies around the real manager's
flows), `awaiting` (the same in the asyncio flavour), `redis_model` (the server), `network`, `trouble` and
`cancellation` (what goes wrong), `world` (the scheduler), `schedule` (its decisions), `ledger` (the checks), `story`,
and `search`, `cases`, `asyncio_cases` and `campaign` (what is played).
"""

from __future__ import annotations

from remanence.lab.simulation.asyncio_cases import ASYNCIO_SEEDS, asyncio_cases, draw_asyncio, drawing
from remanence.lab.simulation.cases import Case, draw, small_cases
from remanence.lab.simulation.ledger import Violation
from remanence.lab.simulation.process import ProcessSettings
from remanence.lab.simulation.scenario import EVENTS, OUTAGES, Scenario
from remanence.lab.simulation.search import Finding, exhaust, minimise, play, sample, tell
from remanence.lab.simulation.world import World

__all__ = [
    "ASYNCIO_SEEDS",
    "EVENTS",
    "OUTAGES",
    "Case",
    "Finding",
    "ProcessSettings",
    "Scenario",
    "Violation",
    "World",
    "asyncio_cases",
    "draw",
    "draw_asyncio",
    "drawing",
    "exhaust",
    "minimise",
    "play",
    "sample",
    "small_cases",
    "tell",
]
