"""A manager inside its decorators: opening, closing, the replay in the background, the end of the process."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest

from remanence import (
    AsyncInMemoryManager,
    CircuitBreaker,
    Fallback,
    InMemoryManager,
    ManagerClosedError,
    Retry,
    decorated,
    resilient,
    wrap,
)
from remanence.errors import ConfigurationError
from tests.support import AsyncScriptedManager, FakeClock, Script, ScriptedManager, run, wait_until


def down(call: Any) -> None:
    """Fail; with an error of its own each time, as a kept one would keep the manager in its traceback."""
    assert call is not None
    raise ConnectionError("away")


ITEM = {"conversation_id": "c", "working_memory": "secret"}
NAME = {"conversation_id": "c"}


async def came_home(manager: Any) -> None:
    """Wait for the replay task."""
    deadline = time.monotonic() + 5
    while manager.has_pending_writes and time.monotonic() < deadline:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.005)
    assert not manager.has_pending_writes


def made(*, is_async: bool, script: Script | None = None, **options: Any) -> Any:
    """Return an in-memory manager of either kind."""
    if script is not None:
        return (AsyncScriptedManager if is_async else ScriptedManager)(script, **options)
    return (AsyncInMemoryManager if is_async else InMemoryManager)(**options)


def close(manager: Any, **options: Any) -> None:
    """Close a manager of either kind."""
    run((manager.aclose if hasattr(manager, "aclose") else manager.close)(**options))


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@both
def test_after_closing_every_operation_says_so(*, is_async: bool) -> None:
    """Closing twice is fine."""
    manager = resilient(made(is_async=is_async))
    close(manager)
    close(manager)
    for use in (
        lambda: manager.store(ITEM),
        lambda: manager.retrieve(NAME),
        manager.conflicts,
        manager.replay,
        lambda: manager.store_many([ITEM]),
    ):
        with pytest.raises(ManagerClosedError):
            run(use())
    assert manager.health().status == "unready"
    assert not manager.has_pending_writes


@both
@pytest.mark.parametrize("owns", [True, False])
def test_closing_closes_only_what_it_opened(*, is_async: bool, owns: bool) -> None:
    """A manager that was handed in stays open, unless it was handed over."""
    closed: list[bool] = []

    class Inner(AsyncInMemoryManager if is_async else InMemoryManager):  # type: ignore[misc]
        if is_async:

            async def aclose(self) -> None:
                closed.append(True)
        else:

            def close(self) -> None:
                closed.append(True)

    close(wrap(Inner(), Retry(), owns_manager=owns))
    assert closed == [True] * owns


def test_it_is_a_context_manager() -> None:
    """Leaving closes it."""
    with wrap(InMemoryManager(), Fallback()) as manager:
        assert isinstance(manager, decorated.DecoratedManager)
        manager.store(ITEM)
    with pytest.raises(ManagerClosedError):
        manager.retrieve(NAME)


def test_it_is_an_asynchronous_context_manager() -> None:
    """Leaving closes it."""

    async def scenario() -> None:
        async with resilient(AsyncInMemoryManager()) as manager:
            await manager.store(ITEM)
        with pytest.raises(ManagerClosedError):
            await manager.retrieve(NAME)

    asyncio.run(scenario())


@both
def test_closing_brings_home_what_is_pending(*, is_async: bool) -> None:
    """Before the manager that it owns is closed."""
    script = Script(then=down)
    manager = wrap(made(is_async=is_async, script=script), Fallback(), owns_manager=True)
    run(manager.store(ITEM))
    script.then = None
    close(manager)
    assert len(manager.inner.backend) == 1
    assert manager not in decorated._busy


@both
def test_closing_gives_up_in_time_and_reports_what_is_left(*, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    """By numbers, without texts; nothing waits for it any more."""
    script = Script(then=down)
    clock = FakeClock()
    manager = wrap(made(is_async=is_async, script=script, clock=clock), Fallback(close_timeout=3.0))
    manager._background.wake = lambda: None
    run(manager.store(ITEM))
    before = clock.now
    close(manager)
    assert clock.now == pytest.approx(before + 3.0)
    assert "1 acknowledged write(s) did not reach the store" in caplog.text
    assert "secret" not in caplog.text
    assert manager not in decorated._busy


@both
def test_nothing_is_acknowledged_while_it_closes(*, is_async: bool) -> None:
    """What came in then would be left behind."""
    script = Script(then=down)
    manager = wrap(made(is_async=is_async, script=script, clock=FakeClock()), Fallback())
    manager._background.wake = lambda: None
    run(manager.store(ITEM))
    refused: list[type[BaseException]] = []

    def meanwhile(_: Any) -> None:
        try:
            answer = manager.store(ITEM)
            if is_async:
                answer.send(None)
        except (ManagerClosedError, StopIteration) as error:
            refused.append(type(error))
        raise ConnectionError("away")

    script.then = meanwhile
    close(manager, timeout=0.05)
    assert set(refused) == {ManagerClosedError}


def test_the_owned_manager_is_closed_even_when_draining_is_interrupted() -> None:
    """A KeyboardInterrupt during the drain reaches the caller, and leaves no open connection."""
    script = Script(then=down)
    closed: list[bool] = []
    inner = ScriptedManager(script)
    inner.close = lambda: closed.append(True)  # type: ignore[method-assign]
    manager: Any = wrap(inner, Fallback(), owns_manager=True)
    manager._background.wake = lambda: None
    manager.store(ITEM)
    script.then = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        manager.close()
    assert closed == [True]


def test_the_replay_thread_ends_and_the_manager_can_go() -> None:
    """A manager lives as long as something is pending, however few references there are; not longer."""
    others = set(threading.enumerate())
    script = Script(then=down)
    manager: Any = wrap(ScriptedManager(script), Fallback())
    gone = weakref.ref(manager)
    backend = manager.inner.backend
    manager.store(ITEM)
    del manager
    gc.collect()
    assert gone() is not None
    script.then = None
    wait_until(lambda: len(backend) == 1, "it came home")

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    wait_until(is_gone, "the manager is collected")
    assert not [t for t in set(threading.enumerate()) - others if t.name == "remanence-replay"]


def test_the_replay_task_brings_writes_home_without_traffic() -> None:
    """In the loop of the call that left them pending."""
    script = Script(then=down)

    async def scenario() -> None:
        manager: Any = wrap(AsyncScriptedManager(script), Fallback())
        await manager.store(ITEM)
        assert manager in decorated._busy
        script.then = None
        await came_home(manager)
        await asyncio.sleep(0.01)
        assert manager not in decorated._busy
        await manager.aclose()

    asyncio.run(scenario())


def test_what_a_loop_left_pending_is_taken_up_by_the_next_call() -> None:
    """Of another loop, and of any kind."""
    script = Script(then=down)
    manager: Any = wrap(AsyncScriptedManager(script), Fallback())
    asyncio.run(manager.store(ITEM))
    script.then = None

    async def scenario() -> None:
        await manager.retrieve({"conversation_id": "another"})
        await came_home(manager)

    asyncio.run(scenario())
    assert len(manager.inner.backend) == 1


def test_an_asynchronous_manager_that_nobody_holds_is_still_reported_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its loop is gone, so nothing can be brought home; the writes do not vanish in silence."""
    manager: Any = wrap(AsyncScriptedManager(Script(then=down)), Fallback())
    asyncio.run(manager.store(ITEM))
    gone = weakref.ref(manager)
    del manager
    gc.collect()
    assert gone() is not None
    decorated._end()
    assert "1 acknowledged write(s)" in caplog.text
    decorated._busy.clear()


def test_at_the_end_all_managers_share_one_limit() -> None:
    """Ten of them with dead stores do not take ten times as long."""
    clock = FakeClock()
    managers: list[Any] = []
    for limit in (1.0, 2.0, 0.5):
        manager: Any = wrap(ScriptedManager(Script(then=down), clock=clock), Fallback(close_timeout=limit))
        manager._background.wake = lambda: None
        manager.store(ITEM)
        managers.append(manager)
    idle = resilient(InMemoryManager())
    before = clock.now
    decorated._end()
    assert clock.now == pytest.approx(before + 2.0)
    assert all(manager._closed for manager in managers)
    assert not idle._closed
    decorated._end()


def test_stuck_entries_are_reported_at_the_end_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing waits for them, but they are acknowledged writes."""
    script = Script(then=down)
    manager: Any = wrap(ScriptedManager(script, clock=FakeClock()), Fallback())
    manager._background.wake = lambda: None
    manager.store(ITEM)
    script.then = lambda call: [ValueError("never")] if call.operation == "reconcile" else None
    manager._round()
    assert manager.health().stuck == 1
    assert manager.has_pending_writes
    decorated._end()
    assert "1 acknowledged write(s) did not reach the store in time and end with this process (1 stuck)" in caplog.text


@both
def test_without_a_fallback_there_is_nothing_to_replay(*, is_async: bool) -> None:
    """`replay()` says so; closing and health work all the same."""
    manager: Any = wrap(made(is_async=is_async), CircuitBreaker())
    with pytest.raises(ConfigurationError, match="no Fallback"):
        run(manager.replay())
    assert run(manager.conflicts()) == []
    assert (manager.has_fallback, manager.close_timeout, manager.has_pending_writes) == (False, 0.0, False)
    assert manager.health().status == "ready"
    manager.after_fork()
    close(manager)


def test_other_attributes_are_the_inner_managers() -> None:
    """Those bypass the policies; private ones and unknown ones are errors."""
    inner = InMemoryManager()
    manager: Any = wrap(inner, Retry())
    assert manager.backend is inner.backend
    with pytest.raises(AttributeError):
        _ = manager.nothing_like_that
    with pytest.raises(AttributeError):
        _ = manager._nothing_like_that
    with pytest.raises(AttributeError):
        _ = decorated.DecoratedManager.__new__(decorated.DecoratedManager).inner


def test_its_repr_names_policies_and_manager() -> None:
    """And no URL."""
    assert repr(wrap(InMemoryManager(), Fallback(), Retry())) == "<Fallback, Retry around InMemoryManager>"


def test_a_conflict_is_listed_once_while_it_moves_to_the_store() -> None:
    """It may be stored between the two questions."""
    script = Script(then=down)
    manager: Any = wrap(ScriptedManager(script), Fallback())
    manager._background.wake = lambda: None
    stranger = InMemoryManager()
    stranger.backend = manager.inner.backend
    stranger.store({"conversation_id": "c", "working_memory": "theirs"})
    manager.store(ITEM)
    script.then = None
    manager.replay()
    [kept] = manager.conflicts()
    manager._fallback.waiting_conflicts = lambda: [kept]
    assert manager.conflicts() == [kept]
