"""The verdict table of the report: what was kept, how calls were answered, how long they took, manager by manager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from remanence.lab.axis import THIN_SPACE, count, duration
from remanence.lab.chart import escape
from remanence.lab.measurement import Comparison, ManagerRun, Percentiles

_PHASES = ("before", "during", "after")
_UNMEASURED = Percentiles(p50=None, p99=None)


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    tone: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    cell: Callable[[ManagerRun], _Cell]
    meaning: str = ""


def _amount(attribute: str, bad: str = "") -> Callable[[ManagerRun], _Cell]:
    def cell(run: ManagerRun) -> _Cell:
        value: int = getattr(run.verdict, attribute)
        return _Cell(count(value), bad if value else "")

    return cell


def _lost(run: ManagerRun) -> _Cell:
    verdict = run.verdict
    if not verdict.acknowledged:
        return _Cell(count(verdict.lost), "bad" if verdict.lost else "", "nothing acknowledged")
    if not verdict.lost:
        return _Cell("✓" + THIN_SPACE + "0", "good")
    share = verdict.lost / verdict.acknowledged
    return _Cell(
        f"✗{THIN_SPACE}{count(verdict.lost)}", "bad", f"{100 * share:.2g}{THIN_SPACE}%" if share < 1 else "all"
    )


def _failed(run: ManagerRun) -> _Cell:
    waiting = f"{count(run.unfinished)} never returned" if run.unfinished else ""
    return _Cell(count(run.verdict.failed_calls), "", waiting)


def _slowest(run: ManagerRun) -> _Cell:
    slowest = run.verdict.slowest_call_s
    return _Cell("never returned", "bad") if slowest is None else _Cell(duration(slowest * 1000))


def _recovery(run: ManagerRun) -> _Cell:
    if run.verdict.recovery_s is not None:
        return _Cell(duration(run.verdict.recovery_s * 1000))
    return _Cell("did not recover", "bad") if run.outage else _Cell("no outage", "muted")


def _attempts(run: ManagerRun) -> _Cell:
    return _Cell(count(run.verdict.attempts_in_outage)) if run.outage else _Cell("no outage", "muted")


def _percentile(attribute: str, phase: str) -> Callable[[ManagerRun], _Cell]:
    def cell(run: ManagerRun) -> _Cell:
        value: float | None = getattr(run.verdict.latency_ms.get(phase, _UNMEASURED), attribute)
        if value is not None:
            return _Cell(duration(value))
        return _Cell("no call finished" if run.outage or phase == "before" else "no outage", "muted")

    return cell


def _latency(attribute: str) -> tuple[_Row, ...]:
    return tuple(
        _Row(f"{phase} the outage" if phase == "during" else phase, _percentile(attribute, phase)) for phase in _PHASES
    )


_Group = tuple[str, str, tuple[_Row, ...]]


def _held(run: ManagerRun) -> _Cell:
    return _Cell(count(run.killing.acknowledged)) if run.killing else _Cell("none killed", "muted")


def _held_and_lost(run: ManagerRun) -> _Cell:
    if run.killing is None or not run.killing.acknowledged:
        return _Cell("nothing to lose", "muted")
    lost = run.killing.lost
    return _Cell(f"✗{THIN_SPACE}{count(lost)}", "bad") if lost else _Cell("✓" + THIN_SPACE + "0", "good")


_KILLED: _Group = (
    "What the killed workers had promised",
    "",
    (
        _Row(
            "Acknowledged without Redis",
            _held,
            "Turns that the workers acknowledged from the journal in the outage, before they were killed (SIGKILL).",
        ),
        _Row("Of these lost", _held_and_lost, "Those found nowhere at the end, after new workers had gone on."),
    ),
)
_GROUPS: tuple[_Group, ...] = (
    (
        "What was kept",
        "",
        (
            _Row("Acknowledged", _amount("acknowledged"), "Writes whose call returned, so the caller relies on them."),
            _Row(
                "Lost",
                _lost,
                "Acknowledged turns found at the end neither in the conversation's text nor in a conflict copy.",
            ),
            _Row(
                "Conflict copies",
                _amount("conflicts"),
                "Texts that gave way to another writer's and are kept beside it, listed by conflicts().",
            ),
        ),
    ),
    (
        "How calls were answered",
        "",
        (
            _Row("Failed calls", _failed, "Calls that raised an error, or had not returned when the run ended."),
            _Row(
                "“Nothing known”",
                _amount("unavailable_answers"),
                "Reads answered as if there were no memory, although one had been acknowledged.",
            ),
            _Row(
                "Degraded reads",
                _amount("degraded_reads"),
                "Reads answered from the last copy that the process knew, and marked as such.",
            ),
            _Row("Journaled", _amount("journaled"), "Writes acknowledged and kept safe before Redis had them."),
            _Row(
                "Replayed entries",
                _amount("replayed"),
                "What was written to Redis once it was back: all journaled writes of a conversation are one entry.",
            ),
        ),
    ),
    (
        "Time and load",
        "",
        (
            _Row(
                "Slowest call",
                _slowest,
                "The longest wait of any caller; “never returned” means still waiting when the run ended.",
            ),
            _Row(
                "Recovery",
                _recovery,
                "From the moment Redis was back until calls succeeded again and nothing was pending.",
            ),
            _Row(
                "Attempts in the outage",
                _attempts,
                "Connections and commands sent towards Redis while it was away; a storm here delays its return.",
            ),
        ),
    ),
    (
        "Latency, median (p50)",
        "Half of the calls that finished in that phase were at least this fast; unfinished ones are in no percentile.",
        _latency("p50"),
    ),
    (
        "Latency, 99th percentile (p99)",
        "99 of 100 calls that finished in that phase were at least this fast.",
        _latency("p99"),
    ),
)


def table(comparison: Comparison) -> Iterator[str]:
    """Render the table, a column per manager and a row per question; nothing where no manager was run."""
    if not comparison.runs:
        return
    yield '<section><h2 id="verdict">Verdict</h2>\n<div class="scroll" role="region" aria-labelledby="verdict"'
    yield ' tabindex="0">\n<table>\n<thead><tr><td></td>'
    yield from (f'<th scope="col">{escape(run.name)}</th>' for run in comparison.runs)
    yield "</tr></thead>"
    for group, _, rows in _groups(comparison):
        yield f'<tbody>\n<tr class="group"><th scope="rowgroup" colspan="{len(comparison.runs) + 1}">{group}</th></tr>'
        for row in rows:
            cells = "".join(_data(row.cell(run)) for run in comparison.runs)
            yield f'<tr><th scope="row">{row.label}</th>{cells}</tr>'
        yield "</tbody>"
    yield "</table>\n</div>\n</section>"


def _data(cell: _Cell) -> str:
    style = f' class="{cell.tone}"' if cell.tone else ""
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    return f"<td{style}>{escape(cell.text)}{note}</td>"


def _groups(comparison: Comparison) -> tuple[_Group, ...]:
    first, *others = _GROUPS
    return (first, _KILLED, *others) if any(run.killing for run in comparison.runs) else _GROUPS


def meanings(comparison: Comparison) -> Iterator[str]:
    """Render one plain sentence per row of the table."""
    yield '<section class="notes"><h2>What the rows mean</h2>\n<dl>'
    for group, meaning, rows in _groups(comparison):
        if meaning:
            yield f"<div><dt>{group}</dt><dd>{meaning}</dd></div>"
        yield from (f"<div><dt>{row.label}</dt><dd>{row.meaning}</dd></div>" for row in rows if row.meaning)
    yield "</dl>\n</section>"
