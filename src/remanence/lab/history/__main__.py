"""Check logs of operations: ``python -m remanence.lab.history FILE...``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from remanence.lab.errors import LabError
from remanence.lab.history.atomic import Shape, correct_history
from remanence.lab.history.checking import CHECKS, check
from remanence.lab.history.log import read_history, write_history
from remanence.lab.history.search import BUDGET

_EPILOG = """checks:
{checks}

exit status: 0 all pass, 1 one fails, 2 one is unknown, or the logs cannot be read
"""


def main(arguments: list[str] | None = None) -> int:
    """Check the logs and print what was found; return the exit status.

    Args:
        arguments: Of the command line, None for the process's.
    """
    options = _parser().parse_args(arguments)
    if options.generate:
        history = correct_history(options.seed, Shape(operations=options.generate, conversations=64, processes=4))
        try:
            with Path(options.files[0]).open("w", encoding="ascii") as file:
                write_history(history, file)
        except OSError as error:
            return _refused(f"{options.files[0]} cannot be written ({error.strerror}).")
        return 0
    try:
        history = read_history(options.files)
    except LabError as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(f"{error.filename} cannot be read ({error.strerror}).")
    report = check(
        history,
        checks=options.checks or CHECKS,
        scope=options.scope,
        overwrites=not options.no_overwrites,
        budget=options.budget,
    )
    print(json.dumps(report.to_json(), indent=2) if options.json else report)  # noqa: T201 - a program prints
    return report.exit_code


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, CHECKS))
    checks = "\n".join(f"  {name:<{width}}  {what}" for name, what in CHECKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m remanence.lab.history",
        description="Check what the callers of a memory have recorded.",
        epilog=_EPILOG.format(checks=checks),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a log, as a Recorder writes it; all are merged")
    parser.add_argument("--check", action="append", choices=list(CHECKS), dest="checks", help="only this; repeatable")
    parser.add_argument("--scope", choices=["process", "session"], default="process", help="who reads its own writes")
    parser.add_argument(
        "--no-overwrites",
        action="store_true",
        help="a plain write on a healthy store may not replace what its process has not seen (finds lost updates)",
    )
    parser.add_argument("--budget", type=int, default=BUDGET, help="configurations for the search, per conversation")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--generate", type=int, metavar="N", help="instead write a correct history of N calls to FILE")
    parser.add_argument("--seed", type=int, default=1, help="of --generate")
    return parser


def _refused(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - a program prints
    return 2


if __name__ == "__main__":
    sys.exit(main())
