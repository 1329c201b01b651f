"""What goes wrong beside single commands: outages, crashes, restarts, failovers, evictions, time that leaps."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final

from remanence.lab.simulation.caller import Caller
from remanence.lab.simulation.cancellation import CANCELLATIONS
from remanence.lab.simulation.process import Command, Process
from remanence.lab.simulation.redis_model import RedisModel

if TYPE_CHECKING:
    from remanence.lab.simulation.world import Option, World

__all__ = ["Trouble"]

_LEAP, _PAUSE = 0.6, 40.0
_OTHER_CLOCK: Final = 3.0


class Trouble:
    """The outages and events of one world.

    Attributes:
        outage: The kind of the outage that lasts, "" for none.
        outages: Those that may still happen.
        events: What else may still happen.
        advances: Times that time may still pass in an outage while nobody can go on.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.outage = ""
        self.outages = list(world.scenario.outages)
        self.events = list(world.scenario.events)
        self.advances = world.scenario.advances
        self._replica: RedisModel | None = None
        self._runs = 0

    @property
    def replica(self) -> Hashable:
        """What distinguishes the replica from others, None where there is none."""
        return None if self._replica is None else self._replica.fingerprint()

    def clear(self) -> None:
        """Let nothing more go wrong."""
        self.events.clear()
        self.outages.clear()
        if self.outage:
            self.end_outage()

    def add(self, odd: list[Option]) -> None:
        """Add what may go wrong now."""
        if self.outage:
            odd.append((self.end_outage, None))
        else:
            if self.outages:
                odd += [(self._begin_outage, kind) for kind in self.outages[0]]
            self.world.network.add_late(odd)
        for event in dict.fromkeys(self.events):
            if event == "crash":
                odd += [(self._crash, process) for process in self.world.processes if process.alive]
            elif event in {"leap", "pause"}:
                odd.append((self._leap, event))
            elif event in CANCELLATIONS:
                self.world.cancellation.add(event, odd)
            elif not self.outage:
                self._add_of_server(event, odd)

    def _add_of_server(self, event: str, odd: list[Option]) -> None:
        server = self.world.server
        if event == "evict":
            odd += [(self._evict, n) for n, key in enumerate(self.world.keys) if server.value(key) is not None]
        elif event == "restart":
            odd.append((self._restart_between, None))
        elif event == "lag":
            odd.append((self._lag, None))
        elif event == "failover" and self._replica is not None:
            odd.append((self._fail_over, None))

    def end_outage(self, _: None = None) -> None:
        """The server answers again."""
        if self.outage in {"kill", "wipe"}:
            self._restart(keep_data=self.outage == "kill")
        self.world.tell("server", "outage ends")
        self.outage = ""
        self.world.network.spell += 1

    def _begin_outage(self, kind: str) -> None:
        self.outages.pop(0)
        self.outage = kind
        self.world.network.spell += 1
        self.world.tell("server", f"outage begins: {kind}")

    def _restart(self, *, keep_data: bool) -> None:
        world = self.world
        before = dict(world.server.items())
        world.server.restart(keep_data=keep_data, run_id=self._next_run())
        self._note_change(before, "restart")

    def _next_run(self) -> str:
        self._runs += 1
        self.world.network.server_number += 1
        return f"run-{self._runs}"

    def _note_change(self, before: dict[str, Any], how: str) -> None:
        world = self.world
        after = dict(world.server.items())
        for place, key in enumerate(world.keys):
            if after.get(key) != before.get(key):
                world.ledger.changed(place, before.get(key), after.get(key), how)
        for key, raw in before.items():
            if world.is_copy(key) and key not in after:
                world.ledger.copied(raw, kept=False)

    def _crash(self, process: Process) -> None:
        world = self.world
        self.events.remove("crash")
        world.tell(process.name, "crashes")
        process.alive = False
        world.ledger.ended(process)
        left: list[list[int]] = []
        for caller in [caller for caller in world.callers if caller.process is process]:
            self._end_caller(caller)
            if not caller.background:
                left.append([n for n, op in enumerate(world.ops) if op.caller is caller and op.invoked < 0])
        heir = world.add_process(f"{process.name}'", process.number)
        for numbers in left:
            ops = [world.ops[number] for number in numbers]
            for op in ops:
                op.process = heir
            world.add_caller(heir, ops)

    def _end_caller(self, caller: Caller) -> None:
        world = self.world
        if type(caller.state) is Command and self.outage not in {"kill", "wipe"}:
            world.network.keep_late(caller)
        world.callers.remove(caller)
        world.graveyard.append(caller)

    def _leap(self, event: str) -> None:
        self.events.remove(event)
        seconds = _LEAP if event == "leap" else _PAUSE
        self.world.now += seconds
        self.world.tell("time", f"passes: {seconds} s")

    def _evict(self, place: int) -> None:
        self.events.remove("evict")
        world = self.world
        world.tell("server", f"evicts memory {place}")
        world.cause = "evicted"
        world.server.evict(world.keys[place])
        world.cause = ""

    def _restart_between(self, _: None) -> None:
        self.events.remove("restart")
        self.world.tell("server", "restarts between two commands")
        self.world.network.lose_all()
        self._restart(keep_data=True)

    def _lag(self, _: None) -> None:
        self.events.remove("lag")
        world = self.world
        world.tell("replica", "receives nothing from here on")
        self._runs += 1
        # Behind the old server's clock, where a time that was estimated for that one is worth nothing.
        self._replica = world.new_server(world.server_skew - _OTHER_CLOCK, f"run-{self._runs}", of=world.server)

    def _fail_over(self, _: None) -> None:
        self.events.remove("failover")
        world = self.world
        world.tell("replica", "takes over")
        before = dict(world.server.items())
        world.network.lose_all()
        world.network.late.clear()
        if self._replica is not None:
            world.server, self._replica = self._replica, None
        world.network.server_number += 1
        self._note_change(before, "failover")
