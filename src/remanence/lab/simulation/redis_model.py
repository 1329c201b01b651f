"""A model of Redis, as far as the managers use it, for simulations that need many servers with clocks of their own.

It answers the steps that `RedisBackend` yields; a state machine in the tests compares each answer with a real server's.
Where versions of Redis differ it is like 7.2 and Valkey 8: a script sees one time from beginning to end. A key lives
through the millisecond in which it expires (`keyIsExpired` in db.c), a replica has its own script cache.

Not modelled: what a server refuses before it looks at a command (LOADING, READONLY, OOM, NOAUTH; the simulation injects
it), other scripts than ours, clusters, clocks that are set back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from typing import Any, ClassVar, Final

from redis.exceptions import NoScriptError, ResponseError

from remanence.managers.redis_backend import Pipeline
from remanence.managers.redis_protocol import GUARDED_WRITE, GUARDED_WRITE_SHA
from remanence.record import ABSENT, digest

__all__ = ["RedisModel"]

_WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
_NOT_WHOLE: Final = "value is not an integer or out of range"
_LIMIT: Final = 2**63 - 1
_SECOND: Final = 1_000

# The same few values are compared again and again; the bound keeps a long simulation from holding every value.
_digest = lru_cache(maxsize=4_096)(digest)


class RedisModel:
    """A Redis of one database: strings and sets with TTLs, TIME, the guarded script, INFO, SCAN, restarts, failover.

    Args:
        now: Epoch seconds of the server's own clock, which may be wrong but does not go back; read once a command.
        run_id: What INFO gives as `run_id`.

    Attributes:
        now: As above.
        run_id: As above; `restart` replaces it.
        evictions: INFO's `evicted_keys`.
        on_write: Called after each change of a string key, with the key and the bytes before and after (None: no
            string). Rewriting the same bytes is a change too. Expiry is reported when it is noticed: when a command
            touches the key, or by `expire`; the methods for checks (`value`, `items`, `expiry`, `fingerprint`) do not
            count expired keys and report nothing.
    """

    __slots__ = ("_expiries", "_scripted", "_values", "evictions", "now", "on_write", "run_id")

    def __init__(self, *, now: Callable[[], float], run_id: str = "run-1") -> None:
        self.now = now
        self.run_id = run_id
        self.evictions = 0
        self.on_write: Callable[[str, bytes | None, bytes | None], None] | None = None
        self._values: dict[str, bytes | frozenset[bytes]] = {}
        self._expiries: dict[str, int] = {}  # epoch ms, for keys that have one
        self._scripted = False  # whether the script cache has ours, the only one that is sent

    def __repr__(self) -> str:
        return f"<RedisModel {self.run_id} keys={len(self._values)}>"

    def answer(self, step: Any) -> Any:
        """Do what `RedisBackend` yielded and return what redis-py's client would.

        Except for SMEMBERS, which gives a sorted list: the order of a set differs from process to process.

        Raises:
            redis.exceptions.ResponseError: The server refuses it; in a pipeline the error is among the replies.
            NotImplementedError: The managers do not send such a command, so the model does not know it.
        """
        if type(step) is Pipeline:
            return [self._settled(command) for command in step.commands]
        method = self._methods.get(step[0])
        if method is None:
            raise NotImplementedError(f"the model of Redis knows no client method {step[0]!r}: add it, and its test.")
        return method(self, *step[1:])

    def command(self, name: str, *args: Any) -> Any:
        """Do one command of a pipeline, such as ``command("GET", key)``, for those who deliver them one by one.

        Raises:
            redis.exceptions.ResponseError: The server refuses it.
            NotImplementedError: As for `answer`.
        """
        method = self._commands.get(name)
        if method is None:
            raise NotImplementedError(f"the model of Redis knows no command {name!r}: add it, and its test.")
        if args and type(args[0]) is bytes:  # a key that is not ours, as SCAN found it
            args = (args[0].decode(errors="surrogateescape"), *args[1:])
        return method(self, *args)

    def restart(self, *, keep_data: bool, run_id: str) -> None:
        """Come back with an empty script cache and new counters; without its data, with nothing at all.

        `on_write` is not told what was lost: nobody has written.
        """
        self.run_id = run_id
        self.evictions = 0
        self._scripted = False
        if not keep_data:
            self._values.clear()
            self._expiries.clear()

    def evict(self, key: str) -> None:
        """Drop a key as `maxmemory` does, and count it; does nothing where there is none."""
        if self._look_up(key, self._micros() // 1_000) is not None:
            self.evictions += 1
            self._remove(key)

    def expire(self) -> None:
        """Notice every key that has expired, as the server's own cycle does, and report them in order."""
        for key in sorted(self._expired()):
            self._remove(key)

    def flush_scripts(self) -> None:
        """Empty the script cache, as SCRIPT FLUSH does."""
        self._scripted = False

    def fork(self, *, now: Callable[[], float], run_id: str) -> RedisModel:
        """Return a replica that has what this server has now, to be promoted after whatever it misses.

        It has a run id, a clock and counters of its own, and expiries as absolute times. It knows no scripts: what
        EVAL brings along is not replicated (its effects are).
        """
        replica = RedisModel(now=now, run_id=run_id)
        replica._values = self._values.copy()  # shallow: the values are immutable
        replica._expiries = self._expiries.copy()
        return replica

    def value(self, key: str) -> bytes | None:
        """Return the string that is stored now; None for nothing, or for a set."""
        held = self._values.get(key)
        if type(held) is not bytes:
            return None
        return None if self._expiries.get(key, _LIMIT) < self._micros() // 1_000 else held

    def names(self, prefix: str = "") -> list[str]:
        """Return the keys that exist now, sets as well, sorted."""
        expired = self._expired()
        return sorted(key for key in self._values if key.startswith(prefix) and key not in expired)

    def items(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Give the strings that are stored now, sorted by key."""
        for key in self.names(prefix):
            held = self._values[key]
            if type(held) is bytes:
                yield key, held

    def expiry(self, key: str) -> int | None:
        """Return the last epoch ms in which the key exists; None where it never expires, or does not exist."""
        when = self._expiries.get(key)
        return None if when is None or when < self._micros() // 1_000 else when

    def fingerprint(self) -> Hashable:
        """Return a value that is equal for servers which cannot be told apart by any commands, their clocks aside."""
        values, expiries = self._values, self._expiries
        expired = self._expired()
        if expired:
            values = {key: value for key, value in values.items() if key not in expired}
            expiries = {key: when for key, when in expiries.items() if key not in expired}
        return (
            frozenset(values.items()),
            frozenset(expiries.items()),
            self._scripted,
            self.run_id,
            self.evictions,
        )

    def _settled(self, command: tuple[Any, ...]) -> Any:
        try:
            return self.command(*command)
        except ResponseError as error:
            return error

    def _micros(self) -> int:
        # Rounded: a float of epoch seconds cannot hold most decimal fractions, and truncated would be 1 µs off.
        return int(self.now() * 1e6 + 0.5)

    def _expired(self) -> set[str]:
        expiries = self._expiries
        if not expiries:
            return set()
        millis = self._micros() // 1_000
        return {key for key, when in expiries.items() if when < millis}

    def _look_up(self, key: str, millis: int) -> bytes | frozenset[bytes] | None:
        if self._expiries.get(key, _LIMIT) < millis:
            self._remove(key)
            return None
        return self._values.get(key)

    def _string(self, key: str, millis: int) -> bytes | None:
        held = self._look_up(key, millis)
        if held is not None and type(held) is not bytes:
            raise ResponseError(_WRONG_TYPE)
        return held

    def _members(self, key: str, millis: int) -> frozenset[bytes]:
        held = self._look_up(key, millis)
        if held is None:
            return frozenset()
        if type(held) is bytes:
            raise ResponseError(_WRONG_TYPE)
        return held  # type: ignore[return-value]  # all that is not bytes

    def _remove(self, key: str) -> None:
        before = self._values.pop(key)
        self._expiries.pop(key, None)
        if self.on_write is not None and type(before) is bytes:
            self.on_write(key, before, None)

    def _write(self, key: str, raw: bytes, expiry: int | None, millis: int) -> None:
        before = self._look_up(key, millis)  # what had expired is reported as that, not as replaced
        self._values[key] = raw
        if expiry is None:
            self._expiries.pop(key, None)
        else:
            self._expiries[key] = expiry
        if self.on_write is not None:
            self.on_write(key, before if type(before) is bytes else None, raw)

    def _get(self, key: str) -> bytes | None:
        return self._string(key, self._micros() // 1_000)

    def _set(self, key: str, raw: Any, unit: str | None = None, amount: Any = None) -> bool:
        millis = self._micros() // 1_000
        if unit is None:
            expiry = None
        elif unit == "EX":
            expiry = _expiry(amount, _SECOND, millis, "set")
        else:
            raise NotImplementedError(f"the model of Redis knows no option {unit!r} of SET: add it, and its test.")
        self._write(key, _bytes(raw), expiry, millis)
        return True

    def _setex(self, key: str, seconds: Any, raw: Any) -> bool:
        millis = self._micros() // 1_000
        self._write(key, _bytes(raw), _expiry(seconds, _SECOND, millis, "setex"), millis)
        return True

    def _psetex(self, key: str, ttl: Any, raw: Any) -> bool:
        millis = self._micros() // 1_000
        self._write(key, _bytes(raw), _expiry(ttl, 1, millis, "psetex"), millis)
        return True

    def _delete(self, *keys: str) -> int:
        if not keys:
            raise ResponseError("wrong number of arguments for 'del' command")
        millis = self._micros() // 1_000
        found = 0
        for key in keys:
            if self._look_up(key, millis) is not None:
                self._remove(key)
                found += 1
        return found

    def _add(self, key: str, *members: Any) -> int:
        held = self._members(key, self._micros() // 1_000)
        new = held.union(map(_bytes, members))
        self._values[key] = new
        return len(new) - len(held)

    def _forget(self, key: str, *members: Any) -> int:
        held = self._members(key, self._micros() // 1_000)
        left = held.difference(map(_bytes, members))
        if left:
            self._values[key] = left
        elif held:
            self._remove(key)
        return len(held) - len(left)

    def _smembers(self, key: str) -> list[bytes]:
        return sorted(self._members(key, self._micros() // 1_000))

    def _expire(self, key: str, seconds: Any) -> bool:
        millis = self._micros() // 1_000
        amount = _whole(seconds)
        # The argument is refused before the key is looked for.
        expiry = None if amount <= 0 else _expiry(amount, _SECOND, millis, "expire")
        if self._look_up(key, millis) is None:
            return False
        if expiry is None:
            self._remove(key)
        else:
            self._expiries[key] = expiry
        return True

    def _time(self) -> tuple[int, int]:
        return divmod(self._micros(), 1_000_000)

    def _info(self, section: str) -> dict[str, Any]:
        if section == "server":
            return {"run_id": self.run_id}
        if section == "stats":
            return {"evicted_keys": self.evictions}
        raise NotImplementedError(f"the model of Redis knows no INFO {section!r}: add it, and its test.")

    def _scan(self, cursor: Any, pattern: str, count: int) -> tuple[int, list[bytes]]:
        # In the order of a hash, so that a cursor means the same place whatever comes and goes between two pages.
        start = int(cursor)
        places = sorted((place, name) for place, name in map(_place, self.names()) if place >= start)
        page, rest = places[:count], places[count:]
        matches = _glob(pattern).fullmatch
        return (rest[0][0] if rest else 0), [name for _, name in page if matches(name)]

    def _execute_command(self, name: str, *args: Any) -> Any:
        if name == "EVALSHA":
            return self._evalsha(*args)
        if name == "EVAL":
            return self._eval(*args)
        return self.command(name, *args)

    def _eval(self, script: str, *args: Any) -> int | bytes:
        if script != GUARDED_WRITE:
            raise NotImplementedError("the model of Redis knows one script, the guarded write; this is another.")
        self._scripted = True
        return self._guarded_write(*args)

    def _evalsha(self, sha: str, *args: Any) -> int | bytes:
        if not self._scripted or sha != GUARDED_WRITE_SHA:
            raise NoScriptError("No matching script.")
        return self._guarded_write(*args)

    def _guarded_write(self, _: int, key: str, raw: bytes, mode: str | int, not_after: int, *guard: str) -> int | bytes:
        """Do what `redis_protocol.GUARDED_WRITE` says, line by line."""
        now = self._micros()
        if now > not_after:
            return -now
        millis = now // 1_000
        if guard:
            held = self._string(key, millis)
            state = ABSENT if held is None else _digest(held)
            if state not in guard:
                return held or b""
        if mode == "DEL":
            if self._look_up(key, millis) is None:
                return 0
            self._remove(key)
        elif mode == "":
            self._write(key, raw, None, millis)
        else:
            self._write(key, raw, _expiry(mode, 1, millis, "set"), millis)
        return now

    # At the end, for they are made of what is above.
    _methods: ClassVar[dict[str, Callable[..., Any]]] = {
        "delete": _delete,
        "execute_command": _execute_command,
        "get": _get,
        "info": _info,
        "psetex": _psetex,
        "scan": _scan,
        "set": _set,
        "setex": _setex,
        "time": _time,
    }
    _commands: ClassVar[dict[str, Callable[..., Any]]] = {
        "DEL": _delete,
        "EVAL": _eval,
        "EVALSHA": _evalsha,
        "EXPIRE": _expire,
        "GET": _get,
        "SADD": _add,
        "SET": _set,
        "SMEMBERS": _smembers,
        "SREM": _forget,
    }


def _bytes(value: Any) -> bytes:
    """Return what redis-py sends for a value."""
    return value if type(value) is bytes else str(value).encode()


def _whole(number: Any) -> int:
    whole = int(number)
    if not -_LIMIT - 1 <= whole <= _LIMIT:
        raise ResponseError(_NOT_WHOLE)
    return whole


def _expiry(amount: Any, unit: int, millis: int, command: str) -> int:
    """Return the epoch ms at which a TTL ends; the bounds are those of Redis (t_string.c, expire.c)."""
    ttl = _whole(amount) * unit
    if ttl <= 0 or ttl > _LIMIT - millis:
        raise ResponseError(f"invalid expire time in '{command}' command")
    return millis + ttl


@lru_cache(maxsize=4_096)
def _place(key: str) -> tuple[int, bytes]:
    name = key.encode(errors="surrogateescape")
    return int(digest(name)[:12], 16), name


@lru_cache(maxsize=64)
def _glob(pattern: str) -> re.Pattern[bytes]:
    """Translate a pattern of SCAN: escaped characters stand for themselves, a star for anything."""
    parts = []
    for part in re.findall(rb"\\.|.", pattern.encode(), re.DOTALL):
        if part in {b"?", b"["}:
            raise NotImplementedError(f"the model of Redis knows no {part!r} in a pattern: add it, and its test.")
        parts.append(b".*" if part == b"*" else re.escape(part[-1:]))
    return re.compile(b"".join(parts), re.DOTALL)
