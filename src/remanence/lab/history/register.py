"""Linearizability: all that the store itself answered fits one register, each call at one moment of its window.

A read counts if it says that the store answered; a committed write took effect within its window; an ambiguous one, or
one that was acknowledged by a journal, at any time from its invocation on, or never. So the check makes sense of any
history. Promised it is for a healthy store: in an outage, a write that is brought home after another one may be applied
a second time on purpose (see ARCHITECTURE.md, "What makes it correct").

An expiry may happen from the end of a value's TTL on, counted from the invocation of its write; that it happens is not
checked. A refused conditional write is taken as not having been there; what it saw is not checked either.

Zones decide where a value, once there, is only ever replaced; else the search does, within its budget.
"""

from __future__ import annotations

from collections.abc import Sequence

from remanence.lab.history.conversation import Conversation, History
from remanence.lab.history.moves import Move, moves_of
from remanence.lab.history.operation import UNKNOWN, Operation
from remanence.lab.history.search import BUDGET, Result, is_refuted, search
from remanence.lab.history.sessions import REPEATED
from remanence.lab.history.verdict import Findings, Verdict
from remanence.lab.history.witness import Witness
from remanence.lab.history.zones import check_zones

__all__ = ["check_register"]

_MAX_WINDOW = 128
_SHRINK_BUDGET = 4_000


def check_register(history: History, *, budget: int = BUDGET) -> Verdict:
    """Check that every conversation is linearizable as a register, empty at first.

    Args:
        history: What happened.
        budget: Configurations that the search may try for one conversation; beyond them it is unknown.
    """
    findings = Findings("linearizability", "the store answered no call")
    for conversation in history.conversations:
        if conversation.repeated:
            findings.undecided(REPEATED)
            continue
        reads = [read for read in conversation.reads if read.answer == "redis"]
        reads += [_absence(each) for each in conversation.operations if each.reads_absent]
        findings.checked += len(reads) + len(conversation.writes)
        _check(conversation, reads, findings, budget)
    return findings.verdict()


def _absence(operation: Operation) -> Operation:
    """Return the update or delete that found nothing as the read that it was."""
    return Operation(
        operation.process,
        operation.session,
        operation.key,
        "read",
        None,
        operation.invoked,
        operation.completed,
        answer="redis",
    )


def _check(conversation: Conversation, reads: list[Operation], findings: Findings, budget: int) -> None:
    may_vanish = _may_vanish(conversation, reads)
    witness = check_zones(reads, conversation.writes, vanishing=may_vanish)
    if may_vanish and witness is None:
        result = search(moves_of(reads, conversation.writes), budget=budget)
        if result.exhausted:
            findings.undecided(f"the search for an order used up its budget of {budget} configurations")
        elif result.window:
            witness = _witness(conversation, result)
    if witness is not None:
        findings.violation(witness)
    elif any(write.expected == UNKNOWN for write in conversation.writes):
        findings.undecided("a conditional write was made on a version that nobody had read")


def _may_vanish(conversation: Conversation, reads: Sequence[Operation]) -> bool:
    if any(write.kind == "delete" for write in conversation.writes):
        return True
    expiries = [write.invoked + write.ttl for write in conversation.writes if write.ttl is not None]
    if not expiries:
        return False
    ended = [each.completed for each in reads] + [write.until for write in conversation.writes if write.outcome == "ok"]
    return min(expiries) - 0.001 <= max(ended, default=0.0)


def _witness(conversation: Conversation, result: Result) -> Witness:
    """Return the calls of the window that cannot be put in order, as few of them as it takes."""
    window, states = _shrunk(result)
    shown = [move.operation for move in window if not move.optional]
    wanted = {value for each in shown for value in (each.value, each.expected)}
    shown += [conversation.writer[str(value)] for value in wanted if value in conversation.writer]
    known = sorted(value for value in states if value in conversation.writer)
    before = " or ".join(["nothing"] * (None in states) + ["{}"] * len(known) + ["another value"] * (len(states) > 1))
    sentence = f"no order of these calls fits a register that held {before} before them."
    return Witness.of(shown, sentence, *known)


def _shrunk(result: Result) -> tuple[list[Move], frozenset[str | None]]:
    """Return the moves without whose constraints the others could be put in order, and what was held before them.

    A read is left out, a write may have been applied or not: both only make it easier to find an order.
    """
    held = {move: move for move in result.window}
    states = result.states
    if len(held) > _MAX_WINDOW:
        return list(held.values()), states
    for move in result.window:
        if move.optional:
            continue
        trial = dict(held)
        if move.is_read:
            del trial[move]
        else:
            trial[move] = move.relaxed()
        if is_refuted(trial.values(), result, budget=_SHRINK_BUDGET):
            held = trial
    needed = {move.needs for move in held.values() if not move.optional}
    return list(held.values()), frozenset(
        state for state in states if state is None or state in needed or len(state) == 1
    )
