"""`remanence journal`: what waits in a journal's file, and bringing it home by hand."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from remanence.errors import RemanenceError
from remanence.journal.inspect import Waiting, waiting
from remanence.record import decode

__all__ = ["add_to"]

DONE, LEFT, INVALID, INTERRUPTED = 0, 1, 2, 130

_MEANING: Final = """\
exit status:
  0    done; after replay: nothing is left
  1    replay: something is left
  2    the file or the store cannot be used; nothing was changed
  130  ended by Ctrl-C; what was not brought home still waits
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "journal",
        help="look at acknowledged writes that wait for Redis, and bring them home",
        description="Looks into the file of `journal=PATH`. Processes that use it are not disturbed.",
        epilog=_MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="<action>", required=True)
    show = actions.add_parser("show", help="list what waits, without the texts")
    show.add_argument("--json", action="store_true", help="for machines")
    export = actions.add_parser("export", help="print every record, texts included, a JSON object a line")
    replay = actions.add_parser("replay", help="bring home what waits for the store of a URL")
    for action, run in ((show, _show), (export, _export), (replay, _replay)):
        action.add_argument("file", type=Path, metavar="FILE")
        action.set_defaults(run=_guarded, action=run)
    replay.add_argument("--url", required=True, help="as the application has it: redis://host:port/db")
    replay.add_argument("--key-prefix", default="memory", help="default: %(default)s")
    replay.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="default: %(default)s")


def _guarded(options: argparse.Namespace) -> int:
    try:
        status: int = options.action(options)
    except RemanenceError as error:
        print(f"remanence journal: {error}", file=sys.stderr)
        return INVALID
    except KeyboardInterrupt:
        print("\nremanence journal: interrupted; what was not brought home still waits.", file=sys.stderr)
        return INTERRUPTED
    return status


def _show(options: argparse.Namespace) -> int:
    found = list(waiting(options.file))
    if options.json:
        print(json.dumps([_shown(each) for each in found], indent=2))
        return DONE
    for store in dict.fromkeys(each.store for each in found):
        mine = [each for each in found if each.store == store]
        stuck = sum(bool(each.stuck) for each in mine)
        size = sum(len(each.record or b"") for each in mine)
        print(f"{store}: {len(mine)} waiting, {stuck} stuck, {size:,} bytes")
        print("\n".join(_rows(mine)))
    if not found:
        print("nothing is waiting")
    return DONE


def _rows(found: Sequence[Waiting]) -> list[str]:
    now = time.time()
    rows = []
    for each in found:
        age = "" if each.journaled_at is None else f"{max(0.0, now - each.journaled_at):.0f} s"
        rows.append(
            f"  {age:>9}  {each.operation:<7} {len(each.record or b''):>9,} B  {each.key}  {each.stuck}".rstrip()
        )
    return rows


def _shown(each: Waiting) -> dict[str, Any]:
    return {
        "store": each.store,
        "key": each.key,
        "operation": each.operation,
        "bytes": len(each.record or b""),
        "journaled_at": each.journaled_at,
        "stuck": each.stuck or None,
    }


def _export(options: argparse.Namespace) -> int:
    for each in waiting(options.file):
        record = None if each.record is None else decode(each.record, each.key)
        text = None if record is None else record.text
        print(json.dumps({**_shown(each), "text": text, "metadata": None if record is None else record.metadata}))
    return DONE


def _replay(options: argparse.Namespace) -> int:
    from remanence.managers.redis import RedisWorkingMemoryManager  # noqa: PLC0415 - redis is needed here alone
    from remanence.stack import resilient  # noqa: PLC0415

    list(waiting(options.file))  # it must exist: a manager would make it
    with (
        RedisWorkingMemoryManager(options.url, key_prefix=options.key_prefix) as inner,
        resilient(inner, journal=options.file) as manager,
    ):
        counts = manager.replay(options.timeout)
    others = len({each.store for each in waiting(options.file)})
    print(f"{counts.replayed} brought home, {counts.conflicts} kept as conflict copies")
    print(f"{counts.pending} still waiting, {counts.stuck} stuck")
    if others and not counts.pending + counts.stuck:
        print("What is left waits for other stores; `remanence journal show` names them.")
    return LEFT if counts.pending or counts.stuck else DONE
