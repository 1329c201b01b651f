"""`python -m benchmarks`: run the rows, print the table, write the JSON."""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import framework, machine, table
from benchmarks.budget import Verdict
from benchmarks.figure import Figure
from benchmarks.rows import ROWS
from benchmarks.setting import Row, Setting
from remanence.lab import LabError, RedisServer

__all__ = ["main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        arguments: The words after the program's name; None takes them from the process.

    Returns:
        0 when everything that was asked for was measured, whatever the verdicts; 2 when nothing could be; 130 after
        Ctrl-C, with what had been measured by then.
    """
    options = _parser().parse_args(arguments)
    rows = [row for row in ROWS if not options.row or row.name in options.row]
    # What the library has to say about the outages that are made here on purpose belongs in no table.
    logger = logging.getLogger("remanence")
    level = logger.level
    logger.setLevel(logging.ERROR)
    figures: list[Figure] = []
    status = 0
    about: dict[str, Any] = {"seed": options.seed, "quick": options.quick, "load_before": machine.load_average()}
    try:
        with RedisServer(durability="off") as server:
            about |= {"machine": machine.machine(), "versions": machine.versions(server.version)}
            print(_heading(about), flush=True)
            setting = Setting(server, options.quick, random.Random(options.seed), framework.load())
            _run(rows, setting, figures)
    except KeyboardInterrupt:
        print("\nInterrupted: this is what had been measured.", file=sys.stderr)
        status = _INTERRUPTED
    except LabError as error:
        print(f"The benchmark needs a server: {error}", file=sys.stderr)
        return 2
    finally:
        logger.setLevel(level)
    about["load_after"] = machine.load_average()
    if figures:
        table.show(figures)
        print(_summary(figures, about))
    if options.json is not None:
        result = {**about, "figures": [figure.to_json() for figure in figures]}
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return status


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(row.name for row in ROWS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares Remanence with the framework's own manager and bare redis-py on a private Redis.",
    )
    parser.add_argument("--quick", action="store_true", help="show that every row works; the figures mean nothing")
    parser.add_argument(
        "--row", action="append", choices=[row.name for row in ROWS], metavar="NAME", help=f"only this one: {names}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which contenders take turns (default 0)")
    return parser


def _run(rows: Sequence[Row], setting: Setting, figures: list[Figure]) -> None:
    for place, row in enumerate(rows, start=1):
        print(f"[{place}/{len(rows)}] {row.name}: {row.about} … ", end="", file=sys.stderr, flush=True)
        setting.server.command("FLUSHALL")
        begin = time.monotonic()
        figures += row.measure(setting)
        print(f"{time.monotonic() - begin:.1f} s", file=sys.stderr)


def _heading(about: dict[str, Any]) -> str:
    where = about["machine"]
    installed = ", ".join(f"{name} {version or '(not installed)'}" for name, version in about["versions"].items())
    return (
        f"{where['processor']}, {where['cores']} cores, {where['system']}, load {about['load_before']}, "
        f"seed {about['seed']}\n{installed}"
    )


def _summary(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    judged = [figure.verdict for figure in figures if figure.budget is not None]
    counts = ", ".join(f"{judged.count(verdict)} {verdict.value}" for verdict in Verdict)
    unmeasured = f", {judged.count(None)} not measured" if None in judged else ""
    quick = " A quick run: these figures mean nothing." if about["quick"] else ""
    return f"Budgets: {counts}{unmeasured}. Load {about['load_before']} before, {about['load_after']} after.{quick}"


if __name__ == "__main__":
    sys.exit(main())
