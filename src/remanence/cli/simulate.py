"""`remanence simulate`: play the schedules that could break a promise, and tell the one that does."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from remanence.lab.errors import LabError
from remanence.lab.report import check_target
from remanence.lab.simulation.asyncio_cases import ASYNCIO_SEEDS, asyncio_cases, drawing
from remanence.lab.simulation.campaign import BATCH, Outcome, Total, campaign, quiet
from remanence.lab.simulation.cases import Case, small_cases
from remanence.lab.simulation.schedule import Schedule
from remanence.lab.simulation.search import Finding, minimise, sample, tell, told

__all__ = ["add_to"]

NO_VIOLATION, VIOLATION, INVALID, INTERRUPTED = 0, 1, 2, 130

_SCHEDULES: Final = 1_000_000
_MOST_PROCESSES: Final = 64
_MEANING: Final = """\
exit status:
  0    no promise was broken
  1    one was; the shortest schedule that breaks it is told
  2    the arguments are not valid
  130  ended by Ctrl-C
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "simulate",
        help="look for an order of events that loses a write",
        description="Runs the real policies of several processes against a model of Redis: every schedule of many "
        "small cases, random schedules of large ones. Without options it takes an hour or so on two cores.",
        epilog=_MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--schedules", type=int, default=_SCHEDULES, metavar="N", help="random ones (default: %(default)s)"
    )
    parser.add_argument(
        "--asyncio",
        type=int,
        default=0,
        metavar="N",
        help="random ones of awaited managers whose calls are cancelled (default: %(default)s)",
    )
    parser.add_argument("--first-seed", type=int, metavar="N", help="of these (default: a new one, printed)")
    parser.add_argument("--no-cases", action="store_true", help="leave the small cases out")
    parser.add_argument("--case", metavar="NAME", help="exhaust this case alone; --list names them")
    parser.add_argument(
        "--decisions", type=_numbers, metavar="N,N,…", help="with --case: play and tell this one schedule"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="play and tell the random schedule of this seed")
    parser.add_argument("--list", action="store_true", help="list the cases")
    cores = min(os.cpu_count() or 1, _MOST_PROCESSES)
    parser.add_argument("--processes", type=int, default=cores, metavar="N", help="default: one a core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.set_defaults(run=_run)


def _numbers(text: str) -> list[int]:
    numbers = text.split(",")
    if not all(each.strip().isdecimal() for each in numbers):
        message = f"{text!r} is not a list of numbers from 0, separated by commas"
        raise argparse.ArgumentTypeError(message)
    return [int(each) for each in numbers]


def _run(options: argparse.Namespace) -> int:
    try:
        with quiet(), _insistent_interrupts():
            return _simulate(options)
    except LabError as error:
        print(f"remanence simulate: {error}", file=sys.stderr)
        return INVALID
    except KeyboardInterrupt:
        print("\nremanence simulate: interrupted; nothing was left behind.", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _insistent_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt until it gets through: Python drops one that meets a weak reference's callback."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        # What is torn apart in the middle complains: that is nobody's concern now. Any function will do that is not
        # written in Python: the next interrupt would hit that, too.
        sys.unraisablehook = id
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [(number, signal.signal(number, interrupt)) for number in numbers]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)


def _simulate(options: argparse.Namespace) -> int:
    cases = {case.name: case for case in (*small_cases(), *asyncio_cases())}
    if options.list:
        print("\n".join(f"{case.group:<18} {name}" for name, case in cases.items()))
        return NO_VIOLATION
    wrong = _what_is_wrong(options, cases)
    if wrong:
        print(f"remanence simulate: {wrong}", file=sys.stderr)
        return INVALID
    if options.json is not None:
        check_target(options.json)
    if options.seed is not None:
        return _tell_seed(options.seed)
    if options.case is not None:
        case = cases[options.case]
        return _search([case], 0, 0, options) if options.decisions is None else _tell_decisions(case, options.decisions)
    first = random.SystemRandom().randrange(10**9) if options.first_seed is None else options.first_seed
    return _search([] if options.no_cases else list(cases.values()), first, options.schedules, options)


def _what_is_wrong(options: argparse.Namespace, cases: dict[str, Case]) -> str:
    if options.schedules < 0 or options.asyncio < 0 or not 1 <= options.processes <= _MOST_PROCESSES:
        return f"--schedules and --asyncio must be 0 or more, and --processes 1 to {_MOST_PROCESSES}."
    if options.case is not None and options.case not in cases:
        return "there is no such case; --list names them."
    if options.decisions is not None and options.case is None:
        return "--decisions belong to a --case."
    if options.json is not None and (options.list or options.seed is not None or options.decisions is not None):
        return "--json writes the figures of a search: leave --list, --seed and --decisions out."
    return ""


def _tell_seed(seed: int) -> int:
    finding = sample(drawing(seed), seed)
    if finding is not None:
        print(tell(minimise(finding)))
        return VIOLATION
    rng = random.Random(seed)
    print(told(drawing(seed)(rng), Schedule(rng=rng)))
    return NO_VIOLATION


def _tell_decisions(case: Case, decisions: list[int]) -> int:
    text = told(case.scenario, Schedule(decisions))
    print(text)
    return NO_VIOLATION if "\n=> no promise was broken" in text else VIOLATION


def _search(cases: list[Case], first: int, schedules: int, options: argparse.Namespace) -> int:
    print(
        f"{len(cases)} small cases, then {schedules} random schedules from seed {first}, {options.asyncio} of asyncio "
        f"from seed {ASYNCIO_SEEDS + first}, in {options.processes} process(es). Ctrl-C ends it.",
        flush=True,
    )
    total = Total()
    begun = time.monotonic()
    outcomes = itertools.chain(
        campaign(cases, first_seed=first, schedules=schedules, processes=options.processes),
        campaign([], first_seed=ASYNCIO_SEEDS + first, schedules=options.asyncio, processes=options.processes),
    )
    batches = -(-schedules // BATCH) - (-options.asyncio // BATCH)
    for outcome in _shown(outcomes, len(cases) + batches):
        total.add(outcome)
    seconds = time.monotonic() - begun
    print(_table(total, seconds))
    for name, finding in total.findings[:3]:
        print(f"\n{name}\n{tell(minimise(finding))}\n{_again(name, finding)}")
    if options.json is not None:
        _write(_as_json(total, first, seconds), options.json)
    return VIOLATION if total.findings else NO_VIOLATION


def _shown(outcomes: Iterable[Outcome], count: int) -> Iterator[Outcome]:
    """Show how far it has got: a bar where somebody is looking, a line now and then elsewhere."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415 - extra

        with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
            task = progress.add_task("", total=count)
            for outcome in outcomes:
                progress.advance(task)
                yield outcome
        return
    step = max(1, count // 20)
    for number, outcome in enumerate(outcomes, 1):
        if number % step == 0:
            print(f"  {number} of {count} done", flush=True)
        yield outcome


def _table(total: Total, seconds: float) -> str:
    lines = ["", f"{'what':<20}{'cases':>8}{'schedules':>13}{'equivalent':>13}{'a minute':>11}"]
    for group in total.schedules:
        count = total.cases.get(group, 0)
        played, equal, spent = total.schedules[group], total.equivalent[group], total.seconds[group]
        rate = 60 * (played + equal) / spent if spent else 0.0
        cases = f"{count}" if count else ""
        lines.append(f"{group:<20}{cases:>8}{played:>13,}{equal:>13,}{rate:>11,.0f}")
    lines.append(f"{len(total.findings)} violations, in {seconds:.0f} s (rates are for one core)")
    return "\n".join(lines)


def _again(name: str, finding: Finding) -> str:
    if finding.seed is not None:
        return f"again: remanence simulate --seed {finding.seed}"
    decisions = ",".join(map(str, finding.decisions))
    return f"again: remanence simulate --case '{name}' --decisions {decisions or 0}"


def _as_json(total: Total, first: int, seconds: float) -> dict[str, Any]:
    figures = asdict(total)
    figures["findings"] = [
        {"name": name, "promise": f.promise, "what": f.what, "seed": f.seed, "decisions": f.decisions}
        for name, f in total.findings
    ]
    return figures | {"first_seed": first, "wall_seconds": seconds}


def _write(figures: dict[str, Any], path: Path) -> None:
    try:
        path.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise LabError(f"The figures could not be written to {path}: {error.strerror}. Name another file.") from error
