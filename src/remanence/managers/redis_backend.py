"""The operations' backend on Redis: yields redis-py calls, `("method", *args)`, and `Pipeline`s of commands."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from remanence.clock import Clock
from remanence.errors import CorruptRecordError, LateWriteError
from remanence.flow import Call, Flow, KeptCopy, WriteItem
from remanence.interface import ConversationMemoryType
from remanence.managers.redis_connection import ATTEMPT, Attempt, NewConnectionError
from remanence.managers.redis_protocol import GUARDED_WRITE, GUARDED_WRITE_SHA, ServerTime, arguments, parse
from remanence.record import decode, split_key
from remanence.results import DELETION, Conflict, copy_digest

__all__ = ["Pipeline", "RedisBackend", "escaped"]

_log = logging.getLogger("remanence")

CONFLICT_PREFIX = "remanence-conflict"
INDEX_PREFIX = "remanence-conflicts"
_SCAN_COUNT = 1_000
_BY_DIGEST = ("EVALSHA", GUARDED_WRITE_SHA)
_IN_FULL = ("EVAL", GUARDED_WRITE)
_TYPES = frozenset(ConversationMemoryType)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands to send in one go; the result is a list of replies and exceptions."""

    commands: Sequence[tuple[Any, ...]]


class RedisBackend:
    """See `operate.Backend`.

    Args:
        prefix: Prefix of the memories' keys.
        max_memory_bytes: Limit of an encoded record.
        clock: Must be the machine's for connections that are ours: sockets know no other time.
    """

    def __init__(self, *, prefix: str, max_memory_bytes: int, clock: Clock) -> None:
        self.prefix = prefix
        self.max_memory_bytes = max_memory_bytes
        self.clock = clock
        self.server_time = ServerTime()
        # Managers with other prefixes in the same database have copies of their own.
        own = "" if prefix == "memory" else f"-{prefix}"
        self._copies, self._index = f"{CONFLICT_PREFIX}{own}", f"{INDEX_PREFIX}{own}"

    def read(self, call: Call, key: str) -> Flow:  # noqa: ARG002 - one shape for all backends
        """Give the stored bytes, None for nothing."""
        try:
            return _bytes_or_none((yield ("get", key)))
        except BaseException:
            _nothing_sent()
            raise

    def put(self, call: Call, key: str, raw: bytes, ttl: float | None) -> Flow:  # noqa: ARG002
        """Write as the reference does."""
        if ttl is None:
            yield ("set", key, raw)
        elif ttl == int(ttl):
            yield ("setex", key, int(ttl), raw)
        else:
            yield ("psetex", key, max(1, int(ttl * 1000)), raw)

    def discard(self, call: Call, key: str) -> Flow:  # noqa: ARG002
        """Delete as the reference does."""
        return bool((yield ("delete", key)))

    def write(self, call: Call, item: WriteItem) -> Flow:
        """Write or delete by the guarded script."""
        # One generator rather than three: this is on the path of every write.
        monotonic, server_time, script, late = self.clock.monotonic, self.server_time, _BY_DIGEST, False
        while True:
            if not server_time.known:
                yield from self._learn_time()
            attempt = self._attempt(timed=True)
            args = arguments(item.key, item.raw, item.ttl, self._not_after(call), item.guard)
            begin = monotonic()
            try:
                reply = yield ("execute_command", *script, *args)
            except NewConnectionError:
                continue
            except NoScriptError:
                if script is _IN_FULL:
                    raise
                script = _IN_FULL
                continue
            if type(reply) is int and reply > 1:
                server_time.observe(reply, begin, monotonic(), attempt.spell)
                return None
            try:
                return self._settle(reply, begin, attempt.spell)
            except LateWriteError:
                # Refused for certain. The reply told the server's time, so a wrong estimate is put right; a late call
                # is late again.
                if late:
                    raise
                late = True

    def _settle(self, reply: Any, begin: float, spell: int) -> bytes | None:
        try:
            server, held = parse(reply)
        except LateWriteError as late:
            self.server_time.observe(late.server_time, begin, self.clock.monotonic(), spell)
            raise
        if server > 1:
            self.server_time.observe(server, begin, self.clock.monotonic(), spell)
        return b"" if server == 0 else held

    def _learn_time(self) -> Flow:
        while not self.server_time.known:  # asked again where another thread has opened a connection meanwhile
            attempt = self._attempt(timed=False)
            begin = self.clock.monotonic()
            try:
                seconds, micros = yield ("time",)
            except BaseException:
                attempt.sent = False
                raise
            self.server_time.observe(seconds * 1_000_000 + micros, begin, self.clock.monotonic(), attempt.spell)

    def _attempt(self, *, timed: bool) -> Attempt:
        """Return the attempt that is under way, as it makes a command that carries a time of the server, or none."""
        attempt = ATTEMPT.get()
        if attempt is None:
            attempt = Attempt(float("inf"), self.server_time)
        attempt.spell, attempt.timed = self.server_time.spell, timed
        return attempt

    def _not_after(self, call: Call) -> int:
        """Return the last of the server's time at which the attempt is not given up here."""
        attempt = ATTEMPT.get()
        deadline = attempt.deadline if attempt is not None else call.deadline
        return self.server_time.at(deadline if deadline is not None else self.clock.monotonic() + 1.0)

    def read_many(self, call: Call, keys: Sequence[str]) -> Flow:  # noqa: ARG002
        """Read by a pipeline of GETs, which a cluster can split."""
        replies = yield Pipeline([("GET", key) for key in keys])
        return [reply if isinstance(reply, Exception) else _bytes_or_none(reply) for reply in replies]

    def write_many(self, call: Call, items: Sequence[WriteItem], *, again: bool = False) -> Flow:
        """Write by a pipeline; the first command brings the script along, so no other can miss it.

        Args:
            call: The call.
            items: The writes.
            again: Whether late ones have been repeated already.
        """
        if not items:
            return []
        begin, replies, attempt = 0.0, None, self._attempt(timed=False)
        while replies is None:
            if not self.server_time.known:
                yield from self._learn_time()
            attempt = self._attempt(timed=True)
            commands = self._write_commands(items, self._not_after(call))
            begin = self.clock.monotonic()
            with suppress(NewConnectionError):
                replies = yield Pipeline(commands)
        results = [self._settle_item(reply, begin, attempt.spell) for reply in replies]
        # The first was refused before its script was looked at, for want of a permission on its key; or the estimate
        # of the server's time was wrong, which the refusal has put right.
        missed = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if not again:
            missed += [n for n, result in enumerate(results) if isinstance(result, LateWriteError)]
        if missed:
            repeated = yield from self.write_many(call, [items[place] for place in missed], again=True)
            for place, result in zip(missed, repeated, strict=True):
                results[place] = result
        return results

    def _write_commands(self, items: Sequence[WriteItem], not_after: int) -> list[tuple[Any, ...]]:
        commands: list[tuple[Any, ...]] = [
            (*_BY_DIGEST, *arguments(item.key, item.raw, item.ttl, not_after, item.guard)) for item in items
        ]
        commands[0] = (*_IN_FULL, *commands[0][2:])
        return commands

    def _settle_item(self, reply: Any, begin: float, spell: int) -> bytes | Exception | None:
        if isinstance(reply, Exception):
            return reply
        if type(reply) is int and reply > 1:
            return None
        try:
            return self._settle(reply, begin, spell)
        except Exception as error:  # noqa: BLE001 - a batch settles per item
            return error

    def keep(self, call: Call, copies: Sequence[KeptCopy]) -> Flow:  # noqa: ARG002
        """Write the copies, each under a key of its own, and the index by which a delete finds them."""
        commands: list[tuple[Any, ...]] = []
        for copy in copies:
            raw = copy.raw if copy.raw is not None else DELETION
            index, name, ttl = self.index_of(copy.key), copy_digest(copy.raw), max(1, int(copy.ttl))
            commands += [
                ("SADD", index, name),
                ("EXPIRE", index, ttl),
                ("SET", f"{self.copies_of(copy.key)}:{name}", raw, "EX", ttl),
            ]
        replies = yield Pipeline(commands)
        return [
            next((reply for reply in replies[i : i + 3] if isinstance(reply, Exception)), None)
            for i in range(0, len(replies), 3)
        ]

    def kept(self, call: Call, cursor: int) -> Flow:  # noqa: ARG002
        """Scan for a page of copies: the whole keyspace would outlast any deadline."""
        following, found = yield ("scan", cursor, f"{escaped(self._copies)}:*", _SCAN_COUNT)
        keys = [_name(key) for key in found]
        raws = (yield Pipeline([("GET", key) for key in keys])) if keys else []
        conflicts = [_conflict(self._copies, _text(key), raw) for key, raw in zip(keys, raws, strict=True)]
        readable = [conflict for conflict in conflicts if conflict is not None]
        if len(readable) < len(keys):
            _log.warning("%d key(s) named like conflict copies cannot be read as such.", len(keys) - len(readable))
        return readable, int(following)

    def drop_kept(self, call: Call, *keys: str) -> Flow:  # noqa: ARG002
        """Delete the copies that the indexes name: each by its digest, so that none goes that comes later."""
        self._attempt(timed=False)
        try:
            replies = yield Pipeline([("SMEMBERS", self.index_of(key)) for key in keys])
        except BaseException:
            _nothing_sent()  # the deletions before were answered
            raise
        commands: list[tuple[Any, ...]] = []
        for key, names in zip(keys, replies, strict=True):
            if names and not isinstance(names, Exception):
                copies = self.copies_of(key).encode()
                commands += [("DEL", copies + b":" + _name(name)) for name in names]
                commands.append(("SREM", self.index_of(key), *names))
        if commands:
            yield Pipeline(commands)
        return {key: reply for key, reply in zip(keys, replies, strict=True) if isinstance(reply, Exception)}

    def drop(self, call: Call, key: str, name: str) -> Flow:  # noqa: ARG002
        """Delete one copy, and only then its name in the index: without it a delete would not find the copy."""
        copy, index = f"{self.copies_of(key)}:{name}", self.index_of(key)
        yield ("execute_command", "DEL", copy.encode(errors="surrogateescape"))
        yield (
            "execute_command",
            "SREM",
            *(part.encode(errors="surrogateescape") for part in (index, name)),
        )

    def copies_of(self, key: str) -> str:
        """Return what the keys of a memory's conflict copies begin with, up to the colon and the digest."""
        return f"{self._copies}:{key.removeprefix(f'{self.prefix}:')}"

    def index_of(self, key: str) -> str:
        """Return the key of the set that holds the digests of a memory's conflict copies."""
        return f"{self._index}:{key.removeprefix(f'{self.prefix}:')}"

    def identify(self, call: Call) -> Flow:  # noqa: ARG002
        """Give run id and evictions; None where INFO is not permitted."""
        try:
            server = yield ("info", "server")
            stats = yield ("info", "stats")
        except RedisError:
            return None
        try:
            return (str(server["run_id"]), int(stats["evicted_keys"]))
        except (KeyError, TypeError, ValueError):
            return None


def _nothing_sent() -> None:
    """What an attempt has asked so far changes nothing: however it failed, there is nothing to wait for."""
    attempt = ATTEMPT.get()
    if attempt is not None:
        attempt.sent = False


def _bytes_or_none(reply: Any) -> bytes | None:
    """A client with decode_responses gives str."""
    return reply.encode() if isinstance(reply, str) else reply


def escaped(text: str) -> str:
    """Take the pattern's meaning from its characters."""
    return re.sub(r"([*?\[\]^\\])", r"\\\1", text)


def _name(reply: Any) -> bytes:
    """Whoever wrote it, a name need not be text; redis-py sends bytes as they are."""
    return reply if isinstance(reply, bytes) else str(reply).encode()


def _text(reply: Any) -> str:
    return reply.decode(errors="surrogateescape") if isinstance(reply, bytes) else str(reply)


def _conflict(copies: str, key: str, raw: Any) -> Conflict | None:
    held = _bytes_or_none(raw) if not isinstance(raw, Exception) else None
    memory_type, body = split_key(copies, key)
    if held is None or memory_type not in _TYPES:
        return None
    conversation_id, _, name = body.rpartition(":")
    try:
        record = None if held == DELETION else decode(held, key)
    except CorruptRecordError:
        return None
    return Conflict(
        conversation_id=conversation_id,
        memory_type=ConversationMemoryType(memory_type),
        text=None if record is None else record.text,
        digest=name,
        last_update=None if record is None else record.last_update,
        metadata={} if record is None else record.metadata,
    )
