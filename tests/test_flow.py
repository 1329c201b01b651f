"""The two drivers: what they do for a flow, and what they leave to it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from remanence import AttemptTimeoutError
from remanence.clock import SYSTEM_CLOCK
from remanence.flow import PROCEED, WRITES, AsyncDriver, Call, Driver, Flow, Invoke, KeptCopy, Sleep, WriteItem
from tests.support import FakeClock, run, run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class World:
    """Runs the same flows by blocking or by awaiting."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.clock = FakeClock()

    def run(self, flows: Sequence[Callable[[Call], Flow]], perform: Callable[[Call], Any], call: Call) -> Any:
        """Send `call` through `flows` to `perform`."""
        if not self.is_async:
            return Driver(flows, perform, self.clock).run(call)

        async def awaited(inner: Call) -> Any:
            await asyncio.sleep(0)
            return perform(inner)

        return run(AsyncDriver(flows, awaited, self.clock).run(call))


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def world(request: pytest.FixtureRequest) -> World:
    """Run the test with both drivers."""
    return World(is_async=request.param)


def operation(call: Call) -> str:
    """Be a store that answers with the name of the operation."""
    return call.operation


def test_proceed_runs_what_is_inside_with_the_same_call(world: World) -> None:
    """PROCEED gives the result of the next flow inwards, and of the store in the end, in this order."""
    order: list[str] = []

    def named(name: str) -> Callable[[Call], Flow]:
        def flow(_: Call) -> Flow:
            order.append(f"into {name}")
            result = yield PROCEED
            order.append(f"out of {name}")
            return f"{name}({result})"

        return flow

    assert world.run([named("a"), named("b")], operation, Call("retrieve")) == "a(b(retrieve))"
    assert order == ["into a", "into b", "out of b", "out of a"]


def test_without_flows_the_store_answers(world: World) -> None:
    """A driver without flows performs the call."""
    assert world.run([], operation, Call("kept")) == "kept"


def test_proceed_may_be_repeated(world: World) -> None:
    """Every PROCEED is an attempt of its own, with fresh flows inside."""
    entered: list[str] = []

    def twice(_: Call) -> Flow:
        first = yield PROCEED
        second = yield PROCEED
        return [first, second]

    def inner(_: Call) -> Flow:
        entered.append("inner")
        return (yield PROCEED)

    assert world.run([twice, inner], operation, Call("update")) == ["update", "update"]
    assert entered == ["inner", "inner"]


def test_invoke_runs_what_is_inside_with_another_call(world: World) -> None:
    """Invoke sends its own call through the flows further in, not through those outside."""
    seen: list[str] = []

    def outer(call: Call) -> Flow:
        seen.append(f"outer {call.operation}")
        other = yield Invoke(Call("identify"))
        return other, (yield PROCEED)

    def inner(call: Call) -> Flow:
        seen.append(f"inner {call.operation}")
        return (yield PROCEED)

    assert world.run([outer, inner], operation, Call("store")) == ("identify", "store")
    assert seen == ["outer store", "inner identify", "inner store"]


def test_sleep_waits_on_the_clock(world: World) -> None:
    """Sleep waits as long as it says and gives nothing."""

    def flow(_: Call) -> Flow:
        return (yield Sleep(2.5))

    assert world.run([flow], operation, Call("store")) is None
    assert world.clock.slept == [2.5]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_what_goes_wrong_inside_is_thrown_into_the_flow(world: World, error: BaseException) -> None:
    """Every kind of exception reaches the flow at its yield, which may end with an answer all the same."""

    def fail(_: Call) -> None:
        raise error

    def flow(_: Call) -> Flow:
        try:
            yield PROCEED
        except BaseException as caught:  # noqa: BLE001 - any kind
            return caught
        return None

    assert world.run([flow], fail, Call("store")) is error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_what_no_flow_catches_passes_through_all(world: World, error: BaseException) -> None:
    """It reaches the caller as the same object, past every flow's cleaning up."""
    cleaned: list[str] = []

    def fail(_: Call) -> None:
        raise error

    def flow(_: Call) -> Flow:
        try:
            return (yield PROCEED)
        finally:
            cleaned.append("up")

    with pytest.raises(type(error)) as failure:
        world.run([flow, flow], fail, Call("store"))
    assert failure.value is error
    assert cleaned == ["up", "up"]


def test_a_flow_that_fails_by_itself_is_thrown_into_the_one_outside(world: World) -> None:
    """A flow's own exception is seen by the flow around it, not swallowed."""

    def outer(_: Call) -> Flow:
        try:
            return (yield PROCEED)
        except ZeroDivisionError:
            return "seen"

    def inner(_: Call) -> Flow:
        yield Sleep(0.0)
        raise ZeroDivisionError

    assert world.run([outer, inner], operation, Call("store")) == "seen"


def test_a_failing_sleep_is_thrown_into_the_flow(world: World) -> None:
    """A wait that cannot be waited is the flow's to handle."""

    def flow(_: Call) -> Flow:
        try:
            yield Sleep(1.0)
        except ValueError:
            return "seen"

    class Refusing(FakeClock):
        def sleep(self, seconds: float) -> None:
            raise ValueError(seconds)

    world.clock = Refusing()
    assert world.run([flow], operation, Call("store")) == "seen"


def test_what_is_no_step_is_an_error_in_the_flow(world: World) -> None:
    """A flow that yields something else gets an exception at that yield."""

    def flow(_: Call) -> Flow:
        yield "nonsense"

    with pytest.raises(AttributeError):
        world.run([flow], operation, Call("store"))


@pytest.mark.parametrize("flows", [0, 1, 2])
def test_a_stop_iteration_of_the_store_is_not_taken_for_an_answer(flows: int) -> None:
    """A store (a test double that has run out of answers, say) that raises StopIteration makes the call fail."""

    def fail(_: Call) -> None:
        raise StopIteration("no answer")

    def flow(_: Call) -> Flow:
        return (yield PROCEED)

    with pytest.raises((RuntimeError, StopIteration)):
        Driver([flow] * flows, fail, FakeClock()).run(Call("store"))


def test_results_that_are_false_or_exceptions_are_results(world: World) -> None:
    """None, False and exception objects are sent into the flow like any result."""

    def flow(_: Call) -> Flow:
        results: list[Any] = []
        while len(results) < 3:
            results.append((yield PROCEED))
        return results

    error = ValueError()
    answers = iter([None, False, error])
    assert world.run([flow], lambda _: next(answers), Call("store")) == [None, False, error]


def test_a_flow_is_gone_when_its_call_has_ended(world: World) -> None:
    """The driver keeps no flow, and no call, alive."""
    flows: list[weakref.ref[Any]] = []

    def flow(_: Call) -> Flow:
        return (yield PROCEED)

    def make(call: Call) -> Flow:
        made = flow(call)
        flows.append(weakref.ref(made))
        return made

    world.run([make], operation, Call("store"))
    gc.collect()
    assert flows[0]() is None


def test_no_lock_is_held_while_the_store_works() -> None:
    """One driver runs many calls at the same time: two threads meet inside the store."""
    barrier = threading.Barrier(2)

    def flow(_: Call) -> Flow:
        return (yield PROCEED)

    driver = Driver([flow], lambda _: barrier.wait(10), SYSTEM_CLOCK)
    results: list[int] = []
    workers = [threading.Thread(target=lambda: results.append(driver.run(Call("store")))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(15)
    assert sorted(results) == [0, 1]


# Asynchronous ---------------------------------------------------------------------------------------------------------


async def forever(_: Call) -> None:
    """Be a store that never answers."""
    await asyncio.Event().wait()


async def start(driver: AsyncDriver, entered: asyncio.Event) -> asyncio.Task[Any]:
    """Start a call and return when its flow has been entered."""
    task = asyncio.ensure_future(driver.run(Call("store")))
    await entered.wait()
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("step", [PROCEED, Sleep(30.0), Invoke(Call("kept"))], ids=repr)
def test_a_cancellation_is_thrown_into_the_flow(step: Any) -> None:
    """A task cancelled while the store works, or while a flow sleeps, lets the flow clean up, and stays cancelled."""

    async def body() -> None:
        entered = asyncio.Event()
        seen: list[type[BaseException]] = []

        def flow(_: Call) -> Flow:
            entered.set()
            try:
                return (yield step)
            except BaseException as error:
                seen.append(type(error))
                raise

        task = await start(AsyncDriver([flow], forever, SYSTEM_CLOCK), entered)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [asyncio.CancelledError]

    run_bounded(body())


def test_a_coroutine_that_is_thrown_away_closes_its_flow() -> None:
    """Closing the coroutine of a call that was never finished ends the flow, with GeneratorExit, at once."""
    seen: list[type[BaseException]] = []

    def flow(_: Call) -> Flow:
        try:
            return (yield PROCEED)
        except BaseException as error:
            seen.append(type(error))
            raise

    class Suspended:
        def __await__(self) -> Any:
            yield

    async def suspend(_: Call) -> None:
        await Suspended()

    coroutine = AsyncDriver([flow], suspend, SYSTEM_CLOCK).run(Call("store"))
    coroutine.send(None)
    coroutine.close()
    assert seen == [GeneratorExit]


def test_the_deadline_bounds_the_innermost_await() -> None:
    """An attempt that is still under way at the call's deadline raises AttemptTimeoutError into the flows."""

    async def body() -> None:
        call = Call("retrieve")
        call.deadline = SYSTEM_CLOCK.monotonic() + 0.05
        with pytest.raises(AttemptTimeoutError) as failure:
            await AsyncDriver([], forever, SYSTEM_CLOCK).run(call)
        assert failure.value.__suppress_context__

    run_bounded(body())


def test_a_deadline_that_has_passed_lets_nothing_wait() -> None:
    """A call whose time is up gets no further than the store's first wait."""

    async def body() -> None:
        call = Call("retrieve")
        call.deadline = SYSTEM_CLOCK.monotonic() - 100.0
        with pytest.raises(AttemptTimeoutError):
            await AsyncDriver([], forever, SYSTEM_CLOCK).run(call)

    run_bounded(body())


def test_an_answer_wins_over_a_deadline_that_comes_while_it_is_given() -> None:
    """A store that catches the cut and still answers is believed."""

    async def stubborn(_: Call) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "answer"
        return ""

    async def body() -> None:
        call = Call("retrieve")
        call.deadline = SYSTEM_CLOCK.monotonic() + 0.02
        assert await AsyncDriver([], stubborn, SYSTEM_CLOCK).run(call) == "answer"

    run_bounded(body())


def test_a_cancellation_that_meets_the_deadline_stays_a_cancellation() -> None:
    """Where the caller cancels while the deadline's cut is on its way, the caller's cancellation wins."""

    async def block(_: Call) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # the deadline's
            task = asyncio.current_task()
            assert task is not None
            task.cancel()  # the caller's, before the deadline's has been dealt with
            raise

    async def body() -> None:
        call = Call("retrieve")
        call.deadline = SYSTEM_CLOCK.monotonic() + 0.02
        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(AsyncDriver([], block, SYSTEM_CLOCK).run(call))

    run_bounded(body())


# Calls ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["store", "update", "delete", "store_many", "delete_many", "reconcile", "keep"])
def test_writes_are_known(name: str) -> None:
    """What changes the store counts as a write."""
    assert name in WRITES
    assert Call(name).writes


@pytest.mark.parametrize("name", ["retrieve", "retrieve_many", "kept", "identify"])
def test_reads_are_not_writes(name: str) -> None:
    """What only looks does not."""
    assert not Call(name).writes


def test_a_call_shows_neither_key_nor_text() -> None:
    """The repr of a call names its operation alone."""
    call = Call("store", "memory:secret", raw=b"secret", text="secret", metadata={"secret": 1})
    assert repr(call) == "<Call store>"
    assert "secret" not in repr(Invoke(call))


@pytest.mark.parametrize(
    "item", [WriteItem("memory:secret", b"secret", None, ("",)), KeptCopy("memory:secret", b"secret", 1.0)]
)
def test_items_show_neither_key_nor_text(item: object) -> None:
    """The repr of a batch's item names neither the key nor the value."""
    assert "secret" not in repr(item)


def test_the_machines_clock_sleeps_and_tells_the_time() -> None:
    """The clock that is not a test's waits at least as long as it is told, in both worlds."""
    before = SYSTEM_CLOCK.monotonic()
    SYSTEM_CLOCK.sleep(0.01)
    asyncio.run(_sleep(0.01))
    assert SYSTEM_CLOCK.monotonic() - before >= 0.019
    assert SYSTEM_CLOCK.time() > 1_600_000_000


def _sleep(seconds: float) -> Any:
    async def body() -> None:
        await SYSTEM_CLOCK.sleep_async(seconds)

    return body()
