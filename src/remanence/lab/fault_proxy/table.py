"""The faults in force, and what they say about a command, a connection or a byte.

A fault is *global* (it is about connections and bytes, for as long as it is set) or *aimed* (it is about commands).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from remanence.lab.fault_proxy.aim import Request
from remanence.lab.fault_proxy.effects import Answer, Blackhole, Cut, Effect, Refuse, Shape, SlowClose, Way
from remanence.lab.fault_proxy.faults import Fault, HeldRequests

__all__ = ["FaultTable", "Verdict", "is_global"]


@dataclass(slots=True)
class Verdict:
    """What happens to one command.

    Attributes:
        hold: Who holds it back first.
        final: Who keeps it from the server.
        requests: Who shapes it.
        replies: Who does something to its reply, in their order.
        at_once: Who does something about the connection, or the door, as the command comes.
    """

    hold: HeldRequests | None = None
    final: Fault | None = None
    requests: list[Fault] = field(default_factory=list)
    replies: list[Fault] = field(default_factory=list)
    at_once: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Take in one more fault whose turn it is."""
        effect = fault.effect
        if isinstance(fault, HeldRequests):
            self.hold = self.hold or fault
        elif isinstance(effect, Refuse) or (isinstance(effect, Cut) and effect.half):
            self.at_once.append(fault)
        elif isinstance(effect, Shape):
            if effect.direction != "replies":
                self.requests.append(fault)
            if effect.direction != "requests":
                self.replies.append(fault)
        elif _keeps_from_server(effect):
            self.final = fault
        else:
            self.replies.append(fault)


class FaultTable:
    """The faults in force; used by the proxy's thread alone.

    Attributes:
        idle: Whether none is about commands or bytes, which may then go through as they come.
    """

    def __init__(self) -> None:
        self.idle = True
        self._rules: list[Fault] = []
        self._global: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put it in force."""
        (self._global if is_global(fault) else self._rules).append(fault)
        self._look()

    def remove(self, fault: Fault) -> None:
        """Take it out of force, whether it is in or not."""
        fault.active = False
        self._forget(fault)

    def clear(self) -> None:
        """Take all out of force."""
        for fault in (*self._rules, *self._global):
            fault.active = False
        self._rules, self._global, self.idle = [], [], True

    def judge(self, request: Request, connection: int) -> Verdict | None:
        """Count a command and say what happens to it.

        Faults are asked in the order in which they were set. One that keeps the command from the server leaves nothing
        to those behind it; they count the command, but it is not their turn.
        """
        verdict: Verdict | None = None
        for fault in self._rules.copy():
            if not fault.aim.matches(request, connection):
                continue
            fault.sees()
            if (verdict is not None and verdict.final is not None) or not fault.takes_turn():
                continue
            verdict = verdict or Verdict()
            verdict.add(fault)
            if fault.spent:
                self._forget(fault)
        return verdict

    def shapes(self, direction: Way, connection: int) -> list[Fault]:
        """Return the global faults that shape what goes this way on this connection."""
        return self._on(Shape, direction, connection)

    def blackhole(self, direction: Way, connection: int) -> Fault | None:
        """Return the global fault that swallows what goes this way on this connection."""
        found = self._on(Blackhole, direction, connection)
        return found[0] if found else None

    def slow_closes(self, direction: Way, connection: int) -> list[Fault]:
        """Return the global faults that make an orderly end going this way late."""
        return self._on(SlowClose, direction, connection)

    def cut(self, connection: int) -> Fault | None:
        """Return the global fault that ends this connection as soon as it is there."""
        for fault in self._global:
            if isinstance(fault.effect, Cut) and fault.aim.covers(connection):
                return fault
        return None

    @property
    def refusing(self) -> bool:
        """Whether connects are refused."""
        return any(isinstance(fault.effect, Refuse) for fault in self._global)

    @property
    def swallowing(self) -> bool:
        """Whether something is swallowed on connections that do not exist yet."""
        return any(isinstance(fault.effect, Blackhole) for fault in self._global)

    def promote(self, fault: Fault) -> None:
        """Keep an aimed fault in force that has fired and lasts from then on."""
        self._global.append(fault)

    def _on(self, kind: type[Shape | Blackhole | SlowClose], direction: Way, connection: int) -> list[Fault]:
        return [
            fault
            for fault in self._global
            if isinstance(fault.effect, kind)
            and fault.effect.direction in {direction, "both"}
            and fault.aim.covers(connection)
        ]

    def _forget(self, fault: Fault) -> None:
        for faults in (self._rules, self._global):
            if fault in faults:
                faults.remove(fault)
        self._look()

    def _look(self) -> None:
        self.idle = not self._rules and not any(isinstance(fault.effect, Shape | Blackhole) for fault in self._global)


def is_global(fault: Fault) -> bool:
    """Whether it is about connections and bytes rather than commands."""
    return fault.aim.whole and isinstance(fault.effect, Refuse | Cut | Blackhole | Shape | SlowClose)


def _keeps_from_server(effect: Effect) -> bool:
    match effect:
        case Cut():
            return True
        case Blackhole():
            return effect.direction != "replies"
        case Answer():
            return effect.when == "instead"
        case _:
            return False
