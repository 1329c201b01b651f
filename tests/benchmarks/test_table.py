"""The table that people read."""

from __future__ import annotations

import pytest

from benchmarks import table
from benchmarks.budget import at_least, at_most
from benchmarks.estimate import Estimate, exact
from benchmarks.figure import Figure

FIGURES = [
    Figure("store", "stack / framework", "x", Estimate(1.2, 1.16, 1.3, 80), at_most(1.15)),
    Figure("replay", "speed", "entries/s", Estimate(35_323.4, 31_705.0, 41_543.0, 7), at_least(20_000)),
    Figure("frozen", "the framework's manager", "s", None, note="had not returned after 3 s"),
]


def test_every_figure_is_a_line_with_its_budget_and_verdict() -> None:
    """The plain table says what is measured, how sure that is, what it may be and whether it is."""
    lines = table.plain(FIGURES).splitlines()
    assert len(lines) == 5
    assert lines[2].split() == ["stack", "/", "framework", "1.20", "1.16", "…", "1.30", "x", "≤", "1.15", "missed"]
    assert "35,323" in lines[3]
    assert "≥ 20,000" in lines[3]
    assert lines[3].endswith("met")
    assert lines[4].endswith("had not returned after 3 s")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (-2.4, "-2.40"), (9.999, "10.00"), (14.94, "14.9"), (542.4, "542"), (8273.2, "8,273")],
)
def test_numbers_have_about_three_digits(value: float, shown: str) -> None:
    """More digits would pretend to be known."""
    assert table.number(value) == shown


def test_the_coloured_table_says_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With rich, every cell is there too."""
    monkeypatch.setenv("COLUMNS", "200")
    table.show_coloured([*FIGURES, Figure("memory", "written", "B", exact(542))])
    shown = capsys.readouterr().out
    for figure in FIGURES:
        for cell in table.cells(figure):
            assert cell in shown
    assert "542" in shown
