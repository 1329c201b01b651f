"""Putting decorators around managers: by hand, as recommended, and from the environment."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, overload

from remanence.decorated import AsyncDecoratedManager, DecoratedManager
from remanence.errors import ConfigurationError, PolicyOrderError
from remanence.events import Listener
from remanence.interface import IAsyncMemoryManager, IMemoryManager
from remanence.managers.foreign import adapt
from remanence.managers.in_memory import InMemoryManager
from remanence.managers.urls import DEFAULT_URL
from remanence.policies.base import Decorator, install_wrap
from remanence.policies.circuit_breaker import CircuitBreaker
from remanence.policies.deadline import Deadline
from remanence.policies.fallback import Fallback
from remanence.policies.retry import Retry

__all__ = ["create_memory_manager", "resilient", "wrap"]

_log = logging.getLogger("remanence")


@overload
def wrap(
    manager: IAsyncMemoryManager,
    *policies: Decorator,
    listeners: Sequence[Listener] = (),
    owns_manager: bool = False,
) -> AsyncDecoratedManager: ...


@overload
def wrap(
    manager: IMemoryManager,
    *policies: Decorator,
    listeners: Sequence[Listener] = (),
    owns_manager: bool = False,
) -> DecoratedManager: ...


def wrap(
    manager: Any, *policies: Decorator, listeners: Sequence[Listener] = (), owns_manager: bool = False
) -> DecoratedManager | AsyncDecoratedManager:
    """Return `manager` inside the policies, the first one outermost.

    Args:
        manager: Ours, decorated or not; or any object with the four methods, all synchronous or all asynchronous.
        policies: In the order Fallback, Deadline, Retry, CircuitBreaker, of which any may be left out; each once.
        listeners: Told about events, see `remanence.events`.
        owns_manager: Whether closing closes `manager` too.

    Raises:
        PolicyOrderError: An order that cannot work, with the reason.
        ConfigurationError: `manager` is none, a policy is not one, or a listener cannot be called.
    """
    if not all(callable(listener) for listener in listeners):
        message = "a listener must be callable with an event: pass functions in listeners=[…]."
        raise ConfigurationError(message)
    inner_policies: tuple[Decorator, ...] = ()
    inner_listeners: tuple[Listener, ...] = ()
    if isinstance(manager, DecoratedManager | AsyncDecoratedManager):
        # One flat stack: a second driver would encode twice, and could not check the order.
        if manager.has_fallback:
            message = (
                "this manager already has a Fallback, which has to be outermost and whose journal is its own. Decorate "
                "the manager inside it instead."
            )
            raise PolicyOrderError(message)
        inner_policies, inner_listeners, manager = manager.policies, manager.listeners, manager.inner
    native = adapt(manager)
    stack = (*policies, *inner_policies)
    check_order(stack)
    kind = AsyncDecoratedManager if _is_async(native) else DecoratedManager
    return kind(manager, native, stack, (*listeners, *inner_listeners), owns_inner=owns_manager)


def check_order(policies: Sequence[Decorator]) -> None:
    """Raise PolicyOrderError unless the policies, outermost first, can work in this order."""
    for policy in policies:
        if not isinstance(policy, Decorator):
            # Its kind alone: its repr might hold a URL with a password.
            kind = f"the class {policy.__name__}" if isinstance(policy, type) else f"a {type(policy).__name__}"
            message = f"{kind} is no policy. Pass objects such as Retry() or CircuitBreaker(), outermost first."
            raise ConfigurationError(message)
    for outer, inner in combinations(policies, 2):
        if isinstance(outer, type(inner)) or isinstance(inner, type(outer)):
            message = f"{type(inner).__name__} is there twice: their effects multiply. Keep one."
            raise PolicyOrderError(message)
        if outer.place > inner.place:
            message = (
                f"{type(outer).__name__} cannot be outside {type(inner).__name__}: {_reason(outer, inner)} "
                "The order is Fallback, Deadline, Retry, CircuitBreaker, outermost first."
            )
            raise PolicyOrderError(message)


def _reason(outer: Decorator, inner: Decorator) -> str:
    if outer.place > CircuitBreaker.place:  # such as remanence.testing's FaultInjecting, which acts for the store
        return "it belongs inside CircuitBreaker."
    names = (cls.__name__ for cls in type(inner).__mro__)
    return next((_REASONS[name] for name in names if name in _REASONS), "its place is further out.")


_REASONS: Mapping[str, str] = {
    "Fallback": "it answers failures, so what is outside it never learns of one: no retry, and no breaker ever opens.",
    "Deadline": "it spans all attempts of a call; inside, every attempt would get the whole time again.",
    "Retry": "a breaker outside it counts one failure for all attempts of a call, and opens late.",
}


@overload
def resilient(
    manager: IAsyncMemoryManager,
    *,
    journal: str | os.PathLike[str] = "memory",
    fallback: Fallback | None = None,
    deadline: Deadline | float | None = None,
    retry: Retry | None = None,
    circuit_breaker: CircuitBreaker | None = None,
    listeners: Sequence[Listener] = (),
    owns_manager: bool = False,
) -> AsyncDecoratedManager: ...


@overload
def resilient(
    manager: IMemoryManager,
    *,
    journal: str | os.PathLike[str] = "memory",
    fallback: Fallback | None = None,
    deadline: Deadline | float | None = None,
    retry: Retry | None = None,
    circuit_breaker: CircuitBreaker | None = None,
    listeners: Sequence[Listener] = (),
    owns_manager: bool = False,
) -> DecoratedManager: ...


def resilient(
    manager: Any,
    *,
    journal: str | os.PathLike[str] = "memory",
    fallback: Fallback | None = None,
    deadline: Deadline | float | None = None,
    retry: Retry | None = None,
    circuit_breaker: CircuitBreaker | None = None,
    listeners: Sequence[Listener] = (),
    owns_manager: bool = False,
) -> DecoratedManager | AsyncDecoratedManager:
    """Return `manager` inside the recommended stack.

    Args:
        manager: See `wrap`.
        journal: Where acknowledged writes wait; see `Fallback`. Not together with `fallback`.
        fallback: Replaces the default `Fallback()`.
        deadline: Replaces the default `Deadline()`; a number of seconds will do.
        retry: Replaces the default `Retry()`.
        circuit_breaker: Replaces the default `CircuitBreaker()`; one object for all managers of the same store.
        listeners: Told about events.
        owns_manager: Whether closing closes `manager` too.

    Raises:
        ConfigurationError: A setting that cannot work.
    """
    if fallback is not None and journal != "memory":
        message = "both journal= and fallback= are given: pass Fallback(journal=…)."
        raise ConfigurationError(message)
    span = Deadline() if deadline is None else deadline if isinstance(deadline, Deadline) else Deadline(deadline)
    policies = (fallback or Fallback(journal=journal), span, retry or Retry(), circuit_breaker or CircuitBreaker())
    decorated: DecoratedManager | AsyncDecoratedManager = wrap(
        manager, *policies, listeners=listeners, owns_manager=owns_manager
    )
    return decorated


def create_memory_manager(environ: Mapping[str, str] | None = None) -> InMemoryManager | DecoratedManager:
    """Return the manager for the environment, as the framework's documentation chooses it.

    ENVIRONMENT=production: the resilient stack on the Redis of REDIS_URL, memories living 24 hours. Anything else:
    memories in this process, living 1 hour. Without REDIS_URL it is the default URL, with a warning.

    Args:
        environ: The environment, None for the process's.

    Raises:
        ConfigurationError: REDIS_URL is not a Redis URL.
    """
    environ = os.environ if environ is None else environ
    if environ.get("ENVIRONMENT", "development") != "production":
        return InMemoryManager(ttl=3600)
    from remanence.managers.redis import RedisWorkingMemoryManager  # noqa: PLC0415 - redis is needed here alone

    url = environ.get("REDIS_URL")
    if not url:
        # Said here: the manager would look into the process's environment, which may not be the one that was given.
        _log.warning("REDIS_URL is not set: using %s", DEFAULT_URL)
        url = DEFAULT_URL
    inner = RedisWorkingMemoryManager(url, ttl=86400)
    return wrap(inner, Fallback(), Deadline(), Retry(), CircuitBreaker(), owns_manager=True)


def _is_async(native: Any) -> bool:
    return inspect.iscoroutinefunction(native.perform)


install_wrap(wrap)
