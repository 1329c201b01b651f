"""What is simulated: who does what, and what may go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from remanence.lab.simulation.process import ProcessSettings

__all__ = ["EVENTS", "OUTAGES", "Scenario"]

OUTAGES: Final = {
    "kill": "the server dies and comes back with its data; connects are refused meanwhile",
    "wipe": "the same, and it comes back empty",
    "freeze": "nothing is answered; what was sent may be applied once it runs on, or never",
    "readonly": "writes are refused, reads are answered",
    "cut": "connections are reset; what was sent may have been applied, or be applied later, or never",
}
"""What an outage may be."""

EVENTS: Final = {
    "crash": "a process ends at any step, and a new one takes its place",
    "leap": "time passes while calls are under way",
    "pause": "the same, longer than a drainer's lease",
    "evict": "the server drops a memory for want of room",
    "restart": "the server restarts with its data between two commands, and idle connections are opened anew",
    "lag": "a replica stops receiving",
    "failover": "that replica takes over, with a clock of its own",
    "lose request": "a command does not arrive, and its connection is reset",
    "lose reply": "a command is applied, and its connection is reset before the answer",
    "delay": "a connection is reset, and its command arrives later",
    "refuse": "a command fails before it is sent",
    "cancel": "a call is cancelled at any step (asyncio); what it has sent is applied, at once or later, or never is",
    "cancel replay": "so is the task that brings pending writes home; the next call or pending write starts another",
}
"""What may happen besides an outage, each as often as the scenario names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated.

    Args:
        programs: For each caller the number of its process (None: another program), and its operations.
        outages: Those that may happen, one after the other; for each the kinds that it may be.
        events: What else may happen, each at any time.
        held: Whether memories are stored to begin with.
        places: Number of conversations.
        settings: Of the processes.
        skews: Seconds by which their wall clocks are wrong, in turn; the server's is wrong by the last one.
        drift: Seconds by which the server's clock falls behind in a second.
        advances: Times that time may pass in an outage while nobody can go on.
        coarse: For exhaustive runs: what cannot change the outcome has no orders of its own. Questions whose answer no
            other command changes (TIME, INFO) are answered at once where the server answers, it knows the script, and
            commands whose not-after has passed arrive at the end only (where each must be refused).
    """

    programs: tuple[tuple[int | None, tuple[str, ...]], ...]
    outages: tuple[tuple[str, ...], ...] = ()
    events: tuple[str, ...] = ()
    held: bool = True
    places: int = 1
    settings: ProcessSettings = field(default_factory=ProcessSettings)
    skews: tuple[float, ...] = (0.0,)
    drift: float = 0.0
    advances: int = 1
    coarse: bool = False
