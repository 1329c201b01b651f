"""The charts of the report: axes, lines, gaps, bands, and the variants for narrow and wide pages."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from remanence.lab.axis import Linear, Log, count, duration, number
from remanence.lab.chart import (
    MEDIUM,
    NARROW,
    WIDE,
    Band,
    Layout,
    Panel,
    Series,
    Timeline,
    draw,
    escape,
    time_ticks,
)

PLAIN = Layout(name="plain", width=220, left=50, right=70, font=10, ticks=5)


def timeline(
    *values: float | None, bands: tuple[Band, ...] = (), axis: Linear | Log | None = None, label: str = "calls"
) -> Timeline:
    """Build a timeline of one panel with one series and slices of one second."""
    panel = Panel(title="Calls", axis=axis or Linear(10.0), series=(Series(label, "calls", values),), height=100)
    slices = tuple((float(i), float(i + 1)) for i in range(len(values)))
    return Timeline("run0", "The title", "The description", slices, float(len(values) or 1), (panel,), bands)


def parsed(picture: Timeline, layout: Layout = PLAIN) -> ET.Element:
    """Draw a timeline and read it back as XML."""
    return ET.fromstring(draw(picture, layout))  # noqa: S314 - our own output


def by_class(svg: ET.Element, name: str) -> list[ET.Element]:
    """Find the elements of a class."""
    return [element for element in svg.iter() if name in element.get("class", "").split()]


def line_of(svg: ET.Element) -> str:
    """Return the path of the series; samples beside labels are `line` elements."""
    [path] = [element for element in by_class(svg, "line") if element.tag == "path"]
    return path.get("d", "")


@pytest.mark.parametrize(("largest", "top"), [(0.7, 0.8), (1.0, 1.0), (3.1, 4.0), (7.0, 8.0), (12_345, 20_000)])
def test_linear_top_is_the_next_round_number(largest: float, top: float) -> None:
    """A linear axis ends at the smallest round number that holds the largest value."""
    axis = Linear.over([None, 0.0, largest])
    assert axis.top == pytest.approx(top)
    assert [value for value, _ in axis.ticks()] == pytest.approx([0, top / 2, top])


def test_linear_axis_without_values_still_has_a_scale() -> None:
    """Only zeros, or nothing at all, gives an axis on which zero is at the bottom."""
    for values in ([], [None], [0.0, 0.0]):
        axis = Linear.over(values)
        assert (axis.top, axis.share(0.0)) == (1.0, 0.0)


def test_log_axis_covers_whole_decades_with_their_own_units() -> None:
    """A log axis marks every decade from below the smallest to above the largest value, in ms and s."""
    axis = Log.over([0.05, None, 3100.0])
    assert [label.replace("\u202f", " ") for _, label in axis.ticks()] == [
        "0.01 ms",
        "0.1 ms",
        "1 ms",
        "10 ms",
        "100 ms",
        "1 s",
        "10 s",
    ]


def test_log_axis_puts_equal_ratios_at_equal_distances() -> None:
    """On a log axis each factor of ten takes the same height."""
    axis = Log(low=0, high=4)
    assert [axis.share(v) for v in (1, 10, 100, 1000, 10_000)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_log_axis_puts_zero_on_its_lower_edge() -> None:
    """A latency of zero cannot be on a log scale and is drawn at its foot, not left out."""
    assert Log(low=0, high=3).share(0.0) == 0.0


def test_log_axis_of_many_decades_has_few_labels() -> None:
    """Extreme values do not pile up labels."""
    assert len(Log.over([1e-6, 1e14]).ticks()) <= 7


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0.0 µs"),
        (0.004, "4.0 µs"),
        (0.05, "0.05 ms"),
        (0.996, "1.0 ms"),
        (9.96, "10 ms"),
        (999.6, "1.00 s"),
        (1520, "1.52 s"),
        (12_345, "12.3 s"),
        (3_600_000, "3 600 s"),
    ],
)
def test_durations_change_their_unit_where_rounding_would_add_a_digit(milliseconds: float, text: str) -> None:
    """Durations keep two or three figures from microseconds to an hour."""
    assert duration(milliseconds).replace("\u202f", " ") == text


def test_counts_are_grouped_without_losing_digits() -> None:
    """Thousands are set apart, and a whole number beyond a float's precision is exact."""
    assert count(12_345) == "12\u202f345"
    assert count(10**18 + 1).endswith("001")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 1e300, 10**400])
def test_what_cannot_be_drawn_is_no_number(value: float | None) -> None:
    """Missing, infinite and absurd values become gaps instead of coordinates."""
    assert number(value) is None


def test_escape_leaves_nothing_that_html_or_xml_would_read() -> None:
    """Markup is escaped; control characters and lone surrogates, which XML forbids, are replaced."""
    assert escape("<a b=\"c\" d='e'>&") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"
    assert escape("a\x00b\ud800c\uffffd\te") == "a\ufffdb\ufffdc\ufffdd\te"


@pytest.mark.parametrize(("until", "ticks"), [(30, [0, 5, 10, 15, 20, 25, 30]), (9.5, [0, 2, 4, 6, 8]), (0.3, None)])
def test_time_is_marked_at_round_seconds(until: float, ticks: list[float] | None) -> None:
    """The time axis is marked at multiples of 1, 2 or 5, within the run."""
    marked = time_ticks(until, 7)
    assert 0 < len(marked) <= 8
    assert marked[-1] <= until * 1.0001
    assert ticks is None or marked == pytest.approx(ticks)


def test_a_value_holds_for_its_slice() -> None:
    """A line consists of steps: level over each slice, at the height that the axis gives."""
    assert line_of(parsed(timeline(0, 10))) == "M50.0 156.0V156.0H100.0V56.0H150.0"


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    """Nothing is drawn through a slice without a value, and a lone slice between gaps is still visible."""
    moves = re.findall(r"M([\d.]+) [^M]*H([\d.]+)", line_of(parsed(timeline(5, None, 5, None, None))))
    assert moves == [("50.0", "70.0"), ("90.0", "110.0")]


def test_a_short_gap_is_a_gap_too() -> None:
    """A slice without a value separates its neighbours however short it is."""
    panels = timeline(5, None, 5).panels
    short = Timeline("run0", "t", "d", ((0.0, 1.0), (1.0, 1.1), (1.1, 2.1)), 3.0, panels)
    assert line_of(parsed(short)).count("M") == 2


def test_a_hole_between_slices_is_a_gap_in_the_line() -> None:
    """Slices that do not follow each other are not joined."""
    whole = timeline(5, 5)
    holed = Timeline("run0", "t", "d", ((0.0, 1.0), (5.0, 6.0)), 6.0, whole.panels)
    assert line_of(parsed(holed)).count("M") == 2


def test_a_series_without_values_draws_no_line_and_no_label() -> None:
    """A line that was never measured is neither drawn nor named at its end."""
    svg = parsed(timeline(None, None))
    assert not by_class(svg, "line")
    assert not by_class(svg, "series")


def test_the_outage_is_shaded_where_it_was_and_labelled() -> None:
    """The shade spans exactly the seconds of the outage, over the height of all panels, with its label above."""
    svg = parsed(timeline(1, 2, 3, 4, bands=(Band(1.0, 3.0, "Redis killed"),)))
    [shade] = by_class(svg, "outage")
    assert [shade.get(name) for name in ("x", "width", "y", "height")] == ["75.0", "50.0", "22.0", "134.0"]
    assert [label.text for label in by_class(svg, "outage-label")] == ["Redis killed"]


def test_an_outage_beyond_the_axis_is_cut_at_its_edge() -> None:
    """A band never leaves the plot."""
    [shade] = by_class(parsed(timeline(1, 2, bands=(Band(-5.0, 99.0, "out"),))), "outage")
    assert (shade.get("x"), shade.get("width")) == ("50.0", "100.0")


def test_a_silence_is_hatched_with_a_pattern_of_the_same_picture() -> None:
    """Hatching refers to a pattern in its own svg: one in a variant that is not displayed would not be painted."""
    svg = parsed(timeline(1, 0, 0, 0, bands=(Band(1.0, 4.0, "none\nat all", "never"),)))
    [rect] = [element for element in by_class(svg, "band") if element.tag == "rect"]
    assert rect.get("fill") == "url(#run0-plain-never)"
    assert "run0-plain-never" in [pattern.get("id") for pattern in svg.iter("pattern")]
    assert [label.text for label in by_class(svg, "band-label")] == ["none", "at all"]


def test_only_a_narrow_band_that_never_ended_keeps_its_label() -> None:
    """A pause too short for its words goes without; calls that never returned are always named, inside the plot."""
    words = "a label that is too long"
    assert not by_class(parsed(timeline(1, 0, 1, bands=(Band(1.0, 1.5, words, "pause"),))), "band-label")
    [label] = by_class(parsed(timeline(1, 1, 0, bands=(Band(2.9, 3.0, words, "never"),))), "band-label")
    assert (label.get("text-anchor"), label.get("x")) == ("end", "146.0")


def test_labels_of_lines_that_end_together_do_not_overlap() -> None:
    """Labels at the ends of lines are at least a line of text apart and stay above the foot of the plot."""
    panel = Panel("p", Linear(10.0), tuple(Series(f"s{i}", "calls", (0.0,)) for i in range(3)), height=100)
    svg = parsed(Timeline("run0", "t", "d", ((0.0, 1.0),), 1.0, (panel,)), WIDE)
    heights = sorted(float(label.get("y", "nan")) for label in by_class(svg, "series"))
    assert all(lower - upper >= WIDE.font for upper, lower in pairwise(heights))


def test_a_line_that_ends_early_is_named_there() -> None:
    """The label stands at the last value, without a sample that would look like more of the line."""
    svg = parsed(timeline(5, None, None, None))
    [label] = by_class(svg, "series")
    assert label.get("x") == "80.0"
    assert [element.tag for element in by_class(svg, "line")] == ["path"]


def test_narrow_pictures_name_lines_in_the_title_row() -> None:
    """Where there is no room beside the plot, each line has a sample and its name above it."""
    svg = parsed(timeline(5, 6, label="all"), NARROW)
    [label] = by_class(svg, "series")
    [title] = by_class(svg, "panel")
    assert (label.text, label.get("y")) == ("all", title.get("y"))


def test_a_panel_with_a_note_has_words_instead_of_lines() -> None:
    """A measure that a manager does not have is said, not drawn as zero."""
    panel = Panel("Journal", Linear(1.0), (), note="no journal")
    svg = parsed(Timeline("run0", "t", "d", (), 1.0, (panel,)))
    assert "no journal" in "".join(svg.itertext())
    assert not by_class(svg, "base")


@pytest.mark.parametrize("layout", [NARROW, MEDIUM, WIDE])
def test_the_picture_is_named_for_those_who_cannot_see_it(layout: Layout) -> None:
    """Each variant is one image with a title and a description, by ids that no other variant has."""
    svg = parsed(timeline(1), layout)
    assert svg.get("role") == "img"
    named = {element.get("id"): element.text for element in svg if element.tag in {"title", "desc"}}
    assert svg.get("aria-labelledby", "").split() == list(named)
    assert list(named.values()) == ["The title", "The description"]
    assert all(layout.name in (identity or "") for identity in named)


@pytest.mark.parametrize(("layout", "page"), [(NARROW, 332), (MEDIUM, 580), (WIDE, 852)])
def test_text_stays_legible_where_a_variant_is_shown_smallest(layout: Layout, page: int) -> None:
    """On the narrowest page that shows a variant (360, 620 and 900 px less the margins) its text has 11 px or more."""
    assert layout.font * page / layout.width >= 11


def test_labels_stay_inside_the_picture() -> None:
    """An outage at the very start or end keeps its whole label visible."""
    for band in (Band(0.0, 0.1, "Redis shut down, 8 s"), Band(3.9, 4.0, "Redis shut down, 8 s")):
        [label] = by_class(parsed(timeline(1, 2, 3, 4, bands=(band,)), NARROW), "outage-label")
        half = NARROW.text_width(band.label) / 2
        assert half - 0.1 <= float(label.get("x", "nan")) <= NARROW.width - half + 0.1
