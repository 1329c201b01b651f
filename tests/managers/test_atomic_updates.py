"""Reads and writes that belong together: mutations, repeated attempts, what cannot be read, and copies of losers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from hashlib import sha1
from typing import Any

import pytest
import redis

from remanence import (
    CorruptRecordError,
    InvalidInputError,
    RedisWorkingMemoryManager,
)
from remanence.flow import Call, KeptCopy
from remanence.operations import ANY_VERSION, store_call, update_call
from remanence.record import encode

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


def commands(raw: Any) -> int:
    """Return how many commands the server has carried out, this one and its kind left out."""
    stats = raw.info("commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if name.split("_")[1].split("|")[0] in _OURS)


_OURS = {"get", "set", "setex", "psetex", "del", "eval", "evalsha", "time", "smembers"}


class TestConcurrency:
    """Read-modify-writes from many threads."""

    def test_no_mutation_is_lost(self, redis_url: str) -> None:
        """Eight threads that each add fifty marks leave four hundred."""
        failures: list[BaseException] = []

        def add(worker: int) -> None:
            try:
                with RedisWorkingMemoryManager(redis_url, timeout=20.0) as manager:
                    for number in range(50):
                        mark = f"{worker}.{number} "
                        manager.mutate(item(), _appending(mark))
            except BaseException as error:  # noqa: BLE001 - reported by the test
                failures.append(error)

        threads = [threading.Thread(target=add, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        with RedisWorkingMemoryManager(redis_url, timeout=10.0) as manager:
            kept = manager.retrieve(item())[0].working_memory.split()
        assert sorted(kept) == sorted(f"{worker}.{number}" for worker in range(8) for number in range(50))

    def test_updates_do_not_bring_back_each_others_metadata(self, manager: RedisWorkingMemoryManager) -> None:
        """Concurrent updates of different metadata are all merged."""
        manager.store(item("text"))
        failures: list[BaseException] = []

        def tag(worker: int) -> None:
            try:
                for number in range(20):
                    manager.update(item("text", metadata={f"{worker}.{number}": 1}))
            except BaseException as error:  # noqa: BLE001 - reported by the test
                failures.append(error)

        threads = [threading.Thread(target=tag, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert len(manager.retrieve(item()).metadata) == 80

    def test_mutate_starts_a_memory_and_reports_a_useless_function(self, manager: RedisWorkingMemoryManager) -> None:
        """`fn` gets None where nothing is; what is no text is refused and changes nothing."""
        seen: list[str | None] = []

        def start(text: str | None) -> str:
            seen.append(text)
            return "started"

        assert manager.mutate(item(), start).outcome == "committed"
        with pytest.raises(InvalidInputError, match="Nothing was written"):
            manager.mutate(item(), seen.append)  # type: ignore[arg-type]
        assert seen == [None, "started"]
        assert manager.retrieve(item())[0].working_memory == "started"

    @pytest.mark.sync_only
    def test_mutate_runs_again_after_a_conflict(self, manager: RedisWorkingMemoryManager) -> None:
        """Somebody writes, or deletes, while `fn` thinks: it is asked again about what is there then."""
        manager.store(item("one"))
        asked: list[str | None] = []

        def think(text: str | None) -> str:
            asked.append(text)
            if len(asked) == 1:
                manager.store(item("two"))
            elif len(asked) == 2:
                manager.delete(item())
            return f"{text}+"

        manager.mutate(item(), think)
        assert asked == ["one", "two", None]
        assert manager.retrieve(item())[0].working_memory == "None+"

    def test_an_error_of_the_callers_function_comes_through(self, manager: RedisWorkingMemoryManager) -> None:
        """Whatever `fn` raises is the caller's, and nothing is written."""
        manager.store(item("one"))

        def stumble(text: str | None) -> str:
            raise KeyError(text)

        with pytest.raises(KeyError):
            manager.mutate(item(), stumble)
        assert manager.retrieve(item())[0].working_memory == "one"


class TestRoundTrips:
    """What an operation costs the server."""

    def test_an_update_of_a_known_value_is_one_command(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """A policy that knows what is stored spares the read."""
        receipt = manager.store(item("one"), if_version=None)
        call = update_call(manager, item("two"), ANY_VERSION)
        call.known = receipt.raw
        before = commands(raw)
        assert manager.perform(call).outcome == "committed"
        # The script's own three commands are counted by the server as well: TIME, GET, SET.
        assert commands(raw) - before == 1 + 3
        assert manager.retrieve(item())[0].working_memory == "two"

    def test_a_wrongly_known_value_costs_one_more(self, manager: RedisWorkingMemoryManager) -> None:
        """The refusal tells what is stored, so the update goes on from there and loses nothing."""
        manager.store(item("one", metadata={"kept": 1}), if_version=None)
        call = update_call(manager, item("two"), ANY_VERSION)
        call.known = encode("old", {"gone": 1}, "a", "b")
        assert manager.perform(call).outcome == "committed"
        assert manager.retrieve(item()).metadata == {"kept": 1}

    def test_known_but_deleted_is_missing(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """An update does not bring back what was deleted meanwhile."""
        call = update_call(manager, item("two"), ANY_VERSION)
        call.known = encode("old", None, "a", "b")
        assert manager.perform(call).outcome == "missing"
        assert raw.dbsize() == 0

    def test_a_repeated_write_recognises_its_own_success(self, manager: RedisWorkingMemoryManager) -> None:
        """The answer to the first attempt was lost: the second finds our value and is content."""
        store = store_call(manager, item("one"), None)
        update = update_call(manager, item("two", metadata={"m": 1}), ANY_VERSION)
        delete = Call("delete", KEY)
        guarded = update_call(manager, item("three"), ANY_VERSION)
        for call in (store, update, guarded):
            if call is guarded:
                call.guard = (str(manager.retrieve(item()).version),)
            manager.perform(call)
            version = manager.retrieve(item()).version
            receipt = manager.perform(call)
            assert (receipt.outcome, receipt.version) == ("committed", version)
        assert [manager.perform(delete).outcome for _ in range(2)] == ["committed", "committed"]

    def test_a_repeated_update_does_not_undo_a_later_one(self, manager: RedisWorkingMemoryManager) -> None:
        """Only our own value counts as success; on top of another's the update is made again."""
        manager.store(item("one"))
        update = update_call(manager, item("two", metadata={"ours": 1}), ANY_VERSION)
        manager.perform(update)
        manager.update(item("three", metadata={"theirs": 1}))
        manager.perform(update)
        answer = manager.retrieve(item())
        assert (answer[0].working_memory, answer.metadata) == ("two", {"ours": 1, "theirs": 1})


class TestCorruptRecords:
    """What is stored and is no memory."""

    def test_it_is_told_and_left_alone(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """Reading and updating raise with the bytes; the message names the key by digest only."""
        key = f"memory:WORKING_MEMORY:{CANARY}"
        raw.set(key, b"\xff" + CANARY.encode())
        for act in (manager.retrieve, manager.update, lambda value: manager.mutate(value, str)):
            with pytest.raises(CorruptRecordError) as caught:
                act(item("text", CANARY))
            assert caught.value.raw == b"\xff" + CANARY.encode()
            assert caught.value.key_digest == sha1(key.encode(), usedforsecurity=False).hexdigest()
            assert CANARY not in f"{caught.value} {caught.value!r}"
        assert raw.get(key) == b"\xff" + CANARY.encode()

    def test_in_a_batch_it_is_its_items_error(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """The others are answered."""
        manager.store(item("text", "good"))
        raw.set("memory:WORKING_MEMORY:bad", b"")
        good, bad, nothing = manager.retrieve_many([item("", name) for name in ("good", "bad", "nothing")])
        assert [memory.working_memory for memory in good] == ["text"]  # type: ignore[union-attr]
        assert isinstance(bad, CorruptRecordError)
        assert nothing == []

    def test_it_can_be_replaced_and_deleted(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """The way out that the message names works."""
        raw.set(KEY, b"rubbish")
        assert manager.store(item("text")).outcome == "committed"
        raw.set(KEY, b"rubbish")
        assert manager.delete(item()).outcome == "committed"


class TestConflictCopies:
    """Copies of values that lost."""

    def keep(self, manager: RedisWorkingMemoryManager, *copies: KeptCopy) -> Any:
        """Keep them and return the results."""
        return manager.perform(Call("keep", items=list(copies)))

    def test_they_are_listed_and_go_with_the_memory(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """A copy is found by scanning, lives its time, and a guarded delete of the conversation removes it."""
        value = encode("lost \ud800", None, "a", "2026-01-01T00:00:00+00:00")
        colons = "memory:WORKING_MEMORY:a:b:"
        results = self.keep(manager, KeptCopy(KEY, value, 50.0), KeptCopy(KEY, None, 50.0), KeptCopy(colons, value, 50))
        assert results == [None, None, None]
        found = manager.perform(Call("kept"))[0]
        assert sorted((copy.conversation_id, copy.text or "") for copy in found) == [
            ("a:b:", "lost \ud800"),
            ("c", ""),
            ("c", "lost \ud800"),
        ]
        assert all(45 <= raw.ttl(key) <= 50 for key in raw.scan_iter("remanence-conflict*"))
        assert manager.perform(Call("delete", KEY)).outcome == "missing"
        assert [copy.conversation_id for copy in manager.perform(Call("kept"))[0]] == ["a:b:"]
        manager.delete_many([item("", "a:b:")])
        assert raw.dbsize() == 0

    def test_a_copy_that_cannot_be_read_does_not_hide_the_others(
        self, manager: RedisWorkingMemoryManager, raw: Any
    ) -> None:
        """Rubbish under the copies' names is passed over."""
        self.keep(manager, KeptCopy(KEY, encode("lost", None, "a", "b"), 50.0))
        raw.set("remanence-conflict:WORKING_MEMORY:c:0000", b"rubbish")
        raw.set("remanence-conflict:OTHER:c:0000", b"rubbish")
        raw.rpush("remanence-conflict:WORKING_MEMORY:list:0000", "x")
        assert [copy.text for copy in manager.perform(Call("kept"))[0]] == ["lost"]


class TestIdentity:
    """Which server answers, and how much it has evicted."""

    def test_it_is_the_servers_run_id(self, manager: RedisWorkingMemoryManager, raw: Any) -> None:
        """Run id and evictions; None where INFO is not permitted."""
        assert manager.perform(Call("identify")) == (raw.info("server")["run_id"], 0)
        raw.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
        with redis.Redis.from_url(_url(raw).replace("//", "//blind:any@")) as client:
            assert RedisWorkingMemoryManager(client=client).perform(Call("identify")) is None
        raw.acl_deluser("blind")


def _url(raw: Any) -> str:
    """Return the URL of the server that a client talks to."""
    options = raw.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/0"


def _appending(mark: str) -> Callable[[str | None], str]:
    return lambda text: (text or "") + mark
