"""Putting decorators together: what `wrap` takes and refuses, what a decorated manager is, and the two recipes."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import redis.exceptions

import remanence
from remanence import (
    AsyncInMemoryManager,
    CircuitBreaker,
    ConfigurationError,
    Deadline,
    Fallback,
    InMemoryManager,
    ManagerClosedError,
    PolicyOrderError,
    RedisWorkingMemoryManager,
    Retry,
    create_memory_manager,
    resilient,
    wrap,
)
from remanence.decorated import AsyncDecoratedManager, DecoratedManager
from remanence.events import Event, RetryScheduled
from remanence.policies.base import Decorator
from tests.support import AsyncScriptedManager, FakeClock, Script, ScriptedManager, case_id, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY = {"conversation_id": "c1", "working_memory": "hello"}
DOWN = redis.exceptions.ConnectionError("down")
POLICIES: tuple[Callable[[], Decorator], ...] = (Fallback, Deadline, Retry, CircuitBreaker)
REASONS = {
    "Fallback": "never learns of one",
    "Deadline": "the whole time again",
    "Retry": "counts one failure for all attempts",
}


class ClosingManager(InMemoryManager):
    """A synchronous manager that notes when it is closed."""

    closed = 0

    def close(self) -> None:
        """Note it."""
        self.closed += 1


class AsyncClosingManager(AsyncInMemoryManager):
    """An asynchronous manager that notes when it is closed."""

    closed = 0

    async def aclose(self) -> None:
        """Note it."""
        self.closed += 1


@pytest.fixture(params=[ClosingManager, AsyncClosingManager], ids=["sync", "async"])
def inner(request: pytest.FixtureRequest) -> Any:
    """A manager of either world."""
    return request.param()


def close(manager: Any) -> None:
    """Close a manager of either world."""
    run(manager.aclose() if hasattr(manager, "aclose") else manager.close())


# The order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policies",
    [c for n in range(5) for c in itertools.combinations(POLICIES, n)],
    ids=lambda c: "-".join(p.__name__ for p in c),
)
def test_any_of_them_in_the_right_order(policies: tuple[Callable[[], Decorator], ...]) -> None:
    """Every selection in the right order decorates, and the manager does its work."""
    manager: Any = wrap(InMemoryManager(), *(policy() for policy in policies))
    assert manager.store(MEMORY).outcome == "committed"
    assert [type(policy) for policy in manager.policies] == list(policies)
    manager.close()


@pytest.mark.parametrize(
    "policies",
    [p for n in (2, 3, 4) for p in itertools.permutations(POLICIES, n) if list(p) != sorted(p, key=POLICIES.index)],
    ids=lambda c: "-".join(p.__name__ for p in c),
)
def test_every_wrong_order_is_refused_with_its_reason(
    policies: tuple[Callable[[], Decorator], ...], inner: Any
) -> None:
    """The message names the two that cannot work, says why, and gives the order that can."""
    with pytest.raises(PolicyOrderError) as refusal:
        wrap(inner, *(policy() for policy in policies))
    message = str(refusal.value)
    assert "Fallback, Deadline, Retry, CircuitBreaker, outermost first" in message
    assert any(reason in message for name, reason in REASONS.items() if f"outside {name}" in message)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.__name__)
def test_the_same_policy_twice_is_refused(policy: Callable[[], Decorator], inner: Any) -> None:
    """Two of a kind multiply: refused side by side, also as the same object."""
    one = policy()
    for second in (policy(), one):
        with pytest.raises(PolicyOrderError, match="twice"):
            wrap(inner, one, second)


class Patient(Retry):
    """A user's own kind of Retry."""


class Beside(Decorator):
    """A user's own policy at Retry's place."""

    place: ClassVar[int] = Retry.place


def test_a_subclass_counts_as_its_policy(inner: Any) -> None:
    """A subclass of Retry is a second Retry, and is refused with Retry's reason where it stands wrong."""
    for policies in ((Patient(), Retry()), (Retry(), Patient()), (Retry(), Beside(), Retry())):
        with pytest.raises(PolicyOrderError, match="twice"):
            wrap(inner, *policies)
    with pytest.raises(PolicyOrderError, match="counts one failure"):
        wrap(inner, CircuitBreaker(), Patient())


@pytest.mark.parametrize("stranger", [Retry, "redis://:secret@host", None, len, InMemoryManager()])
def test_what_is_no_policy_is_refused(inner: Any, stranger: Any) -> None:
    """A class, a URL, a function or a manager among the policies is refused by its kind, without its content."""
    with pytest.raises(ConfigurationError, match="no policy") as refusal:
        wrap(inner, Retry(), stranger)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("stranger", [None, "redis://:secret@host", object(), Retry(), InMemoryManager, {}])
def test_what_is_no_manager_is_refused(stranger: Any) -> None:
    """Something without the four methods, or a class, is refused by its kind, without its content."""
    with pytest.raises(ConfigurationError, match="no memory manager") as refusal:
        wrap(stranger, Retry())
    assert "secret" not in str(refusal.value)


def test_a_listener_must_be_callable(inner: Any) -> None:
    """A listener that cannot be called is refused at construction, not logged at every event."""
    with pytest.raises(ConfigurationError, match="listener"):
        wrap(inner, Retry(), listeners=["print"])  # type: ignore[list-item]


# Decorating what is decorated -----------------------------------------------------------------------------------------


def test_decorating_a_decorated_manager_makes_one_flat_stack(inner: Any) -> None:
    """`Deadline()(Retry()(CircuitBreaker()(manager)))` is the same as wrapping at once."""
    deadline, retry, breaker = Deadline(), Retry(), CircuitBreaker()
    manager = deadline(retry(breaker(inner)))
    assert manager.policies == (deadline, retry, breaker)
    assert manager.inner is inner
    assert run(manager.store(MEMORY)).outcome == "committed"


def test_the_order_holds_across_decorations(inner: Any) -> None:
    """A breaker around a Retry is refused also when it comes later."""
    with pytest.raises(PolicyOrderError, match="CircuitBreaker cannot be outside Retry"):
        CircuitBreaker()(Retry()(inner))
    with pytest.raises(PolicyOrderError, match="twice"):
        Retry()(Retry()(inner))


def test_nothing_goes_around_a_fallback(inner: Any) -> None:
    """A manager with a Fallback is not decorated further: its journal is its own."""
    manager = Fallback()(inner)
    with pytest.raises(PolicyOrderError, match="already has a Fallback"):
        Deadline()(manager)
    with pytest.raises(PolicyOrderError, match="already has a Fallback"):
        resilient(manager)
    close(manager)


def test_listeners_of_both_are_told() -> None:
    """Decorating further adds listeners and keeps those that were there."""
    outside: list[Event] = []
    inside: list[Event] = []
    decorated = wrap(ScriptedManager(Script(DOWN), clock=FakeClock()), Retry(), listeners=[inside.append])
    manager: Any = wrap(decorated, Deadline(), listeners=[outside.append])
    manager.retrieve(MEMORY)
    assert len(outside) == 1
    assert isinstance(outside[0], RetryScheduled)
    assert outside == inside


# What a decorated manager is ------------------------------------------------------------------------------------------


def test_it_is_of_the_inner_managers_world() -> None:
    """A synchronous manager stays synchronous, an asynchronous one asynchronous, and each is an interface of ours."""
    assert isinstance(wrap(InMemoryManager(), Retry()), DecoratedManager)
    assert isinstance(wrap(AsyncInMemoryManager(), Retry()), AsyncDecoratedManager)
    assert isinstance(wrap(InMemoryManager(), Retry()), remanence.IMemoryManager)
    assert isinstance(wrap(AsyncInMemoryManager(), Retry()), remanence.IAsyncMemoryManager)


def test_it_is_true(inner: Any) -> None:
    """Callers test a manager's truth value."""
    assert bool(wrap(inner, Retry())) is True


def test_other_attributes_of_the_inner_manager_are_reachable(inner: Any) -> None:
    """What the decorators do not have is the inner manager's; what nobody has is an AttributeError by its name."""
    manager: Any = wrap(inner, Deadline(), Retry())
    inner.favourite = 7
    assert manager.favourite == 7
    assert manager.backend is inner.backend
    with pytest.raises(AttributeError, match="nothing"):
        manager.nothing  # noqa: B018 - the access is the test
    with pytest.raises(AttributeError, match="_private"):
        manager._private  # noqa: B018


def test_a_handed_in_manager_stays_open(inner: Any) -> None:
    """Closing closes only what was opened here."""
    manager = wrap(inner, Retry())
    close(manager)
    assert inner.closed == 0
    assert run(inner.store(MEMORY)).outcome == "committed"


def test_an_owned_manager_is_closed_once(inner: Any) -> None:
    """With `owns_manager` closing closes the inner one, and closing again does nothing."""
    assert resilient(inner, owns_manager=True)._owns_inner
    manager = wrap(inner, Retry(), owns_manager=True)
    close(manager)
    close(manager)
    assert inner.closed == 1


def test_a_closed_manager_refuses_every_operation(inner: Any) -> None:
    """Every operation raises ManagerClosedError after closing; closing again, health and attributes still work."""
    manager: Any = resilient(inner)
    close(manager)
    operations: list[Callable[[], Any]] = [
        lambda: manager.store(MEMORY),
        lambda: manager.retrieve(MEMORY),
        lambda: manager.update(MEMORY),
        lambda: manager.delete(MEMORY),
        lambda: manager.mutate(MEMORY, str),
        lambda: manager.store_many([MEMORY]),
        lambda: manager.retrieve_many([MEMORY]),
        lambda: manager.delete_many([MEMORY]),
        manager.conflicts,
        manager.replay,
    ]
    for operation in operations:
        with pytest.raises(ManagerClosedError):
            run(operation())
    close(manager)
    assert manager.health().status == "unready"
    assert manager.ttl == inner.ttl


def test_a_context_manager_closes_it(inner: Any) -> None:
    """`with` (or `async with`) gives the manager and closes it, whatever happens inside."""
    manager: Any = wrap(inner, Retry(), owns_manager=True)

    async def inside_async() -> None:
        async with manager as entered:
            assert entered is manager
            raise ZeroDivisionError

    def inside() -> None:
        with manager as entered:
            assert entered is manager
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(inside_async() if hasattr(manager, "aclose") else inside())  # type: ignore[func-returns-value]
    assert inner.closed == 1


def test_it_shows_its_policies_and_nothing_else() -> None:
    """The repr names the decorators and the inner manager's class."""
    manager = wrap(RedisWorkingMemoryManager("redis://:secret@127.0.0.1:1/0"), Deadline(), Retry())
    assert repr(manager) == "<Deadline, Retry around RedisWorkingMemoryManager>"


# The recipes ----------------------------------------------------------------------------------------------------------


def test_the_recommended_stack(inner: Any) -> None:
    """`resilient` puts Fallback, Deadline, Retry and CircuitBreaker around the manager, in this order."""
    manager = resilient(inner)
    assert [type(policy) for policy in manager.policies] == [Fallback, Deadline, Retry, CircuitBreaker]
    assert manager.policies[1].seconds == 1.5
    assert run(manager.store(MEMORY)).outcome == "committed"
    close(manager)
    assert inner.closed == 0


def test_each_policy_of_the_stack_can_be_replaced(inner: Any) -> None:
    """A policy given by keyword takes the default's place; a number does for the deadline."""
    mine: dict[str, Any] = {
        "fallback": Fallback(max_entries=1),
        "deadline": Deadline(0.5),
        "retry": Retry(attempts=1),
        "circuit_breaker": CircuitBreaker(failures=1),
    }
    manager = resilient(inner, **mine)
    assert manager.policies == tuple(mine.values())
    close(manager)
    assert resilient(inner, deadline=0.25).policies[1].seconds == 0.25


@pytest.mark.parametrize(
    "options",
    [
        {"journal": "/some/file", "fallback": Fallback()},
        {"deadline": 0},
        {"deadline": "1"},
        {"retry": CircuitBreaker()},
        {"circuit_breaker": Retry()},
        {"fallback": Retry()},
        {"fallback": "memory"},
        {"retry": 3},
    ],
    ids=case_id,
)
def test_a_wrong_setting_of_the_stack_is_refused(inner: Any, options: dict[str, Any]) -> None:
    """A contradiction, or something that is not that policy, is an error of ours at construction."""
    with pytest.raises(ConfigurationError):
        resilient(inner, **options)


def test_an_unknown_keyword_of_the_stack_is_refused(inner: Any) -> None:
    """A misspelt policy does not pass in silence."""
    misspelt: Any = {"retries": 3}
    with pytest.raises(TypeError, match="retries"):
        resilient(inner, **misspelt)


@pytest.fixture
def made() -> Iterator[list[Any]]:
    """Managers to close after the test."""
    managers: list[Any] = []
    yield managers
    for manager in managers:
        manager.close()


@pytest.mark.parametrize("environ", [{}, {"ENVIRONMENT": "development"}, {"ENVIRONMENT": "test", "REDIS_URL": "x"}])
def test_development_keeps_memories_in_this_process(environ: dict[str, str]) -> None:
    """Anything but production is the in-memory manager with one hour to live, whatever REDIS_URL says."""
    manager = create_memory_manager(environ)
    assert type(manager) is InMemoryManager
    assert manager.ttl == 3600


def test_production_is_the_resilient_stack_on_redis(redis_url: str, made: list[Any]) -> None:
    """With ENVIRONMENT=production memories go to the Redis of REDIS_URL and live for a day."""
    manager: Any = create_memory_manager({"ENVIRONMENT": "production", "REDIS_URL": redis_url})
    made.append(manager)
    assert [type(policy) for policy in manager.policies] == [Fallback, Deadline, Retry, CircuitBreaker]
    assert manager.store(MEMORY).outcome == "committed"
    with redis.from_url(redis_url) as raw:
        assert 86_390 <= raw.ttl(manager.store(MEMORY)) <= 86_400


def test_production_closes_what_it_opened(redis_url: str) -> None:
    """Closing the manager closes its connections."""
    manager: Any = create_memory_manager({"ENVIRONMENT": "production", "REDIS_URL": redis_url})
    manager.retrieve(MEMORY)
    pool = manager.redis_client.connection_pool
    assert pool._available_connections
    manager.close()
    assert all(connection._sock is None for connection in pool._available_connections)


def test_the_processs_environment_is_the_default(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, made: list[Any]
) -> None:
    """Without a mapping ENVIRONMENT and REDIS_URL are the process's."""
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    assert type(create_memory_manager()) is InMemoryManager
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("REDIS_URL", redis_url)
    made.append(create_memory_manager())
    assert made[0].store(MEMORY).outcome == "committed"


def test_a_given_environment_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, made: list[Any]
) -> None:
    """A mapping without REDIS_URL means the default URL, with a warning, not the process's REDIS_URL."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/7")
    with caplog.at_level(logging.WARNING, "remanence"):
        made.append(create_memory_manager({"ENVIRONMENT": "production"}))
    options = made[0].redis_client.connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("localhost", 6379, 1)
    assert "REDIS_URL" in caplog.text


def test_production_with_a_wrong_url_is_refused() -> None:
    """A REDIS_URL that is none is refused at construction, without being quoted."""
    with pytest.raises(ConfigurationError) as refusal:
        create_memory_manager({"ENVIRONMENT": "production", "REDIS_URL": "http://:secret@host"})
    assert "secret" not in str(refusal.value)


# Together -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ScriptedManager, AsyncScriptedManager], ids=["sync", "async"])
def test_the_order_is_what_the_design_measured(kind: Any) -> None:
    """With the store down, 3 attempts a call and 5 failures to open, 4 calls cost the store 5 attempts."""
    script = Script(then=DOWN)
    breaker = CircuitBreaker()
    manager = wrap(kind(script, clock=FakeClock()), Deadline(60.0), Retry(), breaker)
    for _ in range(4):
        with pytest.raises(Exception):  # noqa: B017, PT011 - the first ones the store's, then the breaker's
            run(manager.retrieve(MEMORY))
    assert script.attempts == 5
    assert breaker.state.value == "open"
