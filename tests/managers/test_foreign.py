"""Managers that are not ours, synchronous and asynchronous, behind the same operations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from remanence import (
    ConfigurationError,
    IAsyncMemoryManager,
    InMemoryManager,
    InvalidInputError,
    RedisWorkingMemoryManager,
    VersionConflictError,
    resilient,
    wrap,
)
from remanence.flow import Call, KeptCopy, WriteItem
from remanence.managers.foreign import AsyncForeignManager, ForeignManager, adapt
from remanence.record import ABSENT, encode, version_of
from tests.support import run

KEY = "memory:WORKING_MEMORY:c"


class DictManager:
    """A manager as somebody else writes one: texts in a dict, the framework's kind of DTO out."""

    ttl = 600

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Any] = {}
        self.calls: list[str] = []
        self.down: Exception | None = None

    def begin(self, method: str, item: Any) -> tuple[str, str]:
        """Note the call and return the name of the memory."""
        self.calls.append(method)
        if self.down is not None:
            raise self.down
        return (f"{item.memory_type}", item.conversation_id)

    def store(self, input: Any) -> str:  # noqa: A002 - the interface's own name
        """Keep the text and the metadata."""
        name = self.begin("store", input)
        self.kept[name] = (input.data[-1].working_memory, input.metadata)
        return "/".join(name)

    def retrieve(self, input: Any) -> list[Any]:  # noqa: A002
        """Give the framework's list of one DTO, or of none."""
        name = self.begin("retrieve", input)
        return [SimpleNamespace(working_memory=self.kept[name][0])] if name in self.kept else []

    def update(self, input: Any) -> None:  # noqa: A002
        """Change what there is."""
        name = self.begin("update", input)
        if name in self.kept:
            self.kept[name] = (input.data[-1].working_memory, input.metadata)

    def delete(self, input: Any) -> None:  # noqa: A002
        """Forget it."""
        self.kept.pop(self.begin("delete", input), None)


class AsyncDictManager(DictManager):
    """The same, awaited."""

    async def store(self, input: Any) -> str:  # type: ignore[override] # noqa: A002
        """See `DictManager.store`."""
        return super().store(input)

    async def retrieve(self, input: Any) -> list[Any]:  # type: ignore[override] # noqa: A002
        """See `DictManager.retrieve`."""
        return super().retrieve(input)

    async def update(self, input: Any) -> None:  # type: ignore[override] # noqa: A002
        """See `DictManager.update`."""
        super().update(input)

    async def delete(self, input: Any) -> None:  # type: ignore[override] # noqa: A002
        """See `DictManager.delete`."""
        super().delete(input)


def item(text: str = "text", conversation_id: str = "c", **more: Any) -> dict[str, Any]:
    """Return an input."""
    return {"conversation_id": conversation_id, "working_memory": text, **more}


@pytest.fixture(params=[DictManager, AsyncDictManager], ids=["sync", "async"])
def foreign(request: pytest.FixtureRequest) -> Any:
    """A manager that is not ours."""
    return request.param()


@pytest.fixture
def manager(foreign: Any) -> Any:
    """The same with our operations, and no policy."""
    return wrap(foreign)


class TestOperations:
    """Our operations over the four methods."""

    def test_a_plain_operation_is_one_call_as_the_caller_made_it(self, foreign: Any, manager: Any) -> None:
        """Nothing is added to what a foreign manager is asked."""
        receipt = run(manager.store(item("one", metadata={"a": 1})))
        assert (receipt, receipt.outcome) == ("WORKING_MEMORY/c", "committed")
        answer = run(manager.retrieve(item()))
        assert answer[0].working_memory == "one"
        assert (answer.source, answer.version) == ("redis", receipt.version)
        run(manager.update(item("two", metadata={"b": 2})))
        assert foreign.kept == {("WORKING_MEMORY", "c"): ("two", {"b": 2})}
        run(manager.delete(item()))
        assert foreign.kept == {}
        assert run(manager.retrieve(item())) == []
        assert foreign.calls == ["store", "retrieve", "update", "delete", "retrieve"]

    def test_versions_are_those_of_texts(self, foreign: Any, manager: Any) -> None:
        """A guard is a read before the write: the current text passes, another one is a conflict."""
        first = run(manager.store(item("one"), if_version=None))
        with pytest.raises(VersionConflictError):
            run(manager.store(item("two"), if_version=None))
        second = run(manager.store(item("two"), if_version=first.version))
        for operation in (manager.store, manager.update):
            with pytest.raises(VersionConflictError):
                run(operation(item("three"), if_version=first.version))
        run(manager.update(item("three"), if_version=second.version))
        assert foreign.kept[("WORKING_MEMORY", "c")][0] == "three"

    def test_metadata_of_a_guarded_write_arrive(self, foreign: Any, manager: Any) -> None:
        """Metadata go with the text, also where the write is conditional."""
        version = run(manager.store(item("one", metadata={"a": 1}), if_version=None)).version
        assert foreign.kept[("WORKING_MEMORY", "c")] == ("one", {"a": 1})
        run(manager.update(item("two", metadata={"b": 2}), if_version=version))
        assert foreign.kept[("WORKING_MEMORY", "c")] == ("two", {"b": 2})

    def test_mutate(self, foreign: Any, manager: Any) -> None:
        """From nothing and on top of what there is."""
        for expected in ("None+", "None++"):
            run(manager.mutate(item(), lambda text: f"{text}+"))
            assert foreign.kept[("WORKING_MEMORY", "c")][0] == expected

    def test_batches_go_one_by_one_and_settle_per_item(self, foreign: Any, manager: Any) -> None:
        """Each item has its answer, whose version is good for a conditional write."""
        receipts = run(manager.store_many([item("one", "a", metadata={"m": 1}), item("two", "b")]))
        assert receipts == ["memory:WORKING_MEMORY:a", "memory:WORKING_MEMORY:b"]
        answers = run(manager.retrieve_many([item("", "a"), item("", "none"), item("", "b")]))
        assert [[memory.working_memory for memory in answer] for answer in answers] == [["one"], [], ["two"]]
        assert [receipt.version for receipt in receipts] == [answers[0].version, answers[2].version]
        run(manager.store(item("three", "a"), if_version=receipts[0].version))
        run(manager.delete_many([item("", "a"), item("", "none")]))
        assert list(foreign.kept) == [("WORKING_MEMORY", "b")]
        foreign.down = OSError("down")
        results = run(manager.store_many([item("x", "x"), item("y", "y")]))
        assert results == [foreign.down] * 2

    def test_its_errors_come_through_unchanged(self, foreign: Any, manager: Any) -> None:
        """Whatever it raises is what the caller of a bare manager sees."""
        foreign.down = LookupError("theirs")
        for operation in (manager.store, manager.retrieve, manager.update, manager.delete):
            with pytest.raises(LookupError) as caught:
                run(operation(item()))
            assert caught.value is foreign.down

    def test_bad_input_does_not_reach_it(self, foreign: Any, manager: Any) -> None:
        """Checked before it is asked."""
        for value in ({"conversation_id": "c"}, item("t", "\ud800"), item("t", metadata={"x": {1}})):
            with pytest.raises(InvalidInputError):
                run(manager.store(value))
        assert foreign.calls == []

    @pytest.mark.parametrize("text", ["", "\ud800", "x" * 10_000])
    def test_any_text_passes(self, foreign: Any, manager: Any, text: str) -> None:
        """Guarded or not, texts arrive as they are."""
        version = run(manager.store(item(text))).version
        run(manager.store(item(text + "!"), if_version=version))
        assert foreign.kept[("WORKING_MEMORY", "c")][0] == text + "!"


class TestInside:
    """What the policies ask of an adapter."""

    def test_the_ttl_is_the_managers_own(self, foreign: Any) -> None:
        """A number above 0, else not known."""
        assert adapt(foreign).ttl == 600
        for ttl in (None, 0, "ten"):
            foreign.ttl = ttl
            assert adapt(foreign).ttl is None

    def test_reconciling_compares_and_writes(self, foreign: Any) -> None:
        """Each item under its guard; what is held comes back where it is something else."""
        native = adapt(foreign)
        held = encode("held", None, "", "")
        foreign.kept[("WORKING_MEMORY", "c")] = ("held", None)
        new = encode("new", {"m": 1}, "a", "b")
        items = [
            WriteItem(KEY, new, None, (ABSENT,)),
            WriteItem(KEY, new, None, (version_of(held),)),
            WriteItem("memory:WORKING_MEMORY:d", new, None, (ABSENT,)),
            WriteItem("memory:WORKING_MEMORY:e", new, None, ("0" * 40,)),
            WriteItem("memory:WORKING_MEMORY:d", None, None, None),
        ]
        assert run(native.perform(Call("reconcile", items=items))) == [held, None, None, b"", None]
        assert foreign.kept == {("WORKING_MEMORY", "c"): ("new", {"m": 1})}

    def test_what_is_read_back_is_the_canonical_record(self, foreign: Any) -> None:
        """A record that was written is recognised when only its text can be read."""
        native = adapt(foreign)
        raw = encode("text \ud800", {"m": 1}, "a", "b")
        run(native.perform(Call("reconcile", items=[WriteItem(KEY, raw, None, None)])))
        assert run(native.perform(Call("retrieve", KEY, _dto()))).raw == native.canonical(raw)

    def test_conflict_copies_are_conversations_of_their_own(self, foreign: Any) -> None:
        """They are stored under another id, listed, and go with the memory."""
        native = adapt(foreign)
        copies = [KeptCopy(KEY, encode("lost", None, "a", "b"), 9.0), KeptCopy(KEY, None, 9.0)]
        assert run(native.perform(Call("keep", items=copies))) == [None, None]
        ((_, other_id),) = foreign.kept
        assert other_id.startswith("remanence-conflict:c:")
        assert [(copy.conversation_id, copy.text) for copy in run(native.perform(Call("kept")))[0]] == [
            ("c", "lost"),
            ("c", None),
        ]
        run(native.perform(Call("delete", KEY, guard=(ABSENT,))))
        assert foreign.kept == {}
        assert run(native.perform(Call("kept")))[0] == []

    def test_a_copy_that_cannot_be_stored_is_not_listed(self, foreign: Any) -> None:
        """What the manager refused is its item's error."""
        foreign.down = OSError("down")
        native = adapt(foreign)
        copies = [KeptCopy(KEY, encode("lost", None, "a", "b"), 9.0)]
        assert run(native.perform(Call("keep", items=copies))) == [foreign.down]
        assert run(native.perform(Call("kept")))[0] == []

    def test_its_server_is_not_known(self, foreign: Any) -> None:
        """Nobody can tell which server a foreign manager talks to."""
        assert run(adapt(foreign).perform(Call("identify"))) is None


def _dto() -> Any:
    from remanence.interface import coerce  # noqa: PLC0415 - one use

    return coerce(item())


class TestAdapting:
    """What can be adapted."""

    def test_ours_pass_as_they_are(self) -> None:
        """No adapter around what needs none."""
        for ours in (InMemoryManager(), RedisWorkingMemoryManager(client=Mock())):
            assert adapt(ours) is ours

    def test_the_kind_follows_the_methods(self) -> None:
        """Coroutine functions make an asynchronous adapter."""
        assert type(adapt(DictManager())) is ForeignManager
        assert type(adapt(AsyncDictManager())) is AsyncForeignManager
        assert type(adapt(AsyncMock(spec=IAsyncMemoryManager))) is AsyncForeignManager

    def test_a_double_is_a_foreign_manager(self) -> None:
        """A double that has every attribute is not taken for one of ours."""
        double = Mock()
        double.retrieve.return_value = [SimpleNamespace(working_memory="text")]
        manager: Any = wrap(double)
        assert manager.retrieve(item())[0].working_memory == "text"
        manager.delete(item())
        assert double.delete.called

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (object(), "store"),
            (None, "store"),
            ({}, "store"),
            (DictManager, "instance"),
            (SimpleNamespace(store=print, retrieve=print, update=print), "delete"),
            (SimpleNamespace(store=print, retrieve=print, update=print, delete=17), "delete"),
        ],
    )
    def test_anything_else_is_refused(self, value: Any, says: str) -> None:
        """The error names what is missing."""
        for make in (adapt, wrap, resilient):
            with pytest.raises(ConfigurationError, match=says):
                make(value)

    def test_half_a_coroutine_is_refused(self) -> None:
        """Methods of both kinds in one manager cannot be driven."""

        class Mixed(DictManager):
            async def retrieve(self, input: Any) -> list[Any]:  # type: ignore[override] # noqa: A002
                return super().retrieve(input)

        with pytest.raises(ConfigurationError, match="retrieve"):
            adapt(Mixed())

    def test_a_resilient_foreign_manager_works(self, foreign: Any) -> None:
        """The recommended stack stands around it."""
        manager = resilient(foreign)
        run(manager.store(item("one")))
        assert run(manager.retrieve(item()))[0].working_memory == "one"
        assert foreign.kept == {("WORKING_MEMORY", "c"): ("one", None)}
