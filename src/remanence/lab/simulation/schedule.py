"""The decisions of one run: given ones first, then the plainest or random ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["Schedule"]

_PLAIN = 0.8
"""How often a random schedule takes what happens on a good day, so that faults meet calls at every stage."""


class Schedule:
    """Decides what happens next, and remembers how many ways there were.

    Args:
        prefix: Decisions to begin with; one that is out of range counts as the plainest.
        rng: For the decisions after those; None takes the first option, which is always the plainest.
    """

    __slots__ = ("_prefix", "_rng", "taken")

    def __init__(self, prefix: Sequence[int] = (), *, rng: random.Random | None = None) -> None:
        self._prefix = prefix
        self._rng = rng
        self.taken: list[tuple[int, int]] = []

    @property
    def decisions(self) -> list[int]:
        """The decisions taken, without the plain ones at the end."""
        choices = [choice for choice, _ in self.taken]
        while choices and not choices[-1]:
            choices.pop()
        return choices

    @property
    def is_new(self) -> bool:
        """Whether the next decision is not one of those given."""
        return len(self.taken) >= len(self._prefix)

    def choose(self, plain: int, total: int) -> int:
        """Return the number of the option to take.

        Args:
            plain: How many options, the first ones, are what happens on a good day.
            total: How many there are.
        """
        if total == 1:
            return 0
        place = len(self.taken)
        if place < len(self._prefix):
            choice = self._prefix[place]
            if choice >= total:
                choice = 0
        elif self._rng is None:
            choice = 0
        else:
            choice = int(self._rng.random() * (plain if plain and self._rng.random() < _PLAIN else total))
        self.taken.append((choice, total))
        return choice
