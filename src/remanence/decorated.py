"""A manager inside its decorators: the flows around it, their driver, and what they offer beyond the interface."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self

from remanence.background import ReplayTask, ReplayThread
from remanence.clock import Clock
from remanence.errors import ConfigurationError, ManagerClosedError
from remanence.events import Listener
from remanence.flow import AsyncDriver, Call, Driver
from remanence.forked import at_process_end, reset_after_fork
from remanence.operations import ANY_VERSION, AsyncOperations, IfVersion, Operations
from remanence.policies.base import Context, Decorator
from remanence.policies.circuit_breaker import CircuitBreaker
from remanence.policies.deadline import Deadline
from remanence.policies.fallback import Fallback
from remanence.policies.fallback_calls import FallbackCalls, all_kept, resolve, with_waiting
from remanence.results import Conflict, Health, Receipt, ReplayCounts

__all__ = ["AsyncDecoratedManager", "DecoratedManager"]

_log = logging.getLogger("remanence")
_REPLAY_TIMEOUT = 30.0


class _Decorated:
    """What both flavours share."""

    guards_plain_writes = True
    _is_async: bool
    _chunk: int
    _background: ReplayThread | ReplayTask | None = None
    _driver: Any = None

    def __init__(
        self, inner: Any, native: Any, policies: Sequence[Decorator], listeners: Sequence[Listener], *, owns_inner: bool
    ) -> None:
        self.inner = inner
        self.policies = tuple(policies)
        self.clock: Clock = native.clock
        self.prefix: str = native.prefix
        self.ttl: float | None = native.ttl
        self.max_memory_bytes: int = native.max_memory_bytes
        self._native = native
        self._owns_inner = owns_inner
        self._closed = False
        deadline = next((policy for policy in self.policies if isinstance(policy, Deadline)), None)
        self.time_limit = deadline.seconds if deadline is not None else None
        self._fallback: FallbackCalls | None = None
        self._breaker: CircuitBreaker | None = None
        self.listeners = tuple(listeners)
        canonical = getattr(native, "canonical", None)
        context = Context(
            clock=self.clock,
            listeners=self.listeners,
            prefix=self.prefix,
            ttl=self.ttl,
            max_memory_bytes=self.max_memory_bytes,
            canonical=canonical,
            interruptible=self._is_async or getattr(native, "bounds_time", canonical is None),
            store=getattr(native, "store_id", f"{type(inner).__name__}#{self.prefix}"),
            chunk=self._chunk,
        )
        self._flows = [self._bind(policy, context) for policy in self.policies]
        reset_after_fork(self)

    def _take_up(self) -> None:
        """Bring home what an earlier process has left in the journal, without waiting for a call."""
        if not self._required_fallback().journal.is_idle:
            self._look_after()

    def _bind(self, policy: Decorator, context: Context) -> Any:
        if isinstance(policy, Fallback):
            self._fallback = policy.attach(context)
            self._inside = len(self.policies[: self.policies.index(policy)]) + 1
            return self._fallback.flow
        if isinstance(policy, CircuitBreaker):
            self._breaker = policy
        return policy.bind(context)

    def __repr__(self) -> str:
        names = ", ".join(type(policy).__name__ for policy in self.policies)
        return f"<{names} around {type(self.inner).__name__}>"

    def __getattr__(self, name: str) -> Any:
        # Reached only for what the decorators do not have: these attributes bypass all policies.
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def health(self) -> Health:
        """Return how the manager is, from memory alone: it asks nobody."""
        breaker, fallback = self._breaker, self._fallback
        states = (breaker.state.value, breaker.write_state.value) if breaker is not None else (None, None)
        failing = any(state not in {None, "closed", "disabled"} for state in states)
        if fallback is None or self._closed:
            return Health("unready" if failing or self._closed else "ready", states[0], states[1])
        counts = fallback.journal.counts()
        full = counts.entries >= fallback.journal.max_entries or counts.size >= fallback.journal.max_bytes
        degraded = failing or bool(counts.entries or counts.kept)
        return Health(
            "unready" if failing and full else "degraded" if degraded else "ready",
            breaker=states[0],
            write_breaker=states[1],
            pending=counts.entries - counts.stuck,
            stuck=counts.stuck,
            oldest_age_s=None if counts.oldest is None else max(0.0, self.clock.time() - counts.oldest),
            replayed=fallback.replayer.replayed,
            conflicts=fallback.replayer.conflicts,
            last_error=fallback.last_error,
        )

    def after_fork(self) -> None:
        """Start empty in a child process."""
        if self._breaker is not None:
            self._breaker.reset_locks()
        _busy.discard(self)
        if isinstance(self._driver, AsyncDriver):
            self._driver.after_fork()
        if self._fallback is not None and self._background is not None and not self._closed:
            self._background.reset()
            self._fallback.forget()  # last: the journal on disk may have become unusable

    def _check_open(self) -> None:
        if self._closed:
            raise ManagerClosedError

    def _required_fallback(self) -> FallbackCalls:
        if self._fallback is None:
            message = "there is no Fallback among the decorators: nothing is pending and nothing to replay."
            raise ConfigurationError(message)
        return self._fallback

    def _waiting_conflicts(self) -> list[Conflict]:
        return self._fallback.waiting_conflicts() if self._fallback is not None else []

    def _look_after(self) -> None:
        """Have what is pending brought home, and live until it is."""
        if self._background is not None:
            _busy.add(self)
            self._background.wake()

    def _enter(self) -> None:
        """Let a call in; whatever still waits without anybody looking after it is taken up again."""
        if self._closed:
            raise ManagerClosedError
        if self._fallback is not None and not self._fallback.journal.is_idle:
            self._look_after()

    def _is_idle(self) -> bool:
        idle = self._required_fallback().journal.is_idle
        if idle:
            _busy.discard(self)
        return idle

    @property
    def has_fallback(self) -> bool:
        """Whether a Fallback is among the decorators."""
        return self._fallback is not None

    @property
    def has_pending_writes(self) -> bool:
        """Whether acknowledged writes have not reached the store yet."""
        if self._closed or self._fallback is None:
            return False
        counts = self._fallback.journal.counts()
        return bool(counts.entries or counts.kept)

    @property
    def close_timeout(self) -> float:
        """Seconds that closing waits for pending writes."""
        return self._fallback.settings.close_timeout if self._fallback is not None else 0.0

    def report_pending(self) -> None:
        """Log how many acknowledged writes end with this process."""
        journal = self._required_fallback().journal
        left = journal.counts()
        if journal.is_shared and (left.entries or left.kept):
            _log.warning(
                "%d acknowledged write(s) wait in the journal for the next process (%d stuck).",
                left.entries + left.kept,
                left.stuck,
            )
        elif left.entries or left.kept:
            _log.error(
                "%d acknowledged write(s) did not reach the store in time and end with this process (%d stuck).",
                left.entries + left.kept,
                left.stuck,
            )


class DecoratedManager(_Decorated, Operations):
    """A synchronous manager inside its decorators; made by `wrap`, `resilient` or a policy."""

    _is_async = False
    _chunk = 1_000
    _background: ReplayThread | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._driver = Driver(self._flows, self._native.perform, self.clock)
        if self._fallback is not None:
            self._background = ReplayThread(self._round, self._is_idle)
            self._fallback.on_pending(self._look_after)
            _open.add(self)
            self._take_up()

    def _submit(self, call: Call) -> Any:
        self._enter()
        return self._driver.run(call)

    def conflicts(self) -> list[Conflict]:
        """Return the acknowledged writes that lost against what the store held, and were kept.

        Raises:
            RemanenceError or the manager's own: The store did not answer.
        """
        waiting = self._waiting_conflicts()  # before the store is asked: one may come home in between
        return with_waiting(waiting, Driver((), self._submit, self.clock).drive(all_kept(), None, 0))

    def resolve_conflict(
        self,
        conflict: Conflict,
        *,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        if_version: IfVersion = ANY_VERSION,
    ) -> Receipt | None:
        """End a conflict: store a text in the memory's place, or leave what is stored, and remove the copy.

        Only once the text is acknowledged the copy is removed. A copy that is gone already is no error; one that is on
        its way from the journal to the store at that moment may be listed again.

        Args:
            conflict: As `conflicts()` gave it.
            text: What the memory is to be, such as the copy's own text or a merged one; None leaves what is stored.
            metadata: JSON object stored beside the text, such as `conflict.metadata`; None is an empty one.
            if_version: For the text, as for `store`: the version that was read to make it.

        Returns:
            The text's receipt, None without a text.

        Raises:
            VersionConflictError: Somebody has written since `if_version`; nothing was changed, the copy is still there.
            RemanenceError or the manager's own: The copy is still there; a note on the error says whether the text was
                stored.
        """
        self._enter()
        flow = resolve(self, self._fallback, conflict, text=text, metadata=metadata, if_version=if_version)
        receipt: Receipt | None = self._driver.drive(flow, None, 0)
        return receipt

    def replay(self, timeout: float = _REPLAY_TIMEOUT) -> ReplayCounts:
        """Bring pending writes home now.

        Args:
            timeout: Seconds in all, waits for the circuit breaker's permit included.

        Returns:
            What was done and what is left.
        """
        self._check_open()
        return self._drain(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Drain, then end; what is left is reported in the log. A manager that was handed in stays open.

        Args:
            timeout: Seconds for draining; None for the fallback's `close_timeout`.
        """
        if self._closed:
            return
        self._closed = True  # first: what is acknowledged from here on would be left behind
        try:
            if self._fallback is not None and self._background is not None:
                self._drain(self.close_timeout if timeout is None else timeout)
                self._fallback.journal.seal()
                self._background.stop(0.0)
                self.report_pending()
                self._fallback.journal.close()
        finally:
            _busy.discard(self)
            if self._owns_inner:
                self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _round(self) -> float | None:
        pause: float | None = self._driver.drive(self._required_fallback().replayer.round(), None, self._inside)
        return pause

    def _drain(self, seconds: float) -> ReplayCounts:
        counts: ReplayCounts = self._driver.drive(self._required_fallback().replayer.drain(seconds), None, self._inside)
        return counts


class AsyncDecoratedManager(_Decorated, AsyncOperations):
    """An asynchronous manager inside its decorators; made by `wrap`, `resilient` or a policy."""

    _is_async = True
    _chunk = 100  # what is done for an entry between two awaits takes some 10 µs
    _background: ReplayTask | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ends_in_time = getattr(self._native, "bounds_time", False)
        self._driver = AsyncDriver(self._flows, self._native.perform, self.clock, ends_in_time=ends_in_time)
        if self._fallback is not None:
            self._background = ReplayTask(self._round, self._is_idle)
            self._fallback.on_pending(self._look_after)
            _open.add(self)
            self._take_up()

    async def _submit(self, call: Call) -> Any:
        self._enter()
        return await self._driver.run(call)

    async def conflicts(self) -> list[Conflict]:
        """See `DecoratedManager.conflicts`."""
        waiting = self._waiting_conflicts()
        return with_waiting(waiting, await self._follow(all_kept()))

    async def resolve_conflict(
        self,
        conflict: Conflict,
        *,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        if_version: IfVersion = ANY_VERSION,
    ) -> Receipt | None:
        """See `DecoratedManager.resolve_conflict`."""
        self._enter()
        flow = resolve(self, self._fallback, conflict, text=text, metadata=metadata, if_version=if_version)
        receipt: Receipt | None = await self._driver.drive(flow, None, 0)
        return receipt

    async def replay(self, timeout: float = _REPLAY_TIMEOUT) -> ReplayCounts:  # noqa: ASYNC109 - spans many awaits
        """See `DecoratedManager.replay`."""
        self._check_open()
        return await self._drain(timeout)

    async def aclose(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - spans many awaits
        """See `DecoratedManager.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._fallback is not None and self._background is not None:
                await self._drain(self.close_timeout if timeout is None else timeout)
        finally:
            try:
                if self._background is not None:
                    await self._background.stop(0.1)
            finally:
                await self._end()

    async def _end(self) -> None:
        if self._fallback is not None:
            self._fallback.journal.seal()
            self.report_pending()
            self._fallback.journal.close()
        self._driver.close()
        _busy.discard(self)
        if self._owns_inner:
            await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _round(self) -> float | None:
        pause: float | None = await self._driver.drive(self._required_fallback().replayer.round(), None, self._inside)
        return pause

    async def _drain(self, seconds: float) -> ReplayCounts:
        counts: ReplayCounts = await self._driver.drive(
            self._required_fallback().replayer.drain(seconds), None, self._inside
        )
        return counts


_open: weakref.WeakSet[DecoratedManager | AsyncDecoratedManager] = weakref.WeakSet()
_busy: set[_Decorated] = set()
"""Those with pending writes: nothing else may hold one, and its writes must not go with it unreported."""


def _end() -> None:
    """Give pending writes a last chance: all managers share the longest of their `close_timeout`s."""
    waiting = [manager for manager in list(_open) if manager.has_pending_writes]
    if not waiting:
        return
    seconds = max(manager.close_timeout for manager in waiting)
    for manager, begun in [(manager, manager.clock.monotonic()) for manager in waiting]:
        if isinstance(manager, DecoratedManager):
            manager.close(max(0.0, seconds - (manager.clock.monotonic() - begun)))
        else:
            manager.report_pending()  # its loop is gone


at_process_end(_end)
