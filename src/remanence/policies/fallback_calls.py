"""The fallback around one manager's calls: which flow serves which operation."""

from __future__ import annotations

from collections.abc import Callable

from remanence.flow import PROCEED, Call, Flow
from remanence.interface import ConversationMemoryType
from remanence.journal import Journal
from remanence.journal.entry import KeptValue
from remanence.policies.base import Context
from remanence.policies.fallback_reads import Reads
from remanence.policies.fallback_settings import FallbackSettings
from remanence.policies.fallback_state import FallbackState
from remanence.policies.fallback_writes import Writes
from remanence.policies.knowledge import Knowledge
from remanence.policies.replayer import Replayer
from remanence.record import decode, split_key, version_of
from remanence.results import Conflict

__all__ = ["FallbackCalls"]


class FallbackCalls:
    """One manager's fallback: its journal, what is known, and the flows.

    Attributes:
        settings: Of the policy.
        journal: The pending writes.
        knowledge: Last-known copies and marks.
        replayer: Brings the pending writes home.
    """

    def __init__(self, settings: FallbackSettings, context: Context, journal: Journal) -> None:
        self.settings = settings
        self.journal = journal
        self._state = FallbackState(settings, context, journal)
        self.knowledge: Knowledge = self._state.knowledge
        self.replayer = Replayer(self._state)
        reads, writes = Reads(self._state), Writes(self._state)
        self._prefix = context.prefix
        self._flows: dict[str, Callable[[Call], Flow]] = {
            "retrieve": reads.one,
            "store": writes.one,
            "update": writes.one,
            "delete": writes.one,
            "retrieve_many": reads.many,
            "store_many": writes.many,
            "delete_many": writes.many,
        }

    @property
    def last_error(self) -> str | None:
        """Class name of the last failure of the store, None without one."""
        return self._state.last_error

    def on_pending(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, with no lock held, whenever something has become pending."""
        self._state.wake = wake

    def flow(self, call: Call) -> Flow:
        """Return the flow around `call`."""
        flow = self._flows.get(call.operation)
        return _pass() if flow is None else flow(call)

    def forget(self) -> None:
        """Start empty: a child process after fork leaves everything to its parent."""
        self._state.forget()

    def waiting_conflicts(self) -> list[Conflict]:
        """Return the losing values that the store does not have as copies yet."""
        return [_waiting(self._prefix, value) for value in self.journal.kept()]


def _waiting(prefix: str, value: KeptValue) -> Conflict:
    memory_type, conversation_id = split_key(prefix, value.key)
    record = None if value.raw is None else decode(value.raw, value.key)
    return Conflict(
        conversation_id=conversation_id,
        memory_type=ConversationMemoryType(memory_type),
        text=None if record is None else record.text,
        digest=version_of(value.raw),
        kept_in="journal",
        last_update=None if record is None else record.last_update,
    )


def _pass() -> Flow:
    return (yield PROCEED)
