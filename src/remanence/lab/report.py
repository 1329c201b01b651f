"""The demo's report: one self-contained page with the verdict, the outage timelines and how they were measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from remanence.lab.axis import count, duration
from remanence.lab.chart import MEDIUM, NARROW, WIDE, draw, escape
from remanence.lab.errors import LabError
from remanence.lab.measurement import Comparison, ManagerRun
from remanence.lab.outage_chart import never_returned, outage_label, seconds, timelines
from remanence.lab.verdict_table import meanings, table

_OUTAGES = {
    "kill": "The server process was killed (SIGKILL) and later started again on the same port.",
    "freeze": "The server process was stopped (SIGSTOP): it accepted connections and answered nothing for a while.",
    "refuse": "The server was shut down cleanly, so connections were refused until it was started again.",
    "external": "Made by whoever runs the server, not by this run.",
}


class ReportTargetError(LabError):
    """The report cannot be written where it was asked for."""


def check_target(path: str | os.PathLike[str]) -> None:
    """Check that a report could be written, before anything is run for it.

    Args:
        path: The file to write later. Nothing is created by this check.

    Raises:
        ReportTargetError: The directory is missing or not writable, or the path is not a writable file.
    """
    target = Path(path)
    directory = target.parent
    if not directory.is_dir():
        problem = f"{directory} is not a directory; create it or name a file elsewhere"
    elif target.is_dir():
        problem = f"{target} is a directory; name a file in it, such as {target / 'report.html'}"
    elif target.exists() and not os.access(target, os.W_OK):
        problem = f"{target} exists and may not be written; name another file or change its permissions"
    elif not target.exists() and not os.access(directory, os.W_OK | os.X_OK):
        problem = f"{directory} may not be written; name a file elsewhere or change its permissions"
    else:
        return
    raise ReportTargetError(f"The result cannot be written: {problem}. Nothing was written.")


def write(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the report as one UTF-8 file, replacing an older one.

    Args:
        comparison: What was measured.
        path: The file to write.

    Raises:
        ReportTargetError: The file cannot be written there.
    """
    check_target(path)
    page = render(comparison)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ReportTargetError(
            f"The report could not be written to {path}: {reason}. What is there may be incomplete; "
            "name another file and run again."
        ) from error


def render(comparison: Comparison) -> str:
    """Render a comparison as one HTML page that needs nothing from outside and no script.

    Args:
        comparison: What was measured; also one without runs or without an outage.
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(_page_title(comparison))}</title>",
            f"<style>{_stylesheet()}</style>\n</head>\n<body>\n<main>",
            *_head(comparison),
            *table(comparison),
            *_timelines(comparison),
            *_measured(comparison),
            *meanings(comparison),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _stylesheet() -> str:
    return resources.files("remanence.lab").joinpath("report.css").read_text(encoding="utf-8")


# The sentence at the top


def _page_title(comparison: Comparison) -> str:
    return f"{_first_clause(comparison.runs[0])} (Remanence)" if comparison.runs else "Remanence outage report"


def _first_clause(run: ManagerRun) -> str:
    verdict = run.verdict
    if not verdict.acknowledged:
        words = f"Nothing was acknowledged by the {run.name} manager, so nothing could be lost"
    else:
        words = (
            f"{count(verdict.lost)} of {count(verdict.acknowledged)} acknowledged memories "
            f"lost by the {run.name} manager"
        )
    never = never_returned(run)
    return f"{words}, and {never}" if never else words


def _further_clause(run: ManagerRun) -> str:
    verdict = run.verdict
    words = f"the {run.name} manager " + (
        f"lost {count(verdict.lost)} of {count(verdict.acknowledged)}"
        if verdict.acknowledged
        else "acknowledged nothing"
    )
    never = never_returned(run)
    return f"{words}, and {never}" if never else words


def _head(comparison: Comparison) -> Iterator[str]:
    if not comparison.runs:
        yield "<header><h1>No manager was run, so there is nothing to compare.</h1></header>"
        return
    first, *others = comparison.runs
    proven = bool(first.verdict.acknowledged)
    tone, badge = ("bad", "✗ Memories lost") if first.verdict.lost else ("good", "✓ Nothing lost")
    if not proven:
        tone, badge = "", "Nothing to judge"
    clauses = [_first_clause(first), *(_further_clause(run) for run in others)]
    sentence = escape("; ".join(clauses) + ".")
    head = len(escape(clauses[0])) + 1
    yield f'<header>\n<p class="eyebrow"><span class="badge {tone}">{badge}</span> Remanence outage report</p>'
    yield f'<h1>{sentence[:head]}<span class="rest">{sentence[head:]}</span></h1>'
    yield f'<p class="lead">{escape(_setting(comparison))}</p>\n</header>'


def _setting(comparison: Comparison) -> str:
    run = comparison.runs[0]
    load = (
        f"{_many(comparison.workers, 'worker')} in {_many(comparison.processes, 'process', 'processes')} replayed "
        f"{_many(comparison.conversations, 'conversation')} through each manager in turn"
    )
    if run.outage is None:
        return f"No outage: {load}."
    start, end = run.outage
    label = outage_label(comparison.outage_kind)
    if run.killing is not None:
        load += "; all workers were killed in the outage and replaced"
    return f"{label} for {seconds(end - start)}, {seconds(start)} into the run, while {load}."


def _many(amount: int, one: str, several: str = "") -> str:
    return f"{count(amount)} {one if amount == 1 else several or one + 's'}"


# The timelines


def _timelines(comparison: Comparison) -> Iterator[str]:
    if not comparison.runs:
        return
    yield "<section><h2>Timelines</h2>"
    yield (
        '<p class="aside">Every chart has the same seconds and the same scales. Where a stretch is hatched, or a line '
        "has a gap, no call finished and there was nothing to measure.</p>"
    )
    for run, timeline in zip(comparison.runs, timelines(comparison), strict=True):
        yield f"<figure>\n<figcaption><h3>{escape(run.name)}</h3> {escape(_caption(run))}</figcaption>"
        yield from (draw(timeline, layout) for layout in (WIDE, MEDIUM, NARROW))
        yield "</figure>"
    yield "</section>"


def _caption(run: ManagerRun) -> str:
    verdict = run.verdict
    parts = [f"{count(verdict.lost)} of {count(verdict.acknowledged)} lost"]
    slowest = verdict.slowest_call_s
    parts.append(never_returned(run) or (f"slowest call {duration(slowest * 1000)}" if slowest is not None else ""))
    if run.outage is not None:
        recovery = verdict.recovery_s
        parts.append("did not recover" if recovery is None else f"recovered in {duration(recovery * 1000)}")
    if run.killing is not None:
        parts.append(f"workers killed at {seconds(run.killing.at_s)}")
    return " · ".join(parts)


# How it was measured, and what the words mean


def _measured(comparison: Comparison) -> Iterator[str]:
    yield '<section class="notes"><h2>How it was measured</h2>\n<dl>'
    yield from (f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in _facts(comparison))
    yield "</dl>\n</section>"


def _facts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    kind = comparison.outage_kind
    yield "Outage", f"{outage_label(kind)}. {_OUTAGES.get(kind, '')}".strip()
    if any(run.killing for run in comparison.runs):
        yield (
            "Workers",
            (
                "In the outage all worker processes were killed (SIGKILL) at once. New ones went on with the same "
                "conversations before Redis was back. Each acknowledgement was written to a file outside the workers "
                "before its caller went on. Calls that died with their process are counted neither as failed nor as "
                "acknowledged."
            ),
        )
    windows = [_window(run) for run in comparison.runs]
    if len(set(windows)) == 1:
        yield "Each run", windows[0]
    else:
        yield from ((f"Run, {run.name}", window) for run, window in zip(comparison.runs, windows, strict=True))
    yield (
        "Load",
        (
            f"{_many(comparison.workers, 'worker thread')} in {_many(comparison.processes, 'process', 'processes')}, "
            f"{_many(comparison.conversations, 'conversation')}"
        ),
    )
    yield "Seed", str(comparison.seed)
    yield "Versions", ", ".join(f"{name} {version}" for name, version in comparison.versions.items()) or "not recorded"


def _window(run: ManagerRun) -> str:
    window = f"Redis away from {seconds(run.outage[0])} to {seconds(run.outage[1])}" if run.outage else "no outage"
    return f"{seconds(run.duration_s)} measured in slices of {duration(run.interval_s * 1000)}, {window}"
