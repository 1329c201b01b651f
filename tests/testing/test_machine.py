"""MemoryMachine: it passes managers that are right, and finds what is wrong with others."""

from __future__ import annotations

import re
import unicodedata
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st

from remanence import (
    AsyncInMemoryManager,
    CircuitBreaker,
    ConfigurationError,
    Deadline,
    IMemoryInput,
    InMemoryManager,
    IWorkingMemory,
    Memories,
    Receipt,
    RedisWorkingMemoryManager,
    Retry,
    resilient,
    wrap,
)
from remanence.flow import PROCEED, Call, Flow, Invoke
from remanence.policies.base import Context, Decorator
from remanence.testing.clock import ManualClock
from remanence.testing.faults import Fault
from remanence.testing.machine import PROFILES, MemoryMachine, _planned, run_memory_machine

QUICK = settings(PROFILES["ci"], max_examples=15)
UNSHRUNK = settings(PROFILES["ci"], phases=[Phase.generate])
"""The very cases of the profile; only the time for making a failing one shorter is saved."""


class Plain:
    """A manager with the four methods and nothing else."""

    def __init__(self) -> None:
        self.held: dict[Any, str] = {}

    def key(self, item: IMemoryInput) -> Any:
        """Return what tells memories apart."""
        return item.memory_type, item.conversation_id

    def text(self, item: IMemoryInput) -> str:
        """Return the text to write."""
        return (item.data or [])[-1].working_memory

    def store(self, input: IMemoryInput) -> str:  # noqa: A002 - the interface's own name
        """Write."""
        self.held[self.key(input)] = self.text(input)
        return "key"

    def retrieve(self, input: IMemoryInput) -> list[IWorkingMemory]:  # noqa: A002
        """Read."""
        text = self.held.get(self.key(input))
        return [] if text is None else [IWorkingMemory(working_memory=text)]

    def update(self, input: IMemoryInput) -> str | None:  # noqa: A002
        """Write where something is."""
        return self.store(input) if self.key(input) in self.held else None

    def delete(self, input: IMemoryInput) -> None:  # noqa: A002
        """Remove."""
        self.held.pop(self.key(input), None)


class AsyncPlain:
    """The same, awaited."""

    def __init__(self) -> None:
        self.plain = Plain()

    async def store(self, input: IMemoryInput) -> str:  # noqa: A002
        """Write."""
        return self.plain.store(input)

    async def retrieve(self, input: IMemoryInput) -> list[IWorkingMemory]:  # noqa: A002
        """Read."""
        return self.plain.retrieve(input)

    async def update(self, input: IMemoryInput) -> str | None:  # noqa: A002
        """Write where something is."""
        return self.plain.update(input)

    async def delete(self, input: IMemoryInput) -> None:  # noqa: A002
        """Remove."""
        self.plain.delete(input)


async def awaited_factory() -> AsyncInMemoryManager:
    """Make a manager where a loop runs."""
    return AsyncInMemoryManager()


RIGHT = [Plain, AsyncPlain, InMemoryManager, AsyncInMemoryManager, awaited_factory, lambda: resilient(Plain())]


@pytest.mark.parametrize("factory", RIGHT, ids=lambda factory: factory.__name__)
def test_a_manager_that_is_right_passes(factory: Callable[[], Any]) -> None:
    """Ours and others', awaited or not, bare or decorated."""
    run_memory_machine(factory, profile=QUICK)


@pytest.mark.parametrize("kind", [InMemoryManager, AsyncInMemoryManager])
@pytest.mark.parametrize("is_resilient", [False, True], ids=["bare", "resilient"])
def test_ours_are_right_when_the_store_goes_away(kind: Any, is_resilient: bool) -> None:  # noqa: FBT001 - a parameter
    """Bare, a write that raised was applied or not; in the recommended stack all that was acknowledged is there."""

    def factory(faults: Any) -> Any:
        manager = faults(kind(clock=ManualClock()))
        return resilient(manager) if is_resilient else manager

    run_memory_machine(factory, profile=settings(QUICK, max_examples=30), outages=True)


def test_a_manager_on_a_real_server(redis_url: str) -> None:
    """The factory may use fixtures, and empties what its managers share."""

    def factory() -> Any:
        manager = RedisWorkingMemoryManager(redis_url, timeout=10.0)
        manager.redis_client.flushdb()
        return manager

    run_memory_machine(factory, profile=settings(QUICK, max_examples=10))


# What is wrong, and found ---------------------------------------------------------------------------------------------


class LosesUpdatesWithMetadata(InMemoryManager):
    """An update is dropped where it brings metadata."""

    def update(self, input: Any, **options: Any) -> Any:  # noqa: A002
        """Acknowledge, and do nothing, at times."""
        extra = input["metadata"] if isinstance(input, dict) else input.metadata
        return Receipt("key", "committed") if extra else super().update(input, **options)


class ReplacesMetadata(InMemoryManager):
    """An update replaces the metadata where it should merge them."""

    def perform(self, call: Call) -> Any:
        """Store where an update was asked for."""
        if call.operation == "update" and call.metadata and self.backend._get(call.key):
            item = IMemoryInput(
                conversation_id=call.input.conversation_id,  # type: ignore[union-attr]
                memory_type=call.input.memory_type,  # type: ignore[union-attr]
                data=[IWorkingMemory(working_memory=call.text or "")],
                metadata=call.metadata,
            )
            return super().store(item)
        return super().perform(call)

    _submit = perform


class StaleAfterDelete(Plain):
    """A cache of what was read is not emptied by a deletion."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[Any, list[IWorkingMemory]] = {}

    def store(self, input: Any) -> str:  # noqa: A002
        """Write, and forget what was read."""
        self.cache.pop(self.key(input), None)
        return super().store(input)

    def retrieve(self, input: Any) -> Any:  # noqa: A002
        """Read what was read before."""
        found = self.cache.get(self.key(input)) or super().retrieve(input)
        self.cache[self.key(input)] = list(found)
        return found


class KeepsTheCallersList(Plain):
    """What is stored is the caller's own list, which the caller changes later."""

    def text(self, input: Any) -> Any:  # noqa: A002
        """Return the list itself."""
        return input.data

    def retrieve(self, input: Any) -> Any:  # noqa: A002
        """Return the last of the list."""
        data: Any = self.held.get(self.key(input))
        return data[-1:] if data else []


class GivesItsOwnList(StaleAfterDelete):
    """What is returned is the manager's own list, which the caller changes later."""

    def retrieve(self, input: Any) -> Any:  # noqa: A002
        """Return the same list each time."""
        return self.cache.setdefault(self.key(input), Plain.retrieve(self, input))

    def delete(self, input: Any) -> None:  # noqa: A002
        """Remove."""
        self.cache.pop(self.key(input), None)
        super().delete(input)


class IgnoresCase(Plain):
    """Conversation ids that differ in case alone are one."""

    def key(self, item: IMemoryInput) -> Any:
        """Fold the case."""
        return item.memory_type, item.conversation_id.lower()


class IgnoresTheKind(Plain):
    """All kinds of memory of a conversation are one."""

    def key(self, item: IMemoryInput) -> Any:
        """Leave the kind out."""
        return item.conversation_id


class StoresTheFirst(Plain):
    """Of several items the first one is stored."""

    def text(self, item: IMemoryInput) -> str:
        """Return the wrong one."""
        return (item.data or [])[0].working_memory


class UpdateCreates(Plain):
    """An update of nothing stores."""

    update = Plain.store


class Normalises(Plain):
    """Texts are brought into a normal form."""

    def text(self, item: IMemoryInput) -> str:
        """Compose what is decomposed."""
        return unicodedata.normalize("NFC", super().text(item))


class Strips(Plain):
    """Whitespace around texts is lost."""

    def text(self, item: IMemoryInput) -> str:
        """Strip."""
        return super().text(item).strip()


class EmptyIsNothing(Plain):
    """An empty text is taken for none."""

    def retrieve(self, input: Any) -> Any:  # noqa: A002
        """Mistake one for the other."""
        return super().retrieve(input) if self.held.get(self.key(input)) else []


class IgnoresVersions(InMemoryManager):
    """A conditional write is made unconditionally."""

    def store(self, input: Any, *, if_version: Any = None) -> Any:  # noqa: A002, ARG002
        """Forget the condition."""
        return super().store(input)


class WritesTwice(InMemoryManager):
    """A receipt tells the version of a write that was repeated since."""

    def update(self, input: Any, **options: Any) -> Any:  # noqa: A002
        """Write twice."""
        receipt = super().update(input, **options)
        super().update(input)
        return receipt


class ForgetsRepeatedItems(InMemoryManager):
    """Of several items of a batch for one conversation the first one stays."""

    def store_many(self, inputs: Any) -> Any:
        """Store them in the wrong order."""
        return super().store_many(list(inputs)[::-1])[::-1]


class LosesABatch(InMemoryManager):
    """The last item of a batch of deletions is forgotten."""

    def delete_many(self, inputs: Any) -> Any:
        """Acknowledge all."""
        super().delete_many(inputs[:-1])
        return [Receipt("key", "") for _ in inputs]  # type: ignore[arg-type]


class MutatesTwice(InMemoryManager):
    """The function's change is made twice where something is stored."""

    def mutate(self, input: Any, fn: Any) -> Any:  # noqa: A002
        """Change what was changed."""
        return super().mutate(input, lambda seen: fn(seen) if seen is None else fn(fn(seen)))


class SaysMissing(InMemoryManager):
    """Every deletion says that there was nothing."""

    def delete(self, input: Any) -> Any:  # noqa: A002
        """Tell the wrong thing."""
        return Receipt(super().delete(input), "missing")


PLANTED = [
    LosesUpdatesWithMetadata,
    ReplacesMetadata,
    StaleAfterDelete,
    KeepsTheCallersList,
    GivesItsOwnList,
    IgnoresCase,
    IgnoresTheKind,
    StoresTheFirst,
    UpdateCreates,
    Normalises,
    Strips,
    EmptyIsNothing,
    IgnoresVersions,
    WritesTwice,
    ForgetsRepeatedItems,
    LosesABatch,
    MutatesTwice,
    SaysMissing,
]


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_wrong_is_found(kind: Callable[[], Any]) -> None:
    """Each of these is found within the profile `ci`, whose cases are the same in every run."""
    with pytest.raises(AssertionError, match=r"but stored was|another version|version in the receipt"):
        run_memory_machine(kind, profile=UNSHRUNK)


def test_a_write_over_another_version_is_found_at_once() -> None:
    """The step that should have conflicted is the one that fails."""
    with pytest.raises(AssertionError, match="store wrote although another version is stored"):
        run_memory_machine(IgnoresVersions, profile=UNSHRUNK)


class Acknowledges(Decorator):
    """Wrong: takes a store's silence for success."""

    place = 60

    def bind(self, context: Context) -> Callable[[Call], Flow]:  # noqa: ARG002 - it needs none
        """Swallow what goes wrong with a store."""

        def flow(call: Call) -> Flow:
            try:
                return (yield PROCEED)
            except ConnectionError:
                if call.operation != "store":
                    raise
                return Receipt(call.key, "committed", call.raw)

        return flow


class RepeatsBlindly(InMemoryManager):
    """Wrong: a change is made once more where its answer was lost."""

    faults: Any = None

    @classmethod
    def around(cls, faults: Any) -> Any:
        """Return one whose store may go away."""
        self = cls()
        self.faults = faults(InMemoryManager())
        return self

    def mutate(self, input: Any, fn: Any) -> Any:  # noqa: A002
        """Repeat."""
        try:
            return self.faults.mutate(input, fn)
        except ConnectionError:
            return self.faults.mutate(input, fn)

    def _submit(self, call: Call) -> Any:
        return self.faults._submit(call)


class AnswersNothing(Decorator):
    """Wrong: answers "nothing stored" where the store did not answer."""

    place = 60

    def bind(self, context: Context) -> Callable[[Call], Flow]:  # noqa: ARG002
        """Swallow what goes wrong with a read."""

        def flow(call: Call) -> Flow:
            try:
                return (yield PROCEED)
            except ConnectionError:
                if call.operation != "retrieve":
                    raise
                return Memories()

        return flow


class AppliesLate(Decorator):
    """Wrong: a write that raised, and of which a read has shown that it was not made, is made later."""

    place = 60

    def bind(self, context: Context) -> Callable[[Call], Flow]:  # noqa: ARG002
        """Keep what failed, and send it before the second read."""
        left: list[Call] = []
        reads: list[Call] = []

        def flow(call: Call) -> Flow:
            if call.operation == "retrieve" and left:
                reads.append(call)
                if len(reads) == 2:
                    yield Invoke(left[0])
            try:
                return (yield PROCEED)
            except ConnectionError:
                if call.operation == "store":
                    left.append(call)
                raise

        return flow


class LosesReplays(InMemoryManager):
    """Wrong: what comes home is acknowledged and not written."""

    def perform(self, call: Call) -> Any:
        """Do nothing in a replay."""
        return [None] * len(call.items) if call.operation == "reconcile" else super().perform(call)

    _submit = perform


MEMORY = {"conversation_id": "a", "memory_type": "WORKING_MEMORY"}
TEXT: dict[str, Any] = {**MEMORY, "text": "t", "metadata": None, "shape": "dto", "then_read": False}


def steps(factory: Callable[..., Any], *, outages: bool = True) -> MemoryMachine:
    """Return a machine on which steps are made by hand, as one that was printed is repeated."""
    return _planned(MemoryMachine, factory, outages=outages)()


def test_a_write_that_a_read_has_denied_must_not_be_made_later() -> None:
    """Once a read has told, the memory is in one state again."""
    state = steps(lambda faults: wrap(faults(InMemoryManager()), AppliesLate()))
    state.break_store(fault=Fault("store", nth=1))
    state.store(**TEXT, two_items=False)
    state.retrieve(**MEMORY, shape="dto")
    with pytest.raises(AssertionError, match="but stored was nothing"):
        state.retrieve(**MEMORY, shape="dto")
    state.teardown()


def test_what_was_kept_for_later_must_come_home() -> None:
    """In the end the store is asked, not what waits for it."""
    state = steps(lambda faults: resilient(faults(LosesReplays(clock=ManualClock()))))
    state.manager._background.wake = lambda: None  # else that brings it home as well
    state.break_store(fault=Fault("store"))
    state.store(**TEXT, two_items=False)
    with pytest.raises(AssertionError, match="retrieve gave nothing"):
        state.teardown()


def test_what_nobody_read_is_compared_in_the_end() -> None:
    """A write that was lost is found without a step that reads."""
    state = steps(InMemoryManager, outages=False)
    state.store(**TEXT, two_items=False)
    state.manager.delete({"conversation_id": "a"})
    with pytest.raises(AssertionError, match="retrieve gave nothing"):
        state.teardown()


def test_an_update_that_is_kept_for_later_may_store() -> None:
    """Whether there is something to update cannot be known while the store is away: it is no error to store it."""
    state = steps(lambda faults: resilient(faults(InMemoryManager(clock=ManualClock()))))
    state.break_store(fault=Fault("update"))
    state.update(**TEXT)
    state.retrieve(**MEMORY, shape="dto")
    state.teardown()


@pytest.mark.parametrize(
    "factory",
    [
        lambda faults: wrap(faults(InMemoryManager()), AnswersNothing()),
        RepeatsBlindly.around,
    ],
    ids=["answers nothing", "repeats blindly"],
)
def test_what_goes_wrong_in_outages_is_found(factory: Callable[..., Any]) -> None:
    """An answer that is none, a change made twice."""
    with pytest.raises(AssertionError, match="but stored was"):
        run_memory_machine(factory, profile=UNSHRUNK, outages=True, capabilities=["mutate"])


def test_a_write_that_raised_may_have_been_applied_or_not() -> None:
    """A stack that repeats, opens its breaker and has no fallback raises often; nothing of that is an error."""

    def factory(faults: Any) -> Any:
        return wrap(faults(InMemoryManager(clock=ManualClock())), Deadline(), Retry(), CircuitBreaker())

    run_memory_machine(factory, profile=QUICK, outages=True)


def test_what_is_printed_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """The shortest steps that show it, with the values in them; and what was expected."""
    with pytest.raises(AssertionError) as failure:
        run_memory_machine(StaleAfterDelete)
    said = "\n".join([str(failure.value), *failure.value.__notes__, capsys.readouterr().out])
    assert (
        "Name(conversation_id='a', memory_type='WORKING_MEMORY'): retrieve gave ('', {}), but stored was nothing"
        in said
    )
    memory = "conversation_id='a', memory_type='WORKING_MEMORY'"
    steps = [line for line in said.splitlines() if line.startswith("state.")]
    assert any(step.startswith(f"state.store({memory}, metadata=None, shape='dto', text=") for step in steps)
    assert any(step.startswith(f"state.delete({memory}, then_read=") for step in steps)
    assert steps[-1] == "state.teardown()"
    assert len(steps) < 10  # a store, a read and a deletion will do; shrinking need not find the very least


def test_a_lost_write_is_found_and_its_fault_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A write that was acknowledged and is lost; the step that breaks the store says how."""
    with pytest.raises(AssertionError, match="but stored was") as failure:
        run_memory_machine(lambda faults: wrap(faults(InMemoryManager()), Acknowledges()), outages=True)
    said = "\n".join([*failure.value.__notes__, capsys.readouterr().out])
    assert re.search(r"state.break_store\(fault=Fault\((on='store', )?nth=1, times=1, then=Failure\(\)\)\)", said)


# How it is used -------------------------------------------------------------------------------------------------------


def test_a_test_case_is_made_for_a_factory() -> None:
    """unittest, and so pytest, runs it; a second one beside it is another."""
    right = MemoryMachine.for_factory(Plain, profile=QUICK)
    wrong = MemoryMachine.for_factory(IgnoresCase, profile=UNSHRUNK)
    suites = [unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in (right, wrong)]
    results = [suite.run(unittest.TestResult()) for suite in suites]
    assert [(result.testsRun, len(result.failures)) for result in results] == [(1, 0), (1, 1)]


class Closing(InMemoryManager):
    """Counts who is open."""

    open = 0

    def __init__(self) -> None:
        super().__init__()
        Closing.open += 1

    def close(self) -> None:
        """Count."""
        Closing.open -= 1

    def delete(self, input: Any) -> Any:  # noqa: A002, ARG002
        """Fail."""
        raise OSError


def test_every_manager_is_closed() -> None:
    """Also those with which something was wrong; and their own errors are what is raised."""
    with pytest.raises(OSError):  # noqa: PT011 - nothing else raises it
        run_memory_machine(Closing, profile=UNSHRUNK)
    assert Closing.open == 0


def test_texts_can_be_chosen() -> None:
    """A store that cannot hold all of Unicode is tried with what it can hold."""

    class Ascii(Plain):
        """Holds ASCII."""

        def text(self, item: IMemoryInput) -> str:
            """Refuse the rest."""
            return super().text(item).encode("ascii").decode()

    with pytest.raises(UnicodeEncodeError):
        run_memory_machine(Ascii, profile=UNSHRUNK)
    run_memory_machine(Ascii, profile=QUICK, texts=st.text(st.characters(codec="ascii")))


@pytest.mark.parametrize(
    ("kind", "capabilities"),
    [(IgnoresVersions, {"batches", "mutate", "dicts", "metadata"}), (MutatesTwice, []), (LosesABatch, ["versions"])],
)
def test_only_declared_capabilities_are_tried(kind: Callable[[], Any], capabilities: Any) -> None:
    """What a manager does not claim is not held against it."""
    run_memory_machine(kind, profile=QUICK, capabilities=capabilities)


def test_what_is_found_without_a_declaration() -> None:
    """Four methods are tried as such; more where there is more."""
    found: list[Any] = []

    class Looking(MemoryMachine):
        """Notes what was detected."""

        def __init__(self) -> None:
            super().__init__()
            found.append(self.capabilities)

    for factory in (Plain, InMemoryManager, lambda: wrap(Plain(), Retry())):
        run_once(Looking, factory)
    assert found == [
        set(),
        {"batches", "dicts", "metadata", "mutate", "versions"},
        {"batches", "dicts", "mutate", "versions"},
    ]


def run_once(machine: type[MemoryMachine], factory: Callable[[], Any]) -> None:
    """Make one machine of a factory, and end it."""
    _planned(machine, factory)().teardown()


def test_the_profiles_are_registered() -> None:
    """Under names of our own, so that a project's "ci" stays its own; `ci` is the same in every run."""
    assert settings.get_profile("remanence-ci").derandomize
    assert not settings.get_profile("remanence-nightly").derandomize
    assert settings.get_profile("remanence-nightly").max_examples > settings.get_profile("remanence-ci").max_examples
    assert settings.get_profile("ci").max_examples == 50  # of this project's own tests


@pytest.mark.parametrize(
    ("factory", "options", "said"),
    [
        (Plain(), {}, "factory must be a function"),
        (Plain, {"profile": "weekly"}, "no profile 'weekly'"),
        (Plain, {"capabilities": ["batch"]}, "batches, dicts, metadata, mutate, versions"),
        (Plain, {"capabilities": "batches"}, "capabilities must be some of"),
        (lambda: None, {}, "no memory manager"),
        (lambda: Plain, {}, "no memory manager"),
        (object, {}, "it has no store, retrieve, update, delete"),
    ],
)
def test_what_cannot_work_is_refused(factory: Any, options: dict[str, Any], said: str) -> None:
    """With what is wrong."""
    with pytest.raises(ConfigurationError, match=said):
        run_memory_machine(factory, **options)


class Unmakeable:
    """Cannot be made."""

    def __new__(cls) -> Self:
        """Fail."""
        raise PermissionError


def test_a_factory_that_raises_says_so() -> None:
    """Its own error is raised."""
    with pytest.raises(PermissionError):
        run_memory_machine(Unmakeable)


def test_the_documentation_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of code in docs/property-tests.md does what it says, with fewer cases."""
    monkeypatch.setitem(PROFILES, "ci", QUICK)
    page = Path(__file__).resolve().parents[2] / "docs" / "property-tests.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ran = []
    for block in blocks:
        names: dict[str, Any] = {"__name__": "docs"}
        exec(compile(block, page.name, "exec"), names)  # noqa: S102 - it is ours
        for name, value in names.items():
            if name.startswith("test_"):
                value()
                ran.append(name)
            elif name.startswith("Test"):
                assert (
                    unittest.defaultTestLoader.loadTestsFromTestCase(value).run(unittest.TestResult()).wasSuccessful()
                )
                ran.append(name)
    assert ran == [
        "test_what_is_stored_is_read_back",
        "test_a_lost_reply_is_no_lost_write",
        "test_an_outage",
        "TestMine",
        "test_the_stack_in_outages",
    ]
