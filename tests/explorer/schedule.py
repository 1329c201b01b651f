"""The decisions of one run: given, first come, or random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Schedule"]


@dataclass
class Schedule:
    """Decisions: those of a prefix first, then the first option or a random one; remembers how many there were."""

    prefix: Sequence[int] = ()
    steps: int = 10**9
    rng: random.Random | None = None
    taken: list[tuple[int, int]] = field(default_factory=list)

    def choose(self, options: int) -> int:
        """Return the number of the option to take."""
        place = len(self.taken)
        if place < len(self.prefix):
            choice = self.prefix[place]
        elif self.rng is not None:
            choice = self.rng.randrange(options)
        else:
            choice = 0
        self.taken.append((choice, options if place < self.steps else 1))
        return choice
