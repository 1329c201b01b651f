"""`remanence chaos`: kill real processes and real servers under real writes, and count what is lost."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from remanence.cli.ending import terminated_like_interrupted
from remanence.lab.chaos import Total, campaign, draw, play
from remanence.lab.errors import LabError
from remanence.lab.report import check_target

__all__ = ["add_to"]

NOTHING_LOST, LOST, INVALID, INTERRUPTED = 0, 1, 2, 130

_SCHEDULES: Final = 200
_WRITES: Final = 5_500
_FEWEST_WRITES, _MOST_AT_ONCE = 100, 16
_MEANING: Final = """\
exit status:
  0    nothing that was acknowledged is lost, and nothing is unknown
  1    something is; its schedule and its timeline are told
  2    the arguments are not valid, or there is no server
  130  ended by Ctrl-C
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "chaos",
        help="kill workers and servers under writes, and audit what is left",
        description="Each schedule has a Redis server, worker processes that share a journal on disk, some with "
        "threads and some with an event loop, and a drawn list of what goes wrong. Workers are killed with -9 at "
        "chosen points of their own code. Without options it takes a quarter of an hour or so on two cores.",
        epilog=_MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--schedules", type=int, default=_SCHEDULES, metavar="N", help="default: %(default)s")
    parser.add_argument("--first-seed", type=int, metavar="N", help="of the first (default: a new one, printed)")
    parser.add_argument("--seed", type=int, metavar="N", help="play this one, and tell its timeline")
    parser.add_argument(
        "--writes", type=int, default=_WRITES, metavar="N", help="acknowledged in each (default: %(default)s)"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=max(1, (os.cpu_count() or 1) // 2),
        metavar="N",
        help="default: one for two cores",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.schedules < 1 or options.writes < _FEWEST_WRITES or not 1 <= options.at_once <= _MOST_AT_ONCE:
        print(
            f"remanence chaos: --schedules must be 1 or more, --writes {_FEWEST_WRITES} or more, --at-once 1 to "
            f"{_MOST_AT_ONCE}.",
            file=sys.stderr,
        )
        return INVALID
    try:
        if options.json is not None:
            check_target(options.json)
        with terminated_like_interrupted():
            return _tell(options) if options.seed is not None else _search(options)
    except LabError as error:
        print(f"remanence chaos: {error}", file=sys.stderr)
        return INVALID
    except KeyboardInterrupt:
        print("\nremanence chaos: interrupted; nothing was left behind.", file=sys.stderr)
        return INTERRUPTED


def _tell(options: argparse.Namespace) -> int:
    shown = play(draw(options.seed, writes=options.writes))
    print(shown.told())
    total = Total()
    total.add(shown)
    return _end(total, options, {"first_seed": options.seed})


def _search(options: argparse.Namespace) -> int:
    first = random.SystemRandom().randrange(10**9) if options.first_seed is None else options.first_seed
    print(f"{options.schedules} schedules from seed {first}, {options.at_once} at a time. Ctrl-C ends it.", flush=True)
    total = Total()
    begun = time.monotonic()
    for number, outcome in enumerate(
        campaign(first, options.schedules, writes=options.writes, at_once=options.at_once), 1
    ):
        total.add(outcome.shown)
        if not outcome.is_good:
            seed = outcome.shown.plan.seed
            print(f"\nseed {seed}\n{outcome.shown.told()}\nagain: remanence chaos --seed {seed}", flush=True)
        if number % max(1, options.schedules // 20) == 0:
            print(f"  {number} of {options.schedules}, {total.acknowledged:,} acknowledged", flush=True)
    return _end(total, options, {"first_seed": first, "wall_seconds": time.monotonic() - begun})


def _end(total: Total, options: argparse.Namespace, more: dict[str, Any]) -> int:
    print(_table(total))
    if options.json is not None:
        figures = {each.name: getattr(total, each.name) for each in fields(total)} | {"phases": total.phases} | more
        try:
            options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise LabError(
                f"The figures could not be written to {options.json}: {error.strerror}. Name another file."
            ) from error
    return LOST if total.lost or total.back or total.unknown or total.broken else NOTHING_LOST


def _table(total: Total) -> str:
    acknowledged = total.acknowledged or 1
    rows = [
        ("schedules", f"{total.schedules:,}, {total.with_async:,} with async workers"),
        ("acknowledged writes", f"{total.acknowledged:,}"),
        ("  by async workers", f"{total.awaited:,} ({total.awaited / acknowledged:.0%})"),
        ("  while something was wrong", f"{total.away:,} ({total.away / acknowledged:.0%})"),
        ("  taken by the journal", f"{total.journaled:,} ({total.journaled / acknowledged:.0%})"),
        ("calls cancelled", f"{total.cancelled:,}"),
        ("conversations", f"{total.conversations:,}"),
        ("compared with what is left", f"{total.compared:,}, the last of each writer and conversation"),
        ("lost", f"{total.lost:,}"),
        ("came back after a deletion", f"{total.back:,}"),
        ("unknown", f"{total.unknown:,}"),
        ("lost by a server without its data", f"{total.excused:,} last writes"),
        ("kept as conflict copies", f"{total.copies:,}"),
        ("longest call", f"{total.longest:.2f} s"),
    ]
    lines = ["", *(f"{what:<36}{figure}" for what, figure in rows)]
    for title, counts in (
        ("workers struck", total.struck),
        ("  of these, async ones", total.struck_async),
        ("server", total.blows),
        ("refused, not acknowledged", total.refused),
        ("broken", total.broken),
    ):
        if counts:
            lines.append(f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return "\n".join(lines)
