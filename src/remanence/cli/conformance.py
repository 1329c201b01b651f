"""`remanence conformance`: what a memory manager must do, tried on anybody's."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import thread as executors
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from remanence.classify import is_outage
from remanence.lab.errors import LabError
from remanence.lab.report import check_target
from remanence.testing.conformance.card import is_special, print_card, write_json
from remanence.testing.conformance.errors import CannotRunError
from remanence.testing.conformance.factory import FactoryHooks, load_factory
from remanence.testing.conformance.hooks import Hooks
from remanence.testing.conformance.requirement import CAPABILITIES, Result
from remanence.testing.conformance.requirements import REQUIREMENTS
from remanence.testing.conformance.runner import place, run

__all__ = ["add_to"]

MET, NOT_MET, INVALID, INTERRUPTED = 0, 1, 2, 130

_PATIENCE: Final = 0.5
_LEFT: Final = (
    "What a call that did not end has stored may still be in the store: conversations whose ids begin with "
    "remanence-conformance-."
)
_MEANING: Final = """\
The factory is called once for each requirement, and once before: with the URL where one is given, and with ttl=SECONDS
for the capability ttl. It returns a new manager; several may use one server. Every requirement uses conversations of
its own and deletes them. For faults a proxy stands before the server, which itself is left alone.

exit status:
  0    every required requirement is met, and every one of a declared capability that could be tested
  1    one is not
  2    the requirements could not be run: the module, the factory or the store cannot be used
  130  ended by Ctrl-C
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "conformance",
        help="try what a memory manager must do, on any manager",
        description="Runs the requirements of docs/conformance.md on the managers of a factory, and prints a report "
        "card.",
        epilog=_MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("factory", metavar="MODULE:FACTORY", help="a function or a class that makes a manager")
    parser.add_argument("--url", help="handed to the factory")
    parser.add_argument(
        "--capability",
        nargs="+",
        action="extend",
        default=[],
        choices=list(CAPABILITIES),
        metavar="NAME",
        help=f"what the manager declares: {', '.join(CAPABILITIES)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the card for machines")
    parser.add_argument(
        "--time-limit",
        type=_seconds,
        default=Hooks.time_limit,
        metavar="S",
        help="for one requirement (default: %(default)g)",
    )
    parser.set_defaults(run=_run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        message = "must be more than 0"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _run(options: argparse.Namespace) -> int:
    # What is tested fails on purpose, and would log that; its logs may also quote what they like.
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    before = set(threading.enumerate())
    results: list[Result] = []
    try:
        status = _conform(options, results)
    except (CannotRunError, LabError) as error:
        status = _say(INVALID, f"{error}", results)
    except KeyboardInterrupt:
        status = _say(INTERRUPTED, "interrupted; no card was written.", results, begin="\n")
    except BaseException as error:  # noqa: BLE001 - such as a test runner's way to skip, in a factory
        status = _say(INVALID, f"{type(error).__name__} was raised{place(error)}: no card was written.", results)
    finally:
        logging.disable(level)
    return _leave(options, status, before)


def _say(status: int, message: str, results: list[Result], *, begin: str = "") -> int:
    left = f" {_LEFT}" if results or status == INTERRUPTED else ""
    print(f"{begin}remanence conformance: {message}{left}", file=sys.stderr)
    return status


def _conform(options: argparse.Namespace, results: list[Result]) -> int:
    if options.json is not None:
        check_target(options.json if is_special(options.json) else options.json.resolve())
    factory = load_factory(options.factory)
    with FactoryHooks(
        factory, url=options.url, capabilities=options.capability, time_limit=options.time_limit
    ) as hooks:
        hooks.probe()
        _try_all(hooks, results)
    print_card(results)
    if options.json is not None:
        try:
            write_json(results, options.json)
        except OSError as error:
            raise CannotRunError(f"the card could not be written to {options.json}: {error.strerror}.") from error
    if any(result.hangs for result in results):
        print(f"remanence conformance: a call hangs. {_LEFT}", file=sys.stderr)
    return NOT_MET if any(result.status == "failed" for result in results) else MET


def _try_all(hooks: FactoryHooks, results: list[Result]) -> None:
    for number, requirement in enumerate(REQUIREMENTS, 1):
        if sys.stderr.isatty():
            print(f"\r{number} of {len(REQUIREMENTS)}  {requirement.id}", end="", file=sys.stderr, flush=True)
        result = run(requirement, hooks)
        if result.error is not None and is_outage(result.error):
            hooks.probe()  # where the store has gone, the rest would fail too, and say nothing about the manager
        results.append(result)
    if sys.stderr.isatty():
        print(f"\r{'':30}\r", end="", file=sys.stderr, flush=True)


def _leave(options: argparse.Namespace, status: int, before: set[threading.Thread]) -> int:
    """End the process at once where Python would wait for ever: for the thread of an executor that hangs.

    Where the command is called from a program of somebody's, that is left to the program.
    """
    if sys.argv[1:2] == ["conformance"] and options.factory in sys.argv and _some_are_left(before):
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    return status


def _some_are_left(before: set[threading.Thread]) -> bool:
    """Whether threads are left for which Python would wait, after a moment for those that are about to end."""
    left = [thread for thread in threading.enumerate() if thread not in before and _may_be_waited_for(thread)]
    until = time.monotonic() + _PATIENCE
    try:
        for thread in left:
            thread.join(max(0.0, until - time.monotonic()))
    except KeyboardInterrupt:
        return True
    return any(thread.is_alive() for thread in left)


def _may_be_waited_for(thread: threading.Thread) -> bool:
    # The kit's own may yet begin others. An executor's are waited for even where they are daemons, as those are that a
    # daemon began.
    return not thread.daemon or thread.name.startswith("conformance") or thread in _of_executors()


def _of_executors() -> Collection[threading.Thread]:
    return getattr(executors, "_threads_queues", ())
