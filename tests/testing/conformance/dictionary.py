"""A manager that meets every requirement: a dictionary, a lock, and a store that can be taken away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from remanence import IMemoryInput, IWorkingMemory, VersionConflictError
from remanence.interface import coerce
from remanence.testing.conformance import CAPABILITIES, Hooks

ANY = object()
Key = tuple[str, str]


@dataclass(frozen=True)
class Entry:
    """What is stored under a key."""

    text: Any
    metadata: str
    version: str
    ends: float | None


class Answer(list[Any]):
    """What retrieve returns."""

    version: str | None = None
    metadata: Any = None


class Receipt(str):  # noqa: SLOT000 - it has an attribute
    """What a write returns."""

    version: str | None = None


class World:
    """The time, and whether the store can be reached."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_away = False
        self.is_silent = False

    def reach(self) -> None:
        """Raise where the store is away."""
        if self.is_away or self.is_silent:
            raise ConnectionError


class Dictionary:
    """The correct manager; what mutants change is a method of its own."""

    def __init__(self, world: World, ttl: float | None = None) -> None:
        self.world = world
        self.ttl = ttl
        self.entries: dict[Key, Entry] = {}
        self.lock = threading.RLock()
        self.writes = 0

    # The interface ----------------------------------------------------------------------------------------------------

    def store(self, input: Any, *, if_version: Any = ANY) -> Any:  # noqa: A002 - the interface's own name
        """Write."""
        return self.write(self.understand(input), if_version)

    def retrieve(self, input: Any) -> Any:  # noqa: A002
        """Read."""
        item = self.understand(input)
        self.world.reach()
        return self.answer(self.get(item))

    def update(self, input: Any, *, if_version: Any = ANY) -> Any:  # noqa: A002
        """Write over what is there."""
        item = self.understand(input)
        self.check(item)
        self.world.reach()
        with self.lock:
            held = self.get(item)
            self.compare(item, if_version)
            if held is not None:
                merged = {**json.loads(held.metadata), **(item.metadata or {})}
                self.put(item, replace(self.entry(item), metadata=json.dumps(merged)))
        return self.receipt(item)

    def delete(self, input: Any) -> Any:  # noqa: A002
        """Remove."""
        item = self.understand(input)
        self.world.reach()
        with self.lock:
            self.entries.pop(self.key(item), None)
        return self.receipt(item)

    def mutate(self, input: Any, fn: Callable[[str | None], str]) -> Any:  # noqa: A002
        """Read, change, write."""
        with self.lock:
            held = self.get(self.understand(input))
            return self.write(with_text(self.understand(input), fn(None if held is None else held.text)))

    def store_many(self, inputs: Sequence[Any]) -> list[Any]:
        """Write many."""
        for each in inputs:
            self.check(self.understand(each))
        return [self.store(each) for each in inputs]

    def retrieve_many(self, inputs: Sequence[Any]) -> list[Any]:
        """Read many."""
        return [self.retrieve(each) for each in inputs]

    def delete_many(self, inputs: Sequence[Any]) -> list[Any]:
        """Remove many."""
        return [self.delete(each) for each in inputs]

    def write(self, item: IMemoryInput, if_version: Any = ANY) -> Any:
        """Store, for `store` and `mutate`."""
        self.check(item)
        self.world.reach()
        with self.lock:
            self.compare(item, if_version)
            self.put(item, self.entry(item))
        return self.receipt(item)

    # Its parts --------------------------------------------------------------------------------------------------------

    def understand(self, value: Any) -> IMemoryInput:
        """Take what is an input."""
        return coerce(value)

    def key(self, item: IMemoryInput) -> Key:
        """Name the memory."""
        return item.memory_type.value, item.conversation_id

    def check(self, item: IMemoryInput) -> None:
        """Refuse a write without data."""
        if not item.data:
            raise ValueError

    def text(self, item: IMemoryInput) -> Any:
        """Choose the text."""
        assert item.data
        return item.data[-1].working_memory

    def entry(self, item: IMemoryInput) -> Entry:
        """Make what is stored."""
        self.writes += 1
        ends = None if self.ttl is None else self.world.now + self.ttl
        return Entry(self.text(item), json.dumps(item.metadata or {}), f"v{self.writes}", ends)

    def put(self, item: IMemoryInput, entry: Entry) -> None:
        """Store."""
        self.entries[self.key(item)] = entry

    def get(self, item: IMemoryInput) -> Entry | None:
        """Find."""
        entry = self.entries.get(self.key(item))
        return None if entry is None or self.is_over(entry) else entry

    def is_over(self, entry: Entry) -> bool:
        """Whether it has expired."""
        return entry.ends is not None and entry.ends <= self.world.now

    def compare(self, item: IMemoryInput, if_version: Any) -> None:
        """Refuse a write over another version."""
        held = self.get(item)
        if if_version is not ANY and if_version != (None if held is None else held.version):
            raise VersionConflictError

    def answer(self, entry: Entry | None) -> Any:
        """Give what was found."""
        if entry is None:
            return self.nothing()
        answer = Answer([IWorkingMemory(working_memory=entry.text)])
        answer.version, answer.metadata = entry.version, json.loads(entry.metadata)
        return answer

    def nothing(self) -> Any:
        """Say that nothing is stored."""
        answer = Answer()
        answer.metadata = {}
        return answer

    def receipt(self, item: IMemoryInput) -> Any:
        """Acknowledge."""
        receipt = Receipt(":".join(self.key(item)))
        held = self.get(item)
        receipt.version = None if held is None else held.version
        return receipt


def with_text(item: IMemoryInput, text: str) -> IMemoryInput:
    """Return the input with another text."""
    return item.model_copy(update={"data": [IWorkingMemory(working_memory=text)]})


def asynchronous(cls: type[Any]) -> type[Any]:
    """Return the class with methods that must be awaited."""

    def awaited(name: str) -> Any:
        async def method(self: Any, *args: Any, **options: Any) -> Any:
            return getattr(self.inner, name)(*args, **options)

        return method

    names = ("store", "retrieve", "update", "delete", "mutate", "store_many", "retrieve_many", "delete_many")
    methods = {name: awaited(name) for name in names}

    def construct(self: Any, *args: Any, **options: Any) -> None:
        self.inner = cls(*args, **options)

    return type(f"Async{cls.__name__}", (), {"__init__": construct, **methods})


class DictionaryHooks(Hooks):
    """Makes managers of a class; time moves and the store goes as it is told."""

    capabilities = frozenset(CAPABILITIES)
    time_limit = 5.0
    call_limit = 0.5
    recovery_limit = 0.1

    def __init__(self, cls: type[Any] = Dictionary, *, is_async: bool = False) -> None:
        self.cls = asynchronous(cls) if is_async else cls
        self.asynchronous = is_async
        self.world = World()

    def make_manager(self) -> Any:
        """Make one."""
        return self.cls(self.world)

    def make_manager_with_ttl(self, seconds: int) -> Any:
        """Make one whose memories end."""
        return self.cls(self.world, ttl=seconds)

    def advance(self, seconds: float) -> None:
        """Move the time."""
        self.world.now += seconds

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Take the store away."""
        self.world.is_away = True
        try:
            yield
        finally:
            self.world.is_away = False

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Let the store be silent."""
        self.world.is_silent = True
        try:
            yield
        finally:
            self.world.is_silent = False
