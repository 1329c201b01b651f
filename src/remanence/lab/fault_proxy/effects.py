"""What a fault does, as checked data: nothing here acts."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = [
    "Answer",
    "Blackhole",
    "Cut",
    "Direction",
    "Effect",
    "Hold",
    "Lose",
    "Refuse",
    "Shape",
    "SlowClose",
    "Then",
    "Truncate",
    "Way",
    "When",
]

Way = Literal["requests", "replies"]
Direction = Literal["requests", "replies", "both"]
Then = Literal["hang", "reset", "eof"]
When = Literal["instead", "after"]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing listens on the port any more."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The request waits in the proxy."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends.

    Attributes:
        how: As a reset, or in an orderly way.
        half: Whether what the client sends still reaches the server.
    """

    how: Literal["reset", "eof"]
    half: bool = False


@dataclass(frozen=True, slots=True)
class Blackhole:
    """What is sent disappears."""

    direction: Direction

    def __post_init__(self) -> None:
        _one_of("direction", self.direction, get_args(Direction))


@dataclass(frozen=True, slots=True)
class Shape:
    """What is sent comes late, or slowly.

    Attributes:
        direction: What of.
        seconds, jitter: The delay is drawn evenly from `seconds` ± `jitter`.
        size, every: So many bytes at once, and seconds between; 0 does not drip.
    """

    direction: Direction
    seconds: float = 0.0
    jitter: float = 0.0
    size: int = 0
    every: float = 0.0

    def __post_init__(self) -> None:
        _one_of("direction", self.direction, get_args(Direction))
        for name in ("seconds", "jitter", "every"):
            _duration(name, getattr(self, name))
        _count("size", self.size, 0)
        if self.jitter > self.seconds:
            raise ValueError(f"jitter={self.jitter} is more than the {self.seconds} s that it varies.")

    def delay(self, rng: random.Random) -> float:
        """Draw a delay in seconds."""
        return self.seconds + rng.uniform(-self.jitter, self.jitter) if self.jitter else self.seconds


@dataclass(frozen=True, slots=True)
class SlowClose:
    """One side's orderly end reaches the other later."""

    seconds: float
    direction: Direction

    def __post_init__(self) -> None:
        _one_of("direction", self.direction, get_args(Direction))
        _duration("seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class Lose:
    """The reply does not arrive."""

    then: Then

    def __post_init__(self) -> None:
        _one_of("then", self.then, get_args(Then))


@dataclass(frozen=True, slots=True)
class Truncate:
    """Only the reply's first bytes arrive."""

    after: int
    then: Then

    def __post_init__(self) -> None:
        _count("after", self.after, 0)
        _one_of("then", self.then, get_args(Then))


@dataclass(frozen=True, slots=True)
class Answer:
    """The client gets this error: the server never sees the command, or its own reply to it is replaced."""

    text: str
    when: When

    def __post_init__(self) -> None:
        _one_of("when", self.when, get_args(When))
        if not self.text.lstrip("-") or any(character in self.text for character in "\r\n"):
            raise ValueError(
                "An error reply is one line of text, such as 'LOADING Redis is loading the dataset in memory'."
            )

    @property
    def raw(self) -> bytes:
        """The reply's bytes."""
        return b"-%b\r\n" % self.text.removeprefix("-").encode("utf-8", "surrogateescape")


Effect = Refuse | Hold | Cut | Blackhole | Shape | SlowClose | Lose | Truncate | Answer


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is none of {', '.join(allowed)}.")


def _duration(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value} is no time in seconds: 0 or more.")


def _count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} is not a whole number from {least} on.")
