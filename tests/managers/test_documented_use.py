"""The documentation of the reference manager, use by use: only the import lines have changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import redis
from redis import ConnectionPool, Redis

from remanence import (
    ConversationMemoryType,
    IMemoryInput,
    InMemoryManager,
    IWorkingMemory,
    RedisWorkingMemoryManager,
    create_memory_manager,
)
from remanence.lab import RedisServer
from remanence.lab.ports import choose_port

WORKING = ConversationMemoryType.WORKING_MEMORY
TWELVE_HOURS = 43_200


def about(conversation_id: str, *texts: str, metadata: dict[str, object] | None = None) -> IMemoryInput:
    """Return an input as the documentation builds them."""
    data = [IWorkingMemory(working_memory=text) for text in texts] or None
    return IMemoryInput(conversation_id=conversation_id, memory_type=WORKING, data=data, metadata=metadata)


@pytest.fixture
def raw(redis_url: str) -> Iterator[Redis]:
    """A client that looks at what is stored."""
    with Redis.from_url(redis_url) as client:
        yield client


def seconds_left(client: Redis, key: str = "memory:WORKING_MEMORY:conv") -> int:
    """Return the key's time to live."""
    left = client.ttl(key)
    assert isinstance(left, int)
    return left


class TestConstruction:
    """Every form in which the documentation makes a manager."""

    def test_a_url_by_position_or_by_either_name(self, redis_url: str) -> None:
        """All spellings reach the same Redis."""
        with RedisWorkingMemoryManager(redis_url) as first:
            first.store(about("conv", "text"))
        for manager in (
            RedisWorkingMemoryManager(storage_url=redis_url),
            RedisWorkingMemoryManager(redis_url=redis_url),
            RedisWorkingMemoryManager(redis_url, prefix="memory"),
            RedisWorkingMemoryManager(redis_url, key_prefix="memory"),
        ):
            with manager:
                assert manager.retrieve(about("conv"))[0].working_memory == "text"

    def test_the_url_of_the_environment(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a URL REDIS_URL counts, without a warning; a URL that is given is stronger."""
        monkeypatch.setenv("REDIS_URL", redis_url)
        with RedisWorkingMemoryManager() as manager:
            manager.store(about("conv", "text"))
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{choose_port()}/0")
        with RedisWorkingMemoryManager(redis_url) as manager:
            assert manager.retrieve(about("conv"))

    @pytest.mark.parametrize("value", [None, ""])
    def test_no_url_at_all_is_localhost_with_a_warning(
        self, value: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The default is the documentation's, and never chosen in silence."""
        monkeypatch.delenv("REDIS_URL", raising=False)
        if value is not None:
            monkeypatch.setenv("REDIS_URL", value)
        with caplog.at_level(logging.WARNING, "remanence"), RedisWorkingMemoryManager() as manager:
            options = manager.redis_client.connection_pool.connection_kwargs
        assert (options["host"], options["port"], options["db"]) == ("localhost", 6379, 1)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "REDIS_URL" in caplog.text

    @pytest.mark.parametrize(("ttl", "expected"), [(3600, 3600), (86_400, 86_400), (86_400 * 7, 604_800)])
    def test_a_ttl(self, redis_url: str, raw: Redis, ttl: int, expected: int) -> None:
        """Memories live as long as was asked for."""
        with RedisWorkingMemoryManager(redis_url, ttl=ttl) as manager:
            manager.store(about("conv", "text"))
        assert expected - 5 <= seconds_left(raw) <= expected

    def test_twelve_hours_without_one(self, redis_url: str, raw: Redis) -> None:
        """The default is the framework's."""
        with RedisWorkingMemoryManager(redis_url) as manager:
            manager.store(about("conv", "text"))
        assert TWELVE_HOURS - 5 <= seconds_left(raw) <= TWELVE_HOURS


class TestOperations:
    """Store, retrieve, update, delete."""

    @pytest.fixture
    def manager(self, redis_url: str) -> Iterator[RedisWorkingMemoryManager]:
        """A manager as the documentation makes it."""
        with RedisWorkingMemoryManager(storage_url=redis_url) as manager:
            yield manager

    def test_what_was_stored_is_retrieved(self, manager: RedisWorkingMemoryManager) -> None:
        """The key comes back, and the text under it."""
        assert manager.store(about("conv", "The user is called Ada")) == "memory:WORKING_MEMORY:conv"
        memories = manager.retrieve(about("conv"))
        assert len(memories) == 1
        assert [memory.working_memory for memory in memories] == ["The user is called Ada"]

    def test_nothing_stored_is_falsy(self, manager: RedisWorkingMemoryManager) -> None:
        """`if memories:` tells whether there is one."""
        assert not manager.retrieve(about("conv"))
        manager.store(about("conv", ""))
        assert manager.retrieve(about("conv"))

    def test_of_several_items_the_last_one_stays(self, manager: RedisWorkingMemoryManager) -> None:
        """A key holds one text, so the last one counts, for store and for update."""
        manager.store(about("conv", "first", "second", "third"))
        assert manager.retrieve(about("conv"))[0].working_memory == "third"
        manager.update(about("conv", "fourth", "fifth"))
        assert manager.retrieve(about("conv"))[0].working_memory == "fifth"

    def test_metadata_is_stored_and_merged_by_an_update(self, manager: RedisWorkingMemoryManager, raw: Redis) -> None:
        """Metadata stands beside the text; an update adds to it and keeps `created_at`."""
        manager.store(about("conv", "prefers mail", metadata={"source": "settings", "at": "2024-01-01"}))
        stored = json.loads(raw.get("memory:WORKING_MEMORY:conv"))  # type: ignore[arg-type]
        assert stored["metadata"] == {"source": "settings", "at": "2024-01-01"}
        manager.update(about("conv", "prefers a call", metadata={"at": "2024-01-02"}))
        updated = json.loads(raw.get("memory:WORKING_MEMORY:conv"))  # type: ignore[arg-type]
        assert updated["data"] == {"working_memory": "prefers a call"}
        assert updated["metadata"] == {"source": "settings", "at": "2024-01-02"}
        assert updated["created_at"] == stored["created_at"]
        assert updated["last_update"] > stored["last_update"]
        assert list(updated) == ["data", "metadata", "created_at", "last_update"]

    def test_an_update_renews_the_ttl(self, manager: RedisWorkingMemoryManager, raw: Redis) -> None:
        """A memory lives on from its last write."""
        manager.store(about("conv", "text"))
        raw.expire("memory:WORKING_MEMORY:conv", 100)
        manager.update(about("conv", "more"))
        assert seconds_left(raw) > TWELVE_HOURS - 5

    def test_an_update_of_nothing_does_nothing(self, manager: RedisWorkingMemoryManager, raw: Redis) -> None:
        """A missing memory stays missing."""
        assert manager.update(about("conv", "text")).outcome == "missing"
        assert raw.dbsize() == 0

    def test_a_deleted_memory_is_gone(self, manager: RedisWorkingMemoryManager, raw: Redis) -> None:
        """Delete removes it at once; deleting nothing is no error."""
        manager.store(about("conv", "text"))
        assert manager.delete(about("conv")).outcome == "committed"
        assert raw.dbsize() == 0
        assert manager.delete(about("conv")).outcome == "missing"

    def test_kinds_of_memory_are_kept_apart(self, manager: RedisWorkingMemoryManager) -> None:
        """A conversation has one memory of each kind."""
        for kind in ConversationMemoryType:
            manager.store(
                IMemoryInput(conversation_id="c", memory_type=kind, data=[IWorkingMemory(working_memory=kind.value)])
            )
        for kind in ConversationMemoryType:
            assert manager.retrieve(IMemoryInput(conversation_id="c", memory_type=kind))[0].working_memory == kind

    def test_other_processes_see_it_at_once(self, manager: RedisWorkingMemoryManager, redis_url: str) -> None:
        """Managers of the same Redis share the memories."""
        with RedisWorkingMemoryManager(redis_url) as other:
            manager.store(about("conv", "from one"))
            assert other.retrieve(about("conv"))[0].working_memory == "from one"
            other.update(about("conv", "from the other"))
            assert manager.retrieve(about("conv"))[0].working_memory == "from the other"

    def test_a_loop_over_conversations(self, manager: RedisWorkingMemoryManager, raw: Redis) -> None:
        """The documentation's batch is a loop of stores."""
        texts = {f"conv_{number}": f"text {number}" for number in range(20)}
        for conversation_id, text in texts.items():
            manager.store(about(conversation_id, text))
        assert {key: manager.retrieve(about(key))[0].working_memory for key in texts} == texts
        assert raw.dbsize() == 20


class TestPooling:
    """A pool of one's own, in the documented subclass."""

    def test_a_subclass_that_sets_three_attributes(self, redis_url: str, raw: Redis) -> None:
        """Without our constructor every operation works, over the given pool."""

        class Pooled(RedisWorkingMemoryManager):
            def __init__(self, redis_client: Redis, **options: int) -> None:
                self.redis_client = redis_client
                self.prefix = "memory"
                self.ttl = options.get("ttl", TWELVE_HOURS)

        pool = ConnectionPool.from_url(redis_url, max_connections=50, decode_responses=False)
        client = Redis(connection_pool=pool)
        manager = Pooled(client, ttl=600)
        manager.store(about("conv", "one"))
        assert 595 <= seconds_left(raw) <= 600
        assert manager.update(about("conv", "two")).outcome == "committed"
        assert manager.mutate(about("conv"), lambda text: f"{text}, three").outcome == "committed"
        assert manager.retrieve(about("conv"))[0].working_memory == "two, three"
        assert manager.store_many([about("other", "t")]) == ["memory:WORKING_MEMORY:other"]
        assert manager.delete(about("conv")).outcome == "committed"
        manager.close()
        assert client.ping()  # the pool is its owner's to close
        pool.disconnect()

    def test_an_instance_for_the_whole_process(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A service that makes its manager once works as documented: the manager's connections are its own."""
        monkeypatch.setenv("REDIS_URL", redis_url)

        class MemoryService:
            _manager: RedisWorkingMemoryManager | None = None

            @classmethod
            def get_manager(cls) -> RedisWorkingMemoryManager:
                if cls._manager is None:
                    cls._manager = RedisWorkingMemoryManager()
                return cls._manager

        with MemoryService.get_manager() as manager:
            manager.store(about("conv", "text"))
            assert MemoryService.get_manager() is manager
            assert MemoryService.get_manager().retrieve(about("conv"))
            assert manager.redis_client.connection_pool.connection_kwargs["port"]


class TestErrorHandling:
    """The bare manager lets redis-py's exceptions through."""

    @pytest.fixture
    def nobody(self) -> Iterator[RedisWorkingMemoryManager]:
        """A manager whose Redis does not run."""
        with RedisWorkingMemoryManager(f"redis://127.0.0.1:{choose_port()}/0") as manager:
            yield manager

    def test_a_retry_loop_around_store_sees_connection_errors(self, nobody: RedisWorkingMemoryManager) -> None:
        """Each attempt of the documentation's loop fails with what it catches."""
        attempts = 0
        for _ in range(3):
            with pytest.raises(redis.ConnectionError):
                nobody.store(about("conv", "text"))
            attempts += 1
        assert attempts == 3

    def test_the_wrapper_that_answers_with_nothing(self, nobody: RedisWorkingMemoryManager) -> None:
        """Code that catches `redis.ConnectionError` around retrieve goes on working."""
        try:
            memories = list(nobody.retrieve(about("conv")))
        except redis.ConnectionError:
            memories = []
        assert memories == []

    def test_a_missing_password_is_redis_pys_error(self, private_server: RedisServer) -> None:
        """NOAUTH arrives as redis-py raises it."""
        private_server.command("CONFIG", "SET", "requirepass", "secret")
        with RedisWorkingMemoryManager(private_server.url) as manager:
            with pytest.raises(redis.AuthenticationError):
                manager.retrieve(about("conv"))
            with pytest.raises(redis.AuthenticationError):
                manager.store(about("conv", "text"))

    def test_a_full_server_is_redis_pys_error(self, private_server: RedisServer) -> None:
        """OOM arrives as redis-py raises it, and nothing is written."""
        with RedisWorkingMemoryManager(private_server.url) as manager:
            manager.store(about("conv", "before"))
            private_server.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                manager.store(about("conv", "after"))
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                manager.update(about("conv", "after"))
            assert manager.retrieve(about("conv"))[0].working_memory == "before"

    @pytest.mark.parametrize("operation", ["store", "update"])
    def test_no_data_is_a_value_error(self, redis_url: str, operation: str) -> None:
        """The reference raises ValueError, so code may catch that."""
        with (
            RedisWorkingMemoryManager(redis_url) as manager,
            pytest.raises(ValueError, match=r"no data.*Nothing was written"),
        ):
            getattr(manager, operation)(about("conv"))


class TestFactory:
    """The manager chosen by ENVIRONMENT."""

    def test_development_is_in_memory_for_an_hour(self) -> None:
        """Without ENVIRONMENT, or with any other, memories stay in this process."""
        for environ in ({}, {"ENVIRONMENT": "development"}, {"ENVIRONMENT": "staging"}):
            manager = create_memory_manager(environ)
            assert isinstance(manager, InMemoryManager)
            assert manager.ttl == 3600

    def test_production_is_the_redis_of_the_environment_for_a_day(
        self, redis_url: str, raw: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In production the same code talks to Redis."""
        monkeypatch.setenv("ENVIRONMENT", "production")
        monkeypatch.setenv("REDIS_URL", redis_url)
        with create_memory_manager() as manager:
            manager.store(about("conv", "text"))
            assert 86_395 <= seconds_left(raw) <= 86_400
            assert manager.retrieve(about("conv"))[0].working_memory == "text"


class TestLookingIntoRedis:
    """What an operator sees is what the documentation tells."""

    def test_keys_get_and_ttl(self, redis_url: str, raw: Redis) -> None:
        """One key per conversation, found by pattern, with a readable value and a TTL; nothing else is left about."""
        with RedisWorkingMemoryManager(redis_url) as manager:
            manager.store(about("conv_1", "h\u00e9llo"))
            manager.store(about("conv_2", "text"))
            manager.update(about("conv_2", "more"))
        keys = [b"memory:WORKING_MEMORY:conv_1", b"memory:WORKING_MEMORY:conv_2"]
        assert sorted(raw.keys("memory:*")) == keys
        assert raw.dbsize() == 2
        value = raw.get("memory:WORKING_MEMORY:conv_1")
        assert isinstance(value, bytes)
        assert value.startswith(b'{"data": {"working_memory": "h\\u00e9llo"}, "metadata": {}, "created_at": "')
        assert seconds_left(raw, "memory:WORKING_MEMORY:conv_1") > 0

    def test_cleaning_up_by_pattern(self, redis_url: str, raw: Redis) -> None:
        """Keys that a pattern finds can be deleted under the manager's feet."""
        with RedisWorkingMemoryManager(redis_url) as manager:
            for number in range(3):
                manager.store(about(f"conv_{number}", "text"))
            raw.delete(*raw.keys("memory:*:conv_1"))
            assert not manager.retrieve(about("conv_1"))
            assert manager.retrieve(about("conv_2"))
            raw.delete(*raw.keys("memory:*"))
            assert not manager.retrieve(about("conv_2"))
            assert manager.update(about("conv_2", "text")).outcome == "missing"
