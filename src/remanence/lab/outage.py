"""Hurting a server on schedule, and watching from outside whether it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["HELD_AT_MOST_S", "KINDS", "Outage", "Probe", "Victim"]

KINDS = ("kill", "freeze", "refuse")

HELD_AT_MOST_S = 10.0
"""By how much an outage may be prolonged for what has to happen in it, on a machine that is busy."""

_HELD_POLL_S = 0.02
_PROBE_EVERY_S = 0.1
_PROBE_TIMEOUT_S = 0.4


class Victim(Protocol):
    """The server to hurt: what `RedisServer` offers."""

    def start(self) -> object:
        """Make it run and answer."""

    def stop(self) -> object:
        """Shut it down cleanly."""

    def kill(self) -> object:
        """Kill it with -9."""

    def freeze(self) -> object:
        """Stop it where it stands."""

    def thaw(self) -> object:
        """Let it run on."""


class Outage:
    """One outage of a server of our own.

    Args:
        server: Whom to hurt.
        kind: "kill" (-9, then a start), "freeze" (SIGSTOP, then SIGCONT), "refuse" (a clean shutdown, then a start).
        at: When, on the monotonic clock.
        lasts: Seconds until healing begins.
        hold: Healing waits for this too, for up to `HELD_AT_MOST_S` seconds longer; None for nothing.

    Attributes:
        began: When the server was about to be hurt; None before.
        hurt: When it had been.
        healing: When healing began.
        healed: When the server answered again.
        error: What went wrong in hurting or healing.
    """

    def __init__(
        self, server: Victim, kind: str, *, at: float, lasts: float, hold: threading.Event | None = None
    ) -> None:
        self.began: float | None = None
        self.hurt: float | None = None
        self.healing: float | None = None
        self.healed: float | None = None
        self.error: Exception | None = None
        self._hurt, self._heal = _ways(server)[kind]
        self._at = at
        self._lasts = lasts
        self._hold = hold
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        """Begin to wait for the time."""
        self._thread.start()

    def close(self) -> None:
        """Call off what has not happened yet; a server that is down then stays down."""
        self._cancelled.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - asked for by the scenario, in its own thread
            self.error = error

    def _run(self) -> None:
        if self._cancelled.wait(max(0.0, self._at - time.monotonic())):
            return
        self.began = time.monotonic()
        self._hurt()
        self.hurt = time.monotonic()
        if self._cancelled.wait(max(0.0, self.began + self._lasts - time.monotonic())):
            return
        if self._hold is not None and not self._held(self._hold):
            return
        self.healing = time.monotonic()
        self._heal()
        self.healed = time.monotonic()

    def _held(self, hold: threading.Event) -> bool:
        """Wait until healing may begin; False if it was called off meanwhile."""
        deadline = time.monotonic() + HELD_AT_MOST_S
        while not hold.is_set() and time.monotonic() < deadline:
            if self._cancelled.wait(_HELD_POLL_S):
                return False
        return not self._cancelled.is_set()


def _ways(server: Victim) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    return {
        "kill": (server.kill, server.start),
        "freeze": (server.freeze, server.thaw),
        "refuse": (server.stop, server.start),
    }


class Probe:
    """Pings a server ten times a second with a bare client, so that an outage is known from outside the managers.

    Args:
        url: The server.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=_PROBE_TIMEOUT_S, socket_connect_timeout=_PROBE_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._pings: list[tuple[float, float, bool]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to ping."""
        self._thread.start()

    def close(self) -> None:
        """Stop pinging."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._client.close()

    @property
    def away(self) -> bool:
        """Whether the last ping was not answered."""
        return bool(self._pings) and not self._pings[-1][2]

    def failed_between(self, start: float, end: float) -> bool:
        """Tell whether a ping of this time was not answered."""
        return any(not answered and start <= began <= end for began, _, answered in list(self._pings))

    def outage(self, since: float) -> tuple[float, float] | None:
        """Return when the server was away: from the first unanswered ping to the answer after the last one.

        Args:
            since: Earlier pings do not count.

        Returns:
            None without an unanswered ping; the end is infinite where no answer came any more.
        """
        pings = [ping for ping in list(self._pings) if ping[0] >= since]
        failed = [number for number, ping in enumerate(pings) if not ping[2]]
        if not failed:
            return None
        after = failed[-1] + 1
        return pings[failed[0]][0], pings[after][1] if after < len(pings) else float("inf")

    def _run(self) -> None:
        while not self._stopped.wait(_PROBE_EVERY_S):
            began = time.monotonic()
            try:
                answered = bool(self._client.ping())
            except redis.RedisError:
                answered = False
            self._pings.append((began, time.monotonic(), answered))
