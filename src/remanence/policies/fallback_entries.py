"""How a write becomes a journal entry: over what it was made, and which of its values may have reached the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from remanence.errors import VersionConflictError
from remanence.flow import Call
from remanence.journal.entry import BLIND, Entry
from remanence.policies.fallback_state import FallbackState
from remanence.policies.knowledge import Copy, View
from remanence.record import ABSENT, check_size, decode, encode, revise

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["Entries"]


class Entries:
    """Makes the entries of one manager."""

    def __init__(self, state: FallbackState) -> None:
        self._state = state
        self._context = state.context

    def sent(self, call: Call) -> tuple[str, ...]:
        """Return the digests of every value that was sent for `call`; it must not have been encoded anew since."""
        if not call.attempts or (call.operation == "update" and call.raw is None):
            return call.sent
        return (*call.sent, self._state.version(None if call.operation == "delete" else call.raw))

    def make(self, call: Call, view: View, pending: Entry | None) -> Entry | None:
        """Make the entry of a write over what is pending, or else over what is known; None: there is nothing to update.

        Args:
            call: The write.
            view: What was known when it entered.
            pending: What waits for the same key.

        Raises:
            VersionConflictError: This process would answer a read with another version than the call's.
            InvalidInputError: What the update makes is too long, or its metadata not JSON.
        """
        sent = self.sent(call)
        latest = self._state.knowledge.view(call.key)
        held, is_known = (pending.raw, True) if pending is not None else _held(view)
        if is_known and call.guard is not None:
            self._check_version(call, held)
        if call.operation == "update":
            if pending is not None and held is None:
                return None
            call.raw = self._updated(call, held)
        raw = None if call.operation == "delete" else call.raw
        now = self._context.clock.time()
        over = sent + latest.unsettled
        if view.marked and not view.mark_held and view.mark_base is not None:
            # A pending value that was read, or written here: should another process have brought it home, this one
            # has seen what the store holds.
            over += (view.mark_base,)
        if call.guard is None:
            # An earlier write of this process may have been committed in the meantime, and is this one's to replace.
            over += latest.own_before(call.sequence)
        return Entry(
            key=call.key,
            operation=cast("Literal['store', 'update', 'delete']", call.operation),
            raw=raw,
            version=self._state.version(raw),
            expires_at=None if call.ttl is None or raw is None else now + call.ttl,
            base=_base(call, view),
            base_until=self._base_until(view),
            server=view.copy.server if view.copy is not None else None,
            sent=tuple(dict.fromkeys(over)),
            sequence=call.sequence,
            journaled_at=now,
            not_before=max(call.unsettled_until, latest.unsettled_until),
            conditional=call.guard is not None,
            writer=self._state.journal.writer,
        )

    def again(self, call: Call, raw: bytes | None, until: float | None, *, conditional: bool) -> Entry:
        """Make the entry that would write what `call` has just committed once more, over itself."""
        version = self._state.version(raw)
        return Entry(
            key=call.key,
            operation="store" if raw is not None else "delete",
            raw=raw,
            version=version,
            expires_at=until if raw is not None else None,
            base=version,
            base_until=None,
            server=None,
            sent=(),
            sequence=call.sequence,
            journaled_at=self._context.clock.time(),
            conditional=conditional,
            committed=True,
            writer=self._state.journal.writer,
        )

    def winner(self, call: Call, copy: Copy) -> Entry:
        """Make the entry that writes `copy` once more, over itself or over an attempt of `call` that may come late.

        Not before a deletion is over that entered later: what that leaves looks like what a late deletion leaves.
        """
        version = self._state.version(copy.raw)
        return Entry(
            key=call.key,
            operation="store" if copy.raw is not None else "delete",
            raw=copy.raw,
            version=version,
            expires_at=copy.until if copy.raw is not None else None,
            base=version,
            base_until=None,
            server=None,
            sent=tuple(dict.fromkeys((*copy.rivals, *self.sent(call)))),
            sequence=copy.own,
            journaled_at=self._context.clock.time(),
            not_before=max(call.unsettled_until, self._state.deletion_until(call.key, copy.own)),
            conditional=copy.plain != copy.own,
            committed=True,
            writer=self._state.journal.writer,
        )

    def _updated(self, call: Call, held: bytes | None) -> bytes:
        text = call.text or ""
        if held is None:
            raw = encode(text, call.metadata, call.stamp, call.stamp)
        else:
            raw = revise(held, call.key, text, call.metadata, call.stamp)
        return check_size(raw, self._context.max_memory_bytes)

    def _check_version(self, call: Call, held: bytes | None) -> None:
        if self._state.version(held) not in (call.guard or ()):
            raise VersionConflictError(held or b"")

    def _base_until(self, view: View) -> float | None:
        copy = view.copy
        if copy is None or copy.raw is None:
            return None
        if copy.until is not None:
            return copy.until
        if self._context.ttl is None:
            return float("inf")
        stamped = decode(copy.raw, "").last_update_seconds()
        return None if stamped is None else stamped + self._context.ttl


def _held(view: View) -> tuple[bytes | None, bool]:
    """What this process would answer, and whether it knows anything."""
    if view.copy is None or view.is_blind:
        return None, False
    return view.copy.raw, True


def _base(call: Call, view: View) -> str | None:
    if call.guard is None:
        return view.base
    version = call.guard[0]
    if view.marked:
        return version if view.mark_held and version == view.mark_base else BLIND
    # "Only where nothing is" says nothing about what the store holds, unless that is known.
    return BLIND if version == ABSENT and view.is_blind else version
