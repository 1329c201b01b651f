"""Unit tests that replace the client, in the documentation's way."""

from __future__ import annotations

import json
from unittest.mock import Mock, patch

import pytest
import redis
from redis import Redis

from remanence import (
    ConversationMemoryType,
    IMemoryInput,
    IWorkingMemory,
    RedisWorkingMemoryManager,
)

WORKING = ConversationMemoryType.WORKING_MEMORY
TWELVE_HOURS = 43_200


def about(conversation_id: str, *texts: str, metadata: dict[str, object] | None = None) -> IMemoryInput:
    """Return an input as the documentation builds them."""
    data = [IWorkingMemory(working_memory=text) for text in texts] or None
    return IMemoryInput(conversation_id=conversation_id, memory_type=WORKING, data=data, metadata=metadata)


class TestWithDoubles:
    """Unit tests that replace the client, as documented."""

    @pytest.fixture
    def double(self) -> Mock:
        """The documentation's double."""
        double = Mock()
        double.get.return_value = None
        double.setex.return_value = True
        double.delete.return_value = 1
        return double

    def test_store_calls_setex(self, double: Mock) -> None:
        """A store is one `setex` of key, TTL and value."""
        with patch("redis.from_url", return_value=double):
            manager = RedisWorkingMemoryManager("redis://127.0.0.1:1/0")
            key = manager.store(about("conv", "text"))
        key_given, ttl, value = double.setex.call_args.args
        assert double.setex.called
        assert (key_given, ttl) == (key, TWELVE_HOURS)
        assert json.loads(value)["data"] == {"working_memory": "text"}
        assert [call[0] for call in double.method_calls] == ["setex"]

    def test_retrieve_calls_get(self, double: Mock) -> None:
        """A read is one `get`; what the double gives, bytes or text, is read."""
        record = '{"data": {"working_memory": "text"}, "metadata": {}, "created_at": "", "last_update": ""}'
        with patch("redis.from_url", return_value=double):
            manager = RedisWorkingMemoryManager("redis://127.0.0.1:1/0")
            assert not manager.retrieve(about("conv"))
            for answer in (record, record.encode()):
                double.get.return_value = answer
                assert manager.retrieve(about("conv"))[0].working_memory == "text"
        double.get.assert_called_with("memory:WORKING_MEMORY:conv")

    def test_delete_calls_delete(self, double: Mock) -> None:
        """A delete is one `delete`, whose count tells what there was."""
        with patch("redis.from_url", return_value=double):
            manager = RedisWorkingMemoryManager("redis://127.0.0.1:1/0")
            assert manager.delete(about("conv")).outcome == "committed"
            double.delete.return_value = 0
            assert manager.delete(about("conv")).outcome == "missing"
        double.delete.assert_called_with("memory:WORKING_MEMORY:conv")

    def test_update_of_nothing_only_looks(self, double: Mock) -> None:
        """With a double that holds nothing an update reads and writes nothing."""
        with patch("redis.from_url", return_value=double):
            manager = RedisWorkingMemoryManager("redis://127.0.0.1:1/0")
            assert manager.update(about("conv", "text")).outcome == "missing"
        assert [call[0] for call in double.method_calls] == ["get"]

    def test_a_double_that_raises(self, double: Mock) -> None:
        """An exception of the double comes through unchanged."""
        double.get.side_effect = redis.ConnectionError("down")
        with patch("redis.from_url", return_value=double):
            manager = RedisWorkingMemoryManager("redis://127.0.0.1:1/0")
            with pytest.raises(redis.ConnectionError) as caught:
                manager.retrieve(about("conv"))
        assert caught.value is double.get.side_effect

    def test_a_double_handed_in(self, double: Mock) -> None:
        """`client=` takes a double as well, specified by redis-py's class or not."""
        for client in (double, Mock(spec=Redis)):
            RedisWorkingMemoryManager(client=client).store(about("conv", "text"))
            assert client.setex.called
