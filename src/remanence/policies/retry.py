"""Retry: repeat what may succeed the second time, with backoff and jitter, on tenacity's conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import tenacity

from remanence.classify import is_transient
from remanence.errors import ConfigurationError
from remanence.events import RetryScheduled
from remanence.flow import PROCEED, Call, Flow, Invoke, Sleep
from remanence.policies.base import Context, Decorator
from remanence.policies.retry_budget import RetryBudget
from remanence.settings import fraction, positive

__all__ = ["Retry"]

_RESULT_PREDICATES = (tenacity.retry_if_result, tenacity.retry_if_not_result)
_EXAMPLES = {
    "stop": "stop_after_delay(1.0)",
    "wait": "wait_fixed(0.1)",
    "retry": "retry_if_exception_type(ConnectionError)",
}


class Retry(Decorator):
    """Repeats a call that failed for a passing reason.

    Waits never go past the deadline, and a write whose last attempt may still be under way is repeated only once the
    server would refuse that attempt. Of a batch only the failed items are repeated.

    Args:
        attempts: Attempts in all, at least 1. Ignored when `stop` is given.
        stop: A tenacity stop condition.
        wait: A tenacity wait; default full jitter within 20 to 500 ms (AWS Architecture Blog, "Exponential Backoff And
            Jitter").
        retry: A tenacity retry condition on exceptions; default: the transient class of `classify`.
        budget_ratio: Retries allowed per recent call, 0 to 1. One object's budget is shared by all that it decorates.
        budget_per_second: Retries per second that are always allowed.

    Raises:
        ConfigurationError: A number out of range, no condition, or one on results: a result is an answer.
    """

    place: ClassVar[int] = 40

    def __init__(
        self,
        *,
        attempts: int = 3,
        stop: Any = None,
        wait: Any = None,
        retry: Any = None,
        budget_ratio: float = 0.2,
        budget_per_second: float = 3.0,
    ) -> None:
        if positive("attempts", attempts) % 1:
            message = f"attempts must be a whole number of at least 1, not {attempts!r}."
            raise ConfigurationError(message)
        for name, condition in (("stop", stop), ("wait", wait), ("retry", retry)):
            if condition is not None and not callable(condition):
                message = f"{name} must be a tenacity condition, such as tenacity.{_EXAMPLES[name]}."
                raise ConfigurationError(message)
        _refuse_result_predicates(retry)
        self.budget_ratio: float = fraction("budget_ratio", budget_ratio)
        self.budget_per_second: float = positive("budget_per_second", budget_per_second)
        self._any_exception = retry is not None
        self._retrying = tenacity.Retrying(
            stop=stop or tenacity.stop_after_attempt(attempts),
            wait=wait or tenacity.wait_random_exponential(multiplier=0.1, min=0.02, max=0.5),
            retry=retry or tenacity.retry_if_exception(is_transient),
            reraise=True,
        )
        self._budget: RetryBudget | None = None

    @property
    def budget_available(self) -> float:
        """Retries that the budget allows right now."""
        return self._budget.available if self._budget is not None else self.budget_per_second

    def bind(self, context: Context) -> Callable[[Call], Flow]:
        """Return the flow around every call of one manager."""
        if self._budget is None:
            self._budget = RetryBudget(
                ratio=self.budget_ratio, per_second=self.budget_per_second, monotonic=context.clock.monotonic
            )
        return _Bound(self, context, self._budget).flow

    def worth_repeating(self, error: Exception) -> bool:
        """Whether tenacity should be asked at all: it costs more than the common failures are worth."""
        return self._any_exception or is_transient(error)

    def would_repeat(self, error: Exception) -> bool:
        """Whether the condition holds for `error`: a batch's items are judged one by one, tenacity sees one of them."""
        if not self._any_exception:
            return is_transient(error)
        state = tenacity.RetryCallState(self._retrying, None, (), {})
        state.set_exception((type(error), error, error.__traceback__))
        return bool(self._retrying.retry(state))

    def controller(self, sleep: Callable[[float], None]) -> tenacity.Retrying:
        """Return tenacity's controller for one call; a shared one would leak state between threads."""
        return self._retrying.copy(sleep=sleep)


class _Bound:
    """One manager's retries."""

    def __init__(self, policy: Retry, context: Context, budget: RetryBudget) -> None:
        self._policy = policy
        self._context = context
        self._budget = budget

    def flow(self, call: Call) -> Flow:
        self._budget.count_call()
        started = self._context.clock.monotonic()
        try:
            result = yield PROCEED
        except Exception as error:
            if not self._policy.worth_repeating(error):
                raise
            failure = error
        else:
            return (yield from self._repeat_items(call, result, None, started)) if call.items else result
        if call.items:
            return (yield from self._repeat_items(call, None, failure, started))
        return (yield from self._repeat(call, failure, started, lambda result: (result, None)))

    def _repeat(self, call: Call, failure: Exception, started: float, settle: Callable[[Any], Any]) -> Flow:
        """Repeat `call` as long as the conditions, the deadline and the budget allow; else raise the last failure.

        Args:
            call: What to repeat.
            failure: Why its first attempt failed.
            started: When the call began.
            settle: Gets an attempt's result and gives the call's result and None, or anything and the failure in it.
        """
        delays: list[float] = []
        last: Exception | None = None
        for attempt in self._policy.controller(delays.append):
            state = attempt.retry_state
            if last is None:
                last = failure
            else:
                delay = self._delay(call, delays.pop(), last)
                self._context.tell(RetryScheduled(call.operation, state.attempt_number - 1, delay, type(last).__name__))
                yield Sleep(delay)
                try:
                    result, unsettled = settle((yield Invoke(call)))
                except Exception as error:  # noqa: BLE001 - tenacity's condition decides
                    last = error
                else:
                    if unsettled is None:
                        return result
                    last = unsettled
            state.set_exception((type(last), last, last.__traceback__))
            # The conditions see the time since the call began, by the manager's clock.
            state.start_time = (state.outcome_timestamp or 0.0) - (self._context.clock.monotonic() - started)
        raise AssertionError  # pragma: no cover - tenacity re-raises when it stops

    def _repeat_items(self, call: Call, result: list[Any] | None, failure: Exception | None, started: float) -> Flow:
        """Repeat the failed items of a batch; whatever fails in the end stays with its item.

        Args:
            call: The batch.
            result: What the first attempt brought, None when it failed as a whole.
            failure: Why it did.
            started: When the call began.
        """
        places = list(range(len(call.items))) if result is None else self._places(call, result)
        if not places:
            return result
        again = Call(call.operation, items=[call.items[i] for i in places], guarded=call.guarded)
        again.deadline, again.attempts, again.unsettled_until = call.deadline, call.attempts, call.unsettled_until

        def settle(repeated: list[Any]) -> tuple[Any, Exception | None]:
            nonlocal result
            if result is None:
                result = list(repeated)
            for place, item in zip(places, repeated, strict=True):
                result[place] = item
            places[:] = self._places(call, result)
            again.items = [call.items[place] for place in places]
            return result, result[places[0]] if places else None

        try:
            return (yield from self._repeat(again, failure or result[places[0]], started, settle))  # type: ignore[index]
        except Exception:
            if result is None:
                raise
            return result  # the items keep their own failures
        finally:
            call.attempts = again.attempts
            call.unsettled_until = max(call.unsettled_until, again.unsettled_until)

    def _places(self, call: Call, result: list[Any]) -> list[int]:
        """Return which items to repeat: the failed ones, and later ones of their keys, so that the last stays last."""
        keys: set[str] = set()
        places: list[int] = []
        for place, item in enumerate(result):
            key = call.items[place].key
            if key in keys or self._is_worth(item):
                keys.add(key)
                places.append(place)
        return places

    def _is_worth(self, item: object) -> bool:
        return isinstance(item, Exception) and self._policy.would_repeat(item)

    def _delay(self, call: Call, delay: float, last: Exception) -> float:
        now = self._context.clock.monotonic()
        if call.writes:
            # An attempt that may still be applied must be out of time first, or it could undo a later write.
            delay = max(delay, call.unsettled_until - now)
        delay = max(delay, 0.0)  # whatever a wait condition gives
        if call.deadline is not None and now + delay >= call.deadline:
            raise last
        if not self._budget.take():
            raise last
        return delay


def _refuse_result_predicates(condition: Any) -> None:
    if isinstance(condition, _RESULT_PREDICATES):
        message = "retry= has a condition on results; a result is an answer. Use conditions on exceptions."
        raise ConfigurationError(message)
    for part in getattr(condition, "retries", ()):
        _refuse_result_predicates(part)
