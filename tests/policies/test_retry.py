"""Retry: what is repeated, when, how often, and what the store sees of it."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions
import tenacity

from remanence import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    CorruptRecordError,
    Deadline,
    DeadlineExceededError,
    RedisWorkingMemoryManager,
    Retry,
    VersionConflictError,
    wrap,
)
from remanence.events import Event, RetryScheduled
from remanence.flow import Call, Invoke, Sleep
from remanence.policies.base import Context
from tests.support import AsyncScriptedManager, FakeClock, Script, ScriptedManager, case_id, run_bounded, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remanence.lab import RedisServer
    from tests.policies.conftest import Flavour

MEMORY = {"conversation_id": "c1", "working_memory": "hello"}
DOWN = redis.exceptions.ConnectionError("down")
LATE = redis.exceptions.TimeoutError("late")
NO_WAIT = tenacity.wait_none()


def raised(flavour: Flavour, operation: Callable[..., Any], value: Any = MEMORY) -> BaseException:
    """Return what the call raised."""
    with pytest.raises(BaseException) as failure:  # noqa: PT011 - the tests look at it
        flavour.run(operation(value))
    return failure.value


# What is repeated -----------------------------------------------------------------------------------------------------


def test_a_passing_failure_is_repeated(flavour: Flavour, clock: FakeClock) -> None:
    """Two failures and a success are a success, in three attempts, after two waits of 20 to 500 ms."""
    script = Script(DOWN, LATE)
    manager = Retry()(flavour.manager(script, clock=clock))
    assert flavour.run(manager.store(MEMORY)).outcome == "committed"
    assert script.attempts == 3
    assert len(clock.slept) == 2
    assert all(0.02 <= delay <= 0.5 for delay in clock.slept)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_failure_is_raised_after_the_last_attempt(flavour: Flavour, clock: FakeClock, attempts: int) -> None:
    """A store that stays away is asked `attempts` times, and its own last error comes through as it was."""
    errors = [redis.exceptions.ConnectionError(str(number)) for number in range(9)]
    script = Script(*errors)
    manager = Retry(attempts=attempts, budget_per_second=100.0)(flavour.manager(script, clock=clock))
    error = raised(flavour, manager.retrieve)
    assert error is errors[attempts - 1]
    assert (error.__cause__, error.__context__) == (None, None)
    assert script.attempts == attempts
    assert len(clock.slept) == attempts - 1


@pytest.mark.parametrize(
    "error",
    [
        VersionConflictError(),
        CorruptRecordError("", b""),
        CircuitOpenError("it", 1.0),
        DeadlineExceededError(1.0),
        redis.exceptions.AuthenticationError("WRONGPASS"),
        redis.exceptions.ReadOnlyError("READONLY"),
        redis.exceptions.MaxConnectionsError(),
        redis.exceptions.ResponseError("WRONGTYPE it"),
        ZeroDivisionError(),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_failures_are_not_repeated(clock: FakeClock, error: BaseException) -> None:
    """What repeating cannot help reaches the caller after one attempt."""
    script = Script(error, DOWN)
    manager = Retry()(ScriptedManager(script, clock=clock))
    with pytest.raises(type(error)):
        manager.retrieve(MEMORY)
    assert (script.attempts, clock.slept) == (1, [])


@pytest.mark.parametrize("error", [VersionConflictError(), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_such_a_failure_of_a_later_attempt_ends_it_too(clock: FakeClock, error: BaseException) -> None:
    """A failure that is not to be repeated ends the call also when it comes second."""
    script = Script(DOWN, error, DOWN)
    manager = Retry()(ScriptedManager(script, clock=clock))
    with pytest.raises(type(error)):
        manager.retrieve(MEMORY)
    assert script.attempts == 2


@pytest.mark.parametrize("before", [[], [DOWN]], ids=["first attempt", "second attempt"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()], ids=lambda e: type(e).__name__)
def test_no_condition_repeats_an_end(clock: FakeClock, error: BaseException, before: list[Exception]) -> None:
    """Not even a user's condition that holds for everything repeats after an interrupt or a cancellation."""
    script = Script(*before, error, DOWN)
    manager = Retry(retry=tenacity.retry_always)(ScriptedManager(script, clock=clock))
    with pytest.raises(type(error)):
        manager.retrieve(MEMORY)
    assert script.attempts == len(before) + 1


def test_a_cancellation_during_the_wait_ends_the_call() -> None:
    """Cancelling the caller's task while Retry waits ends it, and the store sees no further attempt."""

    async def body() -> None:
        script = Script(then=DOWN)
        waiting = asyncio.Event()
        manager: Any = wrap(
            AsyncScriptedManager(script),
            Retry(wait=tenacity.wait_fixed(30)),
            listeners=[lambda _: waiting.set()],
        )
        task = asyncio.ensure_future(manager.retrieve(MEMORY))
        await waiting.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert script.attempts == 1

    run_bounded(body())


def test_each_repetition_is_told(flavour: Flavour, clock: FakeClock) -> None:
    """Listeners learn operation, number of the failed attempt, wait and class of the failure, before the wait."""
    told: list[tuple[Event, float]] = []
    manager = wrap(
        flavour.manager(Script(DOWN, LATE), clock=clock),
        Retry(wait=tenacity.wait_incrementing(start=1, increment=1)),
        listeners=[lambda event: told.append((event, clock.now))],
    )
    flavour.run(manager.store(MEMORY))
    assert told == [
        (RetryScheduled("store", 1, 1.0, "ConnectionError"), 1_000.0),
        (RetryScheduled("store", 2, 2.0, "TimeoutError"), 1_001.0),
    ]


def test_an_open_breaker_ends_the_repetition(flavour: Flavour, clock: FakeClock) -> None:
    """When the breaker inside opens on the way, the store is not asked again, and the rest of the time is not slept."""
    script = Script(then=DOWN)
    manager = wrap(flavour.manager(script, clock=clock), Retry(attempts=5), CircuitBreaker(failures=2))
    assert isinstance(raised(flavour, manager.retrieve), CircuitOpenError)
    assert script.attempts == 2
    assert len(clock.slept) == 2


def test_a_retry_takes_no_half_open_permit_along(flavour: Flavour, clock: FakeClock) -> None:
    """A probe that fails is not repeated within the call, and its permit is not kept while Retry waits."""
    script = Script(DOWN, DOWN)
    breaker = CircuitBreaker(failures=1, jitter=0.0)
    manager = wrap(flavour.manager(script, clock=clock), Retry(wait=tenacity.wait_fixed(0.1)), breaker)
    raised(flavour, manager.retrieve)
    clock.advance(1.0)
    raised(flavour, manager.retrieve)
    assert script.attempts == 2
    clock.advance(2.0)
    flavour.run(manager.retrieve(MEMORY))
    assert breaker.state.value == "closed"


# How long it waits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wait", "attempts"), [(0.4, 3), (0.5, 2), (0.97, 2), (1.0, 1), (3.0, 1)])
def test_it_never_sleeps_past_the_deadline(flavour: Flavour, clock: FakeClock, wait: float, attempts: int) -> None:
    """A wait that would reach the deadline of 1 s is not begun: the call ends at once with the store's own error."""
    script = Script(then=DOWN)
    manager = wrap(
        flavour.manager(script, clock=clock), Deadline(1.0), Retry(attempts=9, wait=tenacity.wait_fixed(wait))
    )
    assert raised(flavour, manager.retrieve) is DOWN
    assert script.attempts == attempts
    assert clock.now < 1_001.0


def test_a_deadline_in_the_past_allows_no_repetition(clock: FakeClock) -> None:
    """A call whose time was up before it began gets one attempt and no wait."""
    flow = Retry().bind(Context(clock=clock))
    call = Call("retrieve", "k")
    call.deadline = clock.now - 5.0
    running = flow(call)
    next(running)
    with pytest.raises(redis.exceptions.ConnectionError):
        running.throw(DOWN)
    assert clock.slept == []


def test_an_unsettled_write_waits_until_it_is_settled(flavour: Flavour, clock: FakeClock) -> None:
    """A write whose last attempt may still be applied is repeated only when the server would refuse that attempt."""

    def time_out(call: Call) -> None:
        call.unsettled_until = clock.now + 0.7
        raise LATE

    script = Script(time_out)
    manager = Retry(wait=NO_WAIT)(flavour.manager(script, clock=clock))
    flavour.run(manager.store(MEMORY))
    assert clock.slept == [pytest.approx(0.7)]


def test_an_unsettled_write_is_given_up_where_the_deadline_is_sooner(flavour: Flavour, clock: FakeClock) -> None:
    """When the attempt could be applied until after the deadline there is no second one."""

    def time_out(call: Call) -> None:
        call.unsettled_until = clock.now + 1.0
        raise LATE

    script = Script(time_out)
    manager = wrap(flavour.manager(script, clock=clock), Deadline(1.0), Retry(wait=NO_WAIT))
    assert raised(flavour, manager.store) is LATE
    assert script.attempts == 1


def test_a_read_does_not_wait_for_what_may_be_applied(flavour: Flavour, clock: FakeClock) -> None:
    """Only writes wait for an unsettled attempt."""

    def time_out(call: Call) -> None:
        call.unsettled_until = clock.now + 0.7
        raise LATE

    manager = Retry(wait=NO_WAIT)(flavour.manager(Script(time_out), clock=clock))
    flavour.run(manager.retrieve(MEMORY))
    assert clock.slept == [0.0]


def test_a_negative_wait_is_none(flavour: Flavour, clock: FakeClock) -> None:
    """A wait condition that gives a negative number of seconds does not break the call."""
    manager = Retry(wait=lambda _: -1.0)(flavour.manager(Script(DOWN), clock=clock))
    flavour.run(manager.retrieve(MEMORY))
    assert clock.slept == [0.0]


# The user's own conditions --------------------------------------------------------------------------------------------


def test_stop_after_delay_counts_from_the_start_of_the_call(flavour: Flavour, clock: FakeClock) -> None:
    """The time of all attempts and waits counts, that of the first attempt too."""

    def slow(_: Call) -> None:
        clock.advance(0.4)
        raise DOWN

    script = Script(then=slow)
    manager = Retry(stop=tenacity.stop_after_delay(1.0), wait=tenacity.wait_fixed(0.1))(
        flavour.manager(script, clock=clock)
    )
    assert raised(flavour, manager.retrieve) is DOWN
    assert script.attempts == 3  # ended at 0.4, 0.9 and 1.4 s


def test_stop_before_delay_knows_the_next_wait(flavour: Flavour, clock: FakeClock) -> None:
    """A condition that looks at the upcoming wait sees it."""
    script = Script(then=DOWN)
    manager = Retry(stop=tenacity.stop_before_delay(1.0), wait=tenacity.wait_fixed(0.4))(
        flavour.manager(script, clock=clock)
    )
    raised(flavour, manager.retrieve)
    assert script.attempts == 3  # at 0, 0.4 and 0.8 s


def test_combined_conditions(flavour: Flavour, clock: FakeClock) -> None:
    """`|` and `&` of stop, wait and retry conditions work as in tenacity."""
    script = Script(then=DOWN)
    manager = Retry(
        stop=tenacity.stop_after_attempt(4) | tenacity.stop_after_delay(60),
        wait=tenacity.wait_fixed(1) + tenacity.wait_fixed(0.5),
        retry=tenacity.retry_if_exception_type(redis.exceptions.ConnectionError)
        & tenacity.retry_if_exception_message("down"),
    )(flavour.manager(script, clock=clock))
    raised(flavour, manager.retrieve)
    assert script.attempts == 4
    assert clock.slept == [1.5] * 3


@pytest.mark.parametrize(("error", "attempts"), [(KeyError("it"), 3), (DOWN, 1)])
def test_the_users_retry_condition_replaces_ours(
    flavour: Flavour, clock: FakeClock, error: Exception, attempts: int
) -> None:
    """With `retry_if_exception_type(KeyError)` a KeyError is repeated and a lost connection is not."""
    script = Script(then=error)
    manager = Retry(retry=tenacity.retry_if_exception_type(KeyError))(flavour.manager(script, clock=clock))
    assert raised(flavour, manager.retrieve) is error
    assert script.attempts == attempts


@pytest.mark.parametrize(
    "condition",
    [
        tenacity.retry_if_result(bool),
        tenacity.retry_if_not_result(bool),
        tenacity.retry_any(tenacity.retry_if_exception_type(), tenacity.retry_if_result(bool)),
        tenacity.retry_all(tenacity.retry_any(tenacity.retry_if_not_result(bool))),
        tenacity.retry_if_exception_type() | tenacity.retry_if_result(bool),
    ],
)
def test_conditions_on_results_are_refused(condition: Any) -> None:
    """A result is an answer: a condition on it is refused at construction, also inside others."""
    with pytest.raises(ConfigurationError, match="result"):
        Retry(retry=condition)


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 2.5},
        {"attempts": "3"},
        {"attempts": None},
        {"attempts": float("nan")},
        {"attempts": float("inf")},
        {"attempts": True},
        {"budget_ratio": 1.1},
        {"budget_ratio": None},
        {"budget_per_second": 0},
        {"budget_per_second": "3"},
        {"stop": 3},
        {"wait": 0.5},
        {"retry": KeyError("an object, not a condition")},
    ],
    ids=case_id,
)
def test_a_setting_that_cannot_work_is_refused_by_name(options: dict[str, Any]) -> None:
    """It is refused at construction, not at the first outage, and the message names it."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Retry(**options)


# Batches --------------------------------------------------------------------------------------------------------------


def batch(*names: str) -> list[dict[str, str]]:
    """Return inputs for these conversations."""
    return [{"conversation_id": name, "working_memory": name} for name in names]


def outcomes(*failures: tuple[str, Exception], seen: list[str] | None = None) -> Callable[[Call], list[Any]]:
    """Return a script's step: these items fail, the others give their name; `seen` gets the names of all."""
    named = dict(failures)

    def step(call: Call) -> list[Any]:
        if seen is not None:
            seen.append("".join(item.key[-1] for item in call.items))
        return [named.get(item.key[-1], item.key[-1]) for item in call.items]

    return step


def test_of_a_batch_only_the_failed_items_are_repeated(flavour: Flavour, clock: FakeClock) -> None:
    """Each attempt holds what failed in the one before, and every result stands at its item's place."""
    seen: list[str] = []
    script = Script(
        outcomes(("b", DOWN), ("d", DOWN), seen=seen), outcomes(("d", LATE), seen=seen), outcomes(seen=seen)
    )
    manager = Retry(wait=NO_WAIT)(flavour.manager(script, clock=clock))
    assert flavour.run(manager.store_many(batch("a", "b", "c", "d"))) == ["a", "b", "c", "d"]
    assert seen == ["abcd", "bd", "d"]


def test_what_still_fails_stays_with_its_item(flavour: Flavour, clock: FakeClock) -> None:
    """After the last attempt, and where a failure is not to be repeated, the error is the item's result."""
    conflict = VersionConflictError()
    seen: list[str] = []
    script = Script(
        outcomes(("a", conflict), ("b", DOWN), seen=seen),
        outcomes(("b", LATE), seen=seen),
        outcomes(("b", DOWN), seen=seen),
    )
    manager = Retry(wait=NO_WAIT)(flavour.manager(script, clock=clock))
    assert flavour.run(manager.retrieve_many(batch("a", "b", "c"))) == [conflict, DOWN, "c"]
    assert seen == ["abc", "b", "b"]


def test_a_later_attempt_that_fails_as_a_whole_leaves_the_items_as_they_were(
    flavour: Flavour, clock: FakeClock
) -> None:
    """When the repetition itself cannot be sent, what the first attempt brought is the answer."""
    script = Script(outcomes(("b", LATE)), then=DOWN)
    manager = Retry(wait=NO_WAIT)(flavour.manager(script, clock=clock))
    assert flavour.run(manager.store_many(batch("a", "b"))) == ["a", LATE]
    assert script.attempts == 3


def test_a_batch_that_failed_as_a_whole_is_repeated_item_by_item_afterwards(flavour: Flavour, clock: FakeClock) -> None:
    """After a first attempt that failed altogether, the second one's failed items get the third."""
    seen: list[str] = []
    script = Script(DOWN, outcomes(("b", LATE), seen=seen), outcomes(seen=seen))
    manager = Retry(wait=NO_WAIT)(flavour.manager(script, clock=clock))
    assert flavour.run(manager.store_many(batch("a", "b"))) == ["a", "b"]
    assert seen == ["ab", "b"]


def test_a_batch_that_fails_as_a_whole_each_time_is_repeated_as_a_whole(flavour: Flavour, clock: FakeClock) -> None:
    """Nothing is known of any item then, and the store's last error is each one's."""
    script = Script(then=DOWN)
    manager = Retry(wait=NO_WAIT)(flavour.manager(script, clock=clock))
    assert flavour.run(manager.store_many(batch("a", "b"))) == [DOWN, DOWN]
    assert script.attempts == 3


def test_the_users_condition_decides_item_by_item(flavour: Flavour, clock: FakeClock) -> None:
    """Items whose failure the condition does not name are not repeated, and do not keep others from it."""
    conflict = VersionConflictError()
    seen: list[str] = []
    script = Script(outcomes(("a", conflict), ("b", KeyError("b")), seen=seen), outcomes(seen=seen))
    manager = Retry(wait=NO_WAIT, retry=tenacity.retry_if_exception_type(KeyError))(
        flavour.manager(script, clock=clock)
    )
    assert flavour.run(manager.store_many(batch("a", "b", "c"))) == [conflict, "b", "c"]
    assert seen == ["abc", "b"]


def test_a_batch_that_may_still_be_applied_waits(flavour: Flavour, clock: FakeClock) -> None:
    """Failed items of a batch of writes are repeated only when the first attempt can no longer be applied."""

    def late(call: Call) -> list[Any]:
        call.unsettled_until = clock.now + 0.7
        return [LATE, "b"]

    manager = Retry(wait=NO_WAIT)(flavour.manager(Script(late, outcomes()), clock=clock))
    assert flavour.run(manager.store_many(batch("a", "b"))) == ["a", "b"]
    assert clock.slept == [pytest.approx(0.7)]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), asyncio.CancelledError(), LATE], ids=lambda e: type(e).__name__)
def test_whoever_is_outside_learns_until_when_a_repeated_batch_is_unsettled(
    clock: FakeClock, end: BaseException
) -> None:
    """However the repetition of some items ends, the caller's call knows until when it may be applied."""
    call = Call("store_many", items=[Call("store", "a"), Call("store", "b")])
    flow = Retry(wait=NO_WAIT).bind(Context(clock=clock))(call)
    next(flow)
    assert isinstance(flow.send([DOWN, "b"]), Sleep)
    again = flow.send(None)
    assert isinstance(again, Invoke)
    assert again.call is not call
    again.call.unsettled_until = clock.now + 3_000.0
    call.deadline = again.call.deadline = clock.now + 1.0
    with pytest.raises((StopIteration, type(end))):
        flow.throw(end)
    assert call.unsettled_until == clock.now + 3_000.0


# No storm -------------------------------------------------------------------------------------------------------------


def test_a_storm_stays_within_the_budget(flavour: Flavour, clock: FakeClock) -> None:
    """A thousand calls that all fail make at most a fifth as many retries, and a few per second."""
    script = Script(then=DOWN)
    manager = Retry(wait=NO_WAIT)(flavour.manager(script, clock=clock))

    def call() -> None:
        clock.advance(0.01)
        raised(flavour, manager.retrieve)

    for _ in range(1_000 if not flavour.is_async else 200):
        call()
    calls, seconds = (1_000, 10.0) if not flavour.is_async else (200, 2.0)
    retries = script.attempts - calls
    assert retries <= 3 + 0.2 * calls + 3.0 * seconds
    assert retries >= 0.2 * calls


def test_one_budget_is_shared_by_all_that_the_object_decorates(flavour: Flavour, clock: FakeClock) -> None:
    """Two managers decorated by one object draw on the same budget; `budget_available` shows it."""
    retry = Retry(attempts=100, wait=NO_WAIT, budget_ratio=0.0)
    assert retry.budget_available == 3.0
    script = Script(then=DOWN)
    for manager in (retry(flavour.manager(script, clock=clock)), retry(flavour.manager(script, clock=clock))):
        raised(flavour, manager.retrieve)
    assert script.attempts == 2 + 3
    assert retry.budget_available == 0.0


def test_threads_do_not_see_each_others_state() -> None:
    """Eight threads repeating with one object: every error that comes through is the store's own."""
    manager: Any = Retry(wait=NO_WAIT, budget_per_second=1e6)(ScriptedManager(Script(then=DOWN)))
    seen: list[BaseException] = []

    def body(_: int) -> None:
        for _ in range(200):
            try:
                manager.retrieve(MEMORY)
            except Exception as error:  # noqa: BLE001 - whatever leaks is what is looked for
                seen.append(error)

    with threads(8, body):
        pass
    assert len(seen) == 1_600
    assert {type(error) for error in seen} == {redis.exceptions.ConnectionError}


class CountingPort:
    """A port that takes connections, hangs up at once and counts them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connects = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with closing(connection):
                if self._ended(connection):
                    return
                self.connects += 1

    def _ended(self, connection: socket.socket) -> bool:
        connection.settimeout(0.5)
        try:
            return connection.recv(3) == b"END"
        except OSError:
            return False

    def close(self) -> None:
        """Count what was still waiting, and end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as last:
            last.sendall(b"END")
            self._thread.join(10)
        self._listener.close()


@pytest.fixture
def counting_port() -> Iterator[CountingPort]:
    """A port that counts who comes."""
    port = CountingPort()
    yield port
    if port._thread.is_alive():
        port.close()


@pytest.mark.parametrize("operation", ["retrieve", "store", "update", "delete"])
def test_three_attempts_are_three_connects(counting_port: CountingPort, operation: str) -> None:
    """A server that hangs up is connected to exactly as often as there are attempts: no other layer repeats."""
    inner = RedisWorkingMemoryManager(f"redis://127.0.0.1:{counting_port.port}/0")
    with inner, pytest.raises(redis.exceptions.ConnectionError):
        getattr(Retry(attempts=3, wait=NO_WAIT)(inner), operation)(MEMORY)
    counting_port.close()
    assert counting_port.connects == 3


def test_three_attempts_are_three_commands_at_the_server(private_server: RedisServer) -> None:
    """A replica without its master counts the refused reads: as many as there are attempts."""
    private_server.command("REPLICAOF", "127.0.0.1", 1)
    private_server.command("CONFIG", "SET", "replica-serve-stale-data", "no")
    private_server.command("CONFIG", "RESETSTAT")
    with RedisWorkingMemoryManager(private_server.url) as inner, pytest.raises(redis.exceptions.ResponseError):
        Retry(attempts=3, wait=NO_WAIT)(inner).retrieve(MEMORY)
    statistics = str(private_server.command("INFO", "commandstats"))
    line = next(line for line in statistics.splitlines() if line.startswith("cmdstat_get:"))
    fields = dict(part.split("=") for part in line.partition(":")[2].split(","))
    assert int(fields["calls"]) + int(fields["rejected_calls"]) == 3
