"""Deadline: no call outlives it, and what it cuts off counts as a failure below it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

from remanence import (
    AttemptTimeoutError,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Deadline,
    DeadlineExceededError,
    RedisWorkingMemoryManager,
    Retry,
    VersionConflictError,
    resilient,
    wrap,
)
from remanence.events import CircuitTransition, Event
from remanence.flow import Call
from remanence.policies.base import Context
from tests.support import AsyncScriptedManager, FakeClock, Script, run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remanence.lab import RedisServer
    from tests.policies.conftest import Flavour

MEMORY = {"conversation_id": "c1", "working_memory": "hello"}
LATE = redis.exceptions.TimeoutError("late")
MARGIN = 0.05 + 0.15
"""P3's 50 ms, and the noise of a machine that runs other tests."""


def after(clock: FakeClock, seconds: float, error: Exception | None = None) -> Callable[[Call], Any]:
    """Return a script's step that takes so long, then fails or works."""

    def step(_: Call) -> None:
        clock.advance(seconds)
        if error is not None:
            raise error

    return step


def test_a_call_in_time_is_left_alone(flavour: Flavour, clock: FakeClock) -> None:
    """A call that succeeds, or fails for another reason, comes through as it was."""
    manager = Deadline(1.0)(flavour.manager(Script(after(clock, 0.9), after(clock, 0.5, LATE)), clock=clock))
    assert flavour.run(manager.store(MEMORY)).outcome == "committed"
    with pytest.raises(redis.exceptions.TimeoutError):
        flavour.run(manager.store(MEMORY))


def test_every_attempt_knows_when_the_call_must_have_ended(flavour: Flavour, clock: FakeClock) -> None:
    """All attempts of a call carry the same deadline, counted from the call's start."""
    seen: list[float | None] = []

    def note(call: Call) -> None:
        seen.append(call.deadline)
        clock.advance(0.1)
        raise LATE

    manager = wrap(flavour.manager(Script(then=note), clock=clock), Deadline(5.0), Retry())
    with pytest.raises(redis.exceptions.TimeoutError):
        flavour.run(manager.retrieve(MEMORY))
    assert seen == [1_005.0] * 3


def test_a_failure_when_the_time_is_up_says_so(flavour: Flavour, clock: FakeClock) -> None:
    """What was cut off raises DeadlineExceededError with the deadline's seconds and none of the store's words."""
    manager = Deadline(1.0)(flavour.manager(Script(after(clock, 1.0, LATE)), clock=clock))
    with pytest.raises(DeadlineExceededError, match="1 s") as failure:
        flavour.run(manager.retrieve(MEMORY))
    assert failure.value.seconds == 1.0
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


def test_a_socket_that_gives_up_a_little_early_was_cut_off_too(flavour: Flavour, clock: FakeClock) -> None:
    """Its timeout is set anew only where it is off by more than 20 ms."""
    manager = Deadline(1.0)(flavour.manager(Script(after(clock, 0.981, LATE)), clock=clock))
    with pytest.raises(DeadlineExceededError):
        flavour.run(manager.retrieve(MEMORY))


@pytest.mark.parametrize("error", [VersionConflictError(), CircuitOpenError("it", 1.0)], ids=lambda e: type(e).__name__)
def test_an_answer_that_comes_late_is_still_the_answer(flavour: Flavour, clock: FakeClock, error: Exception) -> None:
    """After the deadline only failures to answer become DeadlineExceededError, a conflict stays a conflict."""
    manager = Deadline(1.0)(flavour.manager(Script(after(clock, 2.0, error)), clock=clock))
    with pytest.raises(type(error)):
        flavour.run(manager.store(MEMORY))


def test_without_time_the_store_is_not_asked(clock: FakeClock) -> None:
    """An attempt that could not end in time would only look like a failure of the store."""
    call = Call("retrieve", "k")
    call.deadline = clock.now
    with pytest.raises(DeadlineExceededError):
        next(Deadline(1.0).bind(Context(clock=clock))(call))


@pytest.mark.parametrize(("outer", "kept"), [(0.5, 1_000.5), (None, 1_001.0), (9.0, 1_001.0)])
def test_a_nested_deadline_keeps_the_sooner(clock: FakeClock, outer: float | None, kept: float) -> None:
    """A call that has a deadline already gets the sooner of both while inside, and its own back afterwards."""
    call = Call("retrieve", "k")
    call.deadline = before = None if outer is None else clock.now + outer
    flow = Deadline(1.0).bind(Context(clock=clock))(call)
    next(flow)
    assert call.deadline == kept
    with pytest.raises(StopIteration):
        flow.send("answer")
    assert call.deadline == before


@pytest.mark.parametrize("end", [LATE, KeyboardInterrupt(), asyncio.CancelledError()], ids=lambda e: type(e).__name__)
def test_the_callers_deadline_is_restored_however_the_call_ends(clock: FakeClock, end: BaseException) -> None:
    """An exception, and a cancellation, put the deadline back too."""
    call = Call("retrieve", "k")
    flow = Deadline(1.0).bind(Context(clock=clock))(call)
    next(flow)
    with pytest.raises(type(end)):
        flow.throw(end)
    assert call.deadline is None


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), None, "1", True])
def test_a_deadline_must_be_a_time(seconds: Any) -> None:
    """Anything but a finite number of seconds above 0 is refused at construction."""
    with pytest.raises(ConfigurationError, match="seconds"):
        Deadline(seconds)


# Asynchronous ---------------------------------------------------------------------------------------------------------


async def forever() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()


def test_an_attempt_cut_off_under_asyncio_is_a_failure_below_the_breaker() -> None:
    """A store that never answers: the breaker counts a failure, the caller learns that the time was up."""

    async def body() -> None:
        told: list[Event] = []
        breaker = CircuitBreaker(failures=1)
        manager: Any = wrap(
            AsyncScriptedManager(Script(lambda _: forever())), Deadline(0.05), breaker, listeners=[told.append]
        )
        with pytest.raises(DeadlineExceededError):
            await manager.retrieve(MEMORY)
        assert told == [CircuitTransition("the connection", "closed", "open")]

    run_bounded(body())


def test_an_attempt_cut_off_raises_attempt_timeout_below_the_policies() -> None:
    """What the policies inside the deadline see is an AttemptTimeoutError, not a cancellation."""
    seen: list[str] = []

    class Watch(CircuitBreaker):
        def bind(self, context: Context) -> Callable[[Call], Any]:
            inner = super().bind(context)

            def flow(call: Call) -> Any:
                try:
                    return (yield from inner(call))
                except BaseException as error:
                    seen.append(type(error).__name__)
                    raise

            return flow

    async def body() -> None:
        manager: Any = wrap(AsyncScriptedManager(Script(lambda _: forever())), Deadline(0.05), Watch())
        with pytest.raises(DeadlineExceededError):
            await manager.retrieve(MEMORY)

    run_bounded(body())
    assert seen == [AttemptTimeoutError.__name__]


def test_the_stores_own_timeout_is_not_taken_for_the_deadlines() -> None:
    """A TimeoutError that the store raises in time comes through as it was."""
    own = TimeoutError("the store's own")

    async def body() -> None:
        manager: Any = Deadline(30.0)(AsyncScriptedManager(Script(own)))
        with pytest.raises(TimeoutError) as failure:
            await manager.retrieve(MEMORY)
        assert failure.value is own

    run_bounded(body())


def test_the_callers_cancellation_is_neutral() -> None:
    """Cancelled calls inside a deadline stay cancelled, count as nothing, and leave the breaker closed."""

    async def body() -> None:
        breaker = CircuitBreaker(failures=1)
        script = Script(then=lambda _: forever())
        manager: Any = wrap(AsyncScriptedManager(script), Deadline(30.0), Retry(), breaker)
        for number in range(1, 4):
            task = asyncio.ensure_future(manager.retrieve(MEMORY))
            while script.attempts < number:  # noqa: ASYNC110 - the script is for threads too and has no asyncio.Event
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert script.attempts == 3
        assert breaker.state.value == "closed"

    run_bounded(body())


def test_the_callers_own_shorter_timeout_is_neutral() -> None:
    """`asyncio.timeout` around the call ends it with TimeoutError, and the breaker counts nothing."""

    async def body() -> None:
        breaker = CircuitBreaker(failures=1)
        manager: Any = wrap(AsyncScriptedManager(Script(lambda _: forever())), Deadline(30.0), breaker)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await manager.retrieve(MEMORY)
        assert breaker.state.value == "closed"

    run_bounded(body())


# Managers that cannot be interrupted ----------------------------------------------------------------------------------


class Foreign:
    """A manager of somebody else's, synchronous."""

    def store(self, value: Any) -> Any:
        """Do nothing."""

    retrieve = update = delete = store


class AsyncForeign:
    """A manager of somebody else's, asynchronous."""

    async def store(self, value: Any) -> Any:
        """Do nothing."""

    retrieve = update = delete = store


def test_a_foreign_synchronous_manager_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    """Decorating one that cannot be interrupted says so once, at construction."""
    with caplog.at_level(logging.WARNING, "remanence"):
        Deadline(2.0)(Foreign())
    assert len(caplog.records) == 1
    assert "cannot be interrupted" in caplog.text
    assert "2 s" in caplog.text


def test_a_client_that_was_handed_in_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    """Its timeouts are its own; a manager that opened its connections itself bounds them."""
    with redis.Redis(port=1) as client:
        Deadline()(RedisWorkingMemoryManager(client=client))
    assert "cannot be interrupted" in caplog.text
    caplog.clear()
    with RedisWorkingMemoryManager("redis://127.0.0.1:1/0") as manager:
        Deadline()(manager)
    assert "cannot be interrupted" not in caplog.text


def test_managers_that_can_be_interrupted_are_not(flavour: Flavour, caplog: pytest.LogCaptureFixture) -> None:
    """Ours, and foreign asynchronous ones, are decorated without a word."""
    Deadline()(flavour.manager())
    Deadline()(AsyncForeign())
    assert caplog.records == []


# P3 on real sockets ---------------------------------------------------------------------------------------------------


class BadServer:
    """A port that takes connections and then behaves badly, until closed."""

    def __init__(self, behave: Callable[[socket.socket, threading.Event], None]) -> None:
        self._behave = behave
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection):
            try:
                self._behave(connection, self._ended)
            except OSError:
                return

    def close(self) -> None:
        """Hang up on everyone."""
        self._ended.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()


def say_nothing(_: socket.socket, ended: threading.Event) -> None:
    """Take the connection and never answer."""
    ended.wait(30)


def drip(connection: socket.socket, ended: threading.Event) -> None:
    """Answer one byte at a time, each in good time, for ever."""
    connection.sendall(b"$1000000\r\n")
    while not ended.wait(0.05):
        connection.sendall(b"x")


@pytest.fixture(params=[say_nothing, drip], ids=["blackhole", "drip"])
def bad_server(request: pytest.FixtureRequest) -> Iterator[BadServer]:
    """A server that does not answer in time, one way or another."""
    server = BadServer(request.param)
    yield server
    server.close()


def slowest(manager: Any, deadline: float) -> float:
    """Make calls of every kind and return how long the slowest took; each ends in an answer or an error of ours."""
    longest = 0.0
    for operation, value in (("store", MEMORY), ("retrieve", MEMORY), ("update", MEMORY), ("store_many", [MEMORY] * 3)):
        started = time.monotonic()
        with suppress(DeadlineExceededError, CircuitOpenError, redis.exceptions.RedisError):
            getattr(manager, operation)(value)
        longest = max(longest, time.monotonic() - started)
    assert longest > deadline / 3  # the store has been asked at all
    return longest


def test_no_call_outlives_the_deadline_on_a_frozen_server(private_server: RedisServer) -> None:
    """With a server that was stopped in the middle, no call of the recommended stack takes longer than 1.5 s."""
    with RedisWorkingMemoryManager(private_server.url) as inner:
        # Without a fallback, whose journal would take the calls after the first.
        manager = wrap(inner, Deadline(), Retry(), CircuitBreaker(failures=100, minimum_calls=100))
        manager.store(MEMORY)
        private_server.freeze()
        assert slowest(manager, 1.5) <= 1.5 + MARGIN


def test_no_call_outlives_the_deadline_on_a_bad_server(bad_server: BadServer) -> None:
    """A server that takes connections and says nothing, or drips bytes, holds nobody beyond the deadline."""
    with RedisWorkingMemoryManager(bad_server.url) as inner:
        manager = wrap(inner, Deadline(0.6), Retry(), CircuitBreaker(failures=100, minimum_calls=100))
        assert slowest(manager, 0.6) <= 0.6 + MARGIN


def test_the_whole_stack_answers_in_time_on_a_frozen_server(private_server: RedisServer) -> None:
    """The recommended stack acknowledges a write and answers a read within 1.5 s of a server that is frozen."""
    with RedisWorkingMemoryManager(private_server.url) as inner:
        manager = resilient(inner)
        try:
            manager.store(MEMORY)
            private_server.freeze()
            started = time.monotonic()
            assert manager.retrieve(MEMORY).source == "stale"
            assert time.monotonic() - started <= 1.5 + MARGIN
            started = time.monotonic()
            assert manager.store(MEMORY).outcome == "journaled"
            assert time.monotonic() - started <= 1.5 + MARGIN
            private_server.thaw()
        finally:
            manager.close()
