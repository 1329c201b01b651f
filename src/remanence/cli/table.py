"""The end of the demo in a terminal: the comparison as plain text, and one sentence that says what it means."""

from __future__ import annotations

from collections.abc import Callable

from remanence.lab.measurement import Comparison, ManagerRun, Percentiles

__all__ = ["verdict", "verdict_table"]

_DASH = "\u2013"
_UNMEASURED = Percentiles(p50=None, p99=None)


def verdict_table(comparison: Comparison) -> str:
    """Return a table with a column per manager and a row per question."""
    rows = [("", *(run.name for run in comparison.runs))]
    rows += [(label, *(cell(run) for run in comparison.runs)) for label, cell in _ROWS]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    lines.insert(1, "─" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def verdict(comparison: Comparison) -> str:
    """Return the verdict: the resilient manager's first, then what the others did in the same outage."""
    clauses = [_clause(run) for run in comparison.runs]
    return "; ".join(clauses)[:1].upper() + "; ".join(clauses)[1:] + "."


def _clause(run: ManagerRun) -> str:
    found = run.verdict
    words = f"the {run.name} manager lost {found.lost:,} of {found.acknowledged:,} acknowledged memories"
    if run.unfinished:
        words += f", and {run.unfinished} of its calls never returned"
    elif run.outage and found.recovery_s is None:
        words += ", and had not recovered when the run ended"
    return words


def _amount(name: str) -> Callable[[ManagerRun], str]:
    return lambda run: f"{getattr(run.verdict, name):,}"


def _seconds(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.2f} s"


def _latency(phase: str) -> Callable[[ManagerRun], str]:
    def cell(run: ManagerRun) -> str:
        found = run.verdict.latency_ms.get(phase, _UNMEASURED)
        return _DASH if found.p50 is None or found.p99 is None else f"{found.p50:,.1f} / {found.p99:,.1f} ms"

    return cell


def _recovery(run: ManagerRun) -> str:
    return _seconds(run.verdict.recovery_s, "not in the run" if run.outage else _DASH)


_ROWS: tuple[tuple[str, Callable[[ManagerRun], str]], ...] = (
    ("acknowledged", _amount("acknowledged")),
    ("lost", _amount("lost")),
    ("conflict copies", _amount("conflicts")),
    ("failed calls", _amount("failed_calls")),
    ("“nothing known”", _amount("unavailable_answers")),
    ("degraded reads", _amount("degraded_reads")),
    ("journaled", _amount("journaled")),
    ("replayed entries", _amount("replayed")),
    ("slowest call", lambda run: _seconds(run.verdict.slowest_call_s, "never returned")),
    ("recovery", _recovery),
    ("attempts in the outage", _amount("attempts_in_outage")),
    ("p50 / p99 before", _latency("before")),
    ("p50 / p99 during", _latency("during")),
    ("p50 / p99 after", _latency("after")),
)
