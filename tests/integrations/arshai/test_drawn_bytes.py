"""Drawn memories and drawn turns of both packages on one server: they are one memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remanence import AsyncRedisWorkingMemoryManager, IMemoryInput, RedisWorkingMemoryManager
from remanence.interface import coerce
from remanence.record import encode
from remanence.testing import strategies
from tests.integrations.arshai.framework import Framework

EXAMPLES = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
WRITERS = ("theirs", "sync", "async")


def test_any_memory_goes_either_way(framework: Framework, theirs: Any, redis_url: str) -> None:
    """Theirs writes the bytes that ours would write, both of ours read them back, and theirs reads those of ours."""
    with asyncio.Runner() as runner, RedisWorkingMemoryManager(redis_url) as ours:
        awaited = AsyncRedisWorkingMemoryManager(redis_url)
        client = redis.Redis.from_url(redis_url)

        @EXAMPLES
        @given(strategies.memory_inputs())
        def goes(value: Any) -> None:
            item = coerce(value)
            dto = _theirs(framework, item)
            text = item.data[-1].working_memory if item.data else ""
            key = theirs.store(dto)
            raw: Any = client.get(key)
            document = json.loads(raw)
            assert raw == encode(text, item.metadata, document["created_at"], document["last_update"])
            for found in (ours.retrieve(value), runner.run(awaited.retrieve(dto))):
                assert ([memory.working_memory for memory in found], found.metadata) == ([text], item.metadata or {})
            assert ours.store(dto) == runner.run(awaited.store(value)) == key
            assert [memory.working_memory for memory in theirs.retrieve(dto)] == [text]

        goes()
        client.close()
        runner.run(awaited.aclose())


STEP = st.tuples(
    st.sampled_from(WRITERS),
    st.sampled_from(["store", "update", "delete"]),
    st.sampled_from(["a", "a:b", "\u4e16"]),
    strategies.texts(max_size=12),
    st.none() | strategies.metadata(),
)


def test_they_are_one_memory_in_any_order(framework: Framework, theirs: Any, redis_url: str) -> None:
    """Writes of all three in turns: after each one all three read what a dictionary would hold."""
    with asyncio.Runner() as runner, RedisWorkingMemoryManager(redis_url) as ours:
        awaited = AsyncRedisWorkingMemoryManager(redis_url)
        client = redis.Redis.from_url(redis_url)

        def act(writer: str, operation: str, item: IMemoryInput) -> Any:
            dto = _theirs(framework, item)
            if writer == "async":
                return runner.run(getattr(awaited, operation)(dto))
            return getattr(theirs if writer == "theirs" else ours, operation)(dto)

        @EXAMPLES
        @given(st.lists(STEP, max_size=8))
        def play(steps: list[tuple[str, str, str, str, dict[str, Any] | None]]) -> None:
            client.flushall()
            model: dict[str, tuple[str, dict[str, Any]]] = {}
            for writer, operation, conversation, text, metadata in steps:
                item = coerce({"conversation_id": conversation, "working_memory": text, "metadata": metadata})
                act(writer, operation, item)
                _apply(model, writer, operation, item)
                for reader in WRITERS:
                    found = act(reader, "retrieve", item)
                    held = model.get(conversation)
                    assert [memory.working_memory for memory in found] == ([] if held is None else [held[0]])
                    if reader != "theirs":
                        assert found.metadata == ({} if held is None else held[1])

        play()
        client.close()
        runner.run(awaited.aclose())


def _theirs(framework: Framework, item: IMemoryInput) -> Any:
    texts = [memory.working_memory for memory in item.data or []]
    return framework.input(
        *texts, conversation=item.conversation_id, kind=item.memory_type.value, metadata=item.metadata
    )


def _apply(model: dict[str, tuple[str, dict[str, Any]]], writer: str, operation: str, item: IMemoryInput) -> None:
    """Do to a dictionary what a manager does; only our update merges metadata."""
    name, text, extra = item.conversation_id, item.data[-1].working_memory if item.data else "", item.metadata or {}
    if operation == "store":
        model[name] = (text, extra)
    elif operation == "update" and name in model:
        held = model[name][1]
        model[name] = (text, held if writer == "theirs" else {**held, **extra})
    elif operation == "delete":
        model.pop(name, None)
