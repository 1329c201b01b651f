"""CircuitBreaker: what calls tell it, whom it refuses, whom it tells."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

from remanence import (
    AttemptTimeoutError,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    CorruptRecordError,
    DeadlineExceededError,
    LateWriteError,
    RedisWorkingMemoryManager,
    VersionConflictError,
    wrap,
)
from remanence.events import CircuitTransition, Event
from remanence.policies.breaker_machine import Result, State
from tests.support import AsyncScriptedManager, FakeClock, Script, ScriptedManager, run_bounded, threads, wait_until

if TYPE_CHECKING:
    from remanence.flow import Call
    from remanence.lab import RedisServer
    from tests.policies.conftest import Flavour

MEMORY = {"conversation_id": "c1", "working_memory": "hello"}
DOWN = redis.exceptions.ConnectionError("down")
READ_ONLY = redis.exceptions.ReadOnlyError("You can't write against a read only replica.")
WRONG_PASSWORD = redis.exceptions.AuthenticationError("WRONGPASS")


def failing(flavour: Flavour, manager: Any, operation: str = "retrieve", times: int = 1) -> None:
    """Make calls that end in an exception."""
    for _ in range(times):
        with pytest.raises(Exception):  # noqa: B017, PT011 - what kind is the script's business
            flavour.run(getattr(manager, operation)(MEMORY))


def results(answers: list[Any]) -> Any:
    """Return a script's step that gives a batch's results."""
    return lambda _: list(answers)


def test_it_opens_and_asks_no_more(flavour: Flavour, clock: FakeClock) -> None:
    """After five failures the store is not asked any more, and the refusal says for how long."""
    script = Script(then=DOWN)
    breaker = CircuitBreaker(jitter=0.0)
    manager = breaker(flavour.manager(script, clock=clock))
    failing(flavour, manager, times=5)
    clock.advance(0.25)
    with pytest.raises(CircuitOpenError) as refusal:
        flavour.run(manager.retrieve(MEMORY))
    assert refusal.value.retry_after == breaker.retry_after == pytest.approx(0.75)
    assert script.attempts == 5
    assert breaker.state is State.OPEN
    assert breaker.write_state is State.CLOSED


def test_one_call_probes_and_closes_it(flavour: Flavour, clock: FakeClock) -> None:
    """Once the open time is over a single success closes it; each change is told once, in order."""
    told: list[Event] = []
    manager = wrap(
        flavour.manager(Script(*[DOWN] * 5), clock=clock), CircuitBreaker(jitter=0.0), listeners=[told.append]
    )
    failing(flavour, manager, times=5)
    clock.advance(1.0)
    flavour.run(manager.retrieve(MEMORY))
    assert told == [
        CircuitTransition("the connection", "closed", "open"),
        CircuitTransition("the connection", "open", "half_open"),
        CircuitTransition("the connection", "half_open", "closed"),
    ]


def test_the_writes_breaker_tells_its_changes_too(flavour: Flavour, clock: FakeClock) -> None:
    """Each change of the breaker for writes is told once, in order, under its own name."""
    told: list[Event] = []
    manager = wrap(
        flavour.manager(Script(READ_ONLY), clock=clock),
        CircuitBreaker(failures=1, jitter=0.0),
        listeners=[told.append],
    )
    failing(flavour, manager, "store")
    clock.advance(1.0)
    flavour.run(manager.store(MEMORY))
    assert told == [
        CircuitTransition("writes", "closed", "open"),
        CircuitTransition("writes", "open", "half_open"),
        CircuitTransition("writes", "half_open", "closed"),
    ]


def test_a_failed_probe_opens_it_again_for_twice_as_long(flavour: Flavour, clock: FakeClock) -> None:
    """A probe that fails costs one attempt, and the next is two seconds away."""
    script = Script(then=DOWN)
    breaker = CircuitBreaker(jitter=0.0)
    manager = breaker(flavour.manager(script, clock=clock))
    failing(flavour, manager, times=5)
    clock.advance(1.0)
    failing(flavour, manager, times=10)
    assert script.attempts == 6
    assert breaker.retry_after == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("error", "connection", "writes"),
    [
        (DOWN, Result.FAILURE, Result.NEUTRAL),
        (redis.exceptions.TimeoutError(), Result.FAILURE, Result.NEUTRAL),
        (ConnectionResetError(), Result.FAILURE, Result.NEUTRAL),
        (AttemptTimeoutError(), Result.FAILURE, Result.NEUTRAL),
        (DeadlineExceededError(1.0), Result.FAILURE, Result.NEUTRAL),
        (LateWriteError(), Result.FAILURE, Result.NEUTRAL),
        (READ_ONLY, Result.SUCCESS, Result.FAILURE),
        (redis.exceptions.OutOfMemoryError("OOM"), Result.SUCCESS, Result.FAILURE),
        (WRONG_PASSWORD, Result.NEUTRAL, Result.NEUTRAL),
        (redis.exceptions.MaxConnectionsError(), Result.NEUTRAL, Result.NEUTRAL),
        (VersionConflictError(), Result.SUCCESS, Result.NEUTRAL),
        (CorruptRecordError("", b""), Result.SUCCESS, Result.NEUTRAL),
        (ZeroDivisionError(), Result.SUCCESS, Result.NEUTRAL),
        (KeyboardInterrupt(), Result.NEUTRAL, Result.NEUTRAL),
        (GeneratorExit(), Result.NEUTRAL, Result.NEUTRAL),
        (asyncio.CancelledError(), Result.NEUTRAL, Result.NEUTRAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.name,
)
def test_what_an_error_says_of_connection_and_writes(
    clock: FakeClock, error: BaseException, connection: Result, writes: Result
) -> None:
    """Each class of error counts as a failure, a success or nothing, for the connection and for writes apart."""
    seen = []
    for before, settled in ((DOWN, "state"), (READ_ONLY, "write_state")):
        # Half-open shows all three: a failure opens, a success closes, nothing leaves it half-open.
        breaker = CircuitBreaker(failures=1, jitter=0.0)
        manager = breaker(ScriptedManager(Script(before, error), clock=clock))
        with pytest.raises(type(before)):
            manager.store(MEMORY)
        clock.advance(1.0)
        with pytest.raises(type(error)):
            manager.store(MEMORY)
        seen.append(getattr(breaker, settled))
    expected = {Result.FAILURE: State.OPEN, Result.SUCCESS: State.CLOSED, Result.NEUTRAL: State.HALF_OPEN}
    assert seen == [expected[connection], expected[writes]]


def test_a_success_of_a_write_closes_both(flavour: Flavour, clock: FakeClock) -> None:
    """A write that succeeds closes the breaker for the connection and the one for writes."""
    breaker = CircuitBreaker(failures=1, jitter=0.0)
    manager = breaker(flavour.manager(Script(READ_ONLY, DOWN), clock=clock))
    failing(flavour, manager, "store")
    failing(flavour, manager, "retrieve")
    assert (breaker.state, breaker.write_state) == (State.OPEN, State.OPEN)
    clock.advance(1.0)
    flavour.run(manager.store(MEMORY))
    assert (breaker.state, breaker.write_state) == (State.CLOSED, State.CLOSED)


def test_a_store_that_refuses_writes_still_answers_reads(flavour: Flavour, clock: FakeClock) -> None:
    """The writes' breaker opens, the store sees no more writes, reads go on."""
    script = Script(*[READ_ONLY] * 5)
    breaker = CircuitBreaker()
    manager = breaker(flavour.manager(script, clock=clock))
    failing(flavour, manager, "store", times=5)
    with pytest.raises(CircuitOpenError, match="writes"):
        flavour.run(manager.delete(MEMORY))
    for _ in range(3):
        assert flavour.run(manager.retrieve(MEMORY)) == []
    assert script.attempts == 8
    assert (breaker.state, breaker.write_state) == (State.CLOSED, State.OPEN)


def test_a_write_refused_for_writes_gives_the_connections_permit_back(flavour: Flavour, clock: FakeClock) -> None:
    """With the connection half-open and writes open, refused writes do not use up the connection's probe."""
    breaker = CircuitBreaker(failures=1, jitter=0.0, open_for=1.0)
    manager = breaker(flavour.manager(Script(DOWN, None), clock=clock))
    failing(flavour, manager)
    breaker._writes.force_open()
    clock.advance(1.0)
    for _ in range(3):
        with pytest.raises(CircuitOpenError, match="writes"):
            flavour.run(manager.store(MEMORY))
    assert breaker.state is State.HALF_OPEN
    flavour.run(manager.retrieve(MEMORY))
    assert (breaker.state, breaker.write_state) == (State.CLOSED, State.FORCED_OPEN)


@pytest.mark.parametrize(
    ("answers", "state", "write_state"),
    [
        ([None, DOWN, None], State.OPEN, State.CLOSED),
        ([None, READ_ONLY], State.CLOSED, State.OPEN),
        ([DOWN, READ_ONLY], State.OPEN, State.OPEN),
        ([None, None], State.CLOSED, State.CLOSED),
        ([VersionConflictError(), WRONG_PASSWORD, None], State.CLOSED, State.CLOSED),
    ],
)
def test_a_batch_is_judged_by_its_worst_item(
    flavour: Flavour, clock: FakeClock, answers: list[Any], state: State, write_state: State
) -> None:
    """One item that failed makes the whole batch a failure."""
    breaker = CircuitBreaker(failures=1)
    manager = breaker(flavour.manager(Script(results(answers)), clock=clock))
    flavour.run(manager.store_many([MEMORY] * len(answers)))
    assert (breaker.state, breaker.write_state) == (state, write_state)


@pytest.mark.parametrize(
    ("answers", "state"),
    [([WRONG_PASSWORD, WRONG_PASSWORD], State.HALF_OPEN), ([WRONG_PASSWORD, []], State.CLOSED)],
    ids=["all neutral", "one answered"],
)
def test_a_batch_that_says_nothing_is_neutral(
    flavour: Flavour, clock: FakeClock, answers: list[Any], state: State
) -> None:
    """A probing batch closes the breaker only if the store has answered one of its items."""
    breaker = CircuitBreaker(failures=1, jitter=0.0)
    manager = breaker(flavour.manager(Script(DOWN, results(answers)), clock=clock))
    failing(flavour, manager)
    clock.advance(1.0)
    flavour.run(manager.retrieve_many([MEMORY] * 2))
    assert breaker.state is state


def test_a_cancelled_probe_is_neutral_and_gives_its_permits_back(clock: FakeClock) -> None:
    """The caller's own cancellation of a probing write leaves both breakers half-open, and the next call may probe."""
    breaker = CircuitBreaker(failures=1, jitter=0.0)

    async def body() -> None:
        entered = asyncio.Event()

        async def hang() -> None:
            entered.set()
            await asyncio.Event().wait()

        manager: Any = breaker(AsyncScriptedManager(Script(READ_ONLY, DOWN, lambda _: hang()), clock=clock))
        for operation in (manager.store, manager.retrieve):
            with pytest.raises(redis.exceptions.RedisError):
                await operation(MEMORY)
        clock.advance(1.0)
        probe = asyncio.ensure_future(manager.store(MEMORY))
        await entered.wait()
        with pytest.raises(CircuitOpenError):
            await manager.retrieve(MEMORY)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert (breaker.state, breaker.write_state) == (State.HALF_OPEN, State.HALF_OPEN)
        await manager.store(MEMORY)
        assert (breaker.state, breaker.write_state) == (State.CLOSED, State.CLOSED)

    run_bounded(body())


def test_a_hung_probe_does_not_wedge_it(clock: FakeClock) -> None:
    """While a probe hangs in the store nobody else gets through; after its lease the next call does."""
    entered, release = threading.Event(), threading.Event()

    def hang(_: Call) -> list[Any]:
        entered.set()
        release.wait(20)
        return []

    breaker = CircuitBreaker(failures=1, jitter=0.0)
    manager = breaker(ScriptedManager(Script(DOWN, hang), clock=clock))
    with pytest.raises(redis.exceptions.ConnectionError):
        manager.retrieve(MEMORY)
    clock.advance(1.0)
    with threads(1, lambda _: manager.retrieve(MEMORY)):
        assert entered.wait(10)
        try:
            with pytest.raises(CircuitOpenError):
                manager.retrieve(MEMORY)
            clock.advance(5.0)
            manager.retrieve(MEMORY)
            assert breaker.state is State.CLOSED
        finally:
            release.set()


def test_threads_that_fail_at_once_are_told_of_once() -> None:
    """Fifty threads whose calls fail at the same moment: one transition event."""
    told: list[Event] = []
    barrier = threading.Barrier(50)

    def fail(_: Call) -> None:
        barrier.wait(10)
        raise DOWN

    manager: Any = wrap(ScriptedManager(Script(then=fail)), CircuitBreaker(), listeners=[told.append])

    def call(_: int) -> None:
        with pytest.raises(redis.exceptions.ConnectionError):
            manager.retrieve(MEMORY)

    with threads(50, call):
        pass
    assert told == [CircuitTransition("the connection", "closed", "open")]


def test_only_one_of_many_threads_probes(clock: FakeClock) -> None:
    """A hundred threads meet a breaker whose open time is over: one attempt reaches the store."""
    release = threading.Event()

    def hang(_: Call) -> list[Any]:
        release.wait(20)
        return []

    script = Script(*[DOWN] * 5, then=hang)
    breaker = CircuitBreaker(jitter=0.0)
    manager: Any = breaker(ScriptedManager(script, clock=clock))
    for _ in range(5):
        with pytest.raises(redis.exceptions.ConnectionError):
            manager.retrieve(MEMORY)
    clock.advance(1.0)
    refused: list[int] = []

    def call(number: int) -> None:
        try:
            manager.retrieve(MEMORY)
        except CircuitOpenError:
            refused.append(number)

    with threads(100, call):
        try:
            wait_until(lambda: len(refused) == 99, "all but one are refused")
        finally:
            release.set()
    assert script.attempts == 6


def test_a_listener_that_raises_is_reported_and_disturbs_nobody(
    flavour: Flavour, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The call's own error comes through, the other listeners are told, the log names the listener's error class."""
    told: list[Event] = []

    def broken(_: Event) -> None:
        message = "the secret of c1"
        raise ZeroDivisionError(message)

    manager = wrap(
        flavour.manager(Script(DOWN), clock=clock), CircuitBreaker(failures=1), listeners=[broken, told.append]
    )
    with pytest.raises(redis.exceptions.ConnectionError):
        flavour.run(manager.retrieve(MEMORY))
    assert len(told) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "a listener raised ZeroDivisionError on CircuitTransition"
    ]


def test_a_listener_may_use_the_breaker(clock: FakeClock) -> None:
    """A listener that asks for the state, switches and calls through the breaker does not deadlock, from any thread."""
    seen: list[tuple[State, float]] = []
    breaker = CircuitBreaker(failures=1, jitter=0.0)

    def use(_: int) -> None:
        seen.append((breaker.state, breaker.retry_after))
        with pytest.raises(CircuitOpenError):
            manager.retrieve(MEMORY)

    def listener(_: Event) -> None:
        use(0)
        with threads(1, use):
            pass

    manager: Any = wrap(ScriptedManager(Script(DOWN), clock=clock), breaker, listeners=[listener])

    def fail(_: int) -> None:
        with pytest.raises(redis.exceptions.ConnectionError):
            manager.retrieve(MEMORY)

    with threads(1, fail):  # in a thread, so that a deadlock fails this test instead of hanging it
        pass
    assert seen == [(State.OPEN, 1.0)] * 2


def test_a_listener_may_write_when_it_hears_that_the_store_is_back(clock: FakeClock) -> None:
    """The probe's own permits are settled before anyone is told, so a listener's write gets through."""
    written: list[str] = []
    breaker = CircuitBreaker(failures=1, jitter=0.0)

    def listener(event: Event) -> None:
        if isinstance(event, CircuitTransition) and event.after == "closed":
            written.append(manager.store(MEMORY).outcome)

    manager: Any = wrap(ScriptedManager(Script(READ_ONLY, DOWN), clock=clock), breaker, listeners=[listener])
    for operation in (manager.store, manager.retrieve):
        with pytest.raises(redis.exceptions.RedisError):
            operation(MEMORY)
    clock.advance(1.0)
    manager.store(MEMORY)
    assert written == ["committed", "committed"]


def test_switches_work_before_and_after_decorating(flavour: Flavour) -> None:
    """`force_open`, `disable` and `reset` hold for a breaker that decorates nothing yet, and can be changed later."""
    told: list[Event] = []
    breaker = CircuitBreaker(failures=1)
    assert (breaker.state, breaker.retry_after) == (State.CLOSED, 0.0)
    breaker.force_open()
    script = Script(then=DOWN)
    manager = wrap(flavour.manager(script), breaker, listeners=[told.append])
    with pytest.raises(CircuitOpenError):
        flavour.run(manager.retrieve(MEMORY))
    breaker.disable()
    failing(flavour, manager, times=9)
    assert (script.attempts, breaker.state) == (9, State.DISABLED)
    breaker.reset()
    breaker.reset()
    failing(flavour, manager)
    assert breaker.state is State.OPEN
    connection = [(e.before, e.after) for e in told if isinstance(e, CircuitTransition) and e.name == "the connection"]
    assert connection == [("forced_open", "disabled"), ("disabled", "closed"), ("closed", "open")]


def test_a_breaker_switched_before_decorating_keeps_the_managers_time(flavour: Flavour, clock: FakeClock) -> None:
    """A switch used early does not tie the breaker to another clock than the manager's."""
    breaker = CircuitBreaker(failures=1, jitter=0.0)
    breaker.force_open()
    breaker.reset()
    manager = breaker(flavour.manager(Script(DOWN), clock=clock))
    failing(flavour, manager)
    clock.advance(1.0)
    flavour.run(manager.retrieve(MEMORY))
    assert breaker.state is State.CLOSED


def test_one_object_is_the_breaker_of_one_store(flavour: Flavour) -> None:
    """Two managers decorated with the same object share its state; another object has its own."""
    breaker = CircuitBreaker(failures=1)
    script = Script(then=DOWN)
    first, second = breaker(flavour.manager(script)), breaker(flavour.manager(script))
    other = CircuitBreaker(failures=1)(flavour.manager(script))
    failing(flavour, first)
    with pytest.raises(CircuitOpenError):
        flavour.run(second.retrieve(MEMORY))
    with pytest.raises(redis.exceptions.ConnectionError):
        flavour.run(other.retrieve(MEMORY))


def test_fresh_locks_free_both_breakers() -> None:
    """After a fork with the locks held elsewhere, `reset_locks` makes the breaker usable for reads and writes."""
    breaker = CircuitBreaker()
    manager = breaker(ScriptedManager(Script()))
    for machine in (breaker._connection, breaker._writes):
        machine._lock.acquire()
    breaker.reset_locks()
    with threads(1, lambda _: manager.store(MEMORY)):  # in a thread, so that a lock still held fails the test
        pass


def test_an_unknown_setting_is_refused() -> None:
    """A misspelt keyword is named in an error of ours."""
    with pytest.raises(ConfigurationError, match="failurs"):
        CircuitBreaker(failurs=3)


REFUSES_WRITES = {
    "out of memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "read only": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
}


@pytest.mark.parametrize("state", REFUSES_WRITES)
def test_a_real_server_that_refuses_writes(private_server: RedisServer, state: str) -> None:
    """With a real server out of memory or read-only the writes' breaker opens, reads go on, and healing closes it."""
    hurt, heal = REFUSES_WRITES[state]
    breaker = CircuitBreaker(failures=3, open_for=0.05, open_for_max=0.05)
    with RedisWorkingMemoryManager(private_server.url) as inner:
        manager = breaker(inner)
        manager.store(MEMORY)
        private_server.command(*hurt)
        for _ in range(3):
            with pytest.raises(redis.exceptions.ResponseError):
                manager.store(MEMORY)
        assert (breaker.state, breaker.write_state) == (State.CLOSED, State.OPEN)
        assert manager.retrieve(MEMORY)[0].working_memory == "hello"
        with pytest.raises(CircuitOpenError, match="writes"):
            manager.update(MEMORY)
        private_server.command(*heal)
        wait_until(lambda: breaker.retry_after == 0.0, "the open time is over")
        manager.update(MEMORY)
        assert breaker.write_state is State.CLOSED
