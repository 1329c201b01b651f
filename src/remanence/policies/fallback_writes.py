"""Writes through the fallback: to the store, else into the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from remanence.classify import is_outage
from remanence.errors import JournalError, ManagerClosedError, VersionConflictError
from remanence.events import WriteJournaled, WriteRefused
from remanence.flow import PROCEED, Call, Flow, Sleep
from remanence.journal.entry import BLIND, Entry, KeptValue
from remanence.policies.fallback_entries import Entries
from remanence.policies.fallback_state import FallbackState, attempted
from remanence.policies.knowledge import Copy, View
from remanence.record import ABSENT
from remanence.results import Receipt

__all__ = ["Writes"]

_log = logging.getLogger("remanence")

_PENDING = "pending"
_UNSETTLED = "unsettled"
_UNSEEN = "unseen"


class Writes:
    """The flows of writes."""

    def __init__(self, state: FallbackState) -> None:
        self._state = state
        self._journal = state.journal
        self._knowledge = state.knowledge
        self._context = state.context
        self._entries = Entries(state)

    def one(self, call: Call) -> Flow:
        """Return the flow around a store, an update or a delete."""
        flow = self._one(call)
        return self._state.deleting(call, flow) if call.operation == "delete" else flow

    def many(self, call: Call) -> Flow:
        """Return the flow around a batch of stores or of deletes."""
        flow = self._many(call)
        return self._state.deleting(call, flow) if call.operation == "delete_many" else flow

    def _one(self, call: Call) -> Flow:
        view, reason = self._enter(call)
        if reason:
            return (yield from self._to_journal(call, view, reason))
        conditional = call.guard is not None
        self._guard(call, view)
        failure: Exception | None = None
        receipt: Any = None
        try:
            receipt = yield PROCEED
        except Exception as error:  # noqa: BLE001 - classified below
            failure = error
        except BaseException:
            yield from self._given_up(call)
            raise
        if failure is not None and is_outage(failure):
            yield from self._await_settled(call, [call])
        if failure is not None:
            # Outside the except block: an error of ours must not carry the store's own text along as its context.
            if isinstance(failure, VersionConflictError):
                return (yield from self._conflicting(call, view, failure, conditional=conditional))
            return (yield from self._failed(call, view, failure, conditional=conditional))
        yield from self._committed(call, receipt, conditional=conditional)
        if self._state.is_unidentified:
            yield from self._state.identify((call.key,))
        return receipt

    def _many(self, call: Call) -> Flow:
        results: list[Any] = [None] * len(call.items)
        views: dict[int, View] = {}
        for place, item in enumerate(call.items):
            view, reason = self._enter(item)
            if reason:
                results[place] = yield from attempted(self._to_journal(item, view, reason))
            else:
                self._guard(item, view)
                views[place] = view
        try:
            answers = yield from self._state.run_items(call, list(views))
        except BaseException:
            for place in views:
                self._hand_down(call, call.items[place])
                yield from self._given_up(call.items[place])
            raise
        if call.unsettled_until:
            for place in views:
                self._hand_down(call, call.items[place])
            yield from self._await_settled(call, [call.items[place] for place in views])
        for (place, view), answer in zip(views.items(), answers, strict=True):
            results[place] = yield from self._settle_item(call, call.items[place], view, answer)
        if self._state.is_unidentified and any(isinstance(answer, Receipt) for answer in answers):
            yield from self._state.identify([call.items[place].key for place in views])
        return results

    def _await_settled(self, call: Call, items: Sequence[Call]) -> Flow:
        """Wait until no unguarded attempt can be applied any more.

        Once the caller has been told that the write is kept, another process may write too; an attempt that comes after
        that would displace a write which nobody has seen.
        """
        wait = call.unsettled_until - self._context.clock.monotonic()
        if wait <= 0 or call.operation == "update" or all(item.guard is not None for item in items):
            return
        try:
            yield Sleep(wait)
        except BaseException:
            for item in items:
                yield from self._given_up(item)
            raise

    def _settle_item(self, call: Call, item: Call, view: View, answer: Any) -> Flow:
        if not isinstance(answer, Exception):
            yield from self._committed(item, answer, conditional=False)
            return answer
        self._hand_down(call, item)
        if isinstance(answer, VersionConflictError):
            return (yield from attempted(self._conflicting(item, view, answer)))
        return (yield from attempted(self._failed(item, view, answer)))

    def _hand_down(self, call: Call, item: Call) -> None:
        item.unsettled_until = max(item.unsettled_until, call.unsettled_until)
        item.attempts = max(item.attempts, call.attempts)

    def _enter(self, call: Call) -> tuple[View, str]:
        """Give the call its place in the order; return what is known, and why the store is not asked, if so."""
        call.sequence = self._knowledge.number()
        if call.operation == "delete":
            call.kept = self._journal.last_kept
        # First the journal: what it no longer holds is known by then.
        pending = self._journal.get(call.key)
        view = self._knowledge.view(call.key)
        if pending is not None:
            return view, _PENDING
        return view, _UNSETTLED if view.unsettled_until else ""

    def _guard(self, call: Call, view: View) -> None:
        """Make a write after a degraded read conditional on what that answered; spare an update its read."""
        call.over = view.over
        if view.marked and call.guard is None:
            base = ABSENT if view.mark_base is BLIND else view.mark_base
            call.guard = (base, *view.own_before(call.sequence))
        if call.operation == "update" and call.known is None and view.copy is not None and not self._is_foreign:
            call.known = view.copy.raw

    @property
    def _is_foreign(self) -> bool:
        return self._context.canonical is not None

    def _committed(self, call: Call, receipt: Receipt, *, conditional: bool) -> Flow:
        if receipt.outcome == "missing" and call.operation == "update":
            # Nothing was written: it told what a read would have told.
            self._knowledge.learn_read(call.key, None, call.sequence)
            return
        until = None if call.ttl is None else self._context.clock.time() + call.ttl
        self._knowledge.learn_write(call.key, receipt.raw, call.sequence, until, conditional=conditional)
        if len(self._journal):
            again = self._entries.again
            now = self._context.clock.monotonic()
            made = partial(again, call, receipt.raw, until, conditional=conditional)
            yield from self._state.journaling(self._journal.supersede, call.key, made, now)
        if call.operation == "delete":
            yield from self._forget_kept(call)

    def _conflicting(self, call: Call, view: View, error: VersionConflictError, *, conditional: bool = False) -> Flow:
        if conditional or not (view.marked or call.unsettled_until):
            self._knowledge.learn_conflict(call.key, error.current)
            yield from self._given_up(call)
            raise error
        call.guard = None
        copy = self._knowledge.view(call.key).copy
        is_encoded = call.raw is not None or call.operation == "delete"
        if copy is not None and copy.own > call.sequence and error.current == (copy.raw or b"") and is_encoded:
            return (yield from self._overtaken(call, copy))
        # The store holds what this process has not seen: the rules of the replay decide, and nothing is lost.
        return (yield from self._to_journal(call, view, _UNSEEN))

    def _overtaken(self, call: Call, copy: Copy) -> Flow:
        """Keep a write, whose first answer was lost, that a later one of this process has replaced meanwhile.

        In the journal it would be what this process reads until the replay, instead of the later one.
        """
        if copy.plain < call.sequence and call.operation != "delete":
            yield from self._state.journaling(self._journal.keep, KeptValue(call.key, call.raw))
            self._state.wake()
        if call.unsettled_until > self._context.clock.monotonic():
            yield from self._given_up(call)
        return Receipt(call.key, "journaled", None if call.operation == "delete" else self._state.canonical(call.raw))

    def _failed(self, call: Call, view: View, error: Exception, *, conditional: bool = False) -> Flow:
        if not is_outage(error):
            yield from self._given_up(call)
            raise error
        self._state.note_outage(error)
        if call.deleted:
            _log.warning(
                "a memory was deleted, but conflict copies of it may be left (%s); delete it once more, or they go "
                "after conflict_ttl",
                type(error).__name__,
            )
            receipt = Receipt(call.key, call.deleted)
            yield from self._committed(call, receipt, conditional=conditional)
            return receipt
        if not conditional:
            call.guard = None
        return (yield from self._to_journal(call, view, type(error).__name__))

    def _left_to_others(self, call: Call, pending: Entry) -> None:
        """Whichever process brings it home: the next write to the key is made over this one, or meets the rules."""
        is_ours = pending.sequence == call.sequence
        self._knowledge.mark(call.key, pending.version if is_ours else BLIND, held=False)
        if is_ours:
            self._knowledge.learn_journaled(call.key, self._state.canonical(pending.raw), pending.expires_at)

    def _was_seen(self, call: Call, view: View) -> Callable[[Entry], bool]:
        """Return what tells whether this process has seen, or written, what waits."""
        # A deletion is of whatever waits on its host: that is in one order.
        return lambda pending: (
            pending.writer == self._journal.writer
            or call.operation == "delete"
            or (view.marked and view.mark_base == pending.version)
        )

    def _forget_kept(self, call: Call) -> Flow:
        # What came since may be of a write that began when the deletion had been made.
        if call.kept:
            yield from self._state.journaling(self._journal.forget_kept_of, call.key, call.kept)

    def _abandoned(self, call: Call) -> None:
        """Remember an attempt that may still be applied, whatever becomes of the call."""
        if call.unsettled_until:
            self._knowledge.unsettle(call.key, call.unsettled_until, self._entries.sent(call))

    def _given_up(self, call: Call) -> Flow:
        """The call ends without being kept: what its attempt may still replace must be written again afterwards."""
        self._abandoned(call)
        if call.deleted:
            # That was answered: only conflict copies were left to remove.
            yield from self._committed(call, Receipt(call.key, call.deleted), conditional=False)
        copy = self._knowledge.view(call.key).copy
        if not call.unsettled_until or copy is None or copy.own <= call.sequence:
            return
        winner = self._entries.winner(call, copy)
        with suppress(JournalError, ManagerClosedError):
            yield from self._state.journaling(
                self._journal.record, call.key, lambda pending: winner if pending is None else None
            )
            self._state.wake()

    def _to_journal(self, call: Call, view: View, reason: str) -> Flow:
        # Before the entry can be replayed and gone: a later call must not run into the attempt that is left behind.
        self._abandoned(call)
        missing = superseded = False
        before: Copy | None = None
        # Then it is known what the store holds, and that is neither.
        is_answered = reason == _UNSEEN and call.unsettled_until <= self._context.clock.monotonic()

        def build(pending: Entry | None) -> Entry | None:
            nonlocal missing, superseded, before
            # Under the journal's lock, so that a commit either is seen here or sees the entry.
            copy = self._knowledge.view(call.key).copy
            superseded = pending is None and copy is not None and _is_superseded(call, copy)
            if superseded and copy is not None:
                # The call's attempt may have been applied over the later write, or may still be.
                return self._entries.winner(call, copy) if call.unsettled_until and not is_answered else None
            entry = self._entries.make(call, view, pending)
            missing = entry is None
            if self._journal.is_shared and entry is not None:
                # Another process may bring it home: then the copy would be older than what the store holds.
                before = copy
                self._knowledge.forget(call.key)
            return entry

        try:
            was_seen = self._was_seen(call, view) if self._journal.is_shared else None
            pending = yield from self._state.journaling(self._journal.record, call.key, build, was_seen)
        except JournalError as error:
            if before is not None:
                self._knowledge.put_back(call.key, before)
            yield from self._given_up(call)
            self._context.tell(WriteRefused(call.operation, type(error).__name__))
            raise
        if missing:
            return Receipt(call.key, "missing")
        if self._journal.is_shared and pending is not None:
            self._left_to_others(call, pending)
        if not superseded:
            self._context.tell(WriteJournaled(call.operation, reason))
            # Unless a later write stays: then what is kept may be this very deletion.
            if call.operation == "delete" and pending is not None and pending.sequence == call.sequence:
                yield from self._forget_kept(call)
        self._state.wake()
        written = None if call.operation == "delete" else self._state.canonical(call.raw)
        return Receipt(call.key, "journaled", written)


def _is_superseded(call: Call, copy: Copy) -> bool:
    """Whether a plain write that entered later has been committed meanwhile: then that is the one that stays."""
    return copy.plain > call.sequence and call.guard is None and call.operation != "update"
