"""For every requirement a manager with one mistake, by which it is not met."""

# ruff: noqa: A002, ARG002, D101, D102
# The methods have the interface's own parameter, and some do not use it; a class's name says what is wrong with it.

from __future__ import annotations

import asyncio
import json
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from remanence import ConversationMemoryType, IMemoryInput, IMemoryManager, VersionConflictError
from remanence.interface import coerce
from tests.testing.conformance.dictionary import ANY, Answer, Dictionary, Entry, Key, Receipt, asynchronous, with_text

MUTANTS: dict[str, type[Dictionary]] = {}
MORE: list[tuple[str, type[Dictionary]]] = []
_PAUSE = 0.002
_SHARED: dict[Key, Entry] = {}


def fails(number: str) -> Callable[[type[Dictionary]], type[Dictionary]]:
    """Note which requirement a class does not meet."""

    def note(cls: type[Dictionary]) -> type[Dictionary]:
        assert number not in MUTANTS
        MUTANTS[number] = cls
        return cls

    return note


def also_fails(number: str) -> Callable[[type[Dictionary]], type[Dictionary]]:
    """Note one more way not to meet a requirement."""

    def note(cls: type[Dictionary]) -> type[Dictionary]:
        MORE.append((number, cls))
        return cls

    return note


# Methods and keeping --------------------------------------------------------------------------------------------------


@fails("RM-001")
class LacksUpdate(Dictionary):
    update = None  # type: ignore[assignment]


@fails("RM-002")
class SharesItsEntries(Dictionary):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.entries = _SHARED


class _Repository:
    def __init__(self, entries: dict[Key, Entry]) -> None:
        self.entries = entries


_REPOSITORY = _Repository({})


class _HasARepository(Dictionary):
    entries = property(lambda self: self.repository.entries, lambda *_: None)
    repository = _REPOSITORY


@also_fails("RM-002")
class KeepsItsEntriesInTheClass(_HasARepository):
    _entries: dict[Key, Entry] = {}  # noqa: RUF012 - the mistake
    entries = property(lambda self: self._entries, lambda *_: None)


@also_fails("RM-002")
class WrapsSharedEntries(_HasARepository):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.repository = _Repository(_SHARED)


@also_fails("RM-002")
class HasOneRepositoryForAll(_HasARepository):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.repository = _REPOSITORY


@fails("RM-003")
class HasALength(Dictionary):
    def __len__(self) -> int:
        return len(self.entries)


@fails("RM-010")
class AnswersWithATuple(Dictionary):
    def answer(self, entry: Entry | None) -> Any:
        return super().answer(entry) if entry is None else tuple(super().answer(entry))


@fails("RM-011")
class AnswersWithNone(Dictionary):
    def nothing(self) -> Any:
        return None


@fails("RM-012")
class StoresOnce(Dictionary):
    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = coerce(input)
        if item.data and self.get(item) and if_version is ANY:
            return self.receipt(item)
        return super().store(item, if_version=if_version)


@fails("RM-013")
class GivesOneKeyForAllKinds(Dictionary):
    def receipt(self, item: IMemoryInput) -> Any:
        receipt = Receipt(item.conversation_id)
        receipt.version = super().receipt(item).version
        return receipt


@fails("RM-014")
class CanBeReadTwice(Dictionary):
    def answer(self, entry: Entry | None) -> Any:
        if entry is not None:
            self.reads[entry.version] = self.reads.get(entry.version, 0) + 1
        return super().answer(entry if entry is None or self.reads[entry.version] <= 2 else None)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.reads: dict[str, int] = {}


@fails("RM-015")
class StoresTheFirstItem(Dictionary):
    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        first = with_text(item, item.data[0].working_memory) if item.data else item
        return super().store(first, if_version=if_version)


@fails("RM-016")
class StoresNothingInSilence(Dictionary):
    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        return super().store(item, if_version=if_version) if item.data else self.receipt(item)


@fails("RM-017")
class KeepsAHundred(Dictionary):
    def put(self, item: IMemoryInput, entry: Entry) -> None:
        while len(self.entries) >= 100:
            del self.entries[next(iter(self.entries))]
        super().put(item, entry)


# Texts ----------------------------------------------------------------------------------------------------------------


@fails("RM-020")
class Normalises(Dictionary):
    def text(self, item: IMemoryInput) -> Any:
        return unicodedata.normalize("NFC", super().text(item))


@fails("RM-021")
class TakesAnEmptyTextForNothing(Dictionary):
    def answer(self, entry: Entry | None) -> Any:
        return super().answer(entry if entry and entry.text else None)


@fails("RM-022")
class CutsTextsOff(Dictionary):
    def text(self, item: IMemoryInput) -> Any:
        return super().text(item)[:65_535]


@fails("RM-023")
class ReplacesSurrogates(Dictionary):
    def text(self, item: IMemoryInput) -> Any:
        return super().text(item).encode("utf-8", "replace").decode()


@also_fails("RM-023")
class DropsNul(Dictionary):
    def text(self, item: IMemoryInput) -> Any:
        return super().text(item).replace("\0", "")


@also_fails("RM-023")
class RefusesNulAfterItRemovedTheMemory(Dictionary):
    def put(self, item: IMemoryInput, entry: Entry) -> None:
        self.entries.pop(self.key(item), None)
        if "\0" in entry.text:
            raise ValueError
        super().put(item, entry)


# Updates and deletions ------------------------------------------------------------------------------------------------


@fails("RM-030")
class UpdatesNothing(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        self.check(self.understand(input))
        return self.receipt(self.understand(input))


@fails("RM-031")
class UpdatesWhatIsMissing(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        self.check(item)
        if self.get(item) is None:
            return self.store(item, if_version=if_version)
        return super().update(item, if_version=if_version)


@fails("RM-032")
class UpdatesWithTheFirstItem(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        first = with_text(item, item.data[0].working_memory) if item.data else item
        return super().update(first, if_version=if_version)


@fails("RM-033")
class UpdatesWithNothingInSilence(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        return super().update(item, if_version=if_version) if item.data else self.receipt(item)


@fails("RM-040")
class DeletesNothing(Dictionary):
    def delete(self, input: Any) -> Any:
        self.world.reach()
        return self.receipt(self.understand(input))


@fails("RM-041")
class DeletesOnce(Dictionary):
    def delete(self, input: Any) -> Any:
        if self.get(self.understand(input)) is None:
            raise KeyError
        return super().delete(input)


class _MarksAsDeleted(Dictionary):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.deleted: set[Key] = set()

    def delete(self, input: Any) -> Any:
        self.world.reach()
        with self.lock:
            self.deleted.add(self.key(self.understand(input)))
        return self.receipt(self.understand(input))

    def get(self, item: IMemoryInput) -> Entry | None:
        return None if self.key(item) in self.deleted else super().get(item)


@fails("RM-042")
class IsDeletedForEver(_MarksAsDeleted):
    pass


@fails("RM-043")
class UpdatesWhatIsMarkedAsDeleted(_MarksAsDeleted):
    def put(self, item: IMemoryInput, entry: Entry) -> None:
        self.deleted.discard(self.key(item))
        super().put(item, entry)

    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        if item.data and self.key(item) in self.entries:
            self.deleted.discard(self.key(item))
        return super().update(item, if_version=if_version)


# Apart ----------------------------------------------------------------------------------------------------------------


@fails("RM-050")
class DeletesTheOthersToo(Dictionary):
    def delete(self, input: Any) -> Any:
        kind = self.understand(input).memory_type.value
        with self.lock:
            self.entries = {key: entry for key, entry in self.entries.items() if key[0] != kind}
        return super().delete(input)


@fails("RM-051")
class FoldsTheCaseOfIds(Dictionary):
    def key(self, item: IMemoryInput) -> Key:
        return item.memory_type.value, item.conversation_id.casefold()


@fails("RM-052")
class KeepsOneKind(Dictionary):
    def key(self, item: IMemoryInput) -> Key:
        return "", item.conversation_id

    def receipt(self, item: IMemoryInput) -> Any:
        receipt = Receipt(f"{item.memory_type.value}:{item.conversation_id}")
        receipt.version = super().receipt(item).version
        return receipt


@fails("RM-053")
class HasAnotherDefaultKind(Dictionary):
    def understand(self, value: Any) -> IMemoryInput:
        item = coerce(value)
        if "memory_type" in item.model_fields_set:
            return item
        return item.model_copy(update={"memory_type": ConversationMemoryType.LONG_TERM_MEMORY})


# Inputs and answers ---------------------------------------------------------------------------------------------------


@fails("RM-060")
class AsksForItsOwnClass(Dictionary):
    def understand(self, value: Any) -> IMemoryInput:
        if not isinstance(value, IMemoryInput | dict):
            raise TypeError
        return coerce(value)


@fails("RM-061")
class ConsumesItsInput(Dictionary):
    def put(self, item: IMemoryInput, entry: Entry) -> None:
        super().put(item, entry)
        assert item.data is not None
        item.data.clear()


@fails("RM-062")
class KeepsTheInput(Dictionary):
    def text(self, item: IMemoryInput) -> Any:
        return item.data

    def answer(self, entry: Entry | None) -> Any:
        return super().answer(None if entry is None else replace(entry, text=entry.text[-1].working_memory))

    def mutate(self, input: Any, fn: Callable[[str | None], str]) -> Any:
        with self.lock:
            held = self.get(self.understand(input))
            text = fn(None if held is None else held.text[-1].working_memory)
            return self.store(with_text(self.understand(input), text))


@also_fails("RM-062")
class KeepsTheMemoryObject(Dictionary):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: dict[str, Any] = {}

    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        return self.keep(super().update(input, if_version=if_version), input)

    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        return self.keep(super().store(input, if_version=if_version), input)

    def keep(self, receipt: Any, input: Any) -> Any:
        if receipt.version is not None and not isinstance(input, dict | IMemoryInput):
            self.kept[receipt.version] = input.data[-1]
        return receipt

    def answer(self, entry: Entry | None) -> Any:
        kept = None if entry is None else self.kept.get(entry.version)
        return super().answer(entry if entry is None or kept is None else replace(entry, text=kept.working_memory))


@fails("RM-063")
class GivesItsOwnList(Dictionary):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.answers: dict[str, Any] = {}

    def answer(self, entry: Entry | None) -> Any:
        if entry is None:
            return super().answer(entry)
        answer = self.answers.setdefault(entry.version, super().answer(entry))
        answer.metadata = json.loads(entry.metadata)
        return answer


@fails("RM-064")
class MixesMetadataIntoTheRecord(Dictionary):
    def text(self, item: IMemoryInput) -> Any:
        return {"working_memory": super().text(item), **(item.metadata or {})}["working_memory"]


# Concurrency ----------------------------------------------------------------------------------------------------------


@fails("RM-101")
class NotesTheKeyOnTheManager(Dictionary):
    def get(self, item: IMemoryInput) -> Entry | None:
        self.current = self.key(item)
        time.sleep(0)
        entry = self.entries.get(self.current)
        return None if entry is None or self.is_over(entry) else entry


@fails("RM-102")
class WritesInTwoHalves(Dictionary):
    def put(self, item: IMemoryInput, entry: Entry) -> None:
        if len(entry.text) == 2_000:
            super().put(item, replace(entry, text=entry.text[:1_000]))
            time.sleep(_PAUSE)
        super().put(item, entry)


@fails("RM-103")
class UpdatesInThreeSteps(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        held = self.get(item)
        if item.data and held is not None and self.text(item) == "after" and if_version is ANY:
            time.sleep(_PAUSE)
            self.put(item, self.entry(item))
            return self.receipt(item)
        return super().update(item, if_version=if_version)


@fails("RM-104")
class KeepsAStoreForEachThread(Dictionary):
    def __init__(self, *args: Any, **options: Any) -> None:
        self._local = threading.local()
        super().__init__(*args, **options)

    @property
    def entries(self) -> dict[Key, Entry]:
        return self._local.__dict__.setdefault("entries", {})  # type: ignore[no-any-return]

    @entries.setter
    def entries(self, value: dict[Key, Entry]) -> None:
        self._local.entries = value


# Time to live ---------------------------------------------------------------------------------------------------------


@fails("RM-201")
class NeverEnds(Dictionary):
    def is_over(self, entry: Entry) -> bool:
        return False


@also_fails("RM-201")
class EndsEarly(Dictionary):
    def entry(self, item: IMemoryInput) -> Entry:
        ends = None if self.ttl is None else self.world.now + 0.7 * self.ttl
        return replace(super().entry(item), ends=ends)


@fails("RM-202")
class UpdatesWithoutRenewing(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        with self.lock:
            held = self.get(self.understand(input))
            receipt = super().update(input, if_version=if_version)
            if held is not None:
                key = self.key(self.understand(input))
                self.entries[key] = replace(self.entries[key], ends=held.ends)
        return receipt


@fails("RM-203")
class StoresWithoutRenewing(Dictionary):
    def put(self, item: IMemoryInput, entry: Entry) -> None:
        held = self.get(item)
        is_store = held is not None and held.text == entry.text and self._storing
        super().put(item, replace(entry, ends=held.ends) if held is not None and is_store else entry)

    _storing = False

    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        with self.lock:
            self._storing = True
            try:
                return super().store(input, if_version=if_version)
            finally:
                self._storing = False


@fails("RM-204")
class UpdatesWhatHasExpired(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        with self.lock:
            if item.data and self.key(item) in self.entries and self.get(item) is None:
                self.put(item, self.entry(item))
        return super().update(item, if_version=if_version)


# Batches --------------------------------------------------------------------------------------------------------------


@fails("RM-301")
class AnswersInAnotherOrder(Dictionary):
    def retrieve_many(self, inputs: Sequence[Any]) -> list[Any]:
        return super().retrieve_many(inputs)[::-1]


@fails("RM-302")
class DeletesAllButTheFirst(Dictionary):
    def delete_many(self, inputs: Sequence[Any]) -> list[Any]:
        return [self.receipt(self.understand(each)) for each in inputs[:1]] + super().delete_many(inputs[1:])


@fails("RM-303")
class RefusesAnEmptyBatch(Dictionary):
    def delete_many(self, inputs: Sequence[Any]) -> list[Any]:
        if not inputs:
            raise ValueError
        return super().delete_many(inputs)


@fails("RM-304")
class StoresBackwards(Dictionary):
    def store_many(self, inputs: Sequence[Any]) -> list[Any]:
        return super().store_many(inputs[::-1])[::-1]


@fails("RM-305")
class StoresUntilOneIsInvalid(Dictionary):
    def store_many(self, inputs: Sequence[Any]) -> list[Any]:
        return [self.store(each) for each in inputs]


@fails("RM-306")
class LosesWhatIsBeyondAThousand(Dictionary):
    def store_many(self, inputs: Sequence[Any]) -> list[Any]:
        super().store_many(inputs[:1_000])
        return [self.receipt(self.understand(each)) for each in inputs]


# Versions -------------------------------------------------------------------------------------------------------------


@fails("RM-401")
class HasOneVersion(Dictionary):
    def entry(self, item: IMemoryInput) -> Entry:
        return replace(super().entry(item), version="v")


@fails("RM-402")
class RefusesEveryVersion(Dictionary):
    def compare(self, item: IMemoryInput, if_version: Any) -> None:
        if if_version is not ANY and if_version is not None:
            raise VersionConflictError
        super().compare(item, if_version)


@fails("RM-403")
class IgnoresTheVersion(Dictionary):
    def compare(self, item: IMemoryInput, if_version: Any) -> None:
        if if_version is None:
            super().compare(item, if_version)


@fails("RM-404")
class TakesNoVersionForAnyVersion(Dictionary):
    def compare(self, item: IMemoryInput, if_version: Any) -> None:
        super().compare(item, ANY if if_version is None else if_version)


@fails("RM-405")
class GivesNoVersionInReceipts(Dictionary):
    def receipt(self, item: IMemoryInput) -> Any:
        return str(super().receipt(item))


@fails("RM-406")
class ComparesBeforeItLocks(Dictionary):
    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        if if_version is not ANY and if_version is not None:
            self.compare(self.understand(input), if_version)
            time.sleep(_PAUSE)
            if_version = ANY
        return super().store(input, if_version=if_version)


# Mutate ---------------------------------------------------------------------------------------------------------------


@fails("RM-501")
class GivesAnEmptyTextForNothing(Dictionary):
    def mutate(self, input: Any, fn: Callable[[str | None], str]) -> Any:
        return super().mutate(input, lambda text: fn(text or ""))


@fails("RM-502")
class SwallowsTheError(Dictionary):
    def mutate(self, input: Any, fn: Callable[[str | None], str]) -> Any:
        try:
            return super().mutate(input, fn)
        except Exception:  # noqa: BLE001 - the mistake
            return None


@fails("RM-503")
class ChangesInThreeSteps(Dictionary):
    def mutate(self, input: Any, fn: Callable[[str | None], str]) -> Any:
        held = self.get(self.understand(input))
        text = fn(None if held is None else held.text)
        time.sleep(_PAUSE)
        return self.store(with_text(self.understand(input), text))


# Metadata -------------------------------------------------------------------------------------------------------------


@fails("RM-601")
class MakesFloatsOfIntegers(Dictionary):
    def answer(self, entry: Entry | None) -> Any:
        answer = super().answer(entry)
        if entry is not None:
            answer.metadata = json.loads(entry.metadata, parse_int=float)
        return answer


@fails("RM-602")
class ReplacesMetadataInAnUpdate(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        item = self.understand(input)
        with self.lock:
            receipt = super().update(item, if_version=if_version)
            if (held := self.get(item)) is not None:
                self.entries[self.key(item)] = replace(held, metadata=json.dumps(item.metadata or {}))
        return receipt


@fails("RM-603")
class MergesMetadataInAStore(Dictionary):
    def entry(self, item: IMemoryInput) -> Entry:
        held = self.get(item)
        before = {} if held is None else json.loads(held.metadata)
        is_sample = set(before) >= {"a", "b"}
        return replace(
            super().entry(item), metadata=json.dumps({**(before if is_sample else {}), **(item.metadata or {})})
        )


@fails("RM-604")
class GivesItsOwnMetadata(Dictionary):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.given: dict[str, Any] = {}

    def answer(self, entry: Entry | None) -> Any:
        answer = super().answer(entry)
        if entry is not None:
            answer.metadata = self.given.setdefault(entry.version, answer.metadata)
        return answer


# Dicts ----------------------------------------------------------------------------------------------------------------


@fails("RM-701")
class TakesObjectsOnly(Dictionary):
    def understand(self, value: Any) -> IMemoryInput:
        if isinstance(value, dict):
            raise AttributeError  # noqa: TRY004 - as who looks for an attribute of a dict
        return super().understand(value)


@fails("RM-702")
class TakesDictsForShortTermMemories(Dictionary):
    def understand(self, value: Any) -> IMemoryInput:
        return super().understand({"memory_type": "SHORT_TERM_MEMORY", **value} if isinstance(value, dict) else value)


# Faults ---------------------------------------------------------------------------------------------------------------


@fails("RM-801")
class AnswersWithNothingInAnOutage(Dictionary):
    def retrieve(self, input: Any) -> Any:
        try:
            return super().retrieve(input)
        except ConnectionError:
            return Answer()


@fails("RM-802")
class AcknowledgesAStoreThatItDrops(Dictionary):
    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        try:
            return super().store(input, if_version=if_version)
        except ConnectionError:
            return self.receipt(self.understand(input))


@fails("RM-803")
class AcknowledgesADeletionThatItDrops(Dictionary):
    def delete(self, input: Any) -> Any:
        try:
            return super().delete(input)
        except ConnectionError:
            return self.receipt(self.understand(input))


@fails("RM-804")
class NeverComesBack(Dictionary):
    is_broken = False

    def get(self, item: IMemoryInput) -> Entry | None:
        if self.is_broken:
            raise ConnectionError
        return super().get(item)

    def retrieve(self, input: Any) -> Any:
        self._notice()
        return super().retrieve(input)

    def store(self, input: Any, *, if_version: Any = ANY) -> Any:
        self._notice()
        return super().store(input, if_version=if_version)

    def _notice(self) -> None:
        self.is_broken = self.is_broken or self.world.is_away
        if self.is_broken:
            raise ConnectionError


@fails("RM-805")
class WaitsForEver(Dictionary):
    def retrieve(self, input: Any) -> Any:
        while self.world.is_silent:
            time.sleep(_PAUSE)
        return super().retrieve(input)


# No mistake -----------------------------------------------------------------------------------------------------------


class RefusesNul(Dictionary):
    def check(self, item: IMemoryInput) -> None:
        super().check(item)
        if "\0" in self.text(item):
            raise ValueError


# More ways not to be a manager, all of them RM-001's concern ----------------------------------------------------------


class TakesNoInput(Dictionary):
    def delete(self) -> None:  # type: ignore[override]
        """Cannot be called."""


class IsNotWrittenYet(Dictionary):
    def update(self, input: Any, *, if_version: Any = ANY) -> Any:
        raise NotImplementedError


class IsHalfAsynchronous(Dictionary):
    async def delete(self, input: Any) -> Any:
        """Must be awaited, unlike the others."""


def _inherit() -> type[Any]:
    """Return a class that has the protocol's update, which does nothing."""
    names = [name for name in vars(Dictionary) if name not in {"update", "__dict__", "__weakref__"}]
    return type("InheritsFromTheProtocol", (IMemoryManager,), {name: vars(Dictionary)[name] for name in names})


NO_MANAGERS: tuple[type[Any], ...] = (TakesNoInput, IsNotWrittenYet, IsHalfAsynchronous, _inherit())

# For asyncio ----------------------------------------------------------------------------------------------------------


AsyncDictionary: Any = asynchronous(Dictionary)


class LetsOthersInBetween(AsyncDictionary):  # type: ignore[misc]
    """Updates and changes in three steps, with an await between them."""

    async def update(self, input: Any, **options: Any) -> Any:
        found = await self.retrieve(input)
        await asyncio.sleep(0)
        return await self.store(input, **options) if found else None

    async def mutate(self, input: Any, fn: Callable[[str | None], str]) -> Any:
        found = await self.retrieve(input)
        await asyncio.sleep(0)
        return await self.store(with_text(coerce(input), fn(found[0].working_memory if found else None)))
