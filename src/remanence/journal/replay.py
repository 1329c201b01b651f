"""The rules by which a pending write meets what the store holds now: one table, pure.

| the store holds | entry | what happens |
|---|---|---|
| its base, or a value sent for it | any | written under that guard; a deletion deletes |
| something else | blind, or made over nothing | the store's stays, ours is kept as a copy |
| something else | with a base | the newer `last_update` wins (*), the loser is kept as a copy |
| nothing | blind, or it cannot be a deletion | written |
| nothing, before its time, same server, no eviction since | with a base | somebody deleted it: ours is kept as a copy |
| anything | expired meanwhile | what it was based on is deleted, anything else stays |
| something else, or nothing | acknowledged by the store before | the store's stays: it was replaced as usual |
| something else, or nothing | sent by somebody who is gone | written over its known base, else kept as a copy (**) |

(*) If both carry an offset and differ by more than the skew; else the store's stays.
(**) The store may have held it: then what is there now was written, or deleted, over it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from remanence.errors import CorruptRecordError
from remanence.journal.entry import BLIND, Entry, Identity
from remanence.record import ABSENT, Record, decode, digest, revise, stamp

__all__ = ["Decision", "Resolve", "Situation", "concatenate", "decide", "first_guard", "has_expired"]

Resolve = Callable[[str, str], str]
"""Gets the store's text and ours, gives the text that stands for both."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when an entry meets the store.

    Attributes:
        held: What the store holds, b"" for nothing.
        server: Its identity now, None where unknown.
        now: Epoch seconds.
        max_clock_skew: Seconds by which two hosts' stamps may be wrong.
        resolve: Merges two texts instead of choosing, None to choose.
    """

    held: bytes = field(repr=False)
    server: Identity | None
    now: float
    max_clock_skew: float
    resolve: Resolve | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with an entry.

    Attributes:
        write: Whether to write `raw` (None: delete) under `guard`.
        raw: The value to write.
        guard: Digests that it may replace.
        keep: The values to keep as copies before anything is written.
        loser: "ours" or "theirs" where something is kept, None where nothing is.
        merged: Whether `raw` was made of both: a text that this process has not seen is in it.
    """

    write: bool
    raw: bytes | None = field(default=None, repr=False)
    guard: tuple[str, ...] = ()
    keep: tuple[bytes | None, ...] = field(default=(), repr=False)
    loser: Literal["ours", "theirs"] | None = None
    merged: bool = False


def concatenate(theirs: str, ours: str) -> str:
    """Put our text below the store's: a `resolve` for those who want one memory rather than a copy."""
    return f"{theirs}\n\n{ours}"


def has_expired(entry: Entry, now: float) -> bool:
    """Whether the record would be gone by now had it been written in time."""
    return entry.expires_at is not None and entry.expires_at <= now


def first_guard(entry: Entry) -> tuple[str, ...]:
    """Return what the entry may replace without further thought."""
    if entry.base is BLIND:
        # Never empty: that would replace anything.
        return (entry.version, *entry.sent) if entry.unanswered else (ABSENT, *entry.sent)
    return (entry.base, *entry.sent)


def decide(entry: Entry, situation: Situation) -> Decision:
    """Return what to do with an entry whose `first_guard` was refused because of what is held.

    Raises:
        Exception: Whatever `resolve` raised; without it nothing does.
    """
    if has_expired(entry, situation.now) or entry.committed:
        return Decision(write=False)
    if not situation.held:
        return _over_nothing(entry, situation)
    if entry.base is BLIND or entry.unanswered:
        return _ours_loses(entry)
    theirs = _decoded(situation.held)
    if situation.resolve is not None and theirs is not None and entry.raw is not None:
        return _merged(entry, theirs, situation, situation.resolve)
    # What was made over "nothing is stored" has not seen what is stored, however old that is.
    if entry.base != ABSENT and theirs is not None and _is_newer(entry, theirs, situation.max_clock_skew):
        return Decision(
            write=True, raw=entry.raw, guard=(digest(situation.held),), keep=(situation.held,), loser="theirs"
        )
    return _ours_loses(entry)


def _over_nothing(entry: Entry, situation: Situation) -> Decision:
    if entry.raw is None:
        return Decision(write=False)
    was_deleted = (
        entry.base not in {BLIND, ABSENT}
        and entry.server is not None
        and entry.server == situation.server
        and entry.base_until is not None
        and situation.now < entry.base_until
    )
    return (
        _ours_loses(entry) if was_deleted or entry.unanswered else Decision(write=True, raw=entry.raw, guard=(ABSENT,))
    )


def _ours_loses(entry: Entry) -> Decision:
    return Decision(write=False, keep=(entry.raw,), loser="ours")


def _merged(entry: Entry, theirs: Record, situation: Situation, resolve: Resolve) -> Decision:
    ours = decode(entry.raw or b"", entry.key)
    text = resolve(theirs.text, ours.text)
    if not isinstance(text, str):
        message = f"resolve gave {type(text).__name__}, not a text."
        raise TypeError(message)
    raw = revise(theirs.raw, entry.key, text, ours.metadata, stamp(situation.now))
    return Decision(write=True, raw=raw, guard=(digest(theirs.raw),), merged=True)


def _is_newer(entry: Entry, theirs: Record, skew: float) -> bool:
    stamped = theirs.last_update_seconds()
    ours = entry.journaled_at if entry.raw is None else decode(entry.raw, entry.key).last_update_seconds()
    return stamped is not None and ours is not None and ours - stamped > skew


def _decoded(raw: bytes) -> Record | None:
    try:
        return decode(raw, "")
    except CorruptRecordError:
        return None
