"""The chat service of the examples: real worker processes, a real Redis that is killed, and clients that talk on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remanence import RedisWorkingMemoryManager
from remanence.journal.inspect import waiting
from remanence.lab import RedisServer
from tests.examples.chat import ChatService
from tests.support import threads, wait_until

TALKERS = 3
MOST_TURNS = 300
"""Of each talker: the test fails if Redis was not killed and started by then."""


SLOW = "and " * 50 + "tea"
"""Takes the model of `calm` a second."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that loses nothing of what it has acknowledged: what is lost then, the service has lost."""
    with RedisServer(durability="always") as own:
        yield own


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, ChatService]]:
    """A service whose Redis stays up."""
    with RedisServer() as own, ChatService(tmp_path_factory.mktemp("calm"), own.url, pause=0.02) as service:
        yield own, service


def stored(redis: RedisServer, conversation: str) -> list[str]:
    """Return the lines of a memory, raw from Redis."""
    raw: Any = redis.command("GET", f"memory:WORKING_MEMORY:{conversation}")
    return [] if raw is None else json.loads(raw)["data"]["working_memory"].splitlines()


def kept(redis: RedisServer, conversation: str) -> list[list[str]]:
    """Return the lines of each conflict copy, raw from Redis."""
    names: Any = redis.command("KEYS", f"remanence-conflict:*:{conversation}:*")
    raws: list[Any] = [redis.command("GET", name) for name in names]
    return [json.loads(raw)["data"]["working_memory"].splitlines() for raw in raws]


def test_a_killed_redis_costs_no_acknowledged_turn(redis: RedisServer, tmp_path: Path) -> None:
    """Under two workers: every turn is answered and stored, the service stays alive and ready, all comes home."""
    acknowledged: dict[str, set[str]] = {"shared": set(), **{f"c{number}": set() for number in range(TALKERS)}}
    outcomes: list[str] = []
    statuses: set[tuple[str, int]] = set()
    enough = threading.Event()

    def talk(number: int) -> None:
        for count in range(MOST_TURNS):
            if enough.is_set():
                return
            conversation = "shared" if count % 3 == 0 else f"c{number}"
            message = f"message {number}-{count}"
            _, _, kind, fields = service.say(conversation, message)
            assert kind == "stored", fields
            acknowledged[conversation].add(message)
            outcomes.append(fields["outcome"])
            statuses.update((path, service.status(path)) for path in ("/healthz", "/readyz"))

    with ChatService(tmp_path, redis.url, workers=2, pause=0.002) as service:
        with threads(TALKERS, talk):
            try:
                wait_until(lambda: outcomes.count("committed") >= 8, "turns are stored")
                redis.kill()
                wait_until(lambda: outcomes.count("journaled") >= 8, "turns are journaled")
                redis.start()
                healed = len(outcomes)
                wait_until(lambda: outcomes[healed:].count("committed") >= 8, "turns are stored again")
            finally:
                enough.set()
        wait_until(lambda: service.health()["pending"] == 0, "all is home")
        service.terminate()
        service.wait_ended(5.0)
        assert len(service.pids) == 2, "no worker was replaced"
        assert "ERROR" not in service.log
    assert statuses == {("/healthz", 200), ("/readyz", 200)}
    for conversation, messages in acknowledged.items():
        home = {line for lines in (stored(redis, conversation), *kept(redis, conversation)) for line in lines}
        assert messages <= home, conversation
    assert list(waiting(service.journal)) == []


def test_words_are_sent_as_they_are_made(calm: tuple[RedisServer, ChatService]) -> None:
    """With the first word here the turn is not over: its memory is stored after the last one, a second later."""
    redis, service = calm
    assert service.say("c", "I like tea")[1] == "You are new to me. Now you say: I like tea"
    with service.turn("c", SLOW) as reply:
        words = reply.words()
        first = next(words)
        assert stored(redis, "c") == ["I like tea"]
        answer = " ".join([first, *words])
        assert answer == f"I remember 1 of your messages, the last one is: I like tea. Now you say: {SLOW}"
        assert reply.finish() == ("stored", {"outcome": "committed", "merged": False})
    assert stored(redis, "c") == ["I like tea", SLOW]


def test_of_two_turns_at_once_both_are_remembered(calm: tuple[RedisServer, ChatService]) -> None:
    """The one that is stored last goes on top of the other, and says so."""
    redis, service = calm
    with service.turn("d", SLOW) as slow:
        next(slow.words())
        assert service.say("d", "fast")[2:] == ("stored", {"outcome": "committed", "merged": False})
        assert slow.finish() == ("stored", {"outcome": "committed", "merged": True})
    assert stored(redis, "d") == ["fast", SLOW]


def test_what_waits_when_the_service_ends_is_brought_home_by_the_next(redis: RedisServer, tmp_path: Path) -> None:
    """In an outage SIGTERM lets a stream finish and leaves its turn in the journal; with Redis back, the end drains."""
    with ChatService(tmp_path, redis.url, pause=0.01) as service:
        service.say("seen", "before")
        redis.kill()
        assert service.say("seen", "during")[0]["source"] == "stale"
        with service.turn("new", SLOW) as reply:
            next(reply.words())
            service.terminate()
            assert reply.finish() == ("stored", {"outcome": "journaled", "merged": False})
        service.wait_ended(8.0)
    assert len(list(waiting(service.journal))) == 2
    with ChatService(tmp_path, redis.url) as service:
        assert (service.status("/healthz"), service.status("/readyz")) == (200, 200)
        memory, answer, kind, _ = service.say("new", "second")
        assert (memory["source"], kind) == ("journal", "stored")
        assert answer.startswith(f"I remember 1 of your messages, the last one is: {SLOW}.")
        redis.start()
        wait_until(lambda: stored(redis, "new") == [SLOW, "second"], "what waited is home")
        wait_until(lambda: stored(redis, "seen") == ["before", "during"], "what waited is home")
        redis.kill()
        assert service.say("new", "third")[3]["outcome"] == "journaled"
        assert service.health()["breaker"] != "closed", "so that it is not replayed before the end"
        redis.start()
        service.terminate()
        service.wait_ended(8.0)
    assert stored(redis, "new") == [SLOW, "second", "third"]
    assert list(waiting(service.journal)) == []


def test_a_memory_that_nobody_could_read_is_not_replaced(redis: RedisServer, tmp_path: Path) -> None:
    """The turn is told so and stored, and ends beside the memory; and a full journal makes the service unready."""
    with RedisWorkingMemoryManager(redis.url) as before:
        before.store({"conversation_id": "c", "working_memory": "old"})
    redis.kill()
    with ChatService(tmp_path, redis.url, JOURNAL_MAX_ENTRIES="1") as service:
        memory, answer, kind, fields = service.say("c", "new")
        assert (memory["source"], memory["degraded"]) == ("none", True)
        assert answer.startswith("I cannot look up what you said before.")
        assert (kind, fields["outcome"]) == ("stored", "journaled")
        wait_until(lambda: service.health()["breaker"] != "closed", "the breaker has opened")
        assert service.status("/readyz") == 503
        assert service.say("d", "more")[2:] == ("not-stored", {"error": "JournalFullError", "message": "more"})
        assert service.status("/healthz") == 200
        redis.start()
        wait_until(lambda: service.health()["status"] == "ready", "all is home")
        assert service.status("/readyz") == 200
    assert stored(redis, "c") == ["old"]
    assert kept(redis, "c") == [["new"]]
