"""What one schedule will do: drawn from its seed, before anything runs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal

from remanence.lab.server_settings import Durability

__all__ = ["BLOWS", "PHASES", "Blow", "Doom", "Plan", "draw"]

Action = Literal["kill", "stop", "outage"]

PHASES: Final = (
    "journaling",
    "journaled",
    "before sent",
    "sent",
    "answered",
    "removing",
    "removed",
    "keeping",
)
"""Where a worker may be struck, see `phases`."""

BLOWS: Final = (
    "killed",
    "emptied",
    "frozen",
    "oom",
    "readonly",
    "masterdown",
    "noreplicas",
    "noperm",
    "busy",
    "paused",
    "writes_paused",
    "maxclients",
    "noauth",
    "refuse",
    "reset",
    "eof",
    "blackhole",
    "lost replies",
    "lost requests",
    "drip",
    "latency",
    "truncate",
    "hold",
)
"""What may happen to the server, or on the way to it, see `blows`."""

_ALSO_A_WORKER: Final = 0.25
_SPARED: Final = 0.15
_ABRUPT: Final = 0.5
_MIXTURES: Final = ("none", "all", "mixed", "mixed")
_TASKS_PER_THREAD: Final = (1, 4, 16)
_FLAVOURS: Final = 8
"""Processes for which it is drawn whether they are async; most schedules start fewer."""

_HARD: Final = ("killed", "killed", "frozen", "emptied", "blackhole", "refuse")
"""Those that leave nothing answered: drawn more often, so that much is acknowledged while Redis is away."""


@dataclass(frozen=True, slots=True)
class Blow:
    """Something that happens to the server.

    Attributes:
        kind: One of `BLOWS`.
        after: How many acknowledgements after the last one was over.
        lasting: For how many acknowledgements.
        worker: Number of the worker that is killed in the middle of it, None for nobody.
    """

    kind: str
    after: int
    lasting: int
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class Doom:
    """What strikes a worker at a point of its own code.

    Attributes:
        phase: One of `PHASES`.
        nth: The how manieth time it gets there, from 1.
        action: Killed with -9; stopped until its lease is over, then woken; or the server fails at that point.
    """

    phase: str
    nth: int
    action: Action


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule.

    Attributes:
        seed: What it was drawn from.
        workers: Processes at a time.
        threads: Threads of each.
        own: Conversations of each thread.
        shared: Conversations that all of them write, by read-modify-write.
        contested: Conversations that one thread of each process reads and then writes, plainly where the read was
            degraded, else on the version that it read.
        durability: Of the server's append-only file.
        writes: Acknowledgements at least.
        blows: What happens, in order.
        dooms: What strikes the workers, in the order in which they are started; None spares one.
        is_abrupt: Whether the workers that are left are killed at the end, or close their managers.
        tasks: Tasks of each process, in the order in which they are started and then from the beginning again; 0 for a
            process with threads instead of an event loop.
    """

    seed: int
    workers: int
    threads: int
    own: int
    shared: int
    contested: int
    durability: Durability
    writes: int
    blows: tuple[Blow, ...]
    dooms: tuple[Doom | None, ...]
    is_abrupt: bool
    tasks: tuple[int, ...]

    @property
    def has_async(self) -> bool:
        """Whether some of the processes are async."""
        return any(self.tasks)


def draw(seed: int, *, writes: int = 5_500) -> Plan:
    """Draw the schedule of a seed.

    Args:
        seed: Any number.
        writes: Acknowledgements that it waits for, from 100.
    """
    rng = random.Random(seed)
    unit = max(20, writes // 14)
    workers = rng.randint(2, 3)
    blows = tuple(
        Blow(
            rng.choice(_HARD if number % 2 == 0 else BLOWS),
            rng.randint(unit // 4, unit),
            rng.randint(unit // 2, 2 * unit),
            rng.randrange(workers) if rng.random() < _ALSO_A_WORKER else None,
        )
        for number in range(rng.randint(3, 5))
    )
    threads = rng.randint(2, 3)
    return Plan(
        seed=seed,
        workers=workers,
        threads=threads,
        own=rng.randint(40, 140),
        shared=rng.randint(2, 5),
        contested=rng.randint(2, 5),
        durability=rng.choice(("always", "always", "always", "everysec", "off")),
        writes=writes,
        blows=blows,
        dooms=tuple(_doom(rng, unit) for _ in range(8)),
        is_abrupt=rng.random() < _ABRUPT,
        tasks=_tasks(rng, threads),  # last: what was drawn before it stays as it was
    )


def _doom(rng: random.Random, unit: int) -> Doom | None:
    if rng.random() < _SPARED:
        return None
    # There is seldom something to keep, so more workers wait for it.
    phase = rng.choice((*PHASES, "keeping", "keeping"))
    # A worker journals all the time that Redis is away; it sends and settles a few times after each outage.
    nth = rng.randint(1, unit // 2) if phase in {"journaling", "journaled"} else rng.randint(1, 3)
    if phase == "keeping":
        nth = 1
    actions: tuple[Action, ...] = ("kill", "kill", "kill")
    if phase in {"sent", "answered"}:
        actions = ("kill", "stop", "outage")
    return Doom(phase, nth, rng.choice(actions))


def _tasks(rng: random.Random, threads: int) -> tuple[int, ...]:
    mixture = rng.choice(_MIXTURES)
    tasks = [threads * rng.choice(_TASKS_PER_THREAD) for _ in range(_FLAVOURS)]
    if mixture == "mixed":
        # Of the first two one is async and the other is not: both flavours write one journal from the start.
        spared = rng.randrange(2)
        return tuple(
            0 if (number == spared if number < 2 else rng.random() < 0.5) else count  # noqa: PLR2004 - as it says
            for number, count in enumerate(tasks)
        )
    return tuple(tasks) if mixture == "all" else (0,) * _FLAVOURS
