"""Scenarios that are as small as a schedule allows which a guard is there for: each is explored in a second or two.

`python -m tests.lab.simulation.directed NAME` prints what breaks; tests run it on a copy of the source with a guard
removed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import remanence
from remanence.lab.simulation import ProcessSettings, Scenario, Violation, World, exhaust
from remanence.lab.simulation.campaign import quiet
from remanence.lab.simulation.texts import word_of
from remanence.policies.fallback import Fallback
from tests.lab.simulation.exploring import runs

__all__ = ["DIRECTED", "Directed", "search"]

Programs = tuple[tuple[int | None, str], ...]

_SKEWED: Final = (7.0, -4.0)
"""Wall clocks eleven seconds apart: the second process's writes look older than the first one's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directed:
    """A scenario, and what to look for.

    Attributes:
        story: The schedule that it is about, in a sentence.
        scenario: What is explored.
        limit: Runs to make at most; most scenarios have fewer.
        also: Looks at a run that broke no promise; gives what is wrong with it, "" for nothing.
    """

    story: str
    scenario: Scenario
    limit: int = 6_000
    also: Callable[[World], str] | None = None


def _case(programs: Programs, events: tuple[str, ...] = (), outages: tuple[str, ...] = (), **options: Any) -> Scenario:
    """Make a scenario in which nothing but what it is about goes wrong: one attempt, a breaker that stays closed."""
    own: dict[str, Any] = {"attempts": 1, "breaker_failures": 10}
    names = ("attempts", "breaker_failures", "fallback", "shares", "awaits")
    own |= {name: options.pop(name) for name in names if name in options}
    return Scenario(
        programs=tuple((number, tuple(ops.split(", "))) for number, ops in programs),
        events=events,
        outages=tuple((kind,) for kind in outages),
        settings=ProcessSettings(**own),
        **{"coarse": True, "held": False} | options,
    )


def _both(theirs: str, ours: str) -> str:
    return f"{theirs} {ours}"


def _put_back(world: World) -> str:
    """What the store has acknowledged once never comes back over another process's value."""
    for change in world.ledger.changes[0]:
        by, author = change.by, world.ledger.by_word.get(word_of(change.before))
        if by is None or author is None or change.how != "replay" or author.process is by.process:
            continue
        if by.outcome == "committed":
            return f"P2: {by.word} had been committed and is put back over {author.word}"
    return ""


def _blind_wins(world: World) -> str:
    """What was made before its process had been told anything of a memory displaces nobody else's value."""
    for change in world.ledger.changes[0]:
        by, author = change.by, world.ledger.by_word.get(word_of(change.before))
        if by is None or author is None or change.how != "replay" or author.process is by.process:
            continue
        if by.made < change.process.told[by.place]:
            return f"P2: {by.word}, which was made blind, displaced {author.word}"
    return ""


DIRECTED: Final[dict[str, Directed]] = {
    "late plain write": Directed(
        story="A plain store's connection is reset and its caller goes on; the store arrives after the next write.",
        scenario=_case(((0, "store a, store b"),), ("delay",)),
    ),
    "late over another process's write": Directed(
        story="A plain store's connection is reset, another process writes, and then the store arrives.",
        scenario=_case(((0, "store a"), (1, "store b, retrieve c")), ("delay",)),
    ),
    "late batch over another process's write": Directed(
        story="The same with a batch.",
        scenario=_case(((0, "store_many a"), (1, "store b, retrieve c")), ("delay",)),
    ),
    "late by a drifting clock": Directed(
        story="The server's clock falls behind; a store arrives just after its caller counts it as over.",
        scenario=_case(((0, "store a, replay r, store b"),), ("delay",), coarse=False, drift=0.0009),
        limit=2_000,
    ),
    "failover to a clock behind": Directed(
        story="A replica takes over whose clock is behind; an idle connection is opened anew, and a store over it is "
        "made with the old server's time.",
        scenario=_case(((0, "store a, store b, store c"), (0, "retrieve d 1")), ("lag", "failover", "delay"), places=2),
    ),
    "merged, its answer lost": Directed(
        story="A merged text is written and its answer lost; a write is folded into the entry before the next round.",
        scenario=_case(
            ((0, "store z, turn a, retrieve g 1, store b"), (1, "store x")),
            ("refuse", "lose reply"),
            fallback=Fallback(resolve=_both),
            held=True,
            places=2,
        ),
        limit=2_000,
    ),
    "committed, put in the journal again": Directed(
        story="A committed value is kept pending to outlive a late attempt; another process builds on it, and its "
        "clock is behind.",
        scenario=_case(((0, "store a"), (0, "store b"), (1, "turn c")), ("delay",), skews=_SKEWED),
        also=_put_back,
    ),
    "blind, with an earlier commit past it": Directed(
        story="A write is journaled blind, an earlier one of its process is committed past it, and another process, "
        "whose clock is behind, writes over that.",
        scenario=_case(((1, "store c"), (0, "store b"), (0, "store a")), ("refuse",), skews=_SKEWED),
        also=_blind_wins,
    ),
    "restart between NOSCRIPT and the script": Directed(
        story="The server restarts after it has refused the script's digest and before the script in full comes.",
        scenario=_case(((0, "store a"), (0, "retrieve b")), ("restart",), coarse=False),
    ),
    "two writers": Directed(
        story="A process reads, another writes, and the first writes over the version that it has read.",
        scenario=_case(((0, "swap a"), (1, "store b")), held=True),
    ),
    "an unanswered read": Directed(
        story="An agent's read is not answered, and it writes what it made of nothing.",
        scenario=_case(((0, "turn a"),), ("lose request",), held=True),
    ),
    "blind over a record": Directed(
        story="Neither read nor write is answered; the write comes home to a record that it has never seen.",
        scenario=_case(((0, "retrieve g, store a"),), ("refuse", "refuse"), held=True),
    ),
    "folded in while it is written": Directed(
        story="A second write is folded into an entry while the first is on its way to the store.",
        scenario=_case(((0, "store a"), (0, "store b")), ("lose reply",), held=True),
    ),
    "answer of a replay lost": Directed(
        story="A replayed value is written and its answer lost; the next write is folded into its entry.",
        scenario=_case(((0, "store a, store b"),), ("refuse", "lose reply")),
    ),
    "newer by its stamp": Directed(
        story="A pending write wins by its stamp over what another process, whose clock is behind, has written.",
        scenario=_case(((0, "turn a"), (1, "store b")), ("refuse", "refuse"), held=True, skews=_SKEWED),
    ),
    "created late, deleted": Directed(
        story="A creation is journaled while its attempt is under way, and the memory deleted before that arrives.",
        scenario=_case(((0, "create a, delete d, retrieve r"),), ("delay",), coarse=False),
    ),
    "repeated while under way": Directed(
        story="A store's connection is reset, it is repeated, the next store is committed, and the first one arrives.",
        scenario=_case(((0, "store z, store a, store b, store c"),), ("delay",), attempts=2),
    ),
    "closed while a write waits": Directed(
        story="A manager is closed while a write of another thread is on its way into the journal.",
        scenario=_case(((0, "store a"), (0, "close c")), ("refuse",)),
    ),
    "overtaken while it is replayed": Directed(
        story="A store is being replayed when a deletion that entered before it is committed past it; the memory is "
        "stored and deleted again, and then the replayed store arrives.",
        scenario=_case(((0, "store a"), (0, "delete d, store x, delete e")), ("refuse",)),
    ),
    "past a pending write": Directed(
        story="A write waits in the journal and its caller writes again on a healthy store.",
        scenario=_case(((0, "store a, store b"),), ("refuse",)),
    ),
    "copies newer than a deletion": Directed(
        story="A deletion waits in a journal; another process's later write loses at its replay and is kept as a copy; "
        "then the deletion comes home.",
        scenario=_case(((0, "retrieve a, store b"), (1, "store x, delete d")), ("refuse", "refuse"), held=True),
    ),
    "overtaken, then replaced": Directed(
        story="A store's first attempt is lost, a deletion of its process overtakes it, another program stores; the "
        "repetition is told of that, and an update follows.",
        scenario=_case(
            ((None, "external x"), (0, "delete c"), (0, "store a, update b")), ("lose request",), held=True, attempts=2
        ),
        limit=15_000,
    ),
    "unseen on its host": Directed(
        story="A write waits in the journal of its host, and another process that has not read it writes too.",
        scenario=_case(((0, "store a"), (1, "store b")), ("refuse", "refuse"), shares=True),
    ),
    "lost on its host": Directed(
        story="A write comes into the journal of its host after another process's later one, and its process goes on.",
        scenario=_case(((1, "store b"), (0, "store a, store c")), outages=("kill",), shares=True, breaker_failures=1),
    ),
    "committed beside its host's journal": Directed(
        story="A write is committed that entered before another process's began to wait in the journal they share.",
        scenario=_case(((0, "store a"), (1, "store b, retrieve c")), ("refuse",), shares=True),
    ),
    "cancelled, and late": Directed(
        story="A store is cancelled, its caller goes on, and it arrives after the next write.",
        scenario=_case(((0, "store a, store b, retrieve c"),), ("cancel",), awaits=True),
    ),
    "cancelled batch, and late": Directed(
        story="A batch is cancelled, its caller goes on, and it arrives after the next write.",
        scenario=_case(((0, "store_many a, store b, retrieve c"),), ("cancel",), awaits=True),
    ),
    "cancelled while it waits": Directed(
        story="A store whose connection was reset is cancelled while it waits for the end of that attempt.",
        scenario=_case(((0, "store a, store b, retrieve c"),), ("delay", "cancel"), awaits=True),
    ),
    "cancelled once the memory is gone": Directed(
        story="A deletion is cancelled between its answer and the removal of copies; the next store's answer is lost.",
        scenario=_case(((0, "store z, delete a, store b"),), ("cancel", "delay"), awaits=True, attempts=2),
    ),
    "cancelled probe": Directed(
        story="The call that probes a half-open breaker is cancelled.",
        scenario=_case(
            ((0, "retrieve a"), (0, "retrieve b, retrieve c")),
            ("refuse", "pause", "cancel"),
            awaits=True,
            breaker_failures=1,
        ),
    ),
    "cancelled replay": Directed(
        story="The task that brings a write home is cancelled, and another one starts.",
        scenario=_case(((0, "store a, store b"),), ("refuse", "cancel replay"), awaits=True, shares=True),
    ),
    "cancelled while the disk is written": Directed(
        story="A store is cancelled while its entry is being written to the journal of its host.",
        scenario=_case(((0, "store a, store b"),), ("refuse", "cancel"), awaits=True, shares=True),
    ),
    "probes of two callers": Directed(
        story="Two callers ask a breaker that may be probed.",
        scenario=_case(((0, "store a"), (0, "store b")), ("refuse",), breaker_failures=1),
    ),
}


def search(directed: Directed) -> str:
    """Explore the scenario; return what is broken first, promise and all, "" for nothing."""
    if directed.also is None:
        finding = exhaust(directed.scenario, limit=directed.limit)[2]
        return "" if finding is None else f"{finding.promise}: {finding.what}"
    try:
        return next(filter(None, map(directed.also, runs(directed.scenario, limit=directed.limit))), "")
    except Violation as violation:
        return str(violation)


if __name__ == "__main__":
    with quiet():
        found = search(DIRECTED[sys.argv[1]])
    print(json.dumps({"found": found, "package": remanence.__file__}))  # noqa: T201 - its whole purpose
