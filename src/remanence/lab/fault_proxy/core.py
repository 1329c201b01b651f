"""What runs in the proxy's thread: who connects, what is in force, and what was done."""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from remanence.lab.errors import NothingHeldError
from remanence.lab.fault_proxy.aim import Aim
from remanence.lab.fault_proxy.connection import Connection
from remanence.lab.fault_proxy.door import Door
from remanence.lab.fault_proxy.effects import Cut, Effect, Hold, Refuse
from remanence.lab.fault_proxy.endpoint import Endpoint, abort
from remanence.lab.fault_proxy.faults import Fault, HeldRequests
from remanence.lab.fault_proxy.loop import Loop
from remanence.lab.fault_proxy.table import FaultTable, is_global
from remanence.lab.fault_proxy.target import Target

__all__ = ["Core", "LogEntry"]

_PROBE_EVERY: Final = 0.005
_LOG_LENGTH: Final = 10_000


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Something that the proxy did.

    Attributes:
        at: Monotonic time in seconds.
        what: ``connected``, or the fault's name.
        connection: Its number, from 1; 0 where it is about none.
        command: The command's name; None where it is about none.
    """

    at: float
    what: str
    connection: int
    command: str | None = None


class Core:
    """The proxy's state. The public methods may be called from any thread, those for a connection only from the loop's.

    Args:
        port: Where to listen.
        target: The server.
        seed: Of everything that is drawn.

    Raises:
        ProxyPortTakenError: Something else uses the port.
    """

    def __init__(self, port: int, target: Target, seed: int) -> None:
        self.loop = Loop(f"remanence-fault-proxy-{port}")
        self.faults = FaultTable()
        self.commands: Counter[str] = Counter()
        self.fault_counts: Counter[str] = Counter()
        self.log: deque[LogEntry] = deque(maxlen=_LOG_LENGTH)
        self.accepted = 0
        self._target = target
        self._seed = seed
        self._faults_set = 0
        self._target_gone = False
        self._watching = False
        self._connections: set[Connection] = set()
        try:
            self._door = Door(self.loop, port, self._accept)
            self._is_gone()
        except BaseException:
            self.loop.stop()
            raise
        self.loop.start()

    # From any thread

    def set(self, name: str, aim: Aim, effect: Effect) -> Fault:
        """Put a fault in force; a global one does its work at once on what is there."""
        return self.loop.call(lambda: self._set(name, aim, effect))

    def cancel(self, fault: Fault) -> None:
        """Take a fault out of force, and end what cannot go on because of it."""
        self.loop.call(lambda: self._cancel(fault))

    def heal(self) -> None:
        """Take all faults out of force."""
        self.loop.call(self._heal)

    def deliver(self, fault: Fault) -> int:
        """Send on what a fault holds back."""
        return self.loop.call(lambda: self._let_go(fault, deliver=True))

    def discard(self, fault: Fault) -> int:
        """Forget what a fault holds back."""
        return self.loop.call(lambda: self._let_go(fault, deliver=False))

    def reachable(self) -> bool:
        """Look whether the server takes connections, and so does the proxy."""
        return self.loop.call(self._is_reachable)

    # For a connection

    def fired(self, fault: Fault, connection: int, command: str | None) -> None:
        """Note that a fault does its work."""
        self.fault_counts[fault.name] += 1
        self.log.append(LogEntry(time.monotonic(), fault.name, connection, command))
        if isinstance(fault.effect, Refuse) and not is_global(fault):
            self.faults.promote(fault)
            self._move_door()
        fault.fire()

    def look_for_target(self) -> None:
        """See whether the server is still there; where it is not, clients are refused as it would refuse them."""
        if not self._is_gone():
            # A dying process may end its connections a moment before it stops listening.
            self.loop.at(time.monotonic() + _PROBE_EVERY, self._is_gone)

    def over(self, connection: Connection) -> None:
        """Forget a connection of which nothing is left."""
        self._connections.discard(connection)

    # In the loop's thread

    def _set(self, name: str, aim: Aim, effect: Effect) -> Fault:
        self._faults_set += 1
        kind = HeldRequests if isinstance(effect, Hold) else Fault
        # Each draws from a generator of its own, so that what one draws does not depend on the others.
        fault = kind(name, aim, effect, control=self, seed=f"{self._seed}/{self._faults_set}")
        self.faults.add(fault)
        if is_global(fault):
            if isinstance(effect, Cut):
                for connection in self._sorted():
                    if aim.covers(connection.number):
                        self.fired(fault, connection.number, None)
                        connection.cut(effect.how, half=effect.half)
            elif isinstance(effect, Refuse):
                self.fired(fault, 0, None)
            self._move_door()
        return fault

    def _cancel(self, fault: Fault) -> None:
        self.faults.remove(fault)
        for connection in self._sorted():
            if connection.swallowed_by is fault:
                connection.discard()
        self._move_door()

    def _heal(self) -> None:
        self.faults.clear()
        for connection in self._sorted():
            connection.heal()
        self._is_reachable()
        self._move_door()

    def _let_go(self, fault: Fault, *, deliver: bool) -> int:
        holding = [connection for connection in self._sorted() if connection.held_by is fault]
        if not holding:
            raise NothingHeldError
        self.faults.remove(fault)
        for connection in holding:
            if deliver:
                connection.release()
            else:
                connection.discard()
        return len(holding)

    def _is_gone(self) -> bool:
        if not self._target_gone and not self._target.answers():
            self._target_gone = True
            self._move_door()
            self._watch_target()
        return self._target_gone

    def _is_reachable(self) -> bool:
        there = self._target.answers()
        if there and self._target_gone:
            self._target_gone = False
            self._move_door()
        return there and self._door.is_open

    def _accept(self, client: socket.socket) -> None:
        self.accepted += 1
        number = self.accepted
        self.log.append(LogEntry(time.monotonic(), "connected", number))
        fault = self.faults.cut(number)
        if fault is not None:
            self.fired(fault, number, None)
            effect = fault.effect
            if isinstance(effect, Cut) and effect.how == "eof":
                self._show_out(client)
            else:
                abort(client)
            return
        try:
            server = self._target.connect()
        except OSError:
            abort(client)
            self.look_for_target()
            return
        self._connections.add(Connection(number, self, client, server))

    def _show_out(self, client: socket.socket) -> None:
        endpoint = Endpoint(self.loop, client, receive=_ignore, ended=_ignore, over=_nothing)
        endpoint.end("eof")

    def _sorted(self) -> list[Connection]:
        return sorted(self._connections, key=lambda connection: connection.number)

    def _move_door(self) -> None:
        if self.faults.refusing or (self._target_gone and not self.faults.swallowing):
            self._door.close()
        else:
            self._door.open()

    def _watch_target(self) -> None:
        if not self._watching:
            self._watching = True
            self.loop.at(time.monotonic() + _PROBE_EVERY, self._look_again)

    def _look_again(self) -> None:
        self._watching = False
        if self._target_gone and not self._is_reachable() and self._target_gone:
            self._watch_target()


def _ignore(_said: object) -> None:
    pass


def _nothing() -> None:
    pass
