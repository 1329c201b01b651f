"""The result as people read it: in colour on a terminal where rich is installed, else in plain text."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from benchmarks.budget import Verdict
from benchmarks.figure import Figure

__all__ = ["cells", "number", "plain", "show", "show_coloured"]

_HEAD = ("what", "median", "95 % interval", "unit", "budget", "verdict", "note")
_STYLES = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.INCONCLUSIVE: "yellow"}
_WHOLE = 100.0


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        show_coloured(figures)
    else:
        print(plain(figures))


def plain(figures: Sequence[Figure]) -> str:
    """Return the table as text."""
    rows = [_HEAD, *(cells(figure) for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if place in {1, 2, 4} else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "─" * len(lines[0]))
    return "\n".join(lines)


def cells(figure: Figure) -> tuple[str, ...]:
    """Return the figure's line of the table."""
    value, budget, verdict = figure.value, figure.budget, figure.verdict
    return (
        figure.what,
        "-" if value is None else number(value.median),
        "" if value is None or value.samples == 1 else f"{number(value.low)} … {number(value.high)}",
        figure.unit,
        "" if budget is None else f"{'≤' if budget.upper else '≥'} {budget.limit:,g}",
        "" if verdict is None else verdict.value,
        figure.note,
    )


def number(value: float) -> str:
    """Return three digits or so, and thousands apart."""
    if abs(value) >= _WHOLE:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"  # noqa: PLR2004 - digits


def show_coloured(figures: Sequence[Figure]) -> None:
    """Print the table with rich."""
    from rich import box  # noqa: PLC0415 - optional
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(_HEAD):
        table.add_column(name, justify="right" if place in {1, 2, 4} else "left", overflow="fold")
    row = None
    for figure in figures:
        if row is not None and figure.row != row:
            table.add_section()
        row = figure.row
        styled = [Text(cell) for cell in cells(figure)]
        if figure.verdict is not None:
            styled[5].stylize(_STYLES[figure.verdict])
        table.add_row(*styled)
    Console().print(table)
