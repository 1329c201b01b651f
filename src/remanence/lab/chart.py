"""Small SVG line charts: panels stacked over one time axis, drawn as text that needs no script and no library."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from remanence.lab.axis import Linear, Log

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CHARACTER_WIDTH = 0.56
_TITLE_ROW = 34.0
_TITLE_LIFT = 13.0
_TOP_ROW = 22.0
_AXIS_ROW = 38.0
_SAMPLE = 18.0
_ROOM_FOR_LABELS = 60.0


def escape(text: str) -> str:
    """Make any string safe inside HTML and XML, in text and in attributes.

    Characters that XML does not allow at all, lone surrogates among them, become U+FFFD.
    """
    return html.escape(_NOT_XML.sub("\ufffd", text))


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel: a value per slice, None where there is nothing to draw.

    Args:
        label: Its name, written at its end or beside its sample.
        style: Class of its colour and dash, defined by the page.
        values: One per slice of the timeline.
        filled: Whether the area below it is tinted.
    """

    label: str
    style: str
    values: tuple[float | None, ...]
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure over time. A panel with a `note` shows that sentence instead of lines."""

    title: str
    axis: Linear | Log
    series: tuple[Series, ...]
    height: float = 72.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time behind all panels.

    Args:
        start: In seconds.
        end: In seconds.
        label: One line above an "outage"; inside a hatched band, where a line break starts another line.
        style: "outage" is shaded; "pause" and "never" are hatched, and "never" is labelled even where it is narrow.
    """

    start: float
    end: float
    label: str
    style: str = "outage"


@dataclass(frozen=True, slots=True)
class Timeline:
    """Panels over the same seconds.

    Args:
        key: Unique in the page and fit for an id.
        title: Short name, read out by screen readers.
        description: What the picture shows, for those who cannot see it.
        slices: Start and end of each slice in seconds.
        until: Right end of the time axis in seconds, above 0.
        panels: From top to bottom.
        bands: Stretches behind the panels.
    """

    key: str
    title: str
    description: str
    slices: tuple[tuple[float, float], ...]
    until: float
    panels: tuple[Panel, ...]
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Measures of one variant of a chart, in its own units.

    Args:
        name: Class of the variant, toggled by the page.
        width: Of the whole picture.
        left: Room for tick labels.
        right: Room for labels at the ends of the lines; without it they move into the title row.
        font: Size of the text.
        ticks: How many marks the time axis has at most.
    """

    name: str
    width: float
    left: float
    right: float
    font: float
    ticks: int

    @property
    def labels_at_ends(self) -> bool:
        """Whether lines are named at their ends."""
        return self.right >= _ROOM_FOR_LABELS

    def text_width(self, text: str) -> float:
        """Estimate the width of a text; SVG cannot be asked for it without a script."""
        return len(text) * self.font * _CHARACTER_WIDTH


NARROW = Layout(name="narrow", width=330, left=48, right=8, font=12, ticks=5)
MEDIUM = Layout(name="medium", width=580, left=52, right=110, font=12, ticks=7)
WIDE = Layout(name="wide", width=880, left=56, right=116, font=12.5, ticks=11)


_HATCHED = ("pause", "never")


def draw(timeline: Timeline, layout: Layout) -> str:
    """Draw a timeline in one layout, as one `svg` element."""
    frame = _Frame(timeline, layout)
    hatched: list[str] = []
    plots: list[str] = []
    y = _TOP_ROW
    for index, panel in enumerate(timeline.panels):
        top = y + _TITLE_ROW
        y = top + (0.0 if panel.note else panel.height)
        plot = _Plot(frame, panel, top, y)
        hatched += _bands(frame, _HATCHED, top, y)
        plots += _panel(plot)
        if index == 0:
            plots += _inner_labels(plot)
    return "\n".join(
        [
            f'<svg class="chart {layout.name}" role="img" aria-labelledby="{frame.name}-title {frame.name}-desc"',
            f'viewBox="0 0 {layout.width:g} {y + _AXIS_ROW:g}" font-size="{layout.font:g}">',
            f'<title id="{frame.name}-title">{escape(timeline.title)}</title>',
            f'<desc id="{frame.name}-desc">{escape(timeline.description)}</desc>',
            f"<defs>{''.join(_hatching(frame, style) for style in _HATCHED)}</defs>",
            *_bands(frame, ("outage",), _TOP_ROW, y),
            *hatched,
            *_labels_above(frame),
            *plots,
            *_time_axis(frame, y),
            "</svg>",
        ]
    )


def time_ticks(until: float, most: int) -> list[float]:
    """Return round seconds from 0 to `until`, at most about `most` of them."""
    raw = until / max(most - 1, 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(nice * size for nice in (1, 2, 5, 10, 20) if nice * size >= raw * 0.999)
    return [i * step for i in range(math.floor(until / step * 1.000001) + 1)]


@dataclass(frozen=True, slots=True)
class _Frame:
    timeline: Timeline
    layout: Layout

    @property
    def name(self) -> str:
        return f"{self.timeline.key}-{self.layout.name}"

    @property
    def right(self) -> float:
        return self.layout.width - self.layout.right

    def x(self, seconds: float) -> float:
        share = min(max(seconds / self.timeline.until, 0.0), 1.0)
        return self.layout.left + (self.right - self.layout.left) * share


@dataclass(frozen=True, slots=True)
class _Plot:
    frame: _Frame
    panel: Panel
    top: float
    foot: float

    def y(self, value: float) -> float:
        return self.foot - (self.foot - self.top) * self.panel.axis.share(value)


def _text(x: float, y: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _horizontal(style: str, left: float, right: float, y: float) -> str:
    return f'<line class="{style}" x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}"/>'


def _hatching(frame: _Frame, style: str) -> str:
    return (
        f'<pattern id="{frame.name}-{style}" width="7" height="7" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><path class="hatch {style}" d="M3.5 0V7"/></pattern>'
    )


def _bands(frame: _Frame, styles: tuple[str, ...], top: float, foot: float) -> Iterator[str]:
    for band in frame.timeline.bands:
        if band.style not in styles:
            continue
        left, right = frame.x(band.start), frame.x(band.end)
        fill = f' fill="url(#{frame.name}-{band.style})"' if band.style in _HATCHED else ""
        yield (
            f'<rect class="band {band.style}"{fill} x="{left:.1f}" y="{top:.1f}" '
            f'width="{right - left:.1f}" height="{foot - top:.1f}"/>'
        )


def _labels_above(frame: _Frame) -> Iterator[str]:
    """Label the shaded bands over their middle, moved inwards where the words would leave the picture."""
    for band in frame.timeline.bands:
        if band.style in _HATCHED:
            continue
        left, right = frame.x(band.start), frame.x(band.end)
        half = frame.layout.text_width(band.label) / 2
        middle = max(min((left + right) / 2, frame.layout.width - half), half)
        yield f'<path class="bracket" d="M{left:.1f} {_TOP_ROW:g}v-5H{right:.1f}v5"/>'
        yield _text(middle, _TOP_ROW - 10, band.label, "outage-label", "middle")


def _inner_labels(plot: _Plot) -> Iterator[str]:
    """Label the hatched bands; one too narrow for its words goes without, unless calls never returned in it."""
    frame, font = plot.frame, plot.frame.layout.font
    for band in frame.timeline.bands:
        left, right = frame.x(band.start), frame.x(band.end)
        lines = band.label.split("\n")
        fits = right - left >= max(frame.layout.text_width(line) for line in lines)
        if band.style not in _HATCHED or not (fits or band.style == "never"):
            continue
        x, anchor = ((left + right) / 2, "middle") if fits else (right - 4, "end")
        y = (plot.top + plot.foot) / 2 - font * 0.6 * (len(lines) - 1)
        for index, line in enumerate(lines):
            yield _text(x, y + index * font * 1.25, line, f"band-label {band.style}", anchor)


def _panel(plot: _Plot) -> Iterator[str]:
    panel, layout = plot.panel, plot.frame.layout
    note = f'<tspan class="muted" dx="8">{escape(panel.note)}</tspan>' if panel.note else ""
    yield f'<text class="panel" x="0" y="{plot.top - _TITLE_LIFT:.1f}">{escape(panel.title)}{note}</text>'
    if note:
        return
    for value, label in panel.axis.ticks():
        y = plot.y(value)
        yield _horizontal("base" if y == plot.foot else "grid", layout.left, plot.frame.right, y)
        yield _text(layout.left - 6, y + layout.font * 0.34, label, "tick", "end")
    for series in panel.series:
        yield from _line(plot, series)
    yield from _end_labels(plot) if layout.labels_at_ends else _key(plot)


def _runs(timeline: Timeline, series: Series) -> list[list[tuple[float, float, float]]]:
    """Split a series at its gaps, so that nothing is drawn where nothing was measured."""
    runs: list[list[tuple[float, float, float]]] = []
    previous_end: float | None = None
    for (start, end), value in zip(timeline.slices, series.values, strict=True):
        if value is None:
            previous_end = None
            continue
        if previous_end is None or start - previous_end > (end - start) / 2:
            runs.append([])
        runs[-1].append((start, end, value))
        previous_end = end
    return runs


def _line(plot: _Plot, series: Series) -> Iterator[str]:
    """Draw a series as steps: a slice's value holds for the slice, and one slice alone is still visible."""
    lines, areas = [], []
    for run in _runs(plot.frame.timeline, series):
        left, _, first = run[0]
        steps = "".join(f"V{plot.y(value):.1f}H{plot.frame.x(end):.1f}" for _, end, value in run)
        lines.append(f"M{plot.frame.x(left):.1f} {plot.y(first):.1f}{steps}")
        areas.append(f"M{plot.frame.x(left):.1f} {plot.foot:.1f}{steps}V{plot.foot:.1f}Z")
    if series.filled and areas:
        yield f'<path class="area {series.style}" d="{"".join(areas)}"/>'
    if lines:
        yield f'<path class="line {series.style}" d="{"".join(lines)}"/>'


def _end_labels(plot: _Plot) -> Iterator[str]:
    """Name each line where it ends, also one that ends early, pushed apart where two end together."""
    frame, font = plot.frame, plot.frame.layout.font
    ends: list[tuple[Series, float, float]] = []
    for series in plot.panel.series:
        runs = _runs(frame.timeline, series)
        if runs:
            _, end, last = runs[-1][-1]
            ends.append((series, frame.x(end), plot.y(last)))
    placed = _spread([y for _, _, y in ends], font * 1.15, plot.foot)
    for (series, x, _), y in zip(ends, placed, strict=True):
        # A sample beside a line that ends inside the plot would look like more of that line.
        sample = _SAMPLE + 6 if x >= frame.right - 0.5 else 0.0
        if sample:
            yield _horizontal(f"line {series.style}", x + 6, x + sample, y)
        yield _text(x + sample + 5, y + font * 0.34, series.label, "series")


def _spread(wanted: Sequence[float], apart: float, foot: float) -> list[float]:
    """Push positions upwards until they are `apart`, keeping their order and staying above `foot`."""
    placed = [min(y, foot) for y in wanted]
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], -i))
    for upper, lower in reversed(list(pairwise(order))):
        placed[upper] = min(placed[upper], placed[lower] - apart)
    return placed


def _key(plot: _Plot) -> Iterator[str]:
    """Name the lines in the title row, where there is no room at their ends."""
    x, y = plot.frame.right, plot.top - _TITLE_LIFT
    for series in reversed(plot.panel.series):
        x -= plot.frame.layout.text_width(series.label)
        yield _text(x, y, series.label, "series")
        yield _horizontal(f"line {series.style}", x - _SAMPLE - 5, x - 5, y - 4)
        x -= _SAMPLE + 15


def _time_axis(frame: _Frame, foot: float) -> Iterator[str]:
    for seconds in time_ticks(frame.timeline.until, frame.layout.ticks):
        x = frame.x(seconds)
        yield f'<path class="mark" d="M{x:.1f} {foot:.1f}v5"/>'
        yield _text(x, foot + 18, f"{seconds:g}", "tick", "middle")
    yield _text(frame.right, foot + 33, "seconds since the run began", "muted", "end")
