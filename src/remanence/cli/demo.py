"""`remanence demo`: break a real Redis server in the middle of real conversations, and account for every memory."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remanence.cli.ending import terminated_like_interrupted
from remanence.cli.killed import killing
from remanence.cli.live import view
from remanence.cli.table import verdict, verdict_table
from remanence.lab import report, scenario, transcripts
from remanence.lab.contenders import IN_MEMORY, NAMES
from remanence.lab.errors import LabError
from remanence.lab.measurement import Comparison
from remanence.lab.outage import KINDS
from remanence.lab.plan import Plan, PlanError

__all__ = ["add_to", "as_json"]

NOTHING_LOST, SOMETHING_LOST, INVALID, INTERRUPTED = 0, 1, 2, 130

_REPORT = Path("remanence-report.html")
_AT_S = 5.0
# Not 6 s or more: the third probe of a breaker comes 5.6 to 8.4 s after it opened, and should find the server healed.
_FOR_S = 5.0
_AFTER_S = 7.0
_AFTER_SHARE = 1.2
"""A breaker's open time doubles, so it may be closed again only after another 1.2 times the outage."""


_MEANING = """\
exit status:
  0    the run is valid, and the resilient manager lost nothing (or was not run: what others lose is only reported)
  1    the resilient manager lost something that it had acknowledged
  2    the run is not valid or could not be made; the message says why and what to do
  130  ended by Ctrl-C
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="watch conversation memory survive a Redis outage",
        description="Replays conversations from several processes, hurts Redis on schedule, heals it, and accounts for "
        "every memory that was acknowledged.",
        epilog=_MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--manager", choices=NAMES, help="the manager to run (default: resilient)")
    which.add_argument("--compare", action="store_true", help="run all of them, one after the other")
    parser.add_argument(
        "--kill-workers",
        action="store_true",
        help="also kill -9 every worker process in the outage and start new ones; the resilient manager's journal is "
        "then on disk (with --compare: also the same manager with its journal in memory)",
    )
    parser.add_argument(
        "--transcripts",
        type=Path,
        metavar="FILE",
        help="JSON lines with conversation_id, speaker, text (default: a sample)",
    )
    parser.add_argument("--outage", choices=KINDS, help="kill -9, SIGSTOP or a clean shutdown (default: kill)")
    parser.add_argument(
        "--outage-at", type=float, metavar="S", help=f"when it begins (default: {_AT_S:g} s into the run)"
    )
    parser.add_argument("--outage-for", type=float, metavar="S", help=f"how long it lasts (default: {_FOR_S:g} s)")
    parser.add_argument(
        "--duration",
        type=float,
        metavar="S",
        help=f"how long each run lasts (default: at least {_AFTER_S:g} s beyond the outage)",
    )
    parser.add_argument("--workers", type=int, default=8, metavar="N", help="writers, in two processes (default: 8)")
    parser.add_argument("--redis-url", metavar="URL", help="your own server; the outage is then yours to make")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help=f"where to write the report (with --compare: ./{_REPORT})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--seed", type=int, metavar="N", help="of every random choice (default: a new one, printed)")
    parser.set_defaults(run=_run)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the figures of a comparison, as written by `--json`."""
    killed = {run.name: asdict(run.killing) for run in comparison.runs if run.killing is not None}
    return {
        "managers": {run.name: asdict(run.verdict) for run in comparison.runs},
        **({"killed_workers": killed} if killed else {}),
        "seed": comparison.seed,
        "versions": comparison.versions,
    }


def _run(options: argparse.Namespace) -> int:
    try:
        with terminated_like_interrupted():
            return _demo(options)
    except LabError as error:
        print(f"remanence demo: {error}", file=sys.stderr)
        return INVALID
    except KeyboardInterrupt:
        print("\nremanence demo: interrupted; its server and its workers have been ended.", file=sys.stderr)
        return INTERRUPTED


def _demo(options: argparse.Namespace) -> int:
    page, figures = _targets(options)
    plan = _plan(options)
    managers = _managers(options)
    print(_announcement(plan, managers))
    with view(sys.stdout) as observer:
        comparison = scenario.compare(plan, managers, observer=observer)
    print(verdict_table(comparison))
    if options.kill_workers:
        print("", *map(killing, comparison.runs), sep="\n")
    if page is not None:
        report.write(comparison, page)
    if figures is not None:
        _write_json(comparison, figures)
    print(f"\n{verdict(comparison)}")
    for what, where in (("Report", page), ("Figures", figures)):
        if where is not None:
            print(f"{what}: {where.resolve()}")
    lost = any(run.name == "resilient" and run.verdict.lost for run in comparison.runs)
    return SOMETHING_LOST if lost else NOTHING_LOST


def _managers(options: argparse.Namespace) -> list[str]:
    if not options.compare:
        return [options.manager or "resilient"]
    first, *others = NAMES
    return [first, IN_MEMORY, *others] if options.kill_workers else list(NAMES)


def _targets(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    page: Path | None = options.report or (_REPORT if options.compare else None)
    figures: Path | None = options.json
    for target in (page, figures):
        if target is not None:
            report.check_target(target)
    if page is not None and figures is not None and page.resolve() == figures.resolve():
        raise PlanError("--report and --json name the same file: give each its own.")
    return page, figures


def _plan(options: argparse.Namespace) -> Plan:
    conversations = transcripts.load(options.transcripts) if options.transcripts else transcripts.sample()
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    scheduled = [name for name in ("outage", "outage_at", "outage_for") if getattr(options, name) is not None]
    if options.redis_url is not None and scheduled:
        given = ", ".join("--" + name.replace("_", "-") for name in scheduled)
        raise PlanError(f"With --redis-url the outage is yours to make, while the demo runs: leave out {given}.")
    if options.redis_url is not None and options.kill_workers:
        raise PlanError("Workers are killed in an outage that the demo makes: leave out --redis-url or --kill-workers.")
    at, lasts, duration = _schedule(options)
    return Plan(
        conversations,
        outage=None if options.redis_url is not None else options.outage or "kill",
        outage_at=at,
        outage_for=lasts,
        duration=duration,
        workers=options.workers,
        seed=seed,
        redis_url=options.redis_url,
        kill_workers=options.kill_workers,
    )


def _schedule(options: argparse.Namespace) -> tuple[float, float, float]:
    """Fill in what was not asked for, so that any one of the three can be given alone."""
    usual = _AT_S + _FOR_S + _AFTER_S
    scale = 1.0 if options.duration is None else options.duration / usual
    at = round(_AT_S * scale, 2) if options.outage_at is None else options.outage_at
    lasts = round(_FOR_S * scale, 2) if options.outage_for is None else options.outage_for
    after = max(_AFTER_S, min(_AFTER_SHARE * lasts, 40.0))
    return at, lasts, at + lasts + after if options.duration is None else options.duration


def _announcement(plan: Plan, managers: list[str]) -> str:
    turns = sum(len(conversation.turns) for conversation in plan.conversations)
    if plan.redis_url is None:
        outage = f"{plan.outage} at {plan.outage_at:g} s for {plan.outage_for:g} s"
        if plan.kill_workers:
            outage += ", in which all worker processes are killed and replaced"
    else:
        outage = "yours to make"
    return (
        f"{', '.join(managers)}: {plan.duration:g} s each, outage: {outage}; {plan.workers} writers in "
        f"{plan.processes} processes, {len(plan.conversations)} conversations of {turns} turns in all, seed {plan.seed}"
    )


def _write_json(comparison: Comparison, path: Path) -> None:
    try:
        path.write_text(json.dumps(as_json(comparison), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise LabError(f"The figures could not be written to {path}: {error.strerror}. Name another file.") from error
