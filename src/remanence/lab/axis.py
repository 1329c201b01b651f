"""Axes of the report's charts, and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

THIN_SPACE = "\u202f"
"""Narrow no-break space: groups thousands and joins a number to its unit."""

_LARGEST = 1e15
_SHORT_FORMS = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k"), (1e3, 1.0, ""))
"""From which value on, divided by what, with which suffix."""

_DURATIONS = (
    (0.00995, (0.001, 1, "µs")),
    (0.995, (1.0, 2, "ms")),
    (9.95, (1.0, 1, "ms")),
    (999.5, (1.0, 0, "ms")),
    (9_995.0, (1000.0, 2, "s")),
    (99_950.0, (1000.0, 1, "s")),
)
"""Below how many ms: the unit's length in ms, decimals, unit. The bounds are where rounding would add a digit."""

_WHOLE_SECONDS = (1000.0, 0, "s")

_SECOND = 3
_HUNDREDTH = -2
_NICE_TOPS = (1, 2, 4, 5, 6, 8, 10)
_LOWEST_DECADE = -6


def number(value: float | None) -> float | None:
    """Return a value that can be drawn, or None for a missing, infinite or absurdly large one."""
    if value is None or not -_LARGEST < value < _LARGEST:
        return None
    return float(value)


def count(value: float) -> str:
    """Write a number with its thousands grouped, as in 12 345."""
    # An int is written as it is: as a float it could lose digits, or not fit.
    return (f"{value:,}" if isinstance(value, int) else f"{value:,.0f}").replace(",", THIN_SPACE)


def short(value: float) -> str:
    """Write a tick of a linear axis in as few characters as it needs."""
    for least, size, suffix in _SHORT_FORMS:
        if value >= least:
            return f"{value / size:g}{suffix}" if suffix else count(value)
    return f"{value:g}"


def duration(milliseconds: float) -> str:
    """Write a duration in the unit that keeps it readable, with two or three figures."""
    size = abs(milliseconds)
    unit_ms, digits, unit = next((form for below, form in _DURATIONS if size < below), _WHOLE_SECONDS)
    return f"{milliseconds / unit_ms:,.{digits}f}".replace(",", THIN_SPACE) + THIN_SPACE + unit


@dataclass(frozen=True, slots=True)
class Linear:
    """An axis from 0 to `top`."""

    top: float

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Linear:
        """Choose the smallest round top that holds every value."""
        largest = max((v for v in values if v is not None), default=0.0)
        if largest <= 0:
            return cls(1.0)
        # Below a thousandth a rate is a rounding error of the clock, and powers of ten run out of floats.
        size = 10.0 ** math.floor(math.log10(max(largest, 1e-3)))
        return cls(next((nice * size for nice in _NICE_TOPS if nice * size >= largest), 10 * size))

    def share(self, value: float) -> float:
        """Return how far up the axis a value lies, from 0 to 1."""
        return min(max(value / self.top, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the marked values and their labels."""
        return [(value, short(value)) for value in (0.0, self.top / 2, self.top)]


@dataclass(frozen=True, slots=True)
class Log:
    """A logarithmic axis of milliseconds over whole decades, from 10**low to 10**high.

    Nothing takes no time: a value below the axis is drawn on its lower edge.
    """

    low: int
    high: int

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Log:
        """Choose the whole decades that hold every positive value."""
        positive = [v for v in values if v is not None and v > 0]
        if not positive:
            return cls(0, 3)
        low = max(math.floor(math.log10(min(positive))), _LOWEST_DECADE)
        return cls(low, max(math.ceil(math.log10(max(positive))), low + 1))

    def share(self, value: float) -> float:
        """Return how far up the axis a value lies, from 0 to 1."""
        exponent = math.log10(value) if value > 0 else float(self.low)
        return min(max((exponent - self.low) / (self.high - self.low), 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the marked decades and their labels, thinned out where there are many."""
        stride = max(1, math.ceil((self.high - self.low) / 6))
        return [(10.0**e, self._label(e)) for e in range(self.low, self.high + 1, stride)]

    @staticmethod
    def _label(exponent: int) -> str:
        if exponent >= _SECOND:
            return f"{short(10.0 ** (exponent - _SECOND))}{THIN_SPACE}s"
        return (
            f"{10.0**exponent:g}{THIN_SPACE}ms"
            if exponent >= _HUNDREDTH
            else f"{10.0 ** (exponent + 3):g}{THIN_SPACE}µs"
        )
