"""The working memory that the lab's agents write: the ids of every turn folded in, and the last turns in full.

The ids make a memory accountable: whoever reads the text can say which turns it still knows of. They are written
as ranges (`0-57,59`), so that a memory of hundreds of turns stays short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from remanence.lab.transcripts import Turn

__all__ = ["KEPT_TURNS", "ids_of", "rewrite"]

KEPT_TURNS = 8
"""Turns whose text is kept; of older ones only the id."""

# Lines of turns begin with the other marker, so that nothing a speaker says can pass for an id.
_IDS = "turns: "
_SAID = "- "
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def rewrite(memory: str | None, turn_id: int, turn: Turn) -> str:
    """Fold a turn into a memory.

    Args:
        memory: The text so far, or None to begin a new one.
        turn_id: Number of the turn in its conversation, ≥ 0.
        turn: What was said.
    """
    known = ids_of(memory)
    known.add(turn_id)
    said = [line for line in (memory or "").split("\n") if line.startswith(_SAID)]
    said.append(_SAID + " ".join(f"{turn.speaker}: {turn.text}".split()))
    return "\n".join([_IDS + _ranges(known), *said[-KEPT_TURNS:]])


def ids_of(memory: str | None) -> set[int]:
    """Return the ids of the turns that a memory knows of; several id lines (merged texts) are united."""
    known: set[int] = set()
    for line in (memory or "").split("\n"):
        if line.startswith(_IDS):
            for first, last in _RANGE.findall(line):
                known.update(range(int(first), int(last or first) + 1))
    return known


def _ranges(ids: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
