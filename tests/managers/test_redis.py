"""The Redis manager with other clients, permissions, sockets and TTLs; on a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from remanence import ConversationMemoryType, IMemoryInput, RedisWorkingMemoryManager, VersionConflictError
from remanence.classify import ErrorClass, classify
from remanence.flow import Call, KeptCopy
from remanence.lab import RedisServer
from remanence.managers.redis_connection import BoundedConnection, BoundedSSLConnection, BoundedUnixConnection
from remanence.record import encode
from tests.support import case_id, threads, wait_until

KEY = "memory:WORKING_MEMORY:c"
TEXT = "h\u00e9llo \U0001f600 \ud800"


def item(text: str = TEXT, conversation_id: str = "c", **more: Any) -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation_id, "working_memory": text, **more}


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    """A client that looks at what is stored."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def go_through_everything(manager: RedisWorkingMemoryManager) -> None:
    """Use every operation once and check what it gives."""
    version = manager.store(item()).version
    answer = manager.retrieve(item())
    assert (answer[0].working_memory, answer.version) == (TEXT, version)
    assert manager.update(item("two", metadata={"a": 1}), if_version=version).outcome == "committed"
    with pytest.raises(VersionConflictError):
        manager.store(item(), if_version=None)
    assert manager.mutate(item(), lambda text: f"{text}!").outcome == "committed"
    assert manager.retrieve(item()).metadata == {"a": 1}
    many = [item(TEXT, name) for name in "xyz"]
    assert manager.store_many(many) == [f"memory:WORKING_MEMORY:{name}" for name in "xyz"]
    assert [found[0].working_memory for found in manager.retrieve_many(many)] == [TEXT] * 3  # type: ignore[index]
    assert manager.perform(Call("keep", items=[KeptCopy(KEY, encode(TEXT, None, "a", "b"), 9.0)])) == [None]
    assert [copy.text for copy in manager.perform(Call("kept"))[0]] == [TEXT]
    assert [receipt.outcome for receipt in manager.delete_many(many)] == ["committed"] * 3  # type: ignore[union-attr]
    assert manager.perform(Call("delete", KEY)).outcome == "committed"
    assert manager.perform(Call("kept"))[0] == []
    assert manager.delete(item()).outcome == "missing"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decode_responses": True},
        {"protocol": 2},
        {"protocol": 2, "decode_responses": True},
        {"protocol": 3, "decode_responses": True},
        {"single_connection_client": True},
        {"health_check_interval": 1},
    ],
    ids=case_id,
)
@pytest.mark.sync_only
def test_any_client_will_do(redis_url: str, options: dict[str, Any]) -> None:
    """Whatever form a client gives replies in, every operation works over it."""
    with redis.Redis.from_url(redis_url, **options) as client:
        go_through_everything(RedisWorkingMemoryManager(client=client))


@pytest.mark.parametrize("query", ["", "?protocol=2", "?decode_responses=True", "?health_check_interval=1"])
def test_options_of_the_url_are_redis_pys(redis_url: str, query: str) -> None:
    """What redis-py reads from a URL works, with our connections."""
    with RedisWorkingMemoryManager(redis_url + query, timeout=10.0) as manager:
        go_through_everything(manager)


def test_a_unix_socket(tmp_path: Path) -> None:
    """The third kind of URL, with connections that know the deadline as well."""
    path = tmp_path / "s"
    with RedisServer(config={"unixsocket": str(path)}) as server:
        with RedisWorkingMemoryManager(f"unix://{path}?db=2", timeout=10.0) as manager:
            go_through_everything(manager)
        with RedisWorkingMemoryManager(f"unix://{path}", timeout=0.2) as manager:
            manager.store(item())
            server.freeze()
            for act in (manager.retrieve, manager.store):
                begin = time.monotonic()
                with pytest.raises(redis.TimeoutError):
                    act(item())
                assert time.monotonic() - begin < 0.2 + 0.15


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost", BoundedConnection),
        ("rediss://localhost", BoundedSSLConnection),
        ("unix:///s", BoundedUnixConnection),
    ],
)
@pytest.mark.sync_only
def test_every_kind_of_url_gets_bounded_connections(url: str, kind: type) -> None:
    """No scheme is left without a deadline."""
    with RedisWorkingMemoryManager(url) as manager:
        assert type(manager.redis_client.connection_pool.make_connection()) is kind


class TestPermissions:
    """A user who may do only what the manager needs."""

    CORE = ("+get", "+set", "+setex", "+psetex", "+del", "+eval", "+evalsha", "+time", "+smembers")
    COPIES = ("+sadd", "+expire", "+scan")

    @pytest.fixture
    def restricted(self, raw: Any) -> Iterator[Any]:
        """Give a function that makes a manager for a user with the given commands."""
        made: list[RedisWorkingMemoryManager] = []

        def make(*commands: str) -> RedisWorkingMemoryManager:
            raw.execute_command(
                "ACL", "SETUSER", "agent", "reset", "on", ">secret", "~memory:*", "~remanence-conflict*", *commands
            )
            port = raw.connection_pool.connection_kwargs["port"]
            made.append(RedisWorkingMemoryManager(f"redis://agent:secret@127.0.0.1:{port}/0", timeout=10.0))
            return made[0]

        yield make
        for manager in made:
            manager.close()
        raw.execute_command("ACL", "DELUSER", "agent")

    def test_core_commands_are_enough(self, restricted: Any) -> None:
        """Everything works without modules, scanning of other keys, INFO or FLUSH."""
        go_through_everything(restricted(*self.CORE, *self.COPIES))

    def test_without_the_commands_for_copies_the_operations_work(self, restricted: Any) -> None:
        """The public operations need no more than reading, writing and the script."""
        manager = restricted(*self.CORE)
        version = manager.store(item()).version
        assert manager.update(item("two"), if_version=version).outcome == "committed"
        assert manager.store_many([item()]) == [KEY]
        assert manager.delete_many([item()])[0].outcome == "committed"

    def test_a_missing_permission_says_so_for_each_item(self, restricted: Any) -> None:
        """In a batch too."""
        manager = restricted("+get", "+set", "+eval", "+evalsha", "+time")
        manager.store_many([item("t", "x"), item("t", "y")])
        results = manager.delete_many([item("", "x"), item("", "y")])
        assert [classify(result) for result in results if isinstance(result, Exception)] == [
            ErrorClass.CONFIGURATION
        ] * 2

    def test_a_user_without_access_to_copies_can_delete(self, restricted: Any, raw: Any) -> None:
        """The memory goes; copies that this user could not have made are no reason to fail."""
        manager = restricted("+get", "+set", "+del", "+eval", "+evalsha", "+time")
        manager.store_many([item("t", "x"), item("t", "y")])
        assert [result.outcome for result in manager.delete_many([item("", "x"), item("", "y")])] == ["committed"] * 2
        assert manager.perform(Call("delete", KEY)).outcome == "missing"
        assert raw.dbsize() == 0


class TestTtl:
    """How long memories live."""

    @pytest.mark.parametrize(
        ("ttl", "low", "high"),
        [(60, 59_000, 60_000), (60.0, 59_000, 60_000), (1.5, 500, 1_500), (0.25, 1, 250), (None, -1, -1)],
    )
    @pytest.mark.parametrize("operation", ["store", "update", "guarded", "batch", "mutate"])
    def test_every_write_sets_it(  # noqa: PLR0917 - pytest passes by keyword
        self, redis_url: str, raw: Any, ttl: float | None, low: int, high: int, operation: str
    ) -> None:
        """Whole seconds, fractions, or for ever; renewed by each kind of write."""
        raw.set(KEY, encode("old", None, "a", "b"), ex=7)
        with RedisWorkingMemoryManager(redis_url, ttl=ttl, timeout=10.0) as manager:
            if operation == "store":
                manager.store(item())
            elif operation == "update":
                manager.update(item())
            elif operation == "guarded":
                manager.store(item(), if_version=manager.retrieve(item()).version)
            elif operation == "batch":
                manager.store_many([item()])
            else:
                manager.mutate(item(), lambda text: f"{text}!")
        assert low <= raw.pttl(KEY) <= high

    def test_a_memory_is_gone_when_its_time_is_over(self, redis_url: str) -> None:
        """A fraction of a second is one."""
        with RedisWorkingMemoryManager(redis_url, ttl=0.02, timeout=10.0) as manager:
            manager.store(item())
            wait_until(lambda: not manager.retrieve(item()), "it has expired")
            assert manager.update(item()).outcome == "missing"


def test_databases_and_prefixes_are_kept_apart(redis_url: str) -> None:
    """Each names its own memories."""
    urls = (redis_url, redis_url.removesuffix("0") + "1")
    managers = [RedisWorkingMemoryManager(url, prefix=prefix) for url in urls for prefix in ("memory", "a:b")]
    for number, manager in enumerate(managers):
        manager.store(item(str(number)))
    assert [manager.retrieve(item())[0].working_memory for manager in managers] == ["0", "1", "2", "3"]
    for manager in managers:
        manager.close()


def test_the_framework_and_we_read_each_other(redis_url: str, raw: Any) -> None:
    """A record of the framework, with its naive stamps, is read, updated in place and left readable for it."""
    theirs = {
        "data": {"working_memory": TEXT},
        "metadata": {"k": [1.0]},
        "created_at": "2026-11-22T13:19:23.722675",
        "last_update": "2026-11-22T13:19:23",
    }
    raw.set(KEY, json.dumps(theirs), ex=43_200)
    with RedisWorkingMemoryManager(redis_url, timeout=10.0) as manager:
        answer = manager.retrieve(item())
        assert answer[0].working_memory == TEXT
        assert (answer.created_at, answer.last_update) == (theirs["created_at"], theirs["last_update"])
        manager.update(item("new"))
        ours = raw.get(KEY)
        assert (
            ours
            == json.dumps(
                {**theirs, "data": {"working_memory": "new"}, "last_update": manager.retrieve(item()).last_update}
            ).encode()
        )
        manager.store(item())
        assert json.loads(raw.get(KEY))["data"]["working_memory"] == TEXT


def test_one_manager_serves_many_threads(redis_url: str) -> None:
    """Threads share a manager, each getting its own answers."""
    with RedisWorkingMemoryManager(redis_url, timeout=20.0) as manager:

        def work(number: int) -> None:
            for turn in range(30):
                text = f"{number}.{turn}"
                manager.store(item(text, f"c{number}"))
                assert manager.retrieve(item("", f"c{number}"))[0].working_memory == text

        with threads(8, work):
            pass


def test_the_kinds_default_as_documented(redis_url: str, raw: Any) -> None:
    """A DTO without a kind is short-term memory, as in the framework; a dict is working memory."""
    with RedisWorkingMemoryManager(redis_url) as manager:
        manager.store(IMemoryInput(conversation_id="c", data=[{"working_memory": "t"}]))  # type: ignore[list-item]
        manager.store(item())
    assert sorted(raw.keys()) == [b"memory:SHORT_TERM_MEMORY:c", b"memory:WORKING_MEMORY:c"]
    assert {kind.value for kind in ConversationMemoryType} > {"SHORT_TERM_MEMORY"}
