"""Writes that are refused when somebody else wrote, or when they come too late; on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from remanence import (
    InvalidInputError,
    LateWriteError,
    RedisWorkingMemoryManager,
    RemanenceError,
    VersionConflictError,
)
from remanence.flow import Call, WriteItem
from remanence.lab import RedisServer
from remanence.managers.redis_protocol import GUARDED_WRITE_SHA, ServerTime, arguments, parse
from remanence.operations import ANY_VERSION
from remanence.record import ABSENT, digest, encode

KEY = "memory:WORKING_MEMORY:c"
CANARY = "canary-7f3a"


def item(text: str = "text", conversation_id: str = "c", **more: Any) -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation_id, "working_memory": text, **more}


@pytest.fixture
def manager(redis_url: str) -> Iterator[RedisWorkingMemoryManager]:
    """A bare manager on an empty server, patient with a busy machine."""
    with RedisWorkingMemoryManager(redis_url, timeout=10.0) as manager:
        yield manager


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    """A client that looks at what is stored."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


class TestVersions:
    """`if_version`: any, none, this one."""

    def test_any_version_replaces_whatever_is_there(self, manager: RedisWorkingMemoryManager) -> None:
        """The default is the reference's unconditional store."""
        manager.store(item("one"))
        assert manager.store(item("two"), if_version=ANY_VERSION).outcome == "committed"
        assert manager.retrieve(item())[0].working_memory == "two"

    def test_none_writes_only_where_nothing_is(self, manager: RedisWorkingMemoryManager) -> None:
        """None means absent, so the first writer wins."""
        assert manager.store(item("one"), if_version=None).outcome == "committed"
        with pytest.raises(VersionConflictError):
            manager.store(item("two"), if_version=None)
        assert manager.retrieve(item())[0].working_memory == "one"

    def test_a_version_writes_only_over_itself(self, manager: RedisWorkingMemoryManager) -> None:
        """A token, of a receipt or of a read, is good once."""
        receipt = manager.store(item("one"))
        second = manager.store(item("two"), if_version=receipt.version)
        assert second.version == manager.retrieve(item()).version != receipt.version
        for write in (manager.store, manager.update):
            with pytest.raises(VersionConflictError, match="What is stored was kept"):
                write(item("three"), if_version=receipt.version)
        assert manager.update(item("four"), if_version=second.version).outcome == "committed"
        assert manager.retrieve(item())[0].working_memory == "four"

    def test_a_version_of_something_gone_is_stale(self, manager: RedisWorkingMemoryManager) -> None:
        """Deleted is changed."""
        version = manager.store(item("one")).version
        manager.delete(item())
        for write in (manager.store, manager.update):
            with pytest.raises(VersionConflictError):
                write(item("two"), if_version=version)
        assert not manager.retrieve(item())

    def test_an_update_if_absent_is_missing_or_in_conflict(self, manager: RedisWorkingMemoryManager) -> None:
        """There is nothing that such an update could change, and it says which."""
        assert manager.update(item("one"), if_version=None).outcome == "missing"
        manager.store(item("one"))
        with pytest.raises(VersionConflictError):
            manager.update(item("two"), if_version=None)

    @pytest.mark.parametrize("version", ["", 5, b"0" * 40, False])
    def test_what_is_no_version_is_refused(self, manager: RedisWorkingMemoryManager, raw: Any, version: Any) -> None:
        """Neither a token nor None: refused before anything is written."""
        for write in (manager.store, manager.update):
            with pytest.raises(InvalidInputError, match="Nothing was written"):
                write(item("one"), if_version=version)
        assert raw.dbsize() == 0

    def test_a_conflict_hides_what_is_stored(self, manager: RedisWorkingMemoryManager) -> None:
        """The bytes come along as an attribute for the library; the message does not show them."""
        stored = manager.store(item(CANARY, CANARY))
        with pytest.raises(VersionConflictError) as caught:
            manager.store(item("two", CANARY), if_version="0" * 40)
        assert caught.value.current == stored.raw
        assert CANARY not in f"{caught.value} {caught.value!r}"


class TestScript:
    """What the script does, asked directly."""

    def write(
        self, manager: RedisWorkingMemoryManager, raw_value: bytes | None, guard: tuple[str, ...] | None, **more: Any
    ) -> bytes | Exception | None:
        """Return the result of one guarded write."""
        (result,) = manager.perform(
            Call("reconcile", items=[WriteItem(KEY, raw_value, more.get("ttl", 60.0), guard)], guarded=True)
        )
        return result  # type: ignore[no-any-return]

    @pytest.mark.parametrize(
        ("held", "guard", "written"),
        [
            (None, None, True),
            (b"held", None, True),
            (None, (ABSENT,), True),
            (b"held", (ABSENT,), False),
            (b"", (ABSENT,), False),
            (b"", (digest(b""),), True),
            (b"held", (digest(b"held"),), True),
            (b"held", (digest(b"other"),), False),
            (None, (digest(b"held"),), False),
            (b"held", (digest(b"other"), digest(b"held")), True),
            (b"held", (ABSENT, digest(b"held")), True),
            (None, (ABSENT, digest(b"held")), True),
            (b"other", (ABSENT, digest(b"held")), False),
        ],
    )
    @pytest.mark.parametrize("value", [b"new", None], ids=["write", "delete"])
    def test_the_guard_decides(  # noqa: PLR0917 - pytest passes by keyword
        self,
        manager: RedisWorkingMemoryManager,
        raw: Any,
        held: bytes | None,
        guard: tuple[str, ...] | None,
        written: bool,  # noqa: FBT001 - a parametrized expectation
        value: bytes | None,
    ) -> None:
        """Written or deleted where the guard names what is held, or there is none; else what is held comes back."""
        if held is not None:
            raw.set(KEY, held)
        result = self.write(manager, value, guard)
        if written:
            assert result == (b"" if value is None and held is None else None)
            assert raw.get(KEY) == value
        else:
            assert result == (held or b"")
            assert raw.get(KEY) == held

    def test_deleting_nothing_is_told(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """A delete says whether there was something."""
        assert self.write(manager, None, None) == b""
        raw.set(KEY, b"held")
        assert self.write(manager, None, None) is None

    @pytest.mark.parametrize(
        ("ttl", "low", "high"), [(100.0, 99_000, 100_000), (0.5, 1, 500), (1e-9, -2, 1), (None, -1, -1)]
    )
    def test_the_ttl_is_in_milliseconds_or_none(
        self, manager: RedisWorkingMemoryManager, raw: Any, ttl: float | None, low: int, high: int
    ) -> None:
        """A guarded write sets the TTL with the value, and clears that of what it replaces."""
        raw.set(KEY, b"held", ex=7)
        assert self.write(manager, b"new", None, ttl=ttl) is None
        assert low <= raw.pttl(KEY) <= high

    def test_any_bytes_pass_unchanged(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """Nothing is re-encoded on the way through Lua, whatever the bytes."""
        value = bytes(range(256)) + b"\r\n\x00" + encode("\ud800 h\u00e9", {"big": 2**70, "none": []}, "a", "b")
        assert self.write(manager, value, None) is None
        assert raw.get(KEY) == value
        assert self.write(manager, b"next", (digest(value),)) is None

    def test_a_value_of_another_type_is_left_alone(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """A list under the key is an error, in a batch the item's own, and stays."""
        raw.rpush(KEY, "x")
        assert isinstance(self.write(manager, b"new", (ABSENT,)), redis.ResponseError)
        for act in (manager.retrieve, manager.update, lambda value: manager.store(value, if_version=None)):
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                act(item())
        assert raw.lrange(KEY, 0, -1) == [b"x"]


class TestLate:
    """Past its not-after a write is refused by the server."""

    def test_a_late_write_writes_nothing(self, raw: Any) -> None:
        """Store, delete, with or without a guard: refused with an error of its own, nothing changed."""
        raw.set(KEY, b"held")
        past = int((time.time() - 1) * 1e6)
        for value in (b"new", None):
            for guard in (None, (digest(b"held"),), ("0" * 40,)):
                reply = raw.eval(_script(), *arguments(KEY, value, 60.0, past, guard))
                with pytest.raises(LateWriteError, match="Nothing was written") as caught:
                    parse(reply)
                assert abs(caught.value.server_time / 1e6 - time.time()) < 5
        assert raw.get(KEY) == b"held"
        assert raw.pttl(KEY) == -1

    def test_a_wrong_notion_of_the_servers_time_is_put_right(self, manager: RedisWorkingMemoryManager) -> None:
        """A server's clock that was set forward costs one more round trip, not the write."""
        manager.store(item("one"), if_version=None)
        wrong = ServerTime()
        wrong.observe(int((time.time() - 3600) * 1e6), time.monotonic(), time.monotonic(), 0)
        manager.backend.server_time = wrong
        assert manager.update(item("two")).outcome == "committed"
        assert manager.retrieve(item())[0].working_memory == "two"

    def test_a_batch_with_a_wrong_notion_of_time_is_sent_once_more(
        self, manager: RedisWorkingMemoryManager, raw: Any
    ) -> None:
        """As after a long time without a call, when the estimate has to allow for clocks that drifted apart."""
        wrong = ServerTime()
        wrong.observe(int((time.time() - 3600) * 1e6), time.monotonic(), time.monotonic(), 0)
        manager.retrieve(item())  # a connection that is opened later has the time asked for anew
        manager.backend.server_time = wrong
        values = [item("text", f"c{number}") for number in range(3)]
        assert [str(receipt) for receipt in manager.store_many(values)] == [
            f"memory:WORKING_MEMORY:c{n}" for n in range(3)
        ]
        assert raw.dbsize() == 3

    def test_a_batch_that_stays_late_tells_each_item(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """Nothing of it is written, and each item carries its error."""
        manager.retrieve(item())
        manager.backend.server_time = _Behind()
        values = [item("text", f"c{number}") for number in range(3)]
        assert [type(result) for result in manager.store_many(values)] == [LateWriteError] * 3
        assert raw.dbsize() == 0

    def test_the_not_after_is_the_end_of_the_attempt(self, manager: RedisWorkingMemoryManager) -> None:
        """What the server compares with is its own time at our deadline, or a little earlier, never later."""
        manager.store(item(), if_version=None)
        known = manager.backend.server_time
        deadline = time.monotonic() + 1.0
        # One machine, one clock: what the server will say at the deadline is what this process would say.
        expected = (time.time() + deadline - time.monotonic()) * 1e6
        assert expected - 1e6 < known.at(deadline) <= expected + 1_000


class TestServerTime:
    """The interval in which the server's clock must be."""

    def test_replies_narrow_it(self) -> None:
        """Two replies that agree leave what both allow; the lower end is what is told."""
        known = ServerTime()
        assert not known.known
        known.observe(10_000_000, 1.0, 3.0, 0)  # offset within [7, 9] seconds
        assert known.at(0.0) == 6_999_999
        known.observe(10_000_000, 1.5, 2.0, 0)  # within [8, 8.5]
        assert known.at(0.0) == 7_999_999
        known.observe(10_000_000, 0.0, 2.0, 0)  # tells nothing new
        assert (known.at(0.0), known.at(1.0)) == (7_999_999, 8_999_999)

    def test_it_widens_with_time(self) -> None:
        """Each clock may be slewed by 500 ppm: after a thousand seconds they may be a second apart."""
        known = ServerTime()
        known.observe(2_000_000_000, 1_000.0, 1_000.0, 0)
        assert known.at(2_000.0) == 3_000_000_000 - 1_000_001
        known.observe(3_000_000_000, 1_999.5, 2_003.0, 0)  # within [-1.003, +1.003] of what was known: no contradiction
        assert known.at(2_003.0) == 3_003_000_000 - 1_003_001

    def test_what_was_asked_before_it_was_forgotten_teaches_nothing(self) -> None:
        """Another thread's reply may still come from the server that is gone."""
        known = ServerTime()
        spell = known.spell
        known.forget()
        known.observe(10_000_000, 1.0, 1.0, spell)
        assert not known.known
        known.observe(20_000_000, 1.0, 1.0, known.spell)
        assert known.at(1.0) == 19_999_999

    @pytest.mark.parametrize("server", [1_000_000, 100_000_000])
    def test_a_reply_that_contradicts_replaces_it(self, server: int) -> None:
        """A clock that was set, or another server, is believed at once."""
        known = ServerTime()
        known.observe(10_000_000, 1.0, 1.0, 0)
        known.observe(server, 1.0, 1.0, 0)
        assert known.at(1.0) == server - 1  # before that microsecond, not at it

    def test_it_can_be_forgotten(self) -> None:
        """After a lost connection another server may answer."""
        known = ServerTime()
        known.observe(10_000_000, 1.0, 1.0, 0)
        known.forget()
        assert not known.known

    @pytest.mark.parametrize("reply", [None, [1], 1.5, object()])
    def test_a_reply_that_is_not_the_scripts_is_said_to_be(self, reply: object) -> None:
        """A proxy or a double without scripts is named as the likely cause."""
        with pytest.raises(RemanenceError, match="a proxy or a mock"):
            parse(reply)


class _Behind(ServerTime):
    """A notion of the server's time that nothing puts right."""

    def at(self, monotonic: float) -> int:
        """Return an hour too little."""
        return int(monotonic * 0 + (time.time() - 3600) * 1e6)


def _script() -> str:
    from remanence.managers.redis_protocol import GUARDED_WRITE  # noqa: PLC0415 - only here is its text wanted

    return GUARDED_WRITE


class TestScriptCache:
    """A server without the script."""

    def test_a_flushed_cache_costs_one_more_command(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """NOSCRIPT means not applied: the script is sent along, once."""
        manager.store(item("one"), if_version=None)
        for text in ("two", "three"):
            raw.script_flush()
            assert manager.update(item(text)).outcome == "committed"
            assert raw.script_exists(GUARDED_WRITE_SHA) == [True]
        raw.script_flush()
        version = manager.retrieve(item()).version
        assert manager.store_many([item("four"), item("x", "d")])[1] == "memory:WORKING_MEMORY:d"
        assert manager.retrieve(item()).version != version

    def test_a_restart_empties_the_cache(self, private_server: RedisServer) -> None:
        """After a restart the next guarded write works, over a new connection."""
        with RedisWorkingMemoryManager(private_server.url, timeout=10.0) as manager:
            manager.store(item("one"), if_version=None)
            private_server.restart()
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert manager.update(item("two")).outcome == "committed"
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
            assert manager.retrieve(item())[0].working_memory == "two"
