"""Every state that a real server gets into, seen through the whole stack: answers, attempts, time, and what comes home.

What each state does by itself is the table of `remanence.lab.server_states`; what is expected here follows from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tenacity

from remanence import CircuitBreaker, Deadline, Fallback, RedisWorkingMemoryManager, Retry, wrap
from remanence.classify import ErrorClass
from remanence.events import CircuitTransition, Event, RetryScheduled
from remanence.lab import STATES, Failure, RedisServer, ServerState
from tests.relay import held as held_by
from tests.relay import home, texts, value

pytestmark = pytest.mark.chaos

DEADLINE = 0.4
MARGIN = 0.4
"""0.05 is promised; the rest is for a machine whose cores are busy."""
ATTEMPTS = 3
NEVER = 1_000_000
"""More failures, calls or retries than any test makes."""

EACH = pytest.mark.parametrize("state", list(ServerState))


def of_meaning(meaning: ErrorClass) -> list[ServerState]:
    """Return the states in which guarded writes fail with this meaning, and with an answer."""
    return [
        state
        for state, facts in STATES.items()
        if facts.scripts is not None and facts.scripts.meaning is meaning and facts.scripts.code
    ]


@pytest.fixture(scope="module")
def own() -> Iterator[RedisServer]:
    """A server for this module, quick to restart."""
    with RedisServer(durability="off") as made:
        yield made


@pytest.fixture
def target(own: RedisServer) -> RedisServer:
    """The server, emptied."""
    own.command("FLUSHALL")
    return own


@pytest.fixture
def stack(target: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return the function that makes a manager of the server for a state; all are closed in the end."""
    # What the store refuses is taken up again after this time; the tests need not wait as long as users may.
    monkeypatch.setattr("remanence.policies.replayer._LATER", 0.05)
    made: list[Any] = []

    def make(state: ServerState, *, fallback: bool = True, **breaker: Any) -> Any:
        # Without a password of its own, the server takes any until it is in that state.
        url = target.url.replace("redis://", "redis://:any@") if state is ServerState.WRONGPASS else target.url
        inner = RedisWorkingMemoryManager(url, timeout=1.0)
        retry = Retry(attempts=ATTEMPTS, wait=tenacity.wait_fixed(0.01), budget_per_second=NEVER)
        events: list[Event] = []
        policies = (
            Deadline(DEADLINE),
            retry,
            CircuitBreaker(**(breaker or {"failures": NEVER, "minimum_calls": NEVER})),
        )
        manager: Any = wrap(inner, *((Fallback(),) if fallback else ()), *policies, listeners=[events.append])
        manager.events = events
        made.append(manager)
        return manager

    yield make
    for manager in made:
        manager.close(0.01) if manager.has_fallback else manager.close()
        manager.inner.close()


def outcome(act: Callable[[], Any]) -> tuple[str, float]:
    """Return what a call says (its source, its outcome or the class of its error), and the seconds that it took."""
    begun = time.monotonic()
    try:
        result = act()
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        result = error
    took = time.monotonic() - begun
    if type(result) is list:
        (result,) = result
    if isinstance(result, Exception):
        return f"{type(result).__module__}.{type(result).__name__}", took
    return getattr(result, "source", None) or result.outcome, took


def answer(failure: Failure | None, *, healthy: str, degraded: str) -> str:
    """Return what the caller must be told, by what the state does: an error only where a person has to act."""
    if failure is None:
        return healthy
    return failure.error if failure.meaning is ErrorClass.CONFIGURATION else degraded


def retries(events: list[Event]) -> int:
    """Return how many retries were announced."""
    return sum(isinstance(event, RetryScheduled) for event in events)


# Answers, time, and what comes home ---------------------------------------------------------------------------------


@EACH
def test_every_call_is_answered_in_time_and_every_acknowledged_write_comes_home(
    target: RedisServer, stack: Callable[..., Any], state: ServerState
) -> None:
    """Reads by the server or from here, writes kept, errors for a person alone; in the end the server holds it all."""
    manager, facts = stack(state), STATES[state]
    for name in ("known", "known too", "stored", "updated", "deleted", "batched", "mutated"):
        manager.store(value("old", name))
    writes: dict[str, Callable[[], Any]] = {
        "stored": lambda: manager.store(value("new", "stored")),
        "new": lambda: manager.store(value("new", "new")),
        "updated": lambda: manager.update(value("new", "updated")),
        "deleted": lambda: manager.delete(value(conversation="deleted")),
        "batched": lambda: manager.store_many([value("new", "batched")]),
        "mutated": lambda: manager.mutate(value(conversation="mutated"), lambda text: f"{text} and new"),
    }
    calls: dict[str, Callable[[], Any]] = writes | {
        "known": lambda: manager.retrieve(value(conversation="known")),
        "known too": lambda: manager.retrieve_many([value(conversation="known too")]),
        "unknown": lambda: manager.retrieve(value(conversation="unknown")),
    }
    with target.state(state), ThreadPoolExecutor(len(calls)) as together:
        done = dict(zip(calls, together.map(outcome, calls.values()), strict=True))
        again = [outcome(lambda name=name: manager.store(value("newer", name))) for name in ("stored", "new")]  # type: ignore[misc]
    assert max(took for _, took in (*done.values(), *again)) < DEADLINE + MARGIN
    known, unknown = (answer(facts.reads, healthy="redis", degraded=source) for source in ("stale", "none"))
    written = answer(facts.scripts, healthy="committed", degraded="journaled")
    expected = dict.fromkeys(writes, written) | {"known": known, "known too": known, "unknown": unknown}
    if state is ServerState.OOM:
        expected["deleted"] = "committed"  # it needs no memory
    assert {name: what for name, (what, _) in done.items()} == expected
    assert [what for what, _ in again] == [written, written]

    home(manager)
    found = {name: held_by(target.url, name) for name in ("known", "unknown", *writes)}
    if written == "journaled":
        assert found == {
            "known": "old",
            "unknown": None,
            "stored": "newer",
            "new": "newer",
            "updated": "new",
            "deleted": None,
            "batched": "new",
            "mutated": "old and new",
        }
    else:
        assert found == dict.fromkeys((*writes, "known"), "old") | {"unknown": None, "new": None}
    assert texts(manager) == []
    assert manager.store(value("after", "stored")).outcome == "committed"
    assert manager.retrieve(value(conversation="stored")).source == "redis"


@pytest.mark.parametrize("state", of_meaning(ErrorClass.WRITES_REFUSED))
def test_refused_writes_leave_reads_to_the_server(
    target: RedisServer, stack: Callable[..., Any], state: ServerState
) -> None:
    """The breaker for writes opens, the one for the connection never; what waits here is read from here."""
    manager = stack(state, failures=3, open_for=30.0)
    manager.store(value("old", "read"))
    with target.state(state):
        assert [manager.store(value("new", f"c{number}")).outcome for number in range(10)] == ["journaled"] * 10
        assert [manager.retrieve(value(conversation="read")).source for _ in range(10)] == ["redis"] * 10
        assert manager.retrieve(value(conversation="c0")).source == "journal"
        assert (manager.policies[-1].state.value, manager.policies[-1].write_state.value) == ("closed", "open")
    assert {event.name for event in manager.events if isinstance(event, CircuitTransition)} == {"writes"}


@pytest.mark.parametrize("state", of_meaning(ErrorClass.CONFIGURATION))
def test_what_a_person_has_to_mend_is_never_hidden(
    target: RedisServer, stack: Callable[..., Any], state: ServerState
) -> None:
    """However often it is met: no breaker opens, nothing is kept or served from here, every call says it."""
    manager, facts = stack(state, failures=3), STATES[state]
    manager.store(value("old"))
    assert facts.reads is not None
    with target.state(state):
        for act in (lambda: manager.retrieve(value()), lambda: manager.store(value("new"))):
            assert [outcome(act)[0] for _ in range(10)] == [facts.reads.error] * 10
    assert manager.events == []
    assert not manager.has_pending_writes
    assert manager.retrieve(value())[0].working_memory == "old"


# Attempts -----------------------------------------------------------------------------------------------------------

READS = ("get",)
WRITES = ("evalsha", "eval")


def arrived(command: Callable[..., Any], names: tuple[str, ...]) -> int:
    """Return how many attempts by these commands have reached the server, carried out or not."""
    stats, commands = (_fields(command("INFO", section)) for section in ("stats", "commandstats"))
    each = {name: dict(part.split("=") for part in line.split(",")) for name, line in commands.items()}
    called = sum(
        int(each.get(f"cmdstat_{name}", {}).get(kind, 0)) for name in names for kind in ("calls", "rejected_calls")
    )
    # A new connection, its protocol, or the question for the server's time may be refused before the command is sent.
    time = int(each.get("cmdstat_time", {}).get("rejected_calls", 0))
    hello = int(each.get("cmdstat_hello", {}).get("failed_calls", 0))
    return called + time + hello + int(stats["rejected_connections"])


def _fields(info: object) -> dict[str, str]:
    return dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)


def count(target: RedisServer, state: ServerState, names: tuple[str, ...], act: Callable[[], object]) -> int:
    """Return how many attempts reach the server while it is in a state and `act` is done."""
    if state is ServerState.BUSY:  # it answers the lab no more than others, and is not restarted
        before = arrived(target.command, names)
        with target.state(state):
            act()
        return arrived(target.command, names) - before - ("eval" in names)  # what keeps it busy is a script
    with target.state(state) as held:
        before = arrived(held.command, names)
        act()
        return arrived(held.command, names) - before


ANSWERING = [state for state, facts in STATES.items() if facts.scripts is not None and facts.scripts.code]


@pytest.mark.parametrize("names", [READS, WRITES], ids=["retrieve", "store"])
@pytest.mark.parametrize("state", ANSWERING)
def test_as_many_attempts_reach_the_server_as_the_policy_allows(
    target: RedisServer, stack: Callable[..., Any], state: ServerState, names: tuple[str, ...]
) -> None:
    """What may pass is tried three times, what does not is tried once: the server has counted."""
    manager, facts = stack(state, fallback=False), STATES[state]
    manager.store(value("old"))
    failure = facts.reads if names is READS else facts.scripts
    act = (lambda: manager.retrieve(value())) if names is READS else (lambda: manager.store(value("new")))
    said: list[str] = []
    reached = count(target, state, names, lambda: said.append(outcome(act)[0]))
    assert said == ["redis" if failure is None else failure.error]
    expected = ATTEMPTS if failure is not None and failure.meaning is ErrorClass.TRANSIENT else 1
    assert (reached, 1 + retries(manager.events)) == (expected, expected)


@pytest.mark.parametrize("state", [ServerState.PAUSED, ServerState.WRITES_PAUSED])
def test_a_silent_server_gets_one_attempt_and_never_a_late_one(
    target: RedisServer, stack: Callable[..., Any], state: ServerState
) -> None:
    """The attempt takes the whole time of the call, and what was sent is dropped with its connection."""
    manager = stack(state, fallback=False)
    manager.store(value("old"))
    before = arrived(target.command, WRITES)
    with target.state(state):
        said, took = outcome(lambda: manager.store(value("new")))
    # Whether the socket's time or the call's is noticed to be up first is a matter of microseconds.
    assert said in {"remanence.DeadlineExceededError", "redis.exceptions.TimeoutError"}
    assert retries(manager.events) == 0
    assert DEADLINE - 0.05 < took < DEADLINE + MARGIN
    assert manager.retrieve(value())[0].working_memory == "old"
    assert arrived(target.command, WRITES) == before


@pytest.mark.parametrize("state", [state for state in ANSWERING if state not in of_meaning(ErrorClass.CONFIGURATION)])
def test_no_storm_reaches_a_server_that_fails(
    target: RedisServer, stack: Callable[..., Any], state: ServerState
) -> None:
    """Forty calls, their retries and the replay: the breaker lets five failures through, and what is under way."""
    manager, facts = stack(state, failures=5, open_for=30.0), STATES[state]
    manager.store(value("old"))

    def act() -> None:
        for number in range(20):
            outcome(lambda number=number: manager.store(value("new", f"c{number}")))  # type: ignore[misc]
            outcome(lambda: manager.retrieve(value()))

    reached = count(target, state, WRITES if facts.reads is None else READS + WRITES, act)
    assert 5 <= reached <= 6
    assert retries(manager.events) <= 5


def test_connections_that_were_closed_cost_no_attempt(target: RedisServer, stack: Callable[..., Any]) -> None:
    """After a failover or a proxy's restart the idle connections are gone: that is noticed before anything is sent."""
    manager = stack(ServerState.OOM)
    for number in range(20):
        assert manager.store(value(f"text {number}")).outcome == "committed"
        assert target.disconnect_clients() == 1
        assert manager.retrieve(value()).source == "redis"
        assert target.disconnect_clients() == 1
        (batched,) = manager.store_many([value("batch", "b")])
        assert batched.outcome == "committed"
        target.disconnect_clients()
    assert manager.events == []
