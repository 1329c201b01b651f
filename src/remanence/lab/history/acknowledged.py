"""No acknowledged write is lost: by what every writer had seen, and what the store holds at the end.

A store or update that returned is *accounted for* if, at the end, its value is

1. stored, or among the conversation's conflict copies; or
2. replaced by a write whose writer had seen it. A writer is a process, because all of a process goes through one
   manager. A process had seen value v before its write x if

   * x is conditional, and v is the value that it was made over (this alone counts then); or
   * v is the process's own, and x had not completed before v's write was invoked: of one process's writes the later
     replaces the earlier, and of two at the same time either one the other; or
   * a read of the process, whoever answered it, gave v and completed before x was invoked; or
3. replaced by a plain store or update of a process that had reason to think the store healthy: committed, not
   conditional, and the last answer that the process got about the conversation before it came from the store (or it
   had none): a read that the store answered, or a write that it took. Such a write replaces as the reference manager's
   does; with `overwrites=False` it is no excuse. One that ended in the journal counts as well if its value was read
   from the store before it ended: then its own attempt was applied, and only the answer was lost; or
4. deleted by an acknowledged delete that had not completed before the write was invoked; or
5. expired, its TTL being over.

What replaced, deleted or expired it must have come before the first moment at which the store certainly held something
else: if, after v was last there, a read that had begun later gave another value, then only what was invoked before
that read completed can have replaced v. Whether it was the *next* write is not known otherwise, so a blind overwrite
between v and a writer who had seen v is not always found: this check has no false alarms, but it may miss.

An acknowledged delete is accounted for unless what is stored at the end was written before it: by a write that had
certainly taken effect before the delete was invoked, or by the same process, acknowledged before. A deletion among the
conflict copies accounts for it too.

The answer is "unknown" where nobody looked at the end, where a value was written more than once, and where the only
account is one that may not have happened: an ambiguous write, a journaled one that was last seen as a conflict copy, an
attempt of a journaled one that may have been applied, a read that overlapped with the write, a TTL that ended as the
store was looked at.

Losses that are the server's own (it came back without its data, it evicted) are losses here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import accumulate
from math import inf
from operator import attrgetter

from remanence.lab.history.conversation import Conversation, History
from remanence.lab.history.operation import UNKNOWN, Ending, Operation
from remanence.lab.history.sessions import REPEATED
from remanence.lab.history.verdict import Findings, Verdict
from remanence.lab.history.witness import Witness

__all__ = ["check_acknowledged"]

_INVOKED = attrgetter("invoked")
_COMPLETED = attrgetter("completed")


class _Account(IntEnum):
    """How well a write is accounted for."""

    NONE = 0
    POSSIBLE = 1
    CERTAIN = 2


def check_acknowledged(history: History, *, overwrites: bool = True) -> Verdict:
    """Check that every acknowledged write is accounted for at the end.

    Args:
        history: What happened, with the endings.
        overwrites: Whether a plain write on a healthy store may replace what its process has not seen, as the
            reference manager's does. Without, lost updates are found.
    """
    findings = Findings("acknowledged writes", "no write was acknowledged")
    for conversation in history.conversations:
        acknowledged = [write for write in conversation.writes if write.outcome == "ok"]
        if not acknowledged:
            continue
        if conversation.repeated:
            findings.undecided(REPEATED)
        elif conversation.ending is None:
            findings.undecided("nobody looked at what the store held of a conversation at the end")
        else:
            findings.checked += len(acknowledged)
            account = _Accounts(conversation, conversation.ending, overwrites=overwrites)
            for write in acknowledged:
                account.judge(write, findings)
    return findings.verdict()


class _Accounts:
    """The accounts of one conversation's writes."""

    def __init__(self, conversation: Conversation, ending: Ending, *, overwrites: bool) -> None:
        self._conversation = conversation
        self._ending = ending
        self._overwrites = overwrites
        self._over: dict[str | None, list[Operation]] = defaultdict(list)
        plain: list[Operation] = []
        for write in conversation.writes:
            if write.kind == "delete":
                continue
            if write.is_conditional and write.expected != UNKNOWN:
                self._over[write.expected].append(write)
            else:
                plain.append(write)
        self._plain = _Row(plain)
        self._by_process = {name: _Row(own) for name, own in _by_process(plain).items()}
        # One that found nothing has removed conflict copies all the same.
        self._deletes = _Row(
            [each for each in conversation.operations if each.kind == "delete" and each.outcome != "failed"]
        )
        self._seen_by: dict[str, list[Operation]] = defaultdict(list)
        self._answers_of = _by_process([each for each in conversation.operations if _tells_of_sight(each)])
        for answers in self._answers_of.values():
            answers.sort(key=_COMPLETED)
        self._thought: dict[Operation, _Account] = {}
        self._redis = [read for read in conversation.reads if read.answer == "redis"]
        # By invocation, for each read: when the earliest of it and all later ones had completed.
        self._ends: list[float] = [inf] * (len(self._redis) + 1)
        for place in range(len(self._redis) - 1, -1, -1):
            self._ends[place] = min(self._ends[place + 1], self._redis[place].completed)
        for read in conversation.reads:
            if read.value is not None:
                self._seen_by[read.value].append(read)

    def judge(self, write: Operation, findings: Findings) -> None:
        """Note a violation, or that it cannot be decided, unless the write is accounted for."""
        if write.kind == "delete":
            self._judge_delete(write, findings)
            return
        best = _Account.NONE
        for account in self._accounts(write):
            best = max(best, account)
            if best is _Account.CERTAIN:
                return
        if best is _Account.POSSIBLE:
            findings.undecided("a write is gone, and what may have replaced it may not have been applied")
            return
        found = self._conversation.writer.get(self._ending.value or "")
        sentence = "{} was acknowledged; at the end there is {}, whose writer had not seen it, and no conflict copy."
        if found is None:
            sentence = "{} was acknowledged; at the end there is {}, and no conflict copy."
        before = self._displaced_before(write, write.value or "")
        reads = self._seen_by.get(write.value or "", [])[-1:]
        reads += [read for read in self._redis if read.completed == before][:1]
        writers = [self._conversation.writer.get(read.value or "") for read in reads]
        findings.violation(Witness.of([write, *reads, *writers, found], sentence, write.value, self._ending.value))

    def _judge_delete(self, delete: Operation, findings: Findings) -> None:
        value = self._ending.value
        if value is None or None in self._ending.conflicts:
            return
        write = self._conversation.writer.get(value)
        if write is None:
            return  # the check of the values reports it
        own = write.process == delete.process and write.outcome == "ok" and write.completed < delete.invoked
        if own or self._conversation.until.get(value, inf) < delete.invoked:
            findings.violation(Witness.of([write, delete], "{} was deleted, and is there at the end.", value))

    def _accounts(self, write: Operation) -> Iterator[_Account]:
        value = write.value or ""
        if value == self._ending.value or value in self._ending.conflicts:
            yield _Account.CERTAIN
            return
        before = self._displaced_before(write, value)
        for over in self._over.get(value, ()):
            yield self._strength(over, write)
        yield from self._own_later(write, before)
        yield from self._by_readers(write, value, before)
        if self._overwrites:
            yield from self._overwritten(write, before)
        yield from self._deleted(write, before)
        yield self._expired(write, before)

    def _displaced_before(self, write: Operation, value: str) -> float:
        """Return by when something else was certainly there, infinity where that is not known."""
        there = write.completed if write.answer == "committed" else -inf
        for read in self._seen_by.get(value, ()):
            if read.answer == "redis":
                there = max(there, read.completed)
        return inf if there == -inf else self._ends[bisect_right(self._redis, there, key=_INVOKED)]

    def _strength(self, replacing: Operation, write: Operation) -> _Account:
        if replacing.outcome != "ok":
            seen = replacing.value == self._ending.value or self._was_read(replacing)
            return _Account.CERTAIN if seen else _Account.POSSIBLE
        lost = replacing.answer == "journaled" and replacing.value in self._ending.conflicts
        # In the journal the later write of a process takes the place of the earlier: the loser speaks for both.
        folded = write.answer == "journaled" and write.process == replacing.process
        return _Account.POSSIBLE if lost and not folded and not self._was_read(replacing) else _Account.CERTAIN

    def _was_read(self, write: Operation, *, before: float = inf) -> bool:
        reads = self._seen_by.get(write.value or "", ())
        return any(read.answer == "redis" and read.completed <= before for read in reads)

    def _own_later(self, write: Operation, before: float) -> Iterator[_Account]:
        own = self._by_process.get(write.process, _NOBODY)
        return (self._strength(other, write) for other in own.not_before(write, before))

    def _by_readers(self, write: Operation, value: str, before: float) -> Iterator[_Account]:
        for read in self._seen_by.get(value, ()):
            for other in self._by_process.get(read.process, _NOBODY).not_before(read, before):
                if other is not write:
                    account = self._strength(other, write)
                    yield account if read.completed < other.invoked else min(account, _Account.POSSIBLE)

    def _overwritten(self, write: Operation, before: float) -> Iterator[_Account]:
        for other in self._plain.not_before(write, before):
            account = min(self._strength(other, write), self._thought_healthy(other))
            if other.answer == "journaled" and not self._was_read(other, before=other.completed):
                account = min(account, _Account.POSSIBLE)
            yield account

    def _thought_healthy(self, write: Operation) -> _Account:
        """Say whether the last answer of the process before the write came from the store."""
        known = self._thought.get(write)
        if known is None:
            known = self._thought[write] = self._judge_sight(write, self._answers_of.get(write.process, []))
        return known

    def _judge_sight(self, write: Operation, answers: Sequence[Operation]) -> _Account:
        place = bisect_left(answers, write.invoked, key=_COMPLETED) - 1
        if place < 0 or _is_from_the_store(answers[place]):
            return _Account.CERTAIN
        last = answers[place]
        if last.outcome == "ok" and not last.answer:
            return _Account.POSSIBLE
        overlapping = (each for each in answers if each.completed >= last.invoked and each.invoked < write.completed)
        others = (each for each in overlapping if each is not write)
        return _Account.POSSIBLE if any(_is_from_the_store(each) for each in others) else _Account.NONE

    def _deleted(self, write: Operation, before: float) -> Iterator[_Account]:
        for delete in self._deletes.not_before(write, before):
            lost = delete.answer == "journaled" and None in self._ending.conflicts
            if not delete.reads_absent:
                yield _Account.POSSIBLE if delete.outcome != "ok" or lost else _Account.CERTAIN
            elif write.answer == "journaled":
                yield _Account.CERTAIN

    def _expired(self, write: Operation, before: float) -> _Account:
        end = min(before, self._ending.at)
        if write.ttl is None or write.invoked + write.ttl - 0.001 > end:
            return _Account.NONE
        return _Account.CERTAIN if write.completed + write.ttl <= end else _Account.POSSIBLE


class _Row:
    """Writes by invocation, of which those are asked for that do not come before another operation."""

    def __init__(self, writes: Sequence[Operation]) -> None:
        self._writes = writes
        self._ended = list(accumulate((write.completed for write in writes), max))

    def not_before(self, other: Operation, end: float) -> Iterator[Operation]:
        """Give the writes that had not completed when `other` was invoked, and were invoked before `end`.

        Those that were invoked later come first: usually one of them is the answer.
        """
        writes = self._writes
        middle = bisect_left(writes, other.invoked, key=_INVOKED)
        for place in range(middle, len(writes)):
            if writes[place].invoked >= end:
                break
            if writes[place] is not other:
                yield writes[place]
        for place in range(bisect_left(self._ended, other.invoked), middle):
            write = writes[place]
            if write.completed >= other.invoked and write.invoked < end and write is not other:
                yield write


_NOBODY = _Row([])


def _tells_of_sight(operation: Operation) -> bool:
    """Whether the operation tells if its process could see the store: a read, or a write that the store took."""
    return operation.kind == "read" or _is_from_the_store(operation)


def _is_from_the_store(operation: Operation) -> bool:
    return operation.outcome == "ok" and operation.answer in {"redis", "committed", "deleted", "missing"}


def _by_process(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        found[operation.process].append(operation)
    return found
