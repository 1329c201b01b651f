"""What a caller may rely on from one call to the next: read-your-writes and monotonic reads.

Both compare a read with something that its *scope* did before: the same process, or the same session (thread or task)
in it. A value is called older only where that is certain:

* a value is older than a write if its own write had certainly taken effect before that one was invoked. A write that is
  ambiguous, or in a journal, may take effect later, and is not older until somebody has read its value from the store;
  of one scope's own acknowledged writes the earlier is older all the same;
* a value is older than what a read saw if its write had certainly taken effect before the write of what the read saw
  was invoked; or before that read was invoked, and what it saw was not itself written before: then the read is wrong
  (linearizability says so), and what comes after it may be right.

"Nothing" is older than a value unless a deletion or an expiry may have come in between. Evictions and servers that lose
their data are not thought of: they are violations here.

An answer that says that it is stale, or that nothing is known, may be old: it is honest. Such answers are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from operator import attrgetter
from typing import Literal

from remanence.lab.history.conversation import Conversation, History
from remanence.lab.history.operation import Operation
from remanence.lab.history.verdict import Findings, Verdict
from remanence.lab.history.witness import Witness

__all__ = ["REPEATED", "Scope", "check_monotonic_reads", "check_own_writes"]

Scope = Literal["process", "session"]

REPEATED = "a conversation has a value that was written more than once"

_COMPLETED = attrgetter("completed")
_OWN_ANSWERS = frozenset({"redis", "journal"})


def check_own_writes(history: History, *, scope: Scope = "process") -> Verdict:
    """Check that no read gives a value, or nothing, that an earlier acknowledged write of its scope had replaced.

    A journaled write that lost against the store's value is kept as a conflict copy, and reads may go on giving the
    store's value. So a read that contradicts only a journaled write is none where that write is among the conflict
    copies, or one that the scope made after it and before the read ended; where there is no such copy, it is a
    violation if nothing was deleted since, and nobody's deletion lost; otherwise it is unknown.

    Args:
        history: What happened.
        scope: Whose writes a read must see: those of its process, which is what the library promises, or of its
            session.
    """
    findings = Findings("read-your-writes", f"no {scope} has read what it had written before")
    for conversation in history.conversations:
        if conversation.repeated:
            findings.undecided(REPEATED)
            continue
        for name, operations in _by_scope(conversation.operations, scope).items():
            _OwnWrites(conversation, findings, scope, name).check(operations)
    return findings.verdict()


def check_monotonic_reads(history: History, *, scope: Scope = "process") -> Verdict:
    """Check that reads answered by the store never go back to a value, or to nothing, that is certainly older.

    Args:
        history: What happened.
        scope: Among whose reads: those of one process, or of one session.
    """
    findings = Findings("monotonic reads", f"no {scope} has had two answers of the store about one conversation")
    for conversation in history.conversations:
        if conversation.repeated:
            findings.undecided(REPEATED)
            continue
        reads = [read for read in conversation.reads if read.answer == "redis"]
        for own in _by_scope(reads, scope).values():
            _check_monotonic(conversation, own, findings)
    return findings.verdict()


def _by_scope(operations: Sequence[Operation], scope: Scope) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    name = _scope_name(scope)
    for operation in operations:
        found.setdefault(name(operation), []).append(operation)
    return found


def _scope_name(scope: Scope) -> Callable[[Operation], str]:
    if scope == "process":
        return attrgetter("process")
    return lambda operation: f"{operation.process}\0{operation.session}"


class _OwnWrites:
    """Read-your-writes of one scope on one conversation."""

    def __init__(self, conversation: Conversation, findings: Findings, scope: Scope, name: str) -> None:
        self._conversation = conversation
        self._findings = findings
        self._of_scope = _scope_name(scope)
        self._name = name

    def check(self, operations: Sequence[Operation]) -> None:
        """Compare each read with the latest write, by invocation, that had been acknowledged before it."""
        writes = [each for each in operations if each.is_effective and each.outcome == "ok"]
        writes.sort(key=_COMPLETED)
        place = 0
        committed = kept = None
        for read in operations:
            if read.kind != "read" or read.outcome != "ok" or read.answer not in _OWN_ANSWERS:
                continue
            while place < len(writes) and writes[place].completed < read.invoked:
                write = writes[place]
                if write.answer != "journaled":
                    committed = _later(committed, write)
                kept = _later(kept, write)
                place += 1
            if kept is None:
                continue
            self._findings.checked += 1
            if committed is not None and self._is_older(read, committed):
                self._violation(read, committed)
            elif kept.answer == "journaled" and self._is_older(read, kept):
                self._judge_journaled(read, kept)

    def _is_older(self, read: Operation, write: Operation) -> bool:
        value = read.value
        if value == write.value:
            return False
        if value is None:
            return not self._conversation.disappearances.possible(after=write.invoked, before=read.completed)
        author = self._conversation.writer.get(value)
        if author is None or not author.is_effective:
            return False  # the check of the values reports it
        until = self._conversation.until[value]
        if author.outcome == "ok" and self._of_scope(author) == self._name:
            until = min(until, author.completed)
        return until < write.invoked

    def _judge_journaled(self, read: Operation, write: Operation) -> None:
        conversation, ending = self._conversation, self._conversation.ending
        if ending is None:
            self._findings.undecided("a journaled write was not read back, and nobody looked for its conflict copy")
            return
        authors = [conversation.writer.get(value) for value in ending.conflicts if value is not None]
        # Of the writes that a journal folds into one, the last is the one that loses for all.
        if any(author is not None and self._may_speak_for(author, write, read) for author in authors):
            return
        deletes = (
            each for each in conversation.operations if each.kind == "delete" and each.completed >= write.invoked
        )
        if None in ending.conflicts or any(deletes):
            self._findings.undecided("a journaled write was not read back, and its conflict copy may be deleted")
            return
        self._violation(read, write)

    def _may_speak_for(self, author: Operation, write: Operation, read: Operation) -> bool:
        is_own = self._of_scope(author) == self._name
        return is_own and author.completed >= write.invoked and author.invoked <= read.completed

    def _violation(self, read: Operation, write: Operation) -> None:
        author = self._conversation.writer.get(read.value) if read.value is not None else None
        what = "the deletion" if write.kind == "delete" else "{}"
        values = [read.value] if write.kind == "delete" else [read.value, write.value]
        sentence = f"{{}} was read after {what} had replaced it, by the one who wrote that."
        self._findings.violation(Witness.of([author, write, read], sentence, *values))


def _later(held: Operation | None, write: Operation) -> Operation:
    return write if held is None or write.invoked >= held.invoked else held


class _Latest:
    """The latest moments at which two different values were seen: for any value, the latest of another one."""

    def __init__(self) -> None:
        self._best: list[tuple[float, Operation]] = []

    def add(self, at: float, read: Operation) -> None:
        """Take in that `read` saw its value at `at` or later."""
        best = [held for held in self._best if held[1].value != read.value]
        same = [held for held in self._best if held[1].value == read.value]
        best.append(max([*same, (at, read)], key=lambda held: held[0]))
        best.sort(key=lambda held: held[0], reverse=True)
        self._best = best[:2]

    def other_than(self, value: str | None) -> tuple[float, Operation | None]:
        """Return the latest moment at which something else was seen, and by which read."""
        for at, read in self._best:
            if read.value != value:
                return at, read
        return -inf, None


def _check_monotonic(conversation: Conversation, reads: Sequence[Operation], findings: Findings) -> None:
    ended = sorted(reads, key=_COMPLETED)
    place = 0
    written, seen, present = _Latest(), _Latest(), _Latest()
    for read in reads:
        while place < len(ended) and ended[place].completed < read.invoked:
            earlier = ended[place]
            seen.add(earlier.invoked, earlier)
            author = conversation.writer.get(earlier.value) if earlier.value is not None else None
            if author is not None:
                written.add(author.invoked, earlier)
                present.add(max(earlier.invoked, author.invoked), earlier)
            place += 1
        if not place:
            continue
        findings.checked += 1
        earlier_or_none = _newer_seen(conversation, read, written, seen, present)
        if earlier_or_none is not None:
            _went_back(conversation, earlier_or_none, read, findings)


def _newer_seen(
    conversation: Conversation, read: Operation, written: _Latest, seen: _Latest, present: _Latest
) -> Operation | None:
    """Return the earlier read of something that is certainly newer, None without one."""
    if read.value is None:
        at, earlier = present.other_than(None)
        is_gone = earlier is not None and conversation.disappearances.possible(at, read.completed)
        return None if is_gone else earlier
    until, author = conversation.until.get(read.value), conversation.writer.get(read.value)
    if until is None or author is None:
        return None
    at, earlier = written.other_than(read.value)
    if earlier is not None and until < at:
        return earlier
    at, earlier = seen.other_than(read.value)
    if earlier is None or until >= at:
        return None
    is_itself_old = earlier.value is not None and conversation.until.get(earlier.value, inf) < author.invoked
    return None if is_itself_old else earlier


def _went_back(conversation: Conversation, earlier: Operation, read: Operation, findings: Findings) -> None:
    authors = [conversation.writer.get(each.value) for each in (earlier, read) if each.value is not None]
    sentence = "{} was read, and after it {}, which is certainly older."
    findings.violation(Witness.of([*authors, earlier, read], sentence, earlier.value, read.value))
