"""What we ask of Redis: one small script that writes or deletes only while that is still wanted, and its time.

The script refuses once the server's clock has passed the call's *not-after*: an attempt that its caller has given up
may otherwise be applied seconds later, over a newer value (the kernel goes on delivering it). It compares what is
stored by digest, so nothing is ever re-encoded in Lua, whose cjson would change a record.
"""

from __future__ import annotations

import threading
from hashlib import sha1
from typing import Any, Final

from remanence.errors import LateWriteError, RemanenceError

__all__ = ["GUARDED_WRITE", "GUARDED_WRITE_SHA", "ServerTime", "arguments", "parse"]

GUARDED_WRITE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if now > tonumber(ARGV[3]) then return -now end
if ARGV[4] then
  local held = redis.call('GET', KEYS[1])
  local state = held and redis.sha1hex(held) or ''
  local allowed = false
  for i = 4, #ARGV do allowed = allowed or ARGV[i] == state end
  if not allowed then return held or '' end
end
if ARGV[2] == 'DEL' then
  if redis.call('DEL', KEYS[1]) == 0 then return 0 end
elseif ARGV[2] == '' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return now
"""
"""KEYS: the memory. ARGV: value; TTL in ms, '' for ever or 'DEL'; not-after in µs; the digests that may be replaced,
'' for absent (none of them: anything). Returns the server's time in µs when done, 0 when there was nothing to delete,
its negative when too late, and what is held ('' for nothing) when that is not one of the digests."""

_DRIFT: Final = 1_000.0
"""Microseconds a second by which two clocks may drift apart: each may be slewed by up to 500 (adjtimex(2))."""

GUARDED_WRITE_SHA: Final = sha1(GUARDED_WRITE.encode(), usedforsecurity=False).hexdigest()


def arguments(
    key: str, raw: bytes | None, ttl: float | None, not_after: int, guard: tuple[str, ...] | None
) -> tuple[Any, ...]:
    """Return the script's keys and arguments; `raw` None deletes."""
    mode: str | int = "DEL" if raw is None else "" if ttl is None else max(1, int(ttl * 1000))
    return (1, key, raw or b"", mode, not_after, *(guard or ()))


def parse(reply: Any) -> tuple[int, bytes | None]:
    """Return the server's time, 0 when there was nothing to delete, and what is held where the guard refused.

    Raises:
        LateWriteError: The server refused the write as too late.
        RemanenceError: The reply is not the script's.
    """
    if isinstance(reply, int):
        if reply >= 0:
            return reply, None
        raise LateWriteError(-reply)
    if isinstance(reply, str):
        return 1, reply.encode()
    if isinstance(reply, bytes):
        return 1, reply
    message = (
        f"the server answered the guarded write with {type(reply).__name__}. Whether it was written is unknown; is "
        "a proxy or a mock without scripts in between?"
    )
    raise RemanenceError(message)


class ServerTime:
    """The server's clock as seen from here: an interval that holds (server's time - our monotonic time), in µs.

    A reply that was sent for at `begin` and came at `end` and says `server` proves the offset to be within
    [server - end, server - begin]. Successive replies narrow it; one that contradicts (a clock was set, another server
    answers) replaces it; with time it widens by what two clocks may drift apart. The lower end is what a not-after is
    made of: too early is refused and repeated, too late could let an abandoned write through.

    Threads share it, and their connections need not lead to the same server: each `forget` begins a new *spell*, and
    what was asked for in an earlier one teaches nothing.

    Attributes:
        spell: Number of the spell.
    """

    __slots__ = ("_interval", "_lock", "spell")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced whole, so that `known` and `at` need no lock.
        self._interval: tuple[float, float, float] | None = None
        self.spell = 0

    @property
    def known(self) -> bool:
        """Whether there was a reply since the last `forget`."""
        return self._interval is not None

    def observe(self, server: int, begin: float, end: float, spell: int) -> None:
        """Learn from a reply.

        Args:
            server: The server's µs.
            begin: Our monotonic seconds before it was asked.
            end: And after its reply.
            spell: In which it was asked.
        """
        low, high = server - end * 1e6, server - begin * 1e6
        with self._lock:
            if spell != self.spell:
                return
            held = self._interval
            if held is not None:
                drifted = _DRIFT * max(0.0, end - held[2])
                held_low, held_high = held[0] - drifted, held[1] + drifted
                if low <= held_high and high >= held_low:
                    low, high = max(low, held_low), min(high, held_high)
            self._interval = (low, high, end)

    def forget(self) -> int:
        """Unlearn: the next connection may lead to another server. Return the number of the spell that begins."""
        with self._lock:
            self._interval = None
            self.spell += 1
            return self.spell

    def at(self, monotonic: float) -> int:
        """Return the server's µs just before our `monotonic` seconds, which are not before the last reply."""
        held = self._interval
        if held is None:
            return int(monotonic * 1e6)
        # Before that microsecond, not at it: from then on somebody else may have been told that it is over.
        return int(held[0] + monotonic * 1e6 - _DRIFT * max(0.0, monotonic - held[2])) - 1
