"""The outage timelines: every manager's run as the same four panels, on the same time axis and the same scales."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from remanence.lab.axis import THIN_SPACE, Linear, Log, count, number
from remanence.lab.chart import Band, Panel, Series, Timeline
from remanence.lab.measurement import Comparison, Interval, ManagerRun

OUTAGE_LABELS = {
    "kill": "Redis killed",
    "freeze": "Redis frozen",
    "refuse": "Redis shut down",
    "external": "Redis away",
}
"""Words for each kind of outage that the lab makes."""

_PANELS = (
    ("Calls per second", 76.0),
    ("Latency, log scale", 116.0),
    ("Errors per second", 60.0),
    ("Writes waiting in the journal", 60.0),
)
_SHORTEST_PAUSE_S = 1.0
_SHORTEST_RUN_S = 1e-3

_Lines = tuple[Series, ...]
_Slice = tuple[float, float]


def timelines(comparison: Comparison) -> tuple[Timeline, ...]:
    """Turn each run into its timeline, all comparable by eye: same seconds, same scales.

    Args:
        comparison: The runs, in the order in which they are shown.
    """
    lines = [_measures(run) for run in comparison.runs]
    axes: list[Linear | Log] = [
        (Log if index == 1 else Linear).over(v for run in lines for series in run[index] for v in series.values)
        for index in range(len(_PANELS))
    ]
    until = max((_end(run) for run in comparison.runs), default=0.0)
    return tuple(
        Timeline(
            key=f"run{index}",
            title=f"Outage timeline of the {run.name} manager",
            description=_description(run),
            slices=_slices(run),
            until=until if until >= _SHORTEST_RUN_S else 1.0,
            panels=tuple(
                Panel(title=title, axis=axis, series=series, height=height, note="" if series else "no journal")
                for (title, height), axis, series in zip(_PANELS, axes, lines[index], strict=True)
            ),
            bands=(*_outage(run, comparison.outage_kind), *_killed(run), *_silences(run)),
        )
        for index, run in enumerate(comparison.runs)
    )


def outage_label(kind: str) -> str:
    """Name a kind of outage as readers see it; an unknown kind is shown as it is."""
    return OUTAGE_LABELS.get(kind, f"Outage: {kind}")


def seconds(value: float) -> str:
    """Write seconds with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0") + f"{THIN_SPACE}s"


def never_returned(run: ManagerRun) -> str:
    """Say how many calls never returned, as in "8 calls never returned"; empty where all did."""
    if run.unfinished > 0:
        return f"{count(run.unfinished)} {'call' if run.unfinished == 1 else 'calls'} never returned"
    return "a call never returned" if run.verdict.slowest_call_s is None else ""


def _measures(run: ManagerRun) -> tuple[_Lines, _Lines, _Lines, _Lines]:
    away = _rates(run, [i.degraded + i.journaled for i in run.timeline])
    depth = tuple(number(i.journal_depth) for i in run.timeline)
    throughput = [Series("all", "calls", _rates(run, [i.calls for i in run.timeline]), filled=True)]
    if any(away):
        throughput.append(Series("without Redis", "away", away))
    return (
        tuple(throughput),
        (
            Series("p50", "median", tuple(number(i.p50_ms) for i in run.timeline)),
            Series("p99", "tail", tuple(number(i.p99_ms) for i in run.timeline)),
        ),
        (
            Series("failed", "failed", _rates(run, [i.errors for i in run.timeline]), filled=True),
            Series("nothing known", "unknown", _rates(run, [i.unavailable for i in run.timeline])),
        ),
        () if all(d is None for d in depth) else (Series("waiting", "journal", depth, filled=True),),
    )


def _slices(run: ManagerRun) -> tuple[_Slice, ...]:
    """Return start and end of each slice; the run's end cuts the last one short."""
    return tuple(_slice(run, interval) for interval in run.timeline)


def _slice(run: ManagerRun, interval: Interval) -> _Slice:
    start = number(interval.at_s) or 0.0
    length = max(number(run.interval_s) or 0.0, 0.0)
    duration = number(run.duration_s) or 0.0
    return start, duration if start < duration < start + length else start + length


def _rates(run: ManagerRun, amounts: list[int]) -> tuple[float | None, ...]:
    """Turn amounts into amounts per second, None where the slice was cut too short to tell."""
    least = max((number(run.interval_s) or 0.0) / 2, 0.0)
    return tuple(
        _rate(amount, end - start) if end - start >= least and end > start else None
        for amount, (start, end) in zip(amounts, _slices(run), strict=True)
    )


def _rate(amount: int, length: float) -> float | None:
    drawable = number(amount)
    return None if drawable is None else number(drawable / length)


def _end(run: ManagerRun) -> float:
    outage_end = number(run.outage[1]) if run.outage else None
    slices = _slices(run)
    return max(number(run.duration_s) or 0.0, outage_end or 0.0, slices[-1][1] if slices else 0.0)


def _outage(run: ManagerRun, kind: str) -> Iterator[Band]:
    if run.outage is None:
        return
    start, end = number(run.outage[0]), number(run.outage[1])
    if start is not None and end is not None and start <= end:
        yield Band(start, end, f"{outage_label(kind)}, {seconds(end - start)}")


def _killed(run: ManagerRun) -> Iterator[Band]:
    """Mark the time in which no worker was alive."""
    if run.killing is not None:
        yield Band(run.killing.at_s, run.killing.at_work_s, "workers killed", "never")


def _silences(run: ManagerRun) -> Iterator[Band]:
    """Find the stretches in which no call finished; the last one may be the silence of calls that never returned."""
    never = never_returned(run)
    pairs = list(zip(_slices(run), run.timeline, strict=True))
    for silent, group in groupby(pairs, key=lambda pair: pair[1].calls == 0):
        stretch = list(group)
        start, end = stretch[0][0][0], stretch[-1][0][1]
        if not silent or end <= start:
            continue
        if never and stretch[-1] is pairs[-1]:
            waiting = f"\n{count(run.unfinished)} still waiting at the end" if run.unfinished > 0 else ""
            yield Band(start, end, f"no call returned{waiting}", "never")
        elif end - start >= _SHORTEST_PAUSE_S:
            yield Band(start, end, "no call finished", "pause")


def _description(run: ManagerRun) -> str:
    """Say in words what the lines show."""
    parts = [f"Over {seconds(run.duration_s)}: calls per second, latency, errors and writes waiting in the journal."]
    if run.outage is not None:
        parts.append(f"Redis was away from {seconds(run.outage[0])} to {seconds(run.outage[1])}.")
    if run.killing is not None:
        parts.append(
            f"All workers were killed at {seconds(run.killing.at_s)}; new ones were at work at "
            f"{seconds(run.killing.at_work_s)}."
        )
    parts += [
        f"No call finished from {seconds(band.start)} to {seconds(band.end)}"
        + (", when the run ended." if band.style == "never" else ".")
        for band in _silences(run)
    ]
    depths = [i.journal_depth for i in run.timeline if i.journal_depth is not None]
    parts.append(f"At most {count(max(depths))} writes waited." if depths else "This manager has no journal.")
    verdict = run.verdict
    parts.append(
        f"{count(verdict.failed_calls)} calls failed, {count(verdict.unavailable_answers)} answered nothing known."
    )
    return " ".join(parts)
