"""A proxy in front of Redis that breaks what goes through it, exactly and on demand."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from remanence.lab.errors import ProxyError, ProxyNotRunningError
from remanence.lab.fault_proxy.aim import Aim, AimOptions
from remanence.lab.fault_proxy.core import Core, LogEntry
from remanence.lab.fault_proxy.effects import (
    Answer,
    Blackhole,
    Cut,
    Direction,
    Effect,
    Hold,
    Lose,
    Refuse,
    Shape,
    SlowClose,
    Then,
    Truncate,
    When,
)
from remanence.lab.fault_proxy.faults import Fault, HeldRequests
from remanence.lab.fault_proxy.target import Target, check_port
from remanence.lab.ports import choose_port

if TYPE_CHECKING:
    from typing import Self

__all__ = ["FaultProxy"]


class FaultProxy:
    """A TCP proxy on 127.0.0.1 that reads the Redis protocol, in a thread of its own; a context manager.

    ::

        with FaultProxy(server.port) as proxy:
            client = redis.Redis.from_url(proxy.url)
            lost = proxy.drop_reply(command="EVALSHA", key="memory:WORKING_MEMORY:c", nth=2, then="reset")
            ...
            lost.wait()      # the server has applied it, the client has got ECONNRESET
            proxy.heal()

    Clients may be of any kind, in any process. Every method has done its work when it returns: after `refuse` a connect
    is refused, after `reset` the resets are sent, and a fault is for every byte that the proxy reads from then on.

    A fault is *aimed* at commands by these options, which all methods but `slow_close` take:

    * ``command``: its name, in capitals or not; two words name a subcommand (``"CLIENT SETINFO"``). Commands of a
      handshake (HELLO, AUTH, SELECT, CLIENT …) are meant only where they are named.
    * ``key``: one that the command names, as text or bytes; for EVAL and EVALSHA any of the KEYS.
    * ``nth``: the first matching command on which it works, counted from 1 since the fault was set, over all
      connections. Each command of a pipeline counts by itself.
    * ``times``: on how many commands; None for all until it is healed. By default 1 where `command`, `key` or `nth` is
      given, else None.
    * ``probability``: that it works on a command when its turn comes, drawn from `seed`. The same commands in the same
      order give the same draws; each fault draws for itself.
    * ``connection``: only on the connection of this number, from 1 in the order of accepting.

    Without any of them, or with ``connection`` alone, `refuse`, `reset`, `eof`, `blackhole`, `latency` and `drip` are
    *global*: about connections and bytes, a handshake's too, until they are healed or cancelled. `hold`, `error`,
    `drop_reply` and `truncate` are then for every command but those of a handshake. A method returns the `Fault`:
    ``wait()``, ``fired``, ``cancel()``.

    Where several faults mean one command, those set first come first; one that keeps it from the server leaves nothing
    to the others. What a client sends on one connection stays in its order, so a command that is held or delayed holds
    up those behind it. When a fault cuts a client off, what was already forwarded still reaches the server.

    While nothing listens at the target, clients are refused here too. Not supported: TLS, Unix sockets, SUBSCRIBE,
    MONITOR and CLIENT REPLY, whose replies do not match the commands one by one.

    Args:
        target: Port of 127.0.0.1, or a ``redis://`` URL, of the server.
        port: The proxy's own port on 127.0.0.1; None chooses one. It stays reserved until `close`, on Linux also while
            connects are refused.
        seed: For probabilities and jitter; None draws one, see `seed`.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.
    """

    def __init__(self, target: int | str, *, port: int | None = None, seed: int | None = None) -> None:
        self._target = Target.of(target)
        self._port = choose_port() if port is None else check_port(port)
        if self._target.host in {"127.0.0.1", "localhost"} and self._target.port == self._port:
            raise ValueError(f"port={self._port} is the target's own; the proxy needs another.")
        self._seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self._core: Core | None = None
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1, the same for its whole life."""
        return self._port

    @property
    def url(self) -> str:
        """The target's database through the proxy, with the credentials of the target's URL."""
        return self._target.url_through(self._port)

    @property
    def seed(self) -> int:
        """What makes the same draws again."""
        return self._seed

    @property
    def connections(self) -> int:
        """How many connections it has accepted since it was started."""
        return self._running.loop.call(lambda: self._running.accepted)

    @property
    def commands(self) -> Counter[str]:
        """How many commands it has seen, by name, since it was started; held and refused ones included."""
        core = self._running
        return core.loop.call(core.commands.copy)

    @property
    def faults(self) -> Counter[str]:
        """How often faults did their work, by the method that set them, since it was started."""
        core = self._running
        return core.loop.call(core.fault_counts.copy)

    @property
    def log(self) -> tuple[LogEntry, ...]:
        """The last 10 000 connects and faults, oldest first; without keys and texts."""
        core = self._running
        return core.loop.call(lambda: tuple(core.log))

    def start(self) -> Self:
        """Listen and forward; one that runs is left alone.

        Raises:
            ProxyPortTakenError: Something else uses the port.
        """
        with self._lock:
            if self._core is None:
                self._core = Core(self._port, self._target, self._seed)
        return self

    def close(self) -> None:
        """End all connections, the thread and the listening; does nothing when it is closed, or in a forked child."""
        with self._lock:
            core, self._core = self._core, None
        if core is not None:
            core.loop.stop()

    def heal(self) -> None:
        """End all faults, as if the network were well again.

        What latency or dripping delays is sent at once. Connections that cannot be right again are reset: those of
        which a request or a reply was swallowed, those being ended, and those of held requests, which are dropped;
        deliver what shall still arrive before you heal.
        """
        self._running.heal()

    def wait_ready(self, timeout: float = 5.0) -> None:
        """Wait until the target takes connections and clients are let in, after a server behind it came back.

        Args:
            timeout: Seconds at most.

        Raises:
            ProxyError: One of both was not so in time.
        """
        core, deadline = self._running, time.monotonic() + timeout
        while not core.reachable():
            if time.monotonic() > deadline:
                raise ProxyError(f"The target takes no connections, or refuse() is in force, after {timeout:g} s.")
            time.sleep(0.002)

    def refuse(self, **aim: Unpack[AimOptions]) -> Fault:
        """Refuse connects: the kernel answers ECONNREFUSED. Connections that exist stay; `reset` ends those.

        Aimed, it begins when the command comes, which still goes through, and lasts until it is healed or cancelled.
        """
        return self._set("refuse", Refuse(), aim)

    def reset(self, **aim: Unpack[AimOptions]) -> Fault:
        """Reset connections (ECONNRESET): at once those that exist, idle or not, and each new one when it is accepted.

        Aimed, the command is not forwarded, and its connection is reset instead.
        """
        return self._set("reset", Cut("reset"), aim)

    def eof(self, *, half: bool = False, **aim: Unpack[AimOptions]) -> Fault:
        """End connections in an orderly way (the client reads an end of file): those that exist, and each new one.

        Aimed, the command is not forwarded, unless `half`.

        Args:
            half: Only the server's side ends: what the client sends still reaches the server.
            aim: See the class.
        """
        return self._set("eof", Cut("eof", half=half), aim)

    def slow_close(self, seconds: float, *, direction: Direction = "replies", connection: int | None = None) -> Fault:
        """Let the orderly end of one side reach the other later.

        Args:
            seconds: How much later, at least 0.
            direction: Whose end: ``"replies"`` the server's, ``"requests"`` the client's, or ``"both"``.
            connection: Only of this connection; None for all.
        """
        return self._set("slow_close", SlowClose(seconds, direction), {"connection": connection})

    def blackhole(self, direction: Direction = "both", **aim: Unpack[AimOptions]) -> Fault:
        """Swallow what is sent; connects are still accepted, even while there is no target.

        Aimed, it swallows the command (or with ``"replies"`` its reply) and all that follows in that direction.

        Args:
            direction: ``"requests"``, ``"replies"`` or ``"both"``.
            aim: See the class.
        """
        return self._set("blackhole", Blackhole(direction), aim)

    def latency(
        self, seconds: float, *, jitter: float = 0.0, direction: Direction = "replies", **aim: Unpack[AimOptions]
    ) -> Fault:
        """Deliver later; several add up.

        Args:
            seconds: How much later, at least 0.
            jitter: Drawn evenly from ± so many seconds; not more than `seconds`. The order is kept.
            direction: ``"requests"``, ``"replies"`` or ``"both"``.
            aim: See the class.
        """
        return self._set("latency", Shape(direction, seconds=seconds, jitter=jitter), aim)

    def drip(
        self, size: int = 1, every: float = 0.05, *, direction: Direction = "replies", **aim: Unpack[AimOptions]
    ) -> Fault:
        """Deliver in small pieces.

        Args:
            size: Bytes in a piece, at least 1.
            every: Seconds between two pieces.
            direction: ``"requests"``, ``"replies"`` or ``"both"``.
            aim: See the class.
        """
        if size == 0:
            raise ValueError("size=0 would deliver nothing: use blackhole().")
        return self._set("drip", Shape(direction, size=size, every=every), aim)

    def truncate(self, after: int, *, then: Then = "eof", **aim: Unpack[AimOptions]) -> Fault:
        """Deliver only the beginning of a reply.

        Args:
            after: How many bytes of it, at least 0.
            then: What the client sees next: an end of file, a reset, or nothing (``"hang"``).
            aim: See the class.
        """
        return self._set("truncate", Truncate(after, then), aim)

    def drop_reply(self, *, then: Then = "hang", **aim: Unpack[AimOptions]) -> Fault:
        """Lose a reply once the server has given it, so its command has been applied.

        Args:
            then: What the client sees instead: nothing more on this connection (``"hang"``), ``"reset"`` or ``"eof"``.
            aim: See the class.
        """
        return self._set("drop_reply", Lose(then), aim)

    def error(self, text: str, *, when: When = "instead", **aim: Unpack[AimOptions]) -> Fault:
        """Answer with an error.

        Args:
            text: As the server would say it, such as ``"READONLY You can't write against a read only replica."``.
            when: ``"instead"``: the server never sees the command. ``"after"``: it does, and its reply is replaced.
            aim: See the class.
        """
        return self._set("error", Answer(text, when), aim)

    def hold(self, **aim: Unpack[AimOptions]) -> HeldRequests:
        """Hold requests back, and what follows them on their connections, until they are delivered or dropped."""
        held = self._set("hold", Hold(), aim)
        assert isinstance(held, HeldRequests)  # noqa: S101 - for the type checker
        return held

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._core is None else "running"
        return f"<FaultProxy port={self._port} target_port={self._target.port} seed={self._seed} {state}>"

    @property
    def _running(self) -> Core:
        if self._core is None:
            raise ProxyNotRunningError
        return self._core

    def _set(self, name: str, effect: Effect, aim: AimOptions) -> Fault:
        return self._running.set(name, Aim.of(aim), effect)
