"""A real server and its model side by side: every step goes to both, and every answer has to be the same.

The real server's clock runs by itself, so the model's is set from it before each step. "The same" is therefore meant
within the real time that the step took and `MARGIN`; how much time passes between steps is the test's to say: it
moves the model's clock on, and brings the real server's expiries nearer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from remanence import RedisWorkingMemoryManager
from remanence.clock import SYSTEM_CLOCK, Clock
from remanence.errors import RemanenceError
from remanence.flow import Call, Flow
from remanence.lab import RedisServer
from remanence.lab.simulation.redis_model import RedisModel
from remanence.managers.operate import operate
from remanence.managers.redis_backend import Pipeline, RedisBackend
from remanence.managers.redis_protocol import GUARDED_WRITE, GUARDED_WRITE_SHA
from remanence.record import version_of
from remanence.results import Conflict, Memories, Receipt

__all__ = ["Held", "Huge", "Later", "Twins", "agree", "url_client"]

MARGIN: Final = 0.005
"""Seconds: a server reads its clock in steps of 1 ms, and two readings of one clock may differ by a little."""

MAX_BYTES: Final = 4_096
_INSTANT: Final = 10**12
"""Greater numbers are times in µs: the smallest that the tests meet is now, the greatest other number a count."""

_DUMP: Final = """
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local evictions = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
local out = {{run_id, tonumber(evictions)}}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local body
  if redis.call('TYPE', key).ok == 'string' then
    body = redis.sha1hex(redis.call('GET', key))
  else
    body = redis.call('SMEMBERS', key)
    table.sort(body)
  end
  out[#out + 1] = {key, body, redis.call('PEXPIRETIME', key)}
end
return out
"""
_BRING_NEARER: Final = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local when = redis.call('PEXPIRETIME', key)
  if when > 0 then redis.call('PEXPIREAT', key, when - ARGV[1]) end
end
"""


@dataclass(frozen=True)
class Later:
    """Stands for a not-after so many hours from now, each side's own now."""

    hours: int


@dataclass(frozen=True)
class Held:
    """Stands for the digest of what is stored under a key."""

    key: str


@dataclass(frozen=True)
class Huge:
    """Stands for so many bytes, which no report of a failure should spell out."""

    size: int


class _ModelClock:
    """The model's server and its clients have one clock, set by the twins."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def time(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.seconds += seconds


class Twins:
    """A real server, emptied, and a model of it.

    Args:
        server: Taken over: it is flushed, restarted and reconfigured.
        connect: Makes the client from the server's URL.
        script: What the real server is given for our script, to see that a wrong one is noticed.
    """

    def __init__(
        self, server: RedisServer, connect: Callable[[str], Any] | None = None, *, script: str = GUARDED_WRITE
    ) -> None:
        self._server = server
        self._control = url_client(server.url)
        options = {} if connect is None else {"client": connect(server.url)}
        self._manager = RedisWorkingMemoryManager(**options or {"storage_url": server.url}, timeout=20)
        sha = sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._other = {GUARDED_WRITE: script, GUARDED_WRITE_SHA: sha}
        self._clock = _ModelClock()
        self.passed = 0  # seconds
        self.slack = MARGIN
        self._control.flushall()
        self._control.script_flush()
        self._control.config_resetstat()
        self.model = RedisModel(now=self._clock.time, run_id=self._run_id())
        self._held: dict[str, bytes] = {}
        self._backends: dict[str, tuple[RedisBackend, RedisBackend]] = {}

    def close(self) -> None:
        """Close the connections."""
        self._disconnect()

    def step(self, step: Any) -> None:
        """Send one step as a flow of the manager's would, and compare the answers."""
        self._compare(lambda is_model: _one(self._resolve(step, is_model=is_model)))

    def operation(self, prefix: str, build: Callable[[], Call], *, hours: int) -> None:
        """Carry out an operation on both sides, its deadline so many hours from now, and compare the results."""
        backends = self._backends.setdefault(prefix, (self._backend(prefix, SYSTEM_CLOCK), self._backend(prefix)))

        def flow(is_model: bool) -> Flow:  # noqa: FBT001 - which of the two
            call = build()
            backend = backends[is_model]
            call.deadline = backend.clock.monotonic() + hours * 3_600
            return operate(backend, call)

        self._compare(flow)

    def scan(self, pattern: str, count: int) -> None:
        """Compare what whole scans find: where a page ends is the server's own affair."""
        found: list[set[bytes]] = []
        for ask in (self._ask_real, self._ask_model):
            self._set_clock()
            cursor, names = ask(_one(("scan", 0, pattern, count)))
            everything = set(names)
            while cursor:
                cursor, names = ask(_one(("scan", cursor, pattern, count)))
                everything.update(names)
            found.append(everything)
        assert found[0] == found[1], f"SCAN {pattern!r}: {found[0]} on the server, {found[1]} on the model"

    def pass_time(self, seconds: int) -> None:
        """Let time pass for the keys: on the real server their expiries come nearer instead."""
        self._control.eval(_BRING_NEARER, 0, seconds * 1_000)
        self.passed += seconds

    def expire(self) -> None:
        """Let the model notice what has expired; the server has, when its expiries came nearer."""
        self._set_clock()
        self.model.expire()

    def flush_scripts(self) -> None:
        """Empty both script caches."""
        self._control.script_flush()
        self.model.flush_scripts()

    def restart(self, *, keep_data: bool) -> None:
        """Restart both."""
        self._disconnect()
        self._server.restart(keep_data=keep_data)
        self.model.restart(keep_data=keep_data, run_id=self._run_id())

    def evict_all(self) -> None:
        """Let the server evict all that it has, by a memory limit that nothing fits in."""
        self._set_clock()
        self._control.config_set("maxmemory-policy", "allkeys-random")
        self._control.config_set("maxmemory", 1)
        deadline = time.monotonic() + 10
        while self._control.dbsize():
            assert time.monotonic() < deadline, "waited 10 s until the server had evicted everything"
        self._control.config_set("maxmemory", 0)
        for key in self.model.names():
            self.model.evict(key)

    def check_state(self) -> None:
        """Compare the counters and the complete key space: keys, types, values, expiries."""
        self._set_clock()
        (run_id, evictions), *found = self._control.eval(_DUMP, 0)
        assert (run_id.decode(), evictions) == (self.model.run_id, self.model.evictions)
        real = {key.decode(): (body, when) for key, body, when in found}
        names = self.model.names()
        assert sorted(real) == names, f"the server has {sorted(real)}, the model {names}"
        for key, (body, when) in real.items():
            value = self.model.value(key)
            expected = self.model.command("SMEMBERS", key) if value is None else sha1(value).hexdigest().encode()  # noqa: S324
            assert body == expected, f"{key}: {body!r} on the server, {expected!r} in the model"
            expiry = self.model.expiry(key)
            assert (when < 0) == (expiry is None), f"{key}: expires at {when} on the server, {expiry} in the model"
            off = 0 if expiry is None else abs(when + self.passed * 1_000 - expiry)
            assert off <= self.slack * 1e3, f"{key}: expires {off} ms apart"

    def _compare(self, flow: Callable[[bool], Flow]) -> None:
        begin = self._set_clock()
        self._held = dict(self.model.items())  # before either side changes it
        model = self._ask_model(flow(True))
        real = self._ask_real(flow(False))
        self.slack = max(self.slack, time.time() - begin + MARGIN)
        assert agree(real, model, self.passed, self.slack), (
            f"the server answered {real!r:.999}, the model {model!r:.999}"
        )

    def _ask_real(self, flow: Flow) -> Any:
        return _outcome(lambda: self._manager._drive(_translated(flow, self._other)))

    def _ask_model(self, flow: Flow) -> Any:
        return _outcome(lambda: _drive(self.model, flow))

    def _set_clock(self) -> float:
        begin = time.time()
        self._clock.seconds = begin + self.passed
        return begin

    def _resolve(self, step: Any, *, is_model: bool) -> Any:
        if isinstance(step, Pipeline):
            return Pipeline([self._resolve(command, is_model=is_model) for command in step.commands])
        seconds = self._clock.seconds if is_model else time.time()
        return tuple(self._resolve_part(part, int(seconds * 1e6)) for part in step)

    def _resolve_part(self, part: Any, micros: int) -> Any:
        if isinstance(part, Later):
            return micros + part.hours * 3_600_000_000
        if isinstance(part, Held):
            return version_of(self._held.get(part.key))
        return bytes(part.size) if isinstance(part, Huge) else part

    def _backend(self, prefix: str, clock: Clock | None = None) -> RedisBackend:
        return RedisBackend(prefix=prefix, max_memory_bytes=MAX_BYTES, clock=clock or self._clock)

    def _run_id(self) -> str:
        return str(self._control.info("server")["run_id"])

    def _disconnect(self) -> None:
        self._manager.redis_client.close()
        self._control.close()


def url_client(url: str) -> Any:
    """Return redis-py's own client, as a user may hand it in."""
    return redis.from_url(url, retry=Retry(NoBackoff(), 0))


def agree(real: Any, model: Any, passed: int, slack: float) -> bool:
    """Whether two answers are the same: the model's times are `passed` seconds ahead, within `slack`."""
    if isinstance(model, Exception):
        # The server's script errors go on to say where; and which time an error tells is compared nowhere.
        return (
            type(real) is type(model)
            and str(real).startswith(str(model)[:100])
            and getattr(real, "current", None) == getattr(model, "current", None)
            and getattr(real, "raw", None) == getattr(model, "raw", None)
        )
    if isinstance(model, Receipt | Memories | Conflict):
        return bool(_told(real) == _told(model))
    if isinstance(model, dict):
        return all(agree(real.get(name), value, passed, slack) for name, value in model.items())
    if isinstance(model, list | tuple):
        return (
            isinstance(real, list | tuple)
            and len(real) == len(model)
            and all(
                agree(one, other, passed, slack) for one, other in zip(_ordered(real), _ordered(model), strict=True)
            )
        )
    if type(model) is int and abs(model) > _INSTANT:
        return (
            type(real) is int
            and (real > 0) == (model > 0)
            and abs(abs(model) - abs(real) - passed * 1_000_000) <= slack * 1e6
        )
    # The manager's own client leaves "OK" as it is.
    return bool((True if real == b"OK" else real) == model) and (real is None) == (model is None)


def _ordered(answers: Sequence[Any]) -> Sequence[Any]:
    """A scan gives conflict copies and names in any order."""
    if answers and all(isinstance(answer, Conflict) for answer in answers):
        return sorted(answers, key=lambda copy: (copy.conversation_id, copy.digest))
    return answers


def _told(result: Any) -> Any:
    """Everything that a result tells its caller."""
    if isinstance(result, Receipt):
        return (str(result), result.outcome, result.raw)
    if isinstance(result, Memories):
        return (list(result), result.source, result.version, result.metadata, result.created_at, result.last_update)
    return result


def _outcome(work: Callable[[], Any]) -> Any:
    """Return what `work` returns; an error is an answer as well."""
    try:
        result = work()
    except (ResponseError, RemanenceError) as error:
        return error
    except RedisError as error:
        raise AssertionError(f"the server did not answer: {type(error).__name__}") from error
    return _instant(result)


def _instant(result: Any) -> Any:
    """TIME in µs: seconds and the rest apart could not be compared."""
    is_time = isinstance(result, tuple) and len(result) == 2 and all(type(part) is int for part in result)
    return result[0] * 1_000_000 + result[1] if is_time else result


def _one(step: Any) -> Flow:
    return (yield step)


def _drive(model: RedisModel, flow: Flow) -> Any:
    try:
        step = next(flow)
        while True:
            try:
                result = model.answer(step)
            except ResponseError as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value


def _translated(flow: Flow, other: dict[str, str]) -> Flow:
    """Give another script, or its digest, for ours in every step; and the members of a set in the model's order."""

    def translate(step: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(other.get(part, part) if isinstance(part, str) else part for part in step)

    try:
        step = next(flow)
        while True:
            is_pipeline = isinstance(step, Pipeline)
            try:
                result = (
                    yield Pipeline([translate(command) for command in step.commands])
                    if is_pipeline
                    else translate(step)
                )
            except ResponseError as error:
                step = flow.throw(error)
            else:
                if is_pipeline:
                    result = [sorted(reply) if isinstance(reply, set | list) else reply for reply in result]
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value
