"""Handles for those who set faults. Only the proxy's own thread counts and fires; others wait for that, and read."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Protocol

from remanence.lab.errors import FaultNotFiredError
from remanence.lab.fault_proxy.aim import Aim
from remanence.lab.fault_proxy.effects import Effect

__all__ = ["Fault", "HeldRequests"]


class _Control(Protocol):
    """Who can do what a handle is asked for."""

    def cancel(self, fault: Fault) -> None: ...

    def deliver(self, fault: Fault) -> int: ...

    def discard(self, fault: Fault) -> int: ...


class Fault:
    """A fault that was set on a proxy: wait for it, count it, end it.

    Attributes:
        name: The method of `FaultProxy` that set it.
        aim: What it is for.
        effect: What it does.
        active: Whether it is still set; one that has fired as often as it may stays so until it is cancelled.
    """

    def __init__(self, name: str, aim: Aim, effect: Effect, *, control: _Control, seed: str) -> None:
        self.name = name
        self.aim = aim
        self.effect = effect
        self.active = True
        self.rng = random.Random(seed)
        self._control = control
        self._condition = threading.Condition()
        self._seen = 0
        self._turns = 0
        self._fired = 0

    @property
    def fired(self) -> int:
        """How often it has done what it is for; it counts before the client can notice."""
        return self._fired

    @property
    def seen(self) -> int:
        """How many commands it was for, whether it fired on them or not."""
        return self._seen

    def wait(self, timeout: float = 5.0, *, times: int = 1) -> None:
        """Wait until it has fired.

        Args:
            timeout: Seconds at most.
            times: How often it must have fired since it was set.

        Raises:
            FaultNotFiredError: It has not; the message says how many commands it has seen.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._fired >= times, timeout):
                raise FaultNotFiredError(
                    f"{self} fired {self._fired} of {times} times within {timeout:g} s; commands that it was for: "
                    f"{self._seen}. It is still set."
                )

    async def wait_async(self, timeout: float = 5.0, *, times: int = 1) -> None:  # noqa: ASYNC109 - as in `wait`
        """Do the same without stopping the event loop."""
        await asyncio.to_thread(self.wait, timeout, times=times)

    def cancel(self) -> None:
        """End it; what it holds back stays held, and connections on which it made something disappear are reset.

        Those could only go on with requests and replies that do not belong together.
        """
        self._control.cancel(self)

    def fire(self) -> None:
        """Count that it does its work now (proxy's thread)."""
        with self._condition:
            self._fired += 1
            self._condition.notify_all()

    def sees(self) -> None:
        """Count a command that it is for (proxy's thread)."""
        self._seen += 1

    def takes_turn(self) -> bool:
        """Whether the command just seen is its turn; a draw is made only where the number is right."""
        aim = self.aim
        if self._seen < aim.nth:
            return False
        if aim.probability < 1 and self.rng.random() >= aim.probability:
            return False
        self._turns += 1
        return True

    @property
    def spent(self) -> bool:
        """Whether it has had all its turns."""
        return self.aim.times is not None and self._turns >= self.aim.times

    def __repr__(self) -> str:
        return f"<{self} fired={self._fired}>"

    def __str__(self) -> str:
        return f"{self.name}({self.aim})"


class HeldRequests(Fault):
    """Requests that are held back: deliver them, or drop them."""

    def deliver(self) -> int:
        """Send the server what is held back, and hold nothing more; return the number of requests.

        Where the client has gone meanwhile, however that went, the server gets its request all the same, and what the
        client had sent behind it.

        Raises:
            NothingHeldError: Nothing is held: nothing came yet, it was delivered or dropped, or the server hung up.
        """
        return self._control.deliver(self)

    def drop(self) -> int:
        """Forget what is held back, and hold nothing more; return the number of requests.

        A client that still waits for its reply is reset.

        Raises:
            NothingHeldError: Nothing is held.
        """
        return self._control.discard(self)
