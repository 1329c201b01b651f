"""Every value that was read had been written: none from nowhere, from the future, or from a write that failed.

This holds of every answer, also of one that says it is stale: old it may be, but not invented. What the store held at
the end is judged in the same way.
"""

from __future__ import annotations

from remanence.lab.history.conversation import Conversation, History
from remanence.lab.history.operation import Operation
from remanence.lab.history.verdict import Findings, Verdict
from remanence.lab.history.witness import Witness

__all__ = ["check_values"]


def check_values(history: History) -> Verdict:
    """Check that every value read was written to that conversation, before the read had ended, by no failed write.

    A write that failed for certain and whose value is seen all the same is an "aborted read" (G1a of Adya, 1999).
    """
    findings = Findings("values", "there is no read with a value")
    for conversation in history.conversations:
        _check(conversation, findings)
    return findings.verdict()


def _check(conversation: Conversation, findings: Findings) -> None:
    writer = conversation.writer
    for read in conversation.reads:
        if read.value is None:
            continue
        findings.checked += 1
        write = writer.get(read.value)
        if write is None:
            findings.violation(Witness.of([read], "{} was read, and nobody wrote it.", read.value))
        elif write.invoked > read.completed:
            findings.violation(Witness.of([read, write], "{} was read before its write began.", read.value))
        elif write.outcome == "failed":
            findings.violation(Witness.of([read, write], "{} was read, and its write had failed.", read.value))
    _check_ending(conversation, findings)


def _check_ending(conversation: Conversation, findings: Findings) -> None:
    ending = conversation.ending
    if ending is None:
        return
    for value in {ending.value, *ending.conflicts} - {None}:
        findings.checked += 1
        write = conversation.writer.get(value or "")
        if write is None or write.outcome == "failed":
            look = Operation("the end", "", conversation.key, "read", value, ending.at, ending.at, answer="redis")
            why = "nobody wrote it" if write is None else "its write had failed"
            findings.violation(Witness.of([look, write], f"{{}} was found at the end, and {why}.", value))
