"""What all decorators share, and a decorator of a user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from remanence import CircuitBreaker, Deadline, Memories, PolicyOrderError, Retry, wrap
from remanence.clock import SYSTEM_CLOCK
from remanence.events import CircuitTransition, Event
from remanence.flow import PROCEED, Call, Flow
from remanence.policies.base import Context, Decorator, batch_failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.policies.conftest import Flavour

MEMORY = {"conversation_id": "c1", "working_memory": "hello"}


class Count(Decorator):
    """A user's own decorator, as short as they come."""

    place: ClassVar[int] = 60

    def __init__(self) -> None:
        self.calls: list[str] = []

    def bind(self, context: Context) -> Callable[[Call], Flow]:  # noqa: ARG002 - it needs none
        """Return the flow around every call of one manager."""

        def flow(call: Call) -> Flow:
            self.calls.append(call.operation)
            return (yield PROCEED)

        return flow


@pytest.mark.parametrize("policy", [Retry(), CircuitBreaker(), Deadline()], ids=lambda p: type(p).__name__)
def test_a_policy_called_with_a_manager_decorates_it(flavour: Flavour, policy: Decorator) -> None:
    """The same object decorates a manager of either world, which still does its work."""
    manager = policy(flavour.manager())
    assert flavour.run(manager.store(MEMORY)).outcome == "committed"
    assert flavour.run(manager.retrieve(MEMORY))[0].working_memory == "hello"
    assert manager.policies == (policy,)


def test_one_object_decorates_both_worlds(flavour: Flavour) -> None:
    """An object that decorated one manager decorates another."""
    count = Count()
    first, second = count(flavour.manager()), count(flavour.manager())
    flavour.run(first.retrieve(MEMORY))
    flavour.run(second.delete(MEMORY))
    assert count.calls == ["retrieve", "delete"]


def test_a_decorator_of_ones_own_takes_its_place(flavour: Flavour) -> None:
    """A subclass with a place inside the others sees every attempt, and every operation as one call."""
    count = Count()
    manager = wrap(flavour.manager(), Deadline(), Retry(), CircuitBreaker(), count)
    flavour.run(manager.store_many([MEMORY] * 3))
    flavour.run(manager.mutate(MEMORY, lambda text: f"{text}!"))
    assert count.calls == ["store_many", "retrieve", "update"]


def test_a_decorator_of_ones_own_in_the_wrong_place_is_refused_with_both_names(flavour: Flavour) -> None:
    """The message names the two, also where it knows no reason."""
    with pytest.raises(PolicyOrderError, match="Count cannot be outside CircuitBreaker"):
        wrap(flavour.manager(), Count(), CircuitBreaker())


def test_an_unfinished_decorator_says_so() -> None:
    """A subclass without `bind` fails when it is bound."""
    with pytest.raises(NotImplementedError):
        Decorator().bind(Context())


def test_a_context_without_listeners_tells_nobody() -> None:
    """The defaults are the machine's clock and nobody to tell."""
    context = Context()
    context.tell(CircuitTransition("it", "closed", "open"))
    assert context.clock is SYSTEM_CLOCK


def test_a_context_tells_its_listeners() -> None:
    """An event reaches every listener of the context."""
    told: list[Event] = []
    Context(listeners=(told.append, told.append)).tell(CircuitTransition("it", "closed", "open"))
    assert len(told) == 2


ERROR = ValueError()


@pytest.mark.parametrize(
    ("result", "failures"),
    [([1, ERROR, 2], [ERROR]), ([], []), ([KeyboardInterrupt()], []), (Memories(), []), ("key", []), (None, [])],
)
def test_the_failures_of_a_batch(result: Any, failures: list[Exception]) -> None:
    """Only the list of a batch has failures in it: an answer to a read is a list too, but not of results."""
    assert batch_failures(result) == failures
