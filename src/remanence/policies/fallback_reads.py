"""Reads through the fallback: from the store, else a pending write, else the last-known copy."""

from __future__ import annotations

from typing import Any

from remanence.classify import is_outage
from remanence.errors import CorruptRecordError, MemoryUnavailableError
from remanence.events import ReadDegraded
from remanence.flow import PROCEED, Call, Flow
from remanence.interface import IWorkingMemory
from remanence.journal.entry import BLIND, Entry
from remanence.policies.fallback_state import FallbackState, attempt
from remanence.policies.knowledge import Copy
from remanence.record import decode, version_of
from remanence.results import Memories, Source

__all__ = ["Reads"]


class Reads:
    """The flows of reads."""

    def __init__(self, state: FallbackState) -> None:
        self._state = state
        self._journal = state.journal
        self._knowledge = state.knowledge
        self._context = state.context

    def one(self, call: Call) -> Flow:
        """Return the flow around a retrieve."""
        pending = self._journal.get(call.key)
        if pending is not None:
            return self._from_journal(pending)
        call.sequence = self._knowledge.number()
        failure: Exception | None = None
        answer: Any = None
        try:
            answer = yield PROCEED
        except Exception as error:  # noqa: BLE001 - classified below
            failure = error
        except BaseException:
            # Cancelled, by a timeout perhaps: the caller may go on as if nothing were stored.
            self._knowledge.mark(call.key, BLIND)
            raise
        if failure is not None:
            return self._degraded(call, failure)
        self._knowledge.learn_read(call.key, answer.raw, call.sequence)
        if self._state.is_unidentified:
            yield from self._state.identify((call.key,))
        return answer

    def many(self, call: Call) -> Flow:
        """Return the flow around a batch of retrieves."""
        results: list[Any] = [None] * len(call.items)
        places: list[int] = []
        waiting: dict[int, Entry] = {}
        for place, item in enumerate(call.items):
            pending = self._journal.get(item.key)
            if pending is None:
                item.sequence = self._knowledge.number()
                places.append(place)
            else:
                waiting[place] = pending
        try:
            answers = yield from self._state.run_items(call, places)
        except BaseException:
            for place in places:
                self._knowledge.mark(call.items[place].key, BLIND)
            raise
        yield from self._learn(
            [
                (call.items[place], answer)
                for place, answer in zip(places, answers, strict=True)
                if not isinstance(answer, Exception)
            ]
        )
        # Last: until its caller is told, this process has not seen what waits, or is served from here.
        for place, answer in zip(places, answers, strict=True):
            failed = isinstance(answer, Exception)
            results[place] = attempt(self._degraded, call.items[place], answer) if failed else answer
        for place, entry in waiting.items():
            results[place] = self._from_journal(self._journal.get(entry.key) or entry)
        return results

    def _learn(self, answered: list[tuple[Call, Memories]]) -> Flow:
        for item, answer in answered:
            self._knowledge.learn_read(item.key, answer.raw, item.sequence)
        if answered and self._state.is_unidentified:
            yield from self._state.identify([item.key for item, _ in answered])

    def _degraded(self, call: Call, error: Exception) -> Memories:
        """Answer from here, and remember that the store did not."""
        if isinstance(error, CorruptRecordError):
            # The store did answer, and its caller knows what is there: it may well be about to replace it.
            self._knowledge.learn_unreadable(call.key, call.sequence)
            raise error
        pending = self._journal.get(call.key)
        if pending is not None:
            return self._from_journal(pending)
        if not is_outage(error):
            self._knowledge.mark(call.key, BLIND)
            raise error
        self._state.note_outage(error)
        copy = self._knowledge.view(call.key).copy
        if copy is None or self._seconds_left(copy) <= 0:
            return self._unknown(call, error)
        self._knowledge.mark(call.key, version_of(copy.raw), held=copy.held)
        age = self._context.clock.monotonic() - copy.learned_at
        self._context.tell(ReadDegraded("stale", age, type(error).__name__))
        return _memories(copy.raw, call.key, "stale", age)

    def _unknown(self, call: Call, error: Exception) -> Memories:
        self._knowledge.mark(call.key, BLIND)
        self._context.tell(ReadDegraded("none", 0.0, type(error).__name__))
        if self._state.settings.on_unknown == "raise":
            raise MemoryUnavailableError
        return Memories(source="none")

    def _from_journal(self, pending: Entry) -> Memories:
        # The caller has seen this value and nothing newer: once it is replayed, its next write is made over this one.
        self._knowledge.mark(pending.key, pending.version, held=False)
        age = max(0.0, self._context.clock.time() - pending.journaled_at)
        self._context.tell(ReadDegraded("journal", age, "pending"))
        return _memories(self._state.canonical(pending.raw), pending.key, "journal", age)

    def _seconds_left(self, copy: Copy) -> float:
        """Seconds for which a copy may still be served."""
        now = self._context.clock.time()
        if copy.until is not None:
            return copy.until - now
        left = self._state.settings.max_stale - (self._context.clock.monotonic() - copy.learned_at)
        stamped = decode(copy.raw, "").last_update_seconds() if copy.raw is not None else None
        if stamped is not None and self._context.ttl is not None:
            left = min(left, stamped + self._context.ttl - now)
        return left


def _memories(raw: bytes | None, key: str, source: Source, age: float) -> Memories:
    if raw is None:
        return Memories(source=source, age=age)
    record = decode(raw, key)
    return Memories((IWorkingMemory(working_memory=record.text),), source=source, age=age, record=record)
