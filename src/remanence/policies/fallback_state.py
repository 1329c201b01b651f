"""What the parts of one manager's fallback share: the journal, what is known, and the way inwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from remanence.classify import is_outage
from remanence.errors import CircuitOpenError
from remanence.flow import Blocking, Call, Flow, Invoke
from remanence.journal import Journal
from remanence.policies.base import Context
from remanence.policies.fallback_settings import FallbackSettings
from remanence.policies.knowledge import Knowledge
from remanence.record import ABSENT, digest

__all__ = ["FallbackState", "attempt", "attempted"]

_IDENTIFY_SECONDS: Final = 0.04
"""What learning the server's identity may add to a call, within the 50 ms that a deadline may be exceeded by."""
_IDENTIFY_AGAIN: Final = 10.0
_UNBOUNDED: Final = 5.0
"""What a deletion may take that nobody has set a deadline for."""
_GRACE: Final = 0.05
"""What a call may take beyond its deadline."""

_NEVER = float("inf")


class FallbackState:
    """One manager's fallback.

    Attributes:
        settings: Of the policy.
        context: What is known of the manager.
        journal: The pending writes.
        knowledge: Last-known copies and marks.
        wake: Called, with no lock held, when something has become pending.
        last_error: Class name of the last failure of the store, None without one.
    """

    def __init__(self, settings: FallbackSettings, context: Context, journal: Journal) -> None:
        self.settings = settings
        self.context = context
        self.journal = journal
        self.knowledge = Knowledge(
            max_copies=settings.max_copies,
            max_bytes=settings.max_copy_bytes,
            monotonic=context.clock.monotonic,
            number=journal.number,
        )
        self.wake: Callable[[], None] = _nothing
        self.last_error: str | None = None
        self.identify_at = 0.0
        self._deletions: dict[int, Call] = {}

    def forget(self) -> None:
        """Start empty: a child process after fork leaves everything to its parent."""
        self.journal.clear()
        self.knowledge.after_fork()
        self.identify_at = 0.0
        self._deletions.clear()

    def deleting(self, call: Call, flow: Flow) -> Flow:
        """Return the flow of a deletion, or of a batch of them, that is known to be under way."""
        self._deletions[id(call)] = call
        try:
            return (yield from flow)
        finally:
            self._deletions.pop(id(call), None)

    def deletion_until(self, key: str, sequence: int) -> float:
        """Return when (monotonic) a deletion that entered after `sequence` will be over, 0.0 if none is under way."""
        under_way = [
            call
            for call in list(self._deletions.values())
            if any(item.key == key and item.sequence > sequence for item in call.items or (call,))
        ]
        unknown = self.context.clock.monotonic() + _UNBOUNDED
        return max((call.deadline or unknown for call in under_way), default=-_GRACE) + _GRACE

    def canonical(self, raw: bytes | None) -> bytes | None:
        """Return the record that reading `raw` back would give."""
        canonical = self.context.canonical
        return raw if canonical is None or raw is None else canonical(raw)

    def version(self, raw: bytes | None) -> str:
        """Return the digest of what reading `raw` back would give, ABSENT for nothing."""
        stored = self.canonical(raw)
        return ABSENT if stored is None else digest(stored)

    def journaling(self, work: Callable[..., Any], *args: Any) -> Flow:
        """Have the journal do what changes it, or takes long; give what it gives."""
        # A flow that is thrown away may yield nothing more.
        if not self.journal.waits or isinstance(sys.exception(), GeneratorExit):
            return work(*args)
        return (yield Blocking(partial(work, *args)))

    def note_outage(self, error: Exception) -> None:
        """Remember that the store failed; when it answers again it may be another one."""
        if not isinstance(error, CircuitOpenError):  # that says only that there was one before
            self.last_error = type(error).__name__
        self.identify_at = 0.0

    @property
    def is_unidentified(self) -> bool:
        """Whether `identify` would ask: spares every call a generator."""
        return self.identify_at != _NEVER

    def identify(self, keys: Sequence[str]) -> Flow:
        """Learn which server answered for `keys` just now: later that tells a deletion from a restart without data."""
        now = self.context.clock.monotonic()
        if now < self.identify_at:
            return
        self.identify_at = _NEVER
        call = Call("identify")
        call.deadline = now + _IDENTIFY_SECONDS
        try:
            server = yield Invoke(call)
        except BaseException as error:
            # Not known: then nothing counts as a deletion.
            self.identify_at = now + _IDENTIFY_AGAIN
            if not isinstance(error, Exception):
                raise
        else:
            self.knowledge.learn_server(server, keys)

    def run_items(self, call: Call, places: Sequence[int]) -> Flow:
        """Run the items at `places` inside; an outage of the whole is each one's."""
        if not places:
            return []
        inner = call
        if len(places) < len(call.items):
            inner = Call(call.operation, items=[call.items[place] for place in places], guarded=call.guarded)
        try:
            answers = yield Invoke(inner)
        except Exception as error:
            if not is_outage(error):
                raise
            answers = [error] * len(places)
        finally:
            call.attempts = max(call.attempts, inner.attempts)
            call.unsettled_until = max(call.unsettled_until, inner.unsettled_until)
        return answers


def attempt(fn: Callable[..., Any], *args: Any) -> Any:
    """Return what `fn` returns or raises: a batch settles per item."""
    try:
        return fn(*args)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this item's
        return error


def attempted(flow: Flow) -> Flow:
    """Return what `flow` returns or raises."""
    try:
        return (yield from flow)
    except Exception as error:  # noqa: BLE001 - as above
        return error


def _nothing() -> None:
    pass
