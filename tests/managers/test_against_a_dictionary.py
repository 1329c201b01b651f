"""Managers against a model that is a dictionary of the framework's documents: whatever is done, they agree."""

from __future__ import annotations

import json
import time
from hashlib import sha1
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from remanence import (
    AsyncInMemoryManager,
    ConversationMemoryType,
    InMemoryManager,
    Memories,
    Receipt,
    RedisWorkingMemoryManager,
    VersionConflictError,
)
from remanence.flow import Call, WriteItem
from remanence.record import stamp
from tests.support import FakeClock, run

NAMES = st.tuples(st.sampled_from(ConversationMemoryType), st.sampled_from(["a", "b", "c:", "h\u00e9 *"]))
TEXTS = st.text(alphabet=st.characters(codec=None, categories=None), max_size=20)
METADATA = st.none() | st.dictionaries(
    st.sampled_from(["k", "\ud800", ""]), st.none() | st.integers() | TEXTS | st.lists(TEXTS, max_size=2), max_size=2
)

Name = tuple[ConversationMemoryType, str]


class StampClock:
    """The machine's clock for sockets, another for stamps, so that a model can know them."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self.epoch = 1_800_000_000.0

    def time(self) -> float:
        """Return the seconds since the epoch, as told."""
        return self.epoch

    def advance(self, seconds: float) -> None:
        """Let the stamps move on; nothing expires by it."""
        self.epoch += seconds


def key_of(name: Name) -> str:
    """Return the key as the framework writes it."""
    return f"memory:{name[0].value}:{name[1]}"


class Dictionary(RuleBasedStateMachine):
    """The model, and the rules that hold for every manager; subclasses make one."""

    manager: Any
    clock: Any
    lent: dict[str, Any] | None = None
    expires = True
    ttl = 100.0
    max_entries: int | None = None
    max_bytes: int | None = None

    versions: Bundle[str] = Bundle("versions")

    def __init__(self) -> None:
        super().__init__()
        # In the order of writing: the document and when it ends.
        self.model: dict[Name, tuple[dict[str, Any], float]] = {}

    # The model ------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> str:
        """The stamp that a write bears now."""
        return stamp(self.clock.time())

    def held(self, name: Name) -> dict[str, Any] | None:
        """Return what the model holds under a name."""
        self.expire()
        found = self.model.get(name)
        return None if found is None else found[0]

    def expire(self) -> None:
        """Drop what has expired."""
        if self.expires:
            now = self.clock.monotonic()
            self.model = {name: held for name, held in self.model.items() if held[1] > now}

    def put(self, name: Name, document: dict[str, Any]) -> None:
        """Hold a document, and make room for it."""
        self.expire()
        self.model.pop(name, None)
        self.model[name] = (document, self.clock.monotonic() + self.ttl)
        while len(self.model) > 1 and (
            (self.max_entries is not None and len(self.model) > self.max_entries)
            or (self.max_bytes is not None and sum(map(self.size, self.model)) > self.max_bytes)
        ):
            del self.model[next(iter(self.model))]

    def size(self, name: Name) -> int:
        """Return the bytes of what is held."""
        return len(json.dumps(self.model[name][0]))

    def version(self, name: Name) -> str | None:
        """Return the token of what is held."""
        document = self.held(name)
        return None if document is None else sha1(json.dumps(document).encode(), usedforsecurity=False).hexdigest()

    def new(self, text: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
        """Return the document of a store."""
        return {
            "data": {"working_memory": text},
            "metadata": metadata or {},
            "created_at": self.now,
            "last_update": self.now,
        }

    def changed(self, document: dict[str, Any], text: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
        """Return the document after an update."""
        merged = {**document["metadata"], **(metadata or {})}
        return {
            **document,
            "data": {**document["data"], "working_memory": text},
            "metadata": merged,
            "last_update": self.now,
        }

    # The rules ------------------------------------------------------------------------------------------------------

    def input(self, name: Name, text: str | None = None, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return an input whose metadata are changed after its use."""
        self.lent = None if metadata is None else json.loads(json.dumps(metadata))
        return {
            "conversation_id": name[1],
            "memory_type": name[0],
            "working_memory": text,
            "metadata": self.lent,
        }

    def do(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """Carry out an operation, and then spoil what was lent to it."""
        try:
            return run(getattr(self.manager, operation)(*arguments, **options))
        finally:
            if self.lent is not None:
                self.lent.clear()
                self.lent["spoilt"] = 1

    def agrees(self, answer: Any, name: Name) -> None:
        """Check an answer against the model, and spoil it."""
        document = self.held(name)
        assert isinstance(answer, Memories)
        assert [memory.working_memory for memory in answer] == (
            [] if document is None else [document["data"]["working_memory"]]
        )
        assert answer.version == self.version(name)
        assert answer.metadata == ({} if document is None else document["metadata"])
        assert answer.created_at == (None if document is None else document["created_at"])
        assert (answer.source, answer.degraded) == ("redis", False)
        answer.metadata.clear()
        answer.clear()

    @rule(target=versions, name=NAMES, text=TEXTS, metadata=METADATA)
    def store(self, name: Name, text: str, metadata: dict[str, Any] | None) -> str:
        """Replace whatever there is."""
        receipt = self.do("store", self.input(name, text, metadata))
        self.put(name, self.new(text, metadata))
        assert (receipt, receipt.outcome, receipt.version) == (key_of(name), "committed", self.version(name))
        return str(receipt.version)

    @rule(name=NAMES, text=TEXTS, version=st.none() | versions, operation=st.sampled_from(["store", "update"]))
    def write_over_a_version(self, name: Name, text: str, version: str | None, operation: str) -> None:
        """Write where the version stands, else conflict."""
        document = self.held(name)
        if self.version(name) != version:
            with pytest.raises(VersionConflictError):
                self.do(operation, self.input(name, text), if_version=version)
            return
        receipt = self.do(operation, self.input(name, text), if_version=version)
        if operation == "store":
            self.put(name, self.new(text, None))
        elif document is not None:
            self.put(name, self.changed(document, text, None))
        assert receipt.outcome == ("missing" if operation == "update" and document is None else "committed")

    @rule(target=versions, name=NAMES, text=TEXTS, metadata=METADATA)
    def update(self, name: Name, text: str, metadata: dict[str, Any] | None) -> str:
        """Change what there is, or nothing."""
        document = self.held(name)
        receipt = self.do("update", self.input(name, text, metadata))
        if document is not None:
            self.put(name, self.changed(document, text, metadata))
        assert (receipt.outcome, receipt.version) == (
            ("missing", None) if document is None else ("committed", self.version(name))
        )
        return receipt.version or "0" * 40

    @rule(name=NAMES, text=TEXTS)
    def mutate(self, name: Name, text: str) -> None:
        """Append to what there is, or begin."""
        document = self.held(name)
        before = None if document is None else document["data"]["working_memory"]
        receipt = self.do("mutate", self.input(name), lambda seen: f"{seen}{text}")
        after = f"{before}{text}"
        self.put(name, self.new(after, None) if document is None else self.changed(document, after, None))
        assert receipt.version == self.version(name)

    @rule(name=NAMES)
    def delete(self, name: Name) -> None:
        """Remove what there is."""
        expected = "missing" if self.held(name) is None else "committed"
        assert self.do("delete", self.input(name)).outcome == expected
        self.model.pop(name, None)

    @rule(name=NAMES)
    def retrieve(self, name: Name) -> None:
        """Read."""
        self.agrees(self.do("retrieve", self.input(name)), name)

    @rule(items=st.lists(st.tuples(NAMES, TEXTS), max_size=5))
    def store_many(self, items: list[tuple[Name, str]]) -> None:
        """Replace several, in order."""
        receipts = self.do("store_many", [self.input(name, text) for name, text in items])
        for (name, text), receipt in zip(items, receipts, strict=True):
            self.put(name, self.new(text, None))
            assert isinstance(receipt, Receipt)
            assert (receipt, receipt.version) == (key_of(name), self.version(name))

    @rule(names=st.lists(NAMES, max_size=5))
    def retrieve_many(self, names: list[Name]) -> None:
        """Read several."""
        for name, answer in zip(names, self.do("retrieve_many", [self.input(name) for name in names]), strict=True):
            self.agrees(answer, name)

    @rule(names=st.lists(NAMES, max_size=5))
    def delete_many(self, names: list[Name]) -> None:
        """Remove several."""
        for name, receipt in zip(names, self.do("delete_many", [self.input(name) for name in names]), strict=True):
            assert receipt.outcome == ("missing" if self.held(name) is None else "committed")
            self.model.pop(name, None)

    @rule(name=NAMES, text=TEXTS)
    def the_framework_writes(self, name: Name, text: str) -> None:
        """Somebody else writes a record with fields that we do not know."""
        document = {"v": 1, **self.new(text, {"theirs": True}), "created_at": "2026-11-22T13:19:23", "more": [text]}
        document["data"]["extra"] = text
        raw = json.dumps(document).encode()
        assert run(self.manager.perform(Call("reconcile", items=[WriteItem(key_of(name), raw, self.ttl, None)]))) == [
            None
        ]
        self.put(name, document)

    @rule(seconds=st.sampled_from([0.001, 1.0, 33.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        """Stamps change, and where the clock is ours memories expire."""
        self.clock.advance(seconds)


class InMemory(Dictionary):
    """The model beside a manager in memory."""

    kind: Any = InMemoryManager

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.manager = self.kind(ttl=self.ttl, max_entries=self.max_entries, max_bytes=self.max_bytes, clock=self.clock)

    @invariant()
    def the_books_are_right(self) -> None:
        """Not more is kept than the model holds, and its bytes are counted."""
        self.expire()
        backend = self.manager.backend
        assert len(backend) == len(self.model)
        assert backend._bytes == sum(map(self.size, self.model))


class AsyncInMemory(InMemory):
    """The model beside the asynchronous one."""

    kind = AsyncInMemoryManager


class FewInMemory(InMemory):
    """At most three memories."""

    max_entries = 3


class SmallInMemory(InMemory):
    """At most 700 bytes."""

    max_bytes = 700


class OnRedis(Dictionary):
    """The model beside the Redis manager on a real server."""

    expires = False
    guarded = False

    def __init__(self, url: str) -> None:
        super().__init__()
        self.clock = StampClock()
        self.manager = RedisWorkingMemoryManager(url, ttl=self.ttl, timeout=10.0, clock=self.clock)
        self.raw = redis.Redis.from_url(url)
        self.raw.flushall()

    @rule()
    def the_script_cache_is_flushed(self) -> None:
        """The next guarded write brings the script along."""
        self.raw.script_flush()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def somebody_deletes(self, data: st.DataObject) -> None:
        """A key goes under the manager's feet."""
        name = data.draw(st.sampled_from(list(self.model)))
        self.raw.delete(key_of(name))
        del self.model[name]

    @invariant()
    def the_server_holds_the_same_bytes(self) -> None:
        """Every key and every byte is the model's, and each key expires."""
        found = {key: (self.raw.get(key), self.raw.pttl(key)) for key in self.raw.scan_iter()}
        assert {key: value for key, (value, _) in found.items()} == {
            key_of(name).encode(): json.dumps(document).encode() for name, (document, _) in self.model.items()
        }
        assert all(0 < ttl <= self.ttl * 1000 for _, ttl in found.values())

    def teardown(self) -> None:
        """Leave no connection open."""
        self.manager.close()
        self.raw.close()


@pytest.mark.parametrize("machine", [InMemory, AsyncInMemory, FewInMemory, SmallInMemory])
def test_memories_in_this_process(machine: type[InMemory]) -> None:
    """The in-memory managers do what a dictionary does, with and without limits, and keep nothing of the caller's."""
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


def test_memories_in_redis(redis_url: str) -> None:
    """The Redis manager does what a dictionary does, and the server holds the framework's bytes."""
    machine: Any = lambda: OnRedis(redis_url)  # noqa: E731 - what is asked for is something to call
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
