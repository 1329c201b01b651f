"""The fallback around one manager's calls: which flow serves which operation; and what becomes of conflicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remanence.errors import InvalidInputError
from remanence.flow import PROCEED, Call, Flow, Invoke
from remanence.interface import ConversationMemoryType, IMemoryInput, IWorkingMemory
from remanence.journal import Journal
from remanence.journal.entry import KeptValue
from remanence.operations import ANY_VERSION, IfVersion, Owner, store_call
from remanence.policies.base import Context
from remanence.policies.fallback_reads import Reads
from remanence.policies.fallback_settings import FallbackSettings
from remanence.policies.fallback_state import FallbackState
from remanence.policies.fallback_writes import Writes
from remanence.policies.knowledge import Knowledge
from remanence.policies.replayer import Replayer
from remanence.record import decode, split_key
from remanence.results import Conflict, Receipt, copy_digest

__all__ = ["FallbackCalls", "all_kept", "resolve", "waiting_conflict", "with_waiting"]


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
        return [waiting_conflict(self._prefix, value) for value in self.journal.kept()]

    def forget_waiting(self, key: str, digest: str) -> Flow:
        """Remove a losing value that waits to be kept; give whether it did."""
        if not self.journal.last_kept:
            return False
        kept = yield from self._state.journaling(self.journal.kept)
        values = [value for value in kept if value.key == key and copy_digest(value.raw) == digest]
        for value in values:
            yield from self._state.journaling(self.journal.forget_kept, value)
        return bool(values)


def waiting_conflict(prefix: str, value: KeptValue) -> Conflict:
    """Return a losing value of the manager with this key prefix that waits to be kept, as `conflicts()` lists it."""
    memory_type, conversation_id = split_key(prefix, value.key)
    record = None if value.raw is None else decode(value.raw, value.key)
    return Conflict(
        conversation_id=conversation_id,
        memory_type=ConversationMemoryType(memory_type),
        text=None if record is None else record.text,
        digest=copy_digest(value.raw),
        kept_in="journal",
        last_update=None if record is None else record.last_update,
        metadata={} if record is None else record.metadata,
    )


def all_kept() -> Flow:
    """Collect the conflict copies page by page, each a call under a deadline of its own."""
    found: list[Conflict] = []
    cursor = 0
    while True:
        page, cursor = yield Invoke(Call("kept", str(cursor)))
        found += page
        if not cursor:
            return found


def with_waiting(waiting: Sequence[Conflict], stored: Sequence[Conflict]) -> list[Conflict]:
    """Return what the store has as copies, and before it what was waiting and is not among that."""
    names = {(conflict.memory_type, conflict.conversation_id, conflict.digest) for conflict in stored}
    new = [c for c in waiting if (c.memory_type, c.conversation_id, c.digest) not in names]
    return [*new, *stored]


def resolve(
    owner: Owner,
    fallback: FallbackCalls | None,
    conflict: Conflict,
    *,
    text: str | None,
    metadata: Mapping[str, Any] | None,
    if_version: IfVersion,
) -> Flow:
    """Return the flow of `resolve_conflict`: it stores the text, and once that is acknowledged removes the copy."""
    if text is None and (metadata is not None or if_version is not ANY_VERSION):
        message = "metadata and if_version belong to a text: pass text= too. Nothing was changed."
        raise InvalidInputError(message)
    receipt: Receipt | None = None
    if text is not None:
        item = IMemoryInput(
            conversation_id=conflict.conversation_id,
            memory_type=conflict.memory_type,
            data=[IWorkingMemory(working_memory=text)],
            metadata=dict(metadata or {}) or None,
        )
        receipt = yield Invoke(store_call(owner, item, if_version))
    try:
        # Not by `key_for`: a copy whose conversation's name is no text can be removed too.
        yield from _drop(f"{owner.prefix}:{conflict.memory_type}:{conflict.conversation_id}", conflict.digest, fallback)
    except Exception as error:
        error.add_note(
            f"{_STORED[receipt.outcome if receipt is not None else None]}; the conflict copy could not be removed and "
            "is still there. Resolve it once more, without a text."
        )
        raise
    return receipt


_STORED = {
    None: "What is stored was left as it is",
    "committed": "The text was stored",
    "journaled": "The text was accepted, and waits in the journal for the store",
}


def _drop(key: str, digest: str, fallback: FallbackCalls | None) -> Flow:
    # The store first: while it is away nothing is removed, wherever the copy is.
    yield Invoke(Call("drop", key, guard=(digest,)))
    if fallback is not None and (yield from fallback.forget_waiting(key, digest)):
        yield Invoke(Call("drop", key, guard=(digest,)))  # a replay may have brought it home in between


def _pass() -> Flow:
    return (yield PROCEED)
