"""The replies that are still to come on a connection, and what is to be done to which of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from remanence.lab.fault_proxy.faults import Fault

__all__ = ["Expected", "PendingReplies"]


@dataclass(slots=True)
class Expected:
    """A reply to which something is to be done.

    Attributes:
        command: Its command's name.
        faults: Who does something to it.
        local: The reply itself, where the server never got the command.
        plain_after: How many replies follow it to which nothing is to be done.
    """

    command: str
    faults: list[Fault]
    local: bytes | None = None
    plain_after: int = 0


class PendingReplies:
    """The replies that are still to come, in the order of their commands.

    Nearly always nothing is to be done to any of them, so those are only counted.

    Attributes:
        plain: How many come first to which nothing is to be done.
    """

    __slots__ = ("_special", "plain")

    def __init__(self) -> None:
        self.plain = 0
        self._special: deque[Expected] = deque()

    @property
    def special(self) -> bool:
        """Whether something is to be done to any of them."""
        return bool(self._special)

    @property
    def next_is_special(self) -> bool:
        """Whether something is to be done to the next one."""
        return not self.plain and bool(self._special)

    def add_plain(self, count: int = 1) -> None:
        """Expect replies to which nothing is to be done."""
        if self._special:
            self._special[-1].plain_after += count
        else:
            self.plain += count

    def add(self, expected: Expected) -> None:
        """Expect one to which something is to be done."""
        self._special.append(expected)

    def take(self) -> Expected | None:
        """Take off the next one; None where nothing is to be done to it, or none is expected."""
        if self.plain:
            self.plain -= 1
            return None
        if not self._special:
            return None
        first = self._special.popleft()
        self.plain = first.plain_after
        return first

    def take_local(self) -> Expected | None:
        """Take off the next one if the proxy has to give it."""
        return self.take() if self.next_is_special and self._special[0].local is not None else None
