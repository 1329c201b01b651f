"""The audit: it finds what is there, wherever it is, and misses nothing that is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import redis

from remanence.lab.audit import Account, AuditError, Holdings, account, clear, read
from remanence.lab.memory_text import rewrite
from remanence.lab.transcripts import Turn

if TYPE_CHECKING:
    from collections.abc import Iterator


def memory(*ids: int) -> str:
    """Return a memory that knows these turns."""
    text = ""
    for number in ids:
        text = rewrite(text, number, Turn("user", f"turn {number}"))
    return text


def record(text: str) -> str:
    """Return the stored form of a memory."""
    return json.dumps({"data": {"working_memory": text}, "metadata": {}})


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Give a bare client on the shared server, which is empty."""
    with redis.Redis.from_url(redis_url) as bare:
        yield bare


def test_a_turn_in_the_text_or_in_a_copy_is_not_lost() -> None:
    """Acknowledged turns count as kept in the final text, and in any conflict copy of the same conversation."""
    found = account(
        {"a": {1, 2, 3}, "b": {1}}, Holdings({"a": memory(1), "b": memory(1)}, {"a": [memory(2), memory(3)]})
    )
    assert found == Account(acknowledged=4, lost=(), only_in_conflicts=2, conflicts=2)


def test_a_turn_that_is_nowhere_is_lost() -> None:
    """A missing turn, a missing conversation, and a turn kept only under another conversation are losses, by name."""
    holdings = Holdings({"a": memory(1), "c": memory(5)}, {"c": [memory(2)]})
    found = account({"a": {1, 2}, "b": {5}}, holdings)
    assert found.lost == (("a", 2), ("b", 5))
    assert found.acknowledged == 3


def test_redis_is_read_as_it_is(redis_url: str, client: redis.Redis) -> None:
    """Texts and copies of the run are read; other runs, other kinds and undecodable records are not taken for them."""
    client.set("memory:WORKING_MEMORY:run-0-1", record(memory(1, 2)))
    client.set("memory:WORKING_MEMORY:run-0-2", b"\xff not a record")
    client.set("memory:WORKING_MEMORY:other-0-1", record(memory(9)))
    client.set("remanence-conflict:WORKING_MEMORY:run-0-1:abc", record(memory(3)))
    client.set("remanence-conflict:WORKING_MEMORY:run-0-1:def", record(memory(4)))
    client.set("remanence-conflict:WORKING_MEMORY:run-0-10:abc", record(memory(5)))
    client.set("remanence-conflict:SHORT_TERM_MEMORY:run-0-1:abc", record(memory(6)))
    holdings = read(redis_url, "run-", ["0-1", "0-2", "0-3"])
    assert holdings.texts == {"0-1": memory(1, 2)}
    assert {name: sorted(texts) for name, texts in holdings.conflicts.items()} == {
        "0-1": [memory(3), memory(4)],
        "0-10": [memory(5)],
    }


@pytest.mark.parametrize("ids", [(), (1,)])
def test_a_planted_loss_is_found(redis_url: str, client: redis.Redis, ids: tuple[int, ...]) -> None:
    """A key deleted, or one id taken out of a text, behind everybody's back is counted."""
    client.set("memory:WORKING_MEMORY:run-a", record(memory(1, 2)))
    assert account({"a": {1, 2}}, read(redis_url, "run-", ["a"])).lost == ()
    if ids:
        client.set("memory:WORKING_MEMORY:run-a", record(memory(*ids)))
    else:
        client.delete("memory:WORKING_MEMORY:run-a")
    assert account({"a": {1, 2}}, read(redis_url, "run-", ["a"])).lost == tuple(
        ("a", turn) for turn in (1, 2) if turn not in ids
    )


def test_many_conversations_are_read_in_parts(redis_url: str, client: redis.Redis) -> None:
    """More conversations than one request holds are all read."""
    names = [f"0-{number}" for number in range(1203)]
    client.mset({f"memory:WORKING_MEMORY:run-{name}": record(memory(7)) for name in names})
    assert len(read(redis_url, "run-", names).texts) == 1203


def test_a_server_that_is_gone_is_an_error_and_no_loss() -> None:
    """Without an answer the audit says that it does not know."""
    with pytest.raises(AuditError, match="could not read Redis"):
        read("redis://127.0.0.1:1/0", "run-", ["a"])


def test_only_the_runs_own_keys_are_cleared(redis_url: str, client: redis.Redis) -> None:
    """Clearing leaves every key of others, and forgives a server that is gone."""
    others = {"memory:WORKING_MEMORY:mine", "remanence-conflict:WORKING_MEMORY:mine:abc", "run-1"}
    client.mset(dict.fromkeys(others, "x"))
    client.set("memory:WORKING_MEMORY:run-1", "x")
    client.set("remanence-conflict:WORKING_MEMORY:run-1:abc", "x")
    clear(redis_url, "run-")
    assert set(client.scan_iter()) == {name.encode() for name in others}
    clear("redis://127.0.0.1:1/0", "run-")
