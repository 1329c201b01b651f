"""What is left, read raw, against what was acknowledged.

The text of a memory is a clock (see `writer`): an acknowledged write is there if what is stored, or a copy, carries it
or a later one of its writer; that may have failed, or been cancelled. It need not be there where somebody deleted the
memory after it was made, or where the server lost it after it had been brought home.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from remanence.errors import CorruptRecordError
from remanence.journal.inspect import waiting
from remanence.lab.chaos.blows import Emptied, Stage
from remanence.lab.chaos.reports import Ack, Deletion
from remanence.lab.chaos.worker import stack
from remanence.lab.chaos.writer import Clock
from remanence.record import decode

__all__ = ["Verdict", "audit"]

_MEMORIES: Final = "memory:WORKING_MEMORY:"
_COPIES: Final = "remanence-conflict:WORKING_MEMORY:"
_PATIENCE: Final = 20.0


@dataclass(slots=True)
class Verdict:
    """What an audit found.

    Attributes:
        lost: Acknowledged writes of which nothing is left, in words.
        back: Memories that are there although their deletion was acknowledged later, in words.
        unknown: What could not be decided, in words.
        conversations: How many were written.
        copies: Conflict copies.
        compared: Last writes of a writer to a conversation that were compared with what is left; earlier ones of the
            same writer are replaced by them.
        excused: Last writes of a writer that the server lost after they had been brought home.
        where: Conversation of each thing found.
    """

    lost: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    conversations: int = 0
    copies: int = 0
    compared: int = 0
    excused: int = 0
    where: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Left:
    """What is left of a conversation: the clock of what is stored, and of the copies; None stands for a deletion."""

    stored: Clock | None = None
    copies: list[Clock | None] = field(default_factory=list)

    def carries(self, writer: str, sequence: int) -> bool:
        return any(clock is not None and clock.get(writer, 0) >= sequence for clock in (self.stored, *self.copies))


def audit(stage: Stage, acks: Sequence[Ack], deletions: Sequence[Deletion], *, lease: float) -> Verdict:
    """Bring home what waits, then compare.

    Args:
        stage: The server is well.
        acks: What was acknowledged.
        deletions: What was asked to be deleted.
        lease: Seconds after which what a dead process was draining is taken over.
    """
    verdict = Verdict()
    _drain(stage, verdict, lease)
    left = _left(stage, verdict)
    wanted: dict[str, list[Deletion]] = defaultdict(list)
    for deletion in deletions:
        wanted[deletion.conversation].append(deletion)
    by_writer: dict[tuple[str, str], list[Ack]] = defaultdict(list)
    for ack in acks:
        by_writer[ack.conversation, ack.writer].append(ack)
    held = [(each.at, _clocks(each)) for each in stage.emptied]
    for (conversation, writer), made in by_writer.items():
        _check_writes(verdict, left[conversation], wanted[conversation], held, made)
        _check_deletions(verdict, left[conversation], made, writer)
    verdict.conversations = len({conversation for conversation, _ in by_writer})
    verdict.copies = sum(len(each.copies) for each in left.values())
    return verdict


def _check_writes(
    verdict: Verdict,
    left: _Left,
    deletions: Iterable[Deletion],
    emptied: Sequence[tuple[float, dict[str, list[Clock]]]],
    made: Sequence[Ack],
) -> None:
    writes = [ack for ack in made if ack.kind != "delete"]
    if not writes:
        return
    last = writes[-1]
    owed = [ack for ack in writes if _is_owed(ack, emptied)]
    verdict.excused += last not in owed
    if not owed:
        return
    ack = owed[-1]
    verdict.compared += 1
    was_deleted = any(d.begun > ack.begun for d in deletions)
    if not was_deleted and not left.carries(ack.writer, ack.sequence):
        verdict.lost.append(f"{ack.conversation}: {ack.kind} {ack.sequence} of {ack.writer} ({ack.outcome})")
        verdict.where.append(ack.conversation)


def _is_owed(ack: Ack, emptied: Sequence[tuple[float, dict[str, list[Clock]]]]) -> bool:
    """Whether no loss of the server's excuses that it is missing."""
    return all(
        ack.begun > at or any(clock.get(ack.writer, 0) >= ack.sequence for clock in held.get(ack.conversation, ()))
        for at, held in emptied
    )


def _check_deletions(verdict: Verdict, left: _Left, made: Sequence[Ack], writer: str) -> None:
    if made[-1].kind != "delete" or left.stored is None or None in left.copies:
        return
    deletion = made[-1]
    generation = int(writer.partition("w")[2].partition(".")[0])
    # A deletion that was made blind loses, and what was written after it with it: then a copy tells.
    is_later = any(
        int(other.partition("w")[2].partition(".")[0]) > generation
        or (other == writer and sequence > deletion.sequence)
        for clock in (left.stored, *left.copies)
        for other, sequence in (clock or {}).items()
    )
    if not is_later:
        verdict.back.append(f"{deletion.conversation}: deletion {deletion.sequence} of {writer} ({deletion.outcome})")
        verdict.where.append(deletion.conversation)


def _drain(stage: Stage, verdict: Verdict, lease: float) -> None:
    """Bring home what waits, as the next process would."""
    path = str(stage.journal)
    with stack(stage.proxy.url, path, lease=lease) as manager:
        deadline = time.monotonic() + _PATIENCE
        while manager.has_pending_writes and time.monotonic() < deadline:
            manager.replay(1.0)
    for each in waiting(path):
        verdict.unknown.append(f"{each.key}: still waiting ({each.operation}, {each.stuck or 'not stuck'})")
        verdict.where.append(each.key.removeprefix(_MEMORIES))


def _left(stage: Stage, verdict: Verdict) -> dict[str, _Left]:
    left: dict[str, _Left] = defaultdict(_Left)
    with redis.Redis(port=stage.server.port) as client:
        names = sorted(client.scan_iter(f"{_MEMORIES}*", count=1_000)) + sorted(
            client.scan_iter(f"{_COPIES}*", count=1_000)
        )
        for name in (each.decode() for each in names):
            raw: Any = client.get(name)
            try:
                clock = _clock(raw)
            except (CorruptRecordError, ValueError, KeyError, TypeError):
                verdict.unknown.append(f"{name}: cannot be read")
                continue
            if name.startswith(_COPIES):
                left[name.removeprefix(_COPIES).rpartition(":")[0]].copies.append(clock)
            else:
                left[name.removeprefix(_MEMORIES)].stored = clock
    return left


def _clocks(emptied: Emptied) -> dict[str, list[Clock]]:
    found: dict[str, list[Clock]] = defaultdict(list)
    for key, raw in emptied.waiting:
        if raw is not None and (clock := _clock(raw)) is not None:
            found[key.removeprefix(_MEMORIES)].append(clock)
    return found


def _clock(raw: bytes) -> Clock | None:
    if b'"deleted"' in raw and b'"clock' not in raw:
        return None
    return dict(json.loads(decode(raw, "").text)["clock"])
