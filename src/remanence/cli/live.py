"""What is shown while the demo runs: a live view in a terminal, a plain log anywhere else."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from remanence.cli.table import verdict
from remanence.lab.measurement import Comparison, ManagerRun
from remanence.lab.progress import Observer, Tick

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["PlainLog", "view"]

_LOG_EVERY_S = 2.0
_BLOCKS = " ▁▂▃▄▅▆▇█"
_HISTORY = 60
_PHASE_STYLES = {"outage": "bold white on red", "before": "green", "after": "green"}
_BREAKER_STYLES = {"open": "bold red", "half_open": "yellow", "closed": "green"}
_ANSWERS = {
    "redis": "Redis",
    "empty": "no memory",
    "journal": "journal (read)",
    "journaled": "journal (write)",
    "stale": "last-known copy",
    "none": "nothing known",
    "raced": "version conflict",
    "error": "error",
}


@contextmanager
def view(stream: TextIO) -> Iterator[Observer]:
    """Give an observer that shows the runs on a stream.

    Args:
        stream: A terminal gets the live view if `rich` is installed; anything else a line every two seconds.
    """
    if not stream.isatty():
        yield PlainLog(stream)
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.live import Live  # noqa: PLC0415 - an extra
    except ImportError:
        print("For the live view: pip install 'remanence[cli]'", file=sys.stderr)
        yield PlainLog(stream)
        return
    console = Console(file=stream)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield _LiveView(console, live)


class PlainLog(Observer):
    """A line every two seconds and at each change of phase.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: tuple[str, str, float] | None = None
        self._several = False

    def tick(self, tick: Tick) -> None:
        """Write a line if one is due."""
        self._several = tick.managers > 1
        if self._shown is not None:
            manager, phase, at = self._shown
            if (manager, phase) == (tick.manager, tick.phase) and tick.elapsed_s - at < _LOG_EVERY_S:
                return
        self._shown = (tick.manager, tick.phase, tick.elapsed_s)
        print(_line(tick), file=self._stream, flush=True)

    def told(self, what: str) -> None:
        """Write it."""
        print(what, file=self._stream, flush=True)

    def finished(self, run: ManagerRun) -> None:
        """Write what came of the run, unless the verdict says the same next."""
        if self._several:
            print(_outcome(run), file=self._stream, flush=True)


class _LiveView(Observer):
    """A panel that is drawn anew on each tick, and a line for each manager that is done."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._manager = ""
        self._several = False
        self._rates: deque[float] = deque(maxlen=_HISTORY)
        self._depths: deque[float] = deque(maxlen=_HISTORY)

    def tick(self, tick: Tick) -> None:
        """Draw the run as it is."""
        self._several = tick.managers > 1
        if tick.manager != self._manager:
            self._manager = tick.manager
            self._rates.clear()
            self._depths.clear()
        self._rates.append(tick.calls_per_s)
        self._depths.append(tick.pending or 0)
        self._live.update(self._panel(tick), refresh=True)

    def told(self, what: str) -> None:
        """Leave a line that stays."""
        self._console.print(what, highlight=False, markup=False)

    def finished(self, run: ManagerRun) -> None:
        """Leave a line that stays, unless the verdict says the same next."""
        if self._several:
            self._console.print(_outcome(run), highlight=False)

    def _panel(self, tick: Tick) -> RenderableType:
        from rich.panel import Panel  # noqa: PLC0415 - an extra
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 - an extra
        from rich.table import Table  # noqa: PLC0415 - an extra
        from rich.text import Text  # noqa: PLC0415 - an extra

        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(ratio=1)
        elapsed = min(max(0.0, tick.elapsed_s), tick.duration_s)
        grid.add_row(f"{elapsed:4.1f} / {tick.duration_s:g} s", ProgressBar(total=tick.duration_s, completed=elapsed))
        grid.add_row("phase", Text(f" {tick.phase} ", style=_PHASE_STYLES.get(tick.phase, "")))
        grid.add_row("calls per second", f"{tick.calls_per_s:5.0f}  {_sparkline(self._rates)}")
        grid.add_row("latency", _latency(tick))
        grid.add_row("breaker", Text(tick.breaker or "none", style=_BREAKER_STYLES.get(tick.breaker or "", "dim")))
        depth = "none" if tick.pending is None else f"{tick.pending:5d}  {_sparkline(self._depths)}"
        grid.add_row("journal", depth)
        grid.add_row("answered by", _answers(tick))
        grid.add_row("acknowledged", f"{tick.acknowledged:,} memories")
        return Panel(grid, title=f"{tick.manager} ({tick.number} of {tick.managers})", title_align="left")


def _line(tick: Tick) -> str:
    parts = [f"{tick.calls_per_s:.0f} calls/s", _latency(tick)]
    if tick.breaker is not None:
        parts.append(f"breaker {tick.breaker}")
    if tick.pending is not None:
        parts.append(f"journal {tick.pending}")
    parts += [f"answered by {_answers(tick)}", f"acknowledged {tick.acknowledged:,}"]
    head = f"{tick.manager} ({tick.number}/{tick.managers}) {max(0.0, tick.elapsed_s):5.1f} s {tick.phase}"
    return head if tick.phase in ("starting", "auditing") else f"{head}: {', '.join(parts)}"


def _latency(tick: Tick) -> str:
    if tick.p50_ms is None or tick.p99_ms is None:
        text = "no call ended in the last second"
    else:
        text = f"p50 {tick.p50_ms:.1f} ms, p99 {tick.p99_ms:.1f} ms"
    # The deadline of a good call is far below; a longer wait is worth seeing.
    return text if tick.waiting_s < 1.0 else f"{text}, a call waiting for {tick.waiting_s:.1f} s"


def _answers(tick: Tick) -> str:
    return ", ".join(f"{_ANSWERS.get(name, name)} {times}" for name, times in tick.answers) or "nobody"


def _outcome(run: ManagerRun) -> str:
    return verdict(Comparison((run,), "", 0, 0, 0, 0))


def _sparkline(values: deque[float]) -> str:
    top = max(values, default=0) or 1
    return "".join(_BLOCKS[round(value / top * (len(_BLOCKS) - 1))] for value in values)
