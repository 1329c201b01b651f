"""The breaker's states: against a model, under threads, and at the edges."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from remanence.errors import CircuitOpenError, ConfigurationError
from remanence.policies.breaker_machine import BreakerMachine, BreakerSettings, Permit, Result, State, Transition
from tests.support import FakeClock, threads

RESULTS = st.sampled_from(Result)


def machine(clock: FakeClock, **options: Any) -> BreakerMachine:
    """Return a breaker that opens for exactly its time, unless told otherwise."""
    return BreakerMachine(
        "it", BreakerSettings(**{"jitter": 0.0, **options}), monotonic=clock.monotonic, rng=random.Random(0)
    )


def opened(clock: FakeClock, **options: Any) -> BreakerMachine:
    """Return a breaker that its failures have just opened."""
    breaker = machine(clock, **options)
    while breaker.state is State.CLOSED:
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    return breaker


def state_of(breaker: BreakerMachine) -> State:
    """Return the state now, which the type checker does not take for the one it has seen before."""
    return breaker.state


def refused(breaker: BreakerMachine) -> bool:
    """Whether the breaker refuses a permit now."""
    try:
        breaker.acquire()
    except CircuitOpenError:
        return True
    return False


class BreakerModel(RuleBasedStateMachine):
    """A breaker against what its documentation says, restated with lists instead of counters.

    Times are multiples of a slice of the window, so that the model's window is the breaker's to the slice.
    """

    options: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(1_000.0)
        self.settings = BreakerSettings(**self.options)
        self.breaker = BreakerMachine("it", self.settings, monotonic=self.clock.monotonic, rng=random.Random(0))
        self.state = State.CLOSED
        self.open_until = (0.0, 0.0)
        self.openings = 0
        self.results: list[tuple[int, bool]] = []
        self.in_a_row = 0
        self.successes = 0
        self.generation = 0
        self.permits: list[tuple[Permit, int, float]] = []
        self.probes: list[Permit] = []

    @rule(slices=st.integers(0, 60))
    def time_passes(self, slices: int) -> None:
        """Let some of the window's slices pass."""
        self.clock.advance(slices * self.settings.window / 10)

    @rule()
    def acquire(self) -> None:
        """Ask for a permit."""
        now = self.clock.now
        live = [p for p, _, expires in self.permits if p in self.probes and expires > now]
        before = self.state
        if self.state is State.OPEN and self.breaker.retry_after == 0.0:
            assert now >= self.open_until[0]
            self._go(State.HALF_OPEN)
            live = []
        elif self.state is State.OPEN:
            assert now <= self.open_until[1]
        free = self.settings.half_open_calls - self.successes - len(live)
        if self.state in {State.CLOSED, State.DISABLED} or (self.state is State.HALF_OPEN and free > 0):
            permit, transition = self.breaker.acquire()
            assert transition == (Transition("it", before, self.state) if before is not self.state else None)
            self.permits.append((permit, self.generation, now + self.settings.permit_lease))
            if self.state is State.HALF_OPEN:
                self.probes.append(permit)
        else:
            with pytest.raises(CircuitOpenError):
                self.breaker.acquire()

    @precondition(lambda self: self.permits)
    @rule(age=st.one_of(st.just(0), st.integers(0, 50)), result=RESULTS)
    def settle(self, age: int, result: Result) -> None:
        """Settle the newest permit or an older one, some of them again."""
        permit, generation, expires = self.permits[-1 - age % len(self.permits)]
        before = self.state
        if generation == self.generation:
            if self.state is State.CLOSED:
                self._count(result)
            elif self.state is State.HALF_OPEN and permit in self.probes and expires > self.clock.now:
                self.probes.remove(permit)
                self._probed(result)
        transition = self.breaker.settle(permit, result)
        assert transition == (Transition("it", before, self.state) if before is not self.state else None)
        if self.state is State.OPEN and before is not State.OPEN:
            self._note_opening()

    @rule(switch=st.sampled_from([State.FORCED_OPEN, State.DISABLED, State.CLOSED]))
    def switch(self, switch: State) -> None:
        """Use one of the operator's switches."""
        method = {
            State.FORCED_OPEN: self.breaker.force_open,
            State.DISABLED: self.breaker.disable,
            State.CLOSED: self.breaker.reset,
        }[switch]
        before = self.state
        self._go(switch)
        if switch is State.CLOSED:
            self.openings = 0
        assert method() == (Transition("it", before, switch) if before is not switch else None)

    @invariant()
    def same_state(self) -> None:
        """The breaker shows the model's state."""
        assert self.breaker.state is self.state
        if self.state is State.FORCED_OPEN:
            assert self.breaker.retry_after == self.settings.open_for_max
        elif self.state is not State.OPEN:
            assert self.breaker.retry_after == 0.0

    def _count(self, result: Result) -> None:
        if result is Result.NEUTRAL:
            return
        slice_number = int(self.clock.now / (self.settings.window / 10))
        self.results.append((slice_number, result is Result.FAILURE))
        self.in_a_row = self.in_a_row + 1 if result is Result.FAILURE else 0
        recent = [failed for number, failed in self.results if number > slice_number - 10]
        rate = sum(recent) / len(recent)
        too_many = len(recent) >= self.settings.minimum_calls and rate >= self.settings.failure_rate
        if result is Result.FAILURE and (too_many or self.in_a_row >= self.settings.failures):
            self._go(State.OPEN)

    def _probed(self, result: Result) -> None:
        if result is Result.FAILURE:
            self._go(State.OPEN)
        elif result is Result.SUCCESS:
            self.successes += 1
            if self.successes >= self.settings.half_open_calls:
                self._go(State.CLOSED)
                self.openings = 0

    def _note_opening(self) -> None:
        """The open time has doubled with every opening since the breaker was last closed, give or take the jitter."""
        base = min(self.settings.open_for * 2**self.openings, self.settings.open_for_max)
        now, jitter = self.clock.now, self.settings.jitter
        self.open_until = (now + base * (1 - jitter) - 1e-6, now + base * (1 + jitter) + 1e-6)
        self.openings += 1
        assert self.open_until[0] <= now + self.breaker.retry_after <= self.open_until[1]

    def _go(self, state: State) -> None:
        self.state = state
        self.generation += 1
        self.results.clear()
        self.probes.clear()
        self.in_a_row = self.successes = 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"failures": 3, "half_open_calls": 3, "permit_lease": 2.0, "jitter": 0.0},
        {"failures": 100, "minimum_calls": 4, "failure_rate": 0.5, "window": 2.0, "jitter": 1.0},
        {"failures": 1, "open_for": 0.5, "open_for_max": 3.0, "half_open_calls": 2, "jitter": 0.5},
    ],
    ids=["defaults", "three probes", "rate", "first failure"],
)
def test_the_breaker_follows_its_model(options: dict[str, Any]) -> None:
    """Whatever is acquired, settled and switched in whatever order, the breaker does what its documentation says."""
    model = type("Model", (BreakerModel,), {"options": options})
    run_state_machine_as_test(model, settings=settings(max_examples=60, stateful_step_count=60, deadline=None))


def test_consecutive_failures_open_it(clock: FakeClock) -> None:
    """The fifth failure in a row opens it, and a success in between starts the count again."""
    breaker = machine(clock, minimum_calls=100)
    for result in [Result.FAILURE] * 4 + [Result.SUCCESS] + [Result.FAILURE] * 4:
        assert breaker.settle(breaker.acquire()[0], result) is None
    assert breaker.settle(breaker.acquire()[0], Result.FAILURE) == Transition("it", State.CLOSED, State.OPEN)


def test_a_neutral_result_does_not_interrupt_failures_in_a_row(clock: FakeClock) -> None:
    """A cancellation between failures says nothing, so it does not save the breaker from opening."""
    breaker = machine(clock, failures=3)
    for result in [Result.FAILURE, Result.NEUTRAL, Result.FAILURE, Result.NEUTRAL, Result.FAILURE]:
        breaker.settle(breaker.acquire()[0], result)
    assert breaker.state is State.OPEN


def test_the_rate_counts_only_recent_calls(clock: FakeClock) -> None:
    """Failures that are older than the window do not open it."""
    breaker = machine(clock, failures=100, minimum_calls=10, window=10.0)
    for _ in range(9):
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    clock.advance(10.0)
    breaker.settle(breaker.acquire()[0], Result.FAILURE)
    assert breaker.state is State.CLOSED
    for _ in range(9):
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    assert state_of(breaker) is State.OPEN


def test_half_of_ten_calls_open_it(clock: FakeClock) -> None:
    """Alternating successes and failures open it with the tenth call of the window, not before."""
    breaker = machine(clock)
    states = []
    for number in range(10):
        breaker.settle(breaker.acquire()[0], Result.FAILURE if number % 2 else Result.SUCCESS)
        states.append(breaker.state)
    assert states == [State.CLOSED] * 9 + [State.OPEN]


def test_the_open_time_doubles_up_to_its_limit_and_starts_again_after_closing(clock: FakeClock) -> None:
    """Failed probes double the open time from 1 s to at most 30 s; a success takes it back to 1 s."""
    breaker = opened(clock)
    waits = []
    for _ in range(7):
        waits.append(breaker.retry_after)
        clock.advance(breaker.retry_after)
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    clock.advance(30.0)
    breaker.settle(breaker.acquire()[0], Result.SUCCESS)
    for _ in range(5):
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    assert breaker.retry_after == pytest.approx(1.0)


def test_jitter_spreads_the_open_time(clock: FakeClock) -> None:
    """Two hundred breakers open for 0.8 to 1.2 s, using both ends of that."""
    rng = random.Random(7)
    waits = []
    for _ in range(200):
        breaker = BreakerMachine("it", BreakerSettings(failures=1), monotonic=clock.monotonic, rng=rng)
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
        waits.append(breaker.retry_after)
    assert 0.8 - 1e-9 <= min(waits) < 0.85
    assert 1.15 < max(waits) <= 1.2 + 1e-9


def test_an_open_breaker_says_how_long(clock: FakeClock) -> None:
    """The refusal carries the seconds until a probe is let through, counting down."""
    breaker = opened(clock)
    clock.advance(0.25)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert refusal.value.retry_after == pytest.approx(0.75)
    assert breaker.retry_after == pytest.approx(0.75)


def test_a_hung_probe_does_not_wedge_it(clock: FakeClock) -> None:
    """Once the lease of a probe that never came back has run out, another call may probe."""
    breaker = opened(clock)
    clock.advance(1.0)
    breaker.acquire()
    clock.advance(4.9)
    assert refused(breaker)
    clock.advance(0.2)
    permit, _ = breaker.acquire()
    breaker.settle(permit, Result.SUCCESS)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("result", Result)
def test_a_probe_whose_lease_ran_out_changes_nothing(clock: FakeClock, result: Result) -> None:
    """The result of a probe that came back after its lease is ignored, whether or not another took its place."""
    breaker = opened(clock)
    clock.advance(1.0)
    late, _ = breaker.acquire()
    clock.advance(5.0)
    assert breaker.settle(late, result) is None
    current, _ = breaker.acquire()
    assert breaker.settle(late, result) is None
    assert breaker.state is State.HALF_OPEN
    assert refused(breaker)
    breaker.settle(current, Result.SUCCESS)
    assert state_of(breaker) is State.CLOSED


def test_a_cancelled_probe_gives_its_permit_back(clock: FakeClock) -> None:
    """A neutral result of a probe leaves the breaker half-open and lets the next call probe at once."""
    breaker = opened(clock)
    clock.advance(1.0)
    breaker.settle(breaker.acquire()[0], Result.NEUTRAL)
    assert breaker.state is State.HALF_OPEN
    assert not refused(breaker)


def test_a_permit_counts_once(clock: FakeClock) -> None:
    """Settling a probe twice counts one success."""
    breaker = opened(clock, half_open_calls=2)
    clock.advance(1.0)
    permit, _ = breaker.acquire()
    breaker.settle(permit, Result.SUCCESS)
    breaker.settle(permit, Result.SUCCESS)
    assert breaker.state is State.HALF_OPEN


@pytest.mark.parametrize("result", Result)
@pytest.mark.parametrize("switch", ["reset", "force_open", "disable", "probe"])
def test_a_result_of_an_earlier_generation_changes_nothing(clock: FakeClock, result: Result, switch: str) -> None:
    """Calls that began before a change of state cannot change the state that came of it, however many end then."""
    breaker = machine(clock, failures=1, half_open_calls=1)
    old = [breaker.acquire()[0] for _ in range(30)]
    breaker.settle(breaker.acquire()[0], Result.FAILURE)
    if switch == "probe":
        clock.advance(1.0)
        breaker.acquire()
    else:
        getattr(breaker, switch)()
    state = breaker.state
    assert [breaker.settle(permit, result) for permit in old] == [None] * 30
    assert breaker.state is state


def test_a_permit_is_checked_again_after_a_wait(clock: FakeClock) -> None:
    """It is worth nothing once the breaker has opened; it is while the breaker is closed, or lets it probe."""
    breaker = machine(clock, failures=1, open_for=1.0)
    waiting = breaker.acquire()[0]
    breaker.check(waiting)
    breaker.settle(breaker.acquire()[0], Result.FAILURE)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.check(waiting)
    assert refusal.value.retry_after == 1.0
    clock.advance(1.0)
    probe = breaker.acquire()[0]
    breaker.check(probe)
    with pytest.raises(CircuitOpenError):
        breaker.check(waiting)
    breaker.settle(probe, Result.SUCCESS)
    breaker.check(waiting)
    breaker.force_open()
    with pytest.raises(CircuitOpenError):
        breaker.check(waiting)
    breaker.disable()
    breaker.check(waiting)


def test_a_clock_that_goes_back_breaks_nothing(clock: FakeClock) -> None:
    """An open breaker then waits its time again at most, and a closed one counts on."""
    breaker = opened(clock)
    clock.advance(-500.0)
    assert refused(breaker)
    clock.advance(501.0)
    breaker.settle(breaker.acquire()[0], Result.SUCCESS)
    clock.advance(-900.0)
    for _ in range(5):
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("permits", [1, 3])
def test_a_hundred_threads_never_exceed_the_half_open_permits(clock: FakeClock, permits: int) -> None:
    """Of a hundred threads asking at once, exactly as many probe as there are permits, round after round."""
    breaker = opened(clock, half_open_calls=permits, open_for_max=1.0, permit_lease=1e9)
    lock = threading.Lock()
    inside = most = rounds = 0
    transitions: Counter[tuple[State, State]] = Counter()

    def body(number: int) -> None:
        nonlocal inside, most, rounds
        rng = random.Random(number)
        for _ in range(100):
            try:
                permit, transition = breaker.acquire()
            except CircuitOpenError:
                with lock:
                    clock.advance(0.01)
                continue
            with lock:
                inside += 1
                most = max(most, inside)
                rounds += 1
                if transition is not None:
                    transitions[transition.before, transition.after] += 1
            for _ in range(rng.randrange(20)):
                breaker.retry_after  # noqa: B018 - time for the others to try
            with lock:
                inside -= 1
            transition = breaker.settle(permit, rng.choice([Result.FAILURE, Result.NEUTRAL]))
            if transition is not None:
                with lock:
                    transitions[transition.before, transition.after] += 1

    with threads(100, body):
        pass
    assert most <= permits
    assert rounds >= 10
    assert set(transitions) == {(State.OPEN, State.HALF_OPEN), (State.HALF_OPEN, State.OPEN)}


def test_many_threads_that_fail_at_once_make_one_transition(clock: FakeClock) -> None:
    """A hundred permits of one generation settled as failures at once: one thread learns that it opened."""
    for _ in range(20):
        breaker = machine(clock)
        permits = [breaker.acquire()[0] for _ in range(100)]
        seen: list[Transition] = []

        def body(number: int, breaker: BreakerMachine = breaker, permits: list[Permit] = permits) -> None:
            transition = breaker.settle(permits[number], Result.FAILURE)
            if transition is not None:
                seen.append(transition)  # noqa: B023 - used within the round

        with threads(100, body):
            pass
        assert seen == [Transition("it", State.CLOSED, State.OPEN)]


@pytest.mark.parametrize("switch", ["force_open", "disable"])
def test_reset_forgets_everything(clock: FakeClock, switch: str) -> None:
    """After `reset` neither earlier failures nor earlier openings count."""
    breaker = machine(clock, failures=6, minimum_calls=6)
    for _ in range(3):
        while state_of(breaker) is State.CLOSED:
            breaker.settle(breaker.acquire()[0], Result.FAILURE)
        clock.advance(breaker.retry_after)
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    getattr(breaker, switch)()
    breaker.reset()
    for _ in range(5):
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    breaker.reset()
    for _ in range(5):
        breaker.settle(breaker.acquire()[0], Result.FAILURE)
    assert state_of(breaker) is State.CLOSED
    breaker.settle(breaker.acquire()[0], Result.FAILURE)
    assert breaker.retry_after == pytest.approx(1.0)


def test_as_many_successes_as_permits_close_it(clock: FakeClock) -> None:
    """With three half-open calls one success leaves room for two more probes at a time, and the third closes it."""
    breaker = opened(clock, half_open_calls=3)
    clock.advance(1.0)
    breaker.settle(breaker.acquire()[0], Result.SUCCESS)
    second, third = breaker.acquire()[0], breaker.acquire()[0]
    assert refused(breaker)
    breaker.settle(second, Result.SUCCESS)
    assert state_of(breaker) is State.HALF_OPEN
    breaker.settle(third, Result.SUCCESS)
    assert state_of(breaker) is State.CLOSED


def test_fresh_locks_free_a_breaker_whose_lock_was_held(clock: FakeClock) -> None:
    """After a fork with the lock held elsewhere, `reset_locks` makes the breaker usable."""
    breaker = machine(clock)
    breaker._lock.acquire()
    breaker.reset_locks()
    assert not refused(breaker)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failures", 0),
        ("failures", 2.5),
        ("failures", True),
        ("failure_rate", 0),
        ("failure_rate", 1.5),
        ("minimum_calls", -1),
        ("minimum_calls", 1.5),
        ("window", float("nan")),
        ("open_for", float("inf")),
        ("open_for_max", 0.0),
        ("jitter", -0.1),
        ("jitter", 2),
        ("half_open_calls", 0),
        ("half_open_calls", 1.5),
        ("half_open_calls", "1"),
        ("permit_lease", None),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    """A number that cannot work is refused at construction, and the message names it."""
    with pytest.raises(ConfigurationError, match=name):
        BreakerSettings(**{name: value})
