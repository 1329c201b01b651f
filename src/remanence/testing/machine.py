"""MemoryMachine: random operations on a memory manager, beside a dictionary; whatever is done, the two agree."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, cast

from hypothesis import HealthCheck, Phase, currently_in_test_context, settings, target
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

from remanence.errors import ConfigurationError
from remanence.testing import memory_model as model
from remanence.testing.compared import CAPABILITIES, Away, ComparedManager, memory_input
from remanence.testing.fault_injecting import FaultInjecting
from remanence.testing.faults import Failure, Fault, LostReply
from remanence.testing.memory_model import Name
from remanence.testing.strategies import Shape, metadata
from remanence.testing.strategies import texts as any_texts

__all__ = ["CAPABILITIES", "PROFILES", "MemoryMachine", "run_memory_machine"]

_ANY = settings(
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
    # Without Phase.explain: it runs a failing case many times more, to comment on single values of it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
)
PROFILES: Final = {
    "ci": settings(_ANY, max_examples=300, stateful_step_count=30, derandomize=True, database=None),
    # Said, because Hypothesis presets the contrary where it sees that it runs in a CI system.
    "nightly": settings(_ANY, max_examples=2_000, stateful_step_count=60, derandomize=False),
}
"""`ci` does the same in every run, in seconds for a manager in this process; `nightly` looks elsewhere every time."""

for _name, _settings in PROFILES.items():
    settings.register_profile(f"remanence-{_name}", _settings)  # not "ci", which many projects have of their own


@dataclass(frozen=True, slots=True)
class _Plan:
    factory: Callable[..., Any]
    outages: bool
    capabilities: frozenset[str] | None
    texts: SearchStrategy[str]


def _of_machine(choose: Callable[[MemoryMachine], SearchStrategy[Any]]) -> SearchStrategy[Any]:
    return st.runner().flatmap(choose)


# Mostly the same, or hardly two steps would be about one memory.
_IDS = st.sampled_from(["a", "a", "a", "a", "a", "a", "A", "A", " a", "b:*", "h\u00e9 \u4e16\u754c"])
_TYPES = st.sampled_from(["WORKING_MEMORY"] * 5 + ["SHORT_TERM_MEMORY"])
_TEXTS = _of_machine(lambda machine: machine.plan.texts)
_SHAPES = _of_machine(lambda machine: st.sampled_from(machine.shapes))
_METADATA = st.none() | st.sampled_from([{"k": 1}, {"k": 2}, {"l": 1}]) | metadata()
_FAULTS = st.builds(
    Fault,
    on=st.none() | _of_machine(lambda machine: st.sampled_from(machine.breakable)),
    nth=st.sampled_from([1, 1, 2, 3]),
    times=st.sampled_from([1, 1, 3, 12]),
    then=st.sampled_from([Failure(), LostReply()]),
)


class MemoryMachine(RuleBasedStateMachine):
    """A Hypothesis state machine: draws operations, carries them out, and compares every answer with a dictionary.

    Use `for_factory`, or `run_memory_machine` inside a test. A subclass may add rules of its own.

    Attributes:
        manager: The one that is tested.
        faults: What can go wrong with its store; None without outages.
        capabilities: What it is tried for.
    """

    plan: ClassVar[_Plan]

    def __init__(self) -> None:
        super().__init__()
        plan = self.plan
        self.faults = FaultInjecting(seed=0, timeout=0.001) if plan.outages else None
        factory = plan.factory if self.faults is None else partial(plan.factory, self.faults)
        self._beside = ComparedManager(factory, plan.capabilities, self.faults)
        self.manager = self._beside.manager
        self.capabilities = self._beside.capabilities

    @classmethod
    def for_factory(
        cls,
        factory: Callable[..., Any],
        *,
        profile: str | settings = "ci",
        outages: bool = False,
        capabilities: Collection[str] | None = None,
        texts: SearchStrategy[str] | None = None,
    ) -> type[unittest.TestCase]:
        """Return a test case that pytest and unittest run; assign it to a name in a test module.

        Args:
            factory: Returns a new manager, or an awaitable of one, whose store is empty. With `outages` it gets a
                `FaultInjecting`, to be put around the innermost manager.
            profile: "ci", "nightly", the name of a profile of your own, or settings.
            outages: Whether the store goes away and answers get lost. A write that raised may then have been applied
                or not; one that was acknowledged must be there in the end.
            capabilities: Some of `CAPABILITIES`; None for what the manager's methods look like.
            texts: For the texts that are stored; None for any Unicode. For a store that cannot hold all of it.

        Raises:
            ConfigurationError: The factory cannot be called, or there is no such profile or capability.
        """
        case = _planned(cls, factory, outages=outages, capabilities=capabilities, texts=texts).TestCase
        case.settings = _settings_of(profile)
        return cast("type[unittest.TestCase]", case)

    @property
    def shapes(self) -> Sequence[Shape]:
        """In which shapes the manager takes inputs."""
        return ("dto", "dict", "object") if "dicts" in self.capabilities else ("dto",)

    @property
    def breakable(self) -> Sequence[str]:
        """Which operations a fault may be for."""
        batches = ("store_many", "retrieve_many", "delete_many") if "batches" in self.capabilities else ()
        return ("store", "retrieve", "update", "delete", "reconcile", *batches)

    # The rules --------------------------------------------------------------------------------------------------------

    @rule(
        conversation_id=_IDS,
        memory_type=_TYPES,
        text=_TEXTS,
        metadata=_METADATA,
        shape=_SHAPES,
        two_items=st.booleans(),
        then_read=st.booleans(),
    )
    def store(  # noqa: PLR0917 - Hypothesis passes them by name
        self,
        conversation_id: str,
        memory_type: str,
        text: str,
        metadata: dict[str, Any] | None,
        shape: Shape,
        two_items: bool,  # noqa: FBT001
        then_read: bool,  # noqa: FBT001
    ) -> None:
        """Store; of two items the last one counts."""
        name = Name(conversation_id, memory_type)
        data = ["not the last item", text] if two_items else [text]
        self._beside.write("store", name, model.store(text, metadata), memory_input(name, data, metadata, shape))
        self._read(name, then_read)

    @rule(
        conversation_id=_IDS,
        memory_type=_TYPES,
        text=_TEXTS,
        metadata=_METADATA,
        shape=_SHAPES,
        then_read=st.booleans(),
    )
    def update(  # noqa: PLR0917 - as above
        self,
        conversation_id: str,
        memory_type: str,
        text: str,
        metadata: dict[str, Any] | None,
        shape: Shape,
        then_read: bool,  # noqa: FBT001
    ) -> None:
        """Update."""
        name = Name(conversation_id, memory_type)
        self._beside.write("update", name, model.update(text, metadata), memory_input(name, [text], metadata, shape))
        self._read(name, then_read)

    @rule(conversation_id=_IDS, memory_type=_TYPES, then_read=st.booleans())
    def delete(self, conversation_id: str, memory_type: str, then_read: bool) -> None:  # noqa: FBT001
        """Delete."""
        name = Name(conversation_id, memory_type)
        self._beside.write("delete", name, model.deletion, memory_input(name))
        self._read(name, then_read)

    @rule(conversation_id=_IDS, memory_type=_TYPES, shape=_SHAPES)
    def retrieve(self, conversation_id: str, memory_type: str, shape: Shape) -> None:
        """Read."""
        self._beside.read(Name(conversation_id, memory_type), shape)

    def _read(self, name: Name, wanted: bool) -> None:  # noqa: FBT001
        if wanted:
            self._beside.read(name)

    @precondition(lambda self: "mutate" in self.capabilities)
    @rule(conversation_id=_IDS, memory_type=_TYPES, addition=_TEXTS)
    def mutate(self, conversation_id: str, memory_type: str, addition: str) -> None:
        """Append to what there is, or begin."""
        name = Name(conversation_id, memory_type)

        def append(seen: str | None) -> str:
            return f"{'' if seen is None else seen}+{addition}"

        self._beside.write("mutate", name, model.mutation(append), memory_input(name), append)

    @precondition(lambda self: "versions" in self.capabilities)
    @rule(
        operation=st.sampled_from(["store", "update"]),
        conversation_id=_IDS,
        memory_type=_TYPES,
        text=_TEXTS,
        over=st.sampled_from(["what is stored", "nothing", "an earlier version"]),
    )
    def write_over(self, operation: str, conversation_id: str, memory_type: str, text: str, over: str) -> None:
        """Write where a version stands, else conflict."""
        name = Name(conversation_id, memory_type)
        seen = self._beside.read(name)
        if isinstance(seen, Away):
            return
        version = None if over == "nothing" else seen.version
        if over == "an earlier version":
            version = self._beside.earlier_version(name, seen.version)
        change = (model.store if operation == "store" else model.update)(text, None)
        value = memory_input(name, [text])
        if version == seen.version:
            self._beside.write(operation, name, change, value, if_version=version)
        elif self.faults is None:  # a decorator may keep such a write for later while the store is away
            self._beside.refuses(operation, value, version)

    @precondition(lambda self: "batches" in self.capabilities)
    @rule(items=st.lists(st.tuples(_IDS, _TEXTS), max_size=4))
    def store_many(self, items: list[tuple[str, str]]) -> None:
        """Store several, in order."""
        changes = [(_working(who), model.store(text, None)) for who, text in items]
        self._beside.write_many("store", changes, [memory_input(_working(who), [text]) for who, text in items])

    @precondition(lambda self: "batches" in self.capabilities)
    @rule(conversation_ids=st.lists(_IDS, max_size=4))
    def retrieve_many(self, conversation_ids: list[str]) -> None:
        """Read several."""
        self._beside.read_many([_working(who) for who in conversation_ids])

    @precondition(lambda self: "batches" in self.capabilities)
    @rule(conversation_ids=st.lists(_IDS, max_size=4))
    def delete_many(self, conversation_ids: list[str]) -> None:
        """Delete several."""
        names = [_working(who) for who in conversation_ids]
        changes = [(name, model.deletion) for name in names]
        self._beside.write_many("delete", changes, [memory_input(name) for name in names])

    @precondition(lambda self: self.faults is not None)
    @rule(fault=_FAULTS)
    def break_store(self, fault: Fault) -> None:
        """Let something go wrong, by the number of attempts from now on."""
        cast("FaultInjecting", self.faults).inject(fault)

    @precondition(lambda self: self.faults is not None and self._beside.can_advance)
    @rule(seconds=st.sampled_from([0.1, 2.0, 60.0]))
    def advance(self, seconds: float) -> None:
        """Let time pass where the manager's clock can be moved: a circuit breaker asks again."""
        self.manager.clock.advance(seconds)

    def teardown(self) -> None:
        """Compare everything once more, the store being back, and close the manager."""
        try:
            if not self._beside.has_failed:
                if self.faults is not None and currently_in_test_context():
                    target(float(self._beside.ambiguous), label="ambiguous writes")
                self._beside.settle()
        finally:
            self._beside.close()


def run_memory_machine(
    factory: Callable[..., Any],
    *,
    profile: str | settings = "ci",
    outages: bool = False,
    capabilities: Collection[str] | None = None,
    texts: SearchStrategy[str] | None = None,
) -> None:
    """Run the machine now, inside a test: the factory may then use the test's fixtures.

    Args:
        factory: As for `MemoryMachine.for_factory`, and so are the others.
        profile: "ci", "nightly", the name of a profile of your own, or settings.
        outages: Whether the store goes away.
        capabilities: Some of `CAPABILITIES`; None for what the manager's methods look like.
        texts: For the texts that are stored; None for any Unicode.

    Raises:
        ConfigurationError: As there.
        AssertionError: The manager did something that the dictionary did not; the steps are printed.
    """
    machine = _planned(MemoryMachine, factory, outages=outages, capabilities=capabilities, texts=texts)
    run_state_machine_as_test(machine, settings=_settings_of(profile))


def _planned(
    machine: type[MemoryMachine],
    factory: Callable[..., Any],
    *,
    outages: bool = False,
    capabilities: Collection[str] | None = None,
    texts: SearchStrategy[str] | None = None,
) -> type[MemoryMachine]:
    if not callable(factory):
        message = f"factory must be a function that returns a new manager, not a {type(factory).__name__}."
        raise ConfigurationError(message)
    unknown = set(capabilities or ()) - CAPABILITIES
    if unknown or isinstance(capabilities, str):
        message = f"capabilities must be some of {', '.join(sorted(CAPABILITIES))}."
        raise ConfigurationError(message)
    chosen = None if capabilities is None else frozenset(capabilities)
    plan = _Plan(factory, outages, chosen, any_texts() if texts is None else texts)
    attributes = {"plan": plan, "__module__": machine.__module__, "__doc__": machine.__doc__}
    return type(machine.__name__, (machine,), attributes)


def _settings_of(profile: str | settings) -> settings:
    if isinstance(profile, settings):
        return profile
    try:
        return PROFILES.get(profile) or settings.get_profile(profile)
    except InvalidArgument:
        message = f"there is no profile {profile!r}: 'ci', 'nightly', or one that was registered with Hypothesis."
        raise ConfigurationError(message) from None


def _working(conversation_id: str) -> Name:
    return Name(conversation_id, "WORKING_MEMORY")
