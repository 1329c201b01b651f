"""FaultInjecting: the chosen attempts go wrong, as a store's would, and the policies know what they may know."""

from __future__ import annotations

import asyncio
import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
import redis

from remanence import (
    AsyncInMemoryManager,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Deadline,
    DeadlineExceededError,
    Fallback,
    InMemoryManager,
    PolicyOrderError,
    RedisWorkingMemoryManager,
    Retry,
    VersionConflictError,
    resilient,
    wrap,
)
from remanence.flow import Call
from remanence.lab import FaultProxy, RedisServer
from remanence.lab.errors import FaultNotFiredError
from remanence.managers import operate
from remanence.policies.base import Context
from remanence.testing.clock import ManualClock
from remanence.testing.fault_injecting import FaultInjecting
from remanence.testing.faults import (
    OPERATIONS,
    Delay,
    Failure,
    Fault,
    Hang,
    InjectedConnectionError,
    InjectedTimeoutError,
    LostReply,
)
from tests.support import run, threads

TEXT = {"conversation_id": "c", "working_memory": "new"}
OLD = {**TEXT, "working_memory": "old"}
OTHER = {**TEXT, "conversation_id": "other"}


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until it is slept on or advanced."""
    return ManualClock()


@pytest.fixture(params=[InMemoryManager, AsyncInMemoryManager], ids=["sync", "async"])
def store(request: pytest.FixtureRequest, clock: ManualClock) -> Any:
    """A store in this process, of either kind."""
    return request.param(clock=clock)


def held(manager: Any, about: Any = TEXT) -> str | None:
    """Return the text that is stored."""
    found = run(manager.retrieve(about))
    return found[0].working_memory if found else None


def outcomes(manager: Any, operation: str, count: int) -> str:
    """Do the same a number of times; "." for each that worked, "x" for each that did not."""
    said = ""
    for _ in range(count):
        try:
            run(getattr(manager, operation)(TEXT))
        except ConnectionError:
            said += "x"
        else:
            said += "."
    return said


# What becomes of an attempt -------------------------------------------------------------------------------------------


def test_a_failure_leaves_the_store_untouched(store: Any) -> None:
    """The error comes before the store is reached, and the policies know that nothing is under way."""
    faults = FaultInjecting(Fault(on="store"))
    seen = Witness()
    manager = wrap(store, seen, faults)
    with pytest.raises(ConnectionError):
        run(manager.store(TEXT))
    assert held(manager) is None
    assert [(call.attempts, call.unsettled_until) for call in seen.calls[:1]] == [(1, 0.0)]


@pytest.mark.parametrize("operation", ["store", "update", "delete"])
def test_a_lost_reply_comes_after_the_write_was_applied(operation: str, store: Any, clock: ManualClock) -> None:
    """The caller gets an error, the store has the write, and until when it may be under way is known."""
    run(store.store(OLD))
    seen = Witness()
    manager = wrap(store, seen, FaultInjecting(Fault(on=operation, then=LostReply()), timeout=0.3))
    with pytest.raises(ConnectionError):
        run(getattr(manager, operation)(TEXT))
    assert held(store) == (None if operation == "delete" else "new")
    [call] = seen.calls
    assert (call.attempts, call.deleted) == (1, "")
    assert call.unsettled_until == pytest.approx(clock.monotonic() + 0.3)


def test_a_lost_reply_of_a_read_leaves_nothing_under_way(store: Any) -> None:
    """A read changes nothing."""
    seen = Witness()
    manager = wrap(store, seen, FaultInjecting(Fault(then=LostReply())))
    with pytest.raises(ConnectionError):
        run(manager.retrieve(TEXT))
    assert seen.calls[0].unsettled_until == 0.0


def test_a_lost_reply_is_not_under_way_beyond_the_deadline(store: Any, clock: ManualClock) -> None:
    """As with a real store: the deadline is the write's not-after."""
    seen = Witness()
    begun = clock.monotonic()
    manager = wrap(store, Deadline(0.2), seen, FaultInjecting(Fault(then=LostReply()), timeout=5.0))
    with pytest.raises(ConnectionError):
        run(manager.store(TEXT))
    assert seen.calls[0].unsettled_until == pytest.approx(begun + 0.2)


def test_a_lost_refusal_is_lost_as_well(store: Any) -> None:
    """The answer that somebody else has written may be lost, too."""
    run(store.store(OLD))
    manager = FaultInjecting(Fault(on="store", nth=1, then=LostReply()))(store)
    with pytest.raises(ConnectionError):
        run(manager.store(TEXT, if_version=None))
    with pytest.raises(VersionConflictError):
        run(manager.store(TEXT, if_version=None))
    assert held(manager) == "old"


def test_where_there_is_no_answer_none_is_lost(store: Any) -> None:
    """An attempt that fails by itself keeps its error; the lost reply has not done its work then."""
    error = ConnectionResetError("of its own")
    faults = FaultInjecting(Fault(then=LostReply()), Fault(then=Failure(error)))
    with pytest.raises(ConnectionResetError) as failure:
        run(faults(store).store(TEXT))
    assert failure.value is error
    assert [fired.fault.then for fired in faults.fired] == [Failure(error)]
    with pytest.raises(FaultNotFiredError, match="LostReply"):
        faults.assert_all_fired()


def test_a_lost_deletion_of_many_is_made_again(store: Any) -> None:
    """Only an answer could have told that they are deleted: the repetition must not take it for known."""
    for about in (TEXT, OTHER):
        run(store.store(about))
    seen = Witness()
    manager = wrap(store, seen, FaultInjecting(Fault(nth=1, then=LostReply())))
    assert [type(each) for each in run(manager.delete_many([TEXT, OTHER]))] == [InjectedConnectionError] * 2
    assert [item.deleted for item in seen.calls[0].items] == ["", ""]
    assert (held(manager), held(manager, OTHER)) == (None, None)


def test_a_delay_is_waited_on_the_managers_clock(store: Any, clock: ManualClock) -> None:
    """Then the store is reached as ever."""
    manager = FaultInjecting(Fault(on="store", then=Delay(30.0)))(store)
    assert run(manager.store(TEXT)).outcome == "committed"
    assert clock.slept == [30.0]


@pytest.mark.parametrize("effect", [Delay(9.0), Hang()])
def test_what_takes_longer_than_the_deadline_ends_there(effect: Any, store: Any, clock: ManualClock) -> None:
    """The store is not reached, but the policies cannot know; the call ends at its deadline."""
    begun = clock.monotonic()
    seen = Witness()
    manager = wrap(store, Deadline(0.5), seen, FaultInjecting(Fault(on="store", then=effect)))
    with pytest.raises(DeadlineExceededError):
        run(manager.store(TEXT))
    assert clock.monotonic() == pytest.approx(begun + 0.5)
    assert seen.calls[0].unsettled_until == pytest.approx(begun + 0.5)
    assert held(manager) is None


def test_without_a_deadline_a_hang_ends_with_the_attempt(store: Any, clock: ManualClock) -> None:
    """`timeout` bounds it, as a manager's own does."""
    with pytest.raises(TimeoutError):
        run(FaultInjecting(Fault(then=Hang()), timeout=2.0)(store).retrieve(TEXT))
    assert clock.slept == [2.0]


@pytest.mark.parametrize("effect", [Delay(5.0), Hang()])
def test_a_caller_who_gives_up_waiting_leaves_a_write_under_way(effect: Any) -> None:
    """A cancellation comes while the store is awaited, so what becomes of the write is not known."""
    seen = Witness()
    faults = FaultInjecting(Fault(then=effect), timeout=5.0)
    manager = wrap(AsyncInMemoryManager(), seen, faults)

    async def give_up() -> None:
        task = asyncio.create_task(manager.store(TEXT))
        while not faults.fired:  # noqa: ASYNC110 - the policy tells no event
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert seen.calls[0].unsettled_until > 0
    assert held(manager.inner) is None


@pytest.mark.parametrize(
    ("effect", "caught"),
    [
        (Failure(), redis.ConnectionError),
        (Failure(), ConnectionError),
        (LostReply(), redis.ConnectionError),
        (Hang(), redis.TimeoutError),
        (Hang(), TimeoutError),
        (Failure(redis.ReadOnlyError), redis.ReadOnlyError),
        (LostReply(OSError("it broke")), OSError),
    ],
)
def test_the_error_is_redis_pys_and_pythons_own(effect: Any, caught: type[Exception], store: Any) -> None:
    """Code that catches either kind catches what is injected; and any other error can be chosen."""
    with pytest.raises(caught):
        run(FaultInjecting(Fault(then=effect))(store).store(TEXT))


@pytest.mark.parametrize("kind", [InjectedConnectionError, InjectedTimeoutError])
def test_an_injected_error_can_be_sent_to_another_process(kind: type[Exception]) -> None:
    """A pool of processes hangs on an error that cannot be pickled."""
    again = pickle.loads(pickle.dumps(kind()))  # noqa: S301 - of our own making
    assert (type(again), str(again)) == (kind, str(kind()))
    assert "injected" in str(again)


# Which attempts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("store"), "xxxxxx"),
        (Fault("store", nth=2), ".x...."),
        (Fault("store", times=2), "xx...."),
        (Fault("store", nth=3, times=2), "..xx.."),
        (Fault("retrieve"), "......"),
        (Fault(), "xxxxxx"),
        (Fault(conversation_id="c", nth=2), ".x...."),
        (Fault(conversation_id="d"), "......"),
        (Fault(conversation_id=""), "......"),
    ],
    ids=repr,
)
def test_a_fault_is_aimed(fault: Fault, expected: str, store: Any) -> None:
    """By operation, by number, by conversation."""
    assert outcomes(FaultInjecting(fault)(store), "store", 6) == expected


def test_each_fault_counts_for_itself(store: Any) -> None:
    """The 2nd store of a conversation need not be the 2nd store."""
    manager = FaultInjecting(Fault("store", nth=4), Fault(nth=2, conversation_id="c"))(store)
    run(manager.store(OTHER))
    assert outcomes(manager, "store", 4) == ".xx."


def test_a_batch_is_one_attempt_about_all_its_conversations(store: Any) -> None:
    """A fault for one of them takes the whole batch with it."""
    manager = FaultInjecting(Fault("store_many", conversation_id="c", nth=2))(store)
    assert run(manager.store_many([OTHER, TEXT])) == [f"memory:WORKING_MEMORY:{name}" for name in ("other", "c")]
    assert run(manager.store_many([OTHER])) == ["memory:WORKING_MEMORY:other"]
    assert [type(each) for each in run(manager.store_many([TEXT, OTHER]))] == [InjectedConnectionError] * 2


def test_every_repetition_is_an_attempt(store: Any, clock: ManualClock) -> None:
    """A retry's second attempt is the second that is counted."""
    faults = FaultInjecting(Fault("store", times=2))
    manager = Retry(attempts=3)(faults(store))
    assert run(manager.store(TEXT)).outcome == "committed"
    assert [(fired.operation, fired.count) for fired in faults.fired] == [("store", 1), ("store", 2)]
    assert len(clock.slept) == 2


def test_several_faults_act_one_inside_the_other(store: Any, clock: ManualClock) -> None:
    """A slow store whose answer is lost as well."""
    faults = FaultInjecting(Fault(then=Delay(3.0)), Fault("store", then=LostReply()))
    with pytest.raises(ConnectionError):
        run(faults(store).store(TEXT))
    assert clock.slept == [3.0]
    assert held(store) == "new"
    assert [type(fired.fault.then) for fired in faults.fired] == [Delay, LostReply]


def test_a_rate_is_drawn_from_the_seed(store: Any) -> None:
    """The same seed gives the same failures, another one others, and the share is about the rate."""
    said = [outcomes(FaultInjecting(Fault(rate=0.3), seed=seed)(store), "store", 300) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]
    assert 60 < said[0].count("x") < 120


def test_a_seed_that_was_not_given_is_shown() -> None:
    """Whoever sees a failure can have it again."""
    random.seed(5)
    faults = FaultInjecting(Fault("store", rate=0.5, then=LostReply()))
    assert repr(faults) == f"FaultInjecting(Fault(on='store', rate=0.5, then=LostReply()), seed={faults.seed})"
    assert FaultInjecting().seed != faults.seed


def test_counts_hold_under_threads() -> None:
    """Of 8 x 50 attempts exactly those fail that were asked for, and each number is fired once."""
    faults = FaultInjecting(Fault("store", nth=101, times=57), Fault("retrieve", rate=0.25), seed=3)
    manager = faults(InMemoryManager())
    failed: list[int] = []

    def work(_: int) -> None:
        for _ in range(50):
            try:
                manager.store(TEXT)
            except ConnectionError:
                failed.append(1)
            outcomes(manager, "retrieve", 1)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that an unguarded count would go wrong
    try:
        with threads(8, work):
            pass
    finally:
        sys.setswitchinterval(usual)
    alone = FaultInjecting(Fault("delete"), Fault("retrieve", rate=0.25), seed=3)
    outcomes(alone(InMemoryManager()), "retrieve", 400)
    assert sorted(fired_on(faults, "store")) == list(range(101, 158))
    assert len(failed) == 57
    assert sorted(fired_on(faults, "retrieve")) == fired_on(alone, "retrieve")


def fired_on(faults: FaultInjecting, operation: str) -> list[int]:
    """Return the numbers of the attempts that went wrong."""
    return [fired.count for fired in faults.fired if fired.operation == operation]


# What is known of it --------------------------------------------------------------------------------------------------


def test_a_fault_that_never_fired_is_told(store: Any) -> None:
    """A test whose fault never came proves nothing: the message says which, and what was seen."""
    faults = FaultInjecting(Fault("store", nth=3), Fault("delete", conversation_id="secret"), seed=9)
    assert outcomes(faults(store), "store", 2) == ".."
    with pytest.raises(FaultNotFiredError) as told:
        faults.assert_all_fired()
    assert "on='store', nth=3" in str(told.value)
    assert "kind: 2)" in str(told.value)
    assert "on='delete'" in str(told.value)
    assert "seed is 9" in str(told.value)
    faults.inject(Fault("keep", then=Failure(OSError("secret"))), Fault("keep", then=LostReply(OSError)))
    assert "then=Failure(OSError)), Fault(on='keep', then=LostReply(OSError)" in repr(faults)
    assert "secret" not in f"{told.value}{faults!r}{faults.fired}"
    outcomes(faults(store), "store", 1)
    outcomes(faults(store), "delete", 1)
    with pytest.raises(FaultNotFiredError, match="delete") as told:
        faults.assert_all_fired()
    assert "store" not in str(told.value)


def test_faults_can_be_added_and_ended(store: Any) -> None:
    """An outage begins and ends when a test says so; what was added counts from then on."""
    faults = FaultInjecting()
    manager = faults(store)
    assert outcomes(manager, "store", 2) == ".."
    faults.inject(Fault("store", nth=2), Fault("store", nth=3))
    assert outcomes(manager, "store", 3) == ".xx"
    faults.inject(Fault())
    assert outcomes(manager, "store", 2) == "xx"
    faults.heal()
    assert outcomes(manager, "store", 2) == ".."
    faults.assert_all_fired()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault("mutate"),
        lambda: Fault("set"),
        lambda: Fault(["store"]),  # type: ignore[arg-type]
        lambda: Fault(nth=0),
        lambda: Fault(nth=1.5),  # type: ignore[arg-type]
        lambda: Fault(times=0),
        lambda: Fault(rate=0),
        lambda: Fault(rate=1.1),
        lambda: Fault(conversation_id=b"c"),  # type: ignore[arg-type]
        lambda: Fault(then=LostReply),  # type: ignore[arg-type]
        lambda: Fault(then=ConnectionError()),  # type: ignore[arg-type]
        lambda: Failure("down"),  # type: ignore[arg-type]
        lambda: Failure(KeyboardInterrupt),  # type: ignore[arg-type]
        lambda: LostReply(UnicodeDecodeError),
        lambda: Delay(0),
        lambda: Delay(float("nan")),
        lambda: FaultInjecting("store"),  # type: ignore[arg-type]
        lambda: FaultInjecting(Fault),  # type: ignore[arg-type]
        lambda: FaultInjecting(seed="x"),  # type: ignore[arg-type]
        lambda: FaultInjecting(seed=True),
        lambda: FaultInjecting(timeout=0),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Callable[[], Any]) -> None:
    """At construction, before anything is done."""
    with pytest.raises(ConfigurationError):
        make()


def test_a_fault_that_cannot_work_adds_none() -> None:
    """Of several none is added."""
    faults = FaultInjecting()
    with pytest.raises(ConfigurationError):
        faults.inject(Fault("store"), "store")  # type: ignore[arg-type]
    faults.assert_all_fired()


def test_all_operations_can_be_aimed_at() -> None:
    """There is no operation of a store that has no name here, and none too many."""
    assert operate._OPERATIONS.keys() == OPERATIONS


@pytest.mark.parametrize("outer", [Deadline, Retry, CircuitBreaker, Fallback])
def test_it_is_innermost(outer: Callable[[], Any], store: Any) -> None:
    """Outside another policy its faults would not be the store's."""
    with pytest.raises(PolicyOrderError, match=r"belongs inside CircuitBreaker|manager inside it"):
        FaultInjecting()(outer()(store))
    with pytest.raises(PolicyOrderError, match="twice"):
        FaultInjecting()(FaultInjecting()(store))


def test_a_manager_of_another_kind_is_hurt_as_well() -> None:
    """A manager that has only the four methods gets faults like any."""

    class Mine:
        """The smallest manager."""

        def __init__(self) -> None:
            self.texts: dict[str, Any] = {}

        def store(self, input: Any) -> str:  # noqa: A002 - the interface's own name
            """Keep it."""
            self.texts[input["conversation_id"]] = input["working_memory"]
            return "key"

        def retrieve(self, input: Any) -> list[Any]:  # noqa: A002, ARG002
            """Find nothing."""
            return []

        update = delete = retrieve

    mine = Mine()
    manager = FaultInjecting(Fault(on="retrieve", nth=1))(mine)
    assert outcomes(manager, "retrieve", 2) == "x."


# Through the whole stack ----------------------------------------------------------------------------------------------


def stack(store: Any, faults: FaultInjecting, **options: Any) -> Any:
    """Return the recommended stack around the store, which replays when a test says so."""
    manager: Any = resilient(faults(store), **options)
    manager._background.wake = lambda: None
    return manager


def test_a_store_whose_answer_was_lost_is_recognised(store: Any, clock: ManualClock) -> None:
    """The repetition finds its own write, after it has waited until the first attempt is over."""
    faults = FaultInjecting(Fault("store", nth=1, then=LostReply()), timeout=0.7)
    manager = stack(store, faults)
    receipt = run(manager.store(TEXT))
    assert receipt.outcome == "committed"
    assert clock.slept == [pytest.approx(0.7)]
    assert run(manager.retrieve(TEXT)).version == receipt.version
    assert not run(manager.conflicts())


def test_what_was_built_on_a_lost_write_is_not_wiped(store: Any) -> None:
    """Somebody saw the write whose answer was lost, and built on it: the repetition must not replace that.

    The first attempt is applied, its answer lost; before the repetition a stranger reads it and writes. The stranger's
    text stays, and ours, which was acknowledged, is kept as a conflict copy or was seen by the stranger.
    """
    faults = FaultInjecting(Fault("store", nth=1, then=LostReply()))
    stranger = Stranger(store)
    manager = wrap(store, Fallback(), Retry(), stranger, faults)
    manager._background.wake = lambda: None
    receipt = run(manager.store(TEXT))
    assert receipt.outcome == "journaled"
    run(manager.replay())
    assert held(store) == "new, and more"
    assert [conflict.text for conflict in run(manager.conflicts())] == ["new"]


def test_a_version_conflict_after_a_lost_reply_is_real(store: Any) -> None:
    """A write on a version whose first answer was lost succeeds; where another stands it conflicts."""
    version = run(store.store(OLD)).version
    faults = FaultInjecting(Fault("store", nth=1, then=LostReply()))
    manager = stack(store, faults)
    assert run(manager.store(TEXT, if_version=version)).outcome == "committed"
    with pytest.raises(VersionConflictError):
        run(manager.store(OTHER | {"conversation_id": "c"}, if_version=version))
    assert held(manager) == "new"


def test_an_outage_opens_the_breaker_and_nothing_acknowledged_is_lost(store: Any, clock: ManualClock) -> None:
    """While the store is away writes are kept, reads see them, the breaker spares the store; then all come home."""
    faults = FaultInjecting()
    breaker = CircuitBreaker()
    manager = stack(store, faults, circuit_breaker=breaker)
    run(manager.store(OLD))
    faults.inject(Fault())
    receipts = [run(manager.store(TEXT | {"conversation_id": f"c{n}"})) for n in range(20)]
    receipts.append(run(manager.update(TEXT)))
    receipts.append(run(manager.delete(TEXT | {"conversation_id": "c0"})))
    assert {receipt.outcome for receipt in receipts} == {"journaled"}
    assert breaker.state.value == "open"
    assert len(faults.fired) < 10
    assert (held(manager), held(manager, TEXT | {"conversation_id": "c0"})) == ("new", None)
    assert held(store) == "old"
    faults.heal()
    clock.advance(60.0)
    counts = run(manager.replay())
    assert (counts.pending, counts.conflicts) == (0, 0)
    assert [held(store, TEXT | {"conversation_id": f"c{n}"}) for n in range(20)] == [None] + ["new"] * 19
    assert held(store) == "new"
    faults.assert_all_fired()


def test_a_replay_can_be_hurt(store: Any, clock: ManualClock) -> None:
    """What comes home goes wrong as well: the reply of the replay is lost, and the next one finishes it."""
    faults = FaultInjecting(Fault("store", times=3), Fault("reconcile", nth=1, then=LostReply()))
    manager = stack(store, faults)
    assert run(manager.store(TEXT)).outcome == "journaled"
    clock.advance(60.0)
    run(manager.replay())
    clock.advance(60.0)
    assert run(manager.replay()).pending == 0
    assert held(store) == "new"
    assert not run(manager.conflicts())
    faults.assert_all_fired()


def test_an_open_breaker_reaches_no_fault(store: Any) -> None:
    """What is not sent cannot go wrong."""
    faults = FaultInjecting(Fault())
    breaker = CircuitBreaker()
    manager = wrap(store, breaker, faults)
    breaker.force_open()
    with pytest.raises(CircuitOpenError):
        run(manager.store(TEXT))
    assert faults.fired == ()


class Witness(Retry):
    """Notes the calls that pass, at Retry's place, and repeats none."""

    def __init__(self) -> None:
        super().__init__(attempts=1)
        self.calls: list[Call] = []

    def bind(self, context: Context) -> Any:
        """Note, and go on."""
        inner = super().bind(context)

        def flow(call: Call) -> Any:
            self.calls.append(call)
            return (yield from inner(call))

        return flow


class Stranger(CircuitBreaker):
    """At the breaker's place: after the first attempt another process reads what is stored and writes on."""

    def __init__(self, store: Any) -> None:
        super().__init__()
        self.store = store

    def bind(self, context: Context) -> Any:
        """Let the stranger act once, after the first attempt."""
        inner = super().bind(context)
        twin = InMemoryManager(clock=context.clock)
        twin.backend = self.store.backend
        done: list[bool] = []

        def flow(call: Call) -> Any:
            try:
                return (yield from inner(call))
            finally:
                if not done:
                    done.append(True)
                    twin.mutate(TEXT, lambda seen: f"{seen}, and more")

        return flow


# As on the wire -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["store", "update", "delete", "store_many", "delete_many"])
def test_a_lost_reply_looks_like_a_real_one(operation: str, redis_url: str, server: RedisServer) -> None:
    """What the policies know after an injected one is what they know after a reply that was lost on the wire."""
    with FaultProxy(server.port) as proxy:
        known = []
        for url, is_injected in ((proxy.url, False), (redis_url, True)):
            seen = Witness()
            with RedisWorkingMemoryManager(url, timeout=5.0) as inner:
                faults = FaultInjecting(timeout=5.0)
                manager = wrap(inner, seen, faults)
                for about in (OLD, OTHER):
                    manager.store(about)
                seen.calls.clear()
                lost: Any = None
                if is_injected:
                    faults.inject(Fault(operation, nth=1, then=LostReply()))
                else:
                    many = operation.endswith("_many")
                    lost = proxy.drop_reply(command="EVAL" if many else "EVALSHA", then="reset")
                begun = inner.clock.monotonic()
                answers = lost_answers(manager, operation)
                if lost is not None:
                    lost.wait()
                [call] = seen.calls
                known.append(
                    (
                        [isinstance(answer, redis.ConnectionError) for answer in answers],
                        call.attempts,
                        [each.deleted for each in (call, *call.items)],
                        round(call.unsettled_until - begun),
                        call.raw is None,
                        bool(call.replaced),
                        call.sent,
                        held(inner, OTHER) is None,
                    )
                )
        assert known[0] == known[1]


def lost_answers(manager: Any, operation: str) -> list[Any]:
    """Return what a call gave that was about one memory or two, errors among it."""
    if operation.endswith("_many"):
        answers: list[Any] = getattr(manager, operation)([OTHER, TEXT])
        return answers
    try:
        return [getattr(manager, operation)(OTHER)]
    except redis.ConnectionError as error:
        return [error]
