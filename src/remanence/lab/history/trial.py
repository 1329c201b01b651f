"""A whole trial: a server, processes that hammer it, outages, and the check of what all of them have recorded.

``python -m remanence.lab.history.trial --seed 7 --seconds 10 --outage freeze`` runs one and prints the verdicts.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, get_args

from remanence.lab.errors import LabError
from remanence.lab.history.checking import CHECKS, check
from remanence.lab.history.conversation import History
from remanence.lab.history.log import read_history
from remanence.lab.history.operation import Ending
from remanence.lab.history.recorder import Recorder, hashed
from remanence.lab.history.verdict import Report
from remanence.lab.history.workload import PENDING, Job
from remanence.lab.redis_server import RedisServer
from remanence.lab.resp import RespConnection

__all__ = ["HEALTHY", "IN_OUTAGES", "Outage", "TrialError", "endings_of", "run_trial"]

Outage = Literal["none", "kill", "freeze", "restart"]

HEALTHY: Final = tuple(CHECKS)
"""The checks that a healthy store must pass: all."""

IN_OUTAGES: Final = ("values", "own-writes", "monotonic-reads", "acknowledged")
"""The checks that the resilient stack must pass whatever happens to a store that keeps its data."""

_MEMORY: Final = "memory:"
_COPY: Final = "remanence-conflict:"
_PATIENCE_S: Final = 40.0


class TrialError(LabError):
    """A process of the trial failed, so its history says nothing."""


def run_trial(
    server: RedisServer,
    directory: Path,
    *,
    manager: str = "resilient",
    seed: int = 1,
    seconds: float = 2.0,
    outage: Outage = "none",
    processes: int = 2,
    threads: int = 3,
    conversations: int = 6,
    **job: Any,
) -> History:
    """Run a trial and return its history, endings included.

    Args:
        server: Running; it is emptied first.
        directory: For the logs, one for each process.
        manager: See `Job`.
        seed: Of all choices; what the operating system does is not repeated.
        seconds: How long the processes call, after they have started.
        outage: What happens to the server, again and again, for about a tenth to a third of a second each time.
        processes: How many.
        threads: Sessions of each.
        conversations: How many.
        job: More of `Job`.

    Raises:
        TrialError: A process failed, or could not bring home everything that was pending.
    """
    server.start()
    server.command("FLUSHALL")
    jobs = [
        Job(
            manager=manager,
            url=server.url,
            log=str(directory / f"p{number}.jsonl"),
            name=f"p{number}",
            seed=seed,
            threads=threads,
            conversations=conversations,
            **job,
        )
        for number in range(1, processes + 1)
    ]
    command = [sys.executable, "-m", "remanence.lab.history.workload"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen([*command, each.to_argument()], text=True, **pipes) for each in jobs]
    try:
        for process in running:
            process.stdout.readline()  # type: ignore[union-attr]
        until = time.monotonic() + seconds
        for process in running:
            # One that has ended already tells why by its status.
            with suppress(BrokenPipeError):
                print(until, file=process.stdin, flush=True)
        _hurt(server, outage, random.Random(seed), until)
        ends = [process.communicate(timeout=seconds + _PATIENCE_S) for process in running]
    except subprocess.TimeoutExpired:
        raise TrialError("A process of the trial did not end in time, so its history says nothing.") from None
    finally:
        for process in running:
            process.kill()
            process.wait()
    for process, (_, said) in zip(running, ends, strict=True):
        if process.returncode == PENDING:
            raise TrialError("A process could not bring home what was pending, so losses cannot be told.")
        if process.returncode:
            last = said.strip().splitlines()[-1:]
            raise TrialError(f"A process of the trial ended with status {process.returncode}: {' '.join(last)}")
    log = directory / "endings.jsonl"
    with Recorder(log, process="the end") as recorder:
        recorder.add_endings(endings_of(server, [f"c{number}" for number in range(conversations)]))
    return read_history([*(each.log for each in jobs), log])


def endings_of(server: RedisServer, conversations: Iterable[str]) -> list[Ending]:
    """Read what the server holds, with a bare connection and bare JSON.

    Args:
        server: Where.
        conversations: Ids of working memories; those without a key have an ending as well.
    """
    held: dict[str, str | None] = {f"WORKING_MEMORY:{name}": None for name in conversations}
    copies: dict[str, set[str | None]] = {body: set() for body in held}
    with RespConnection(server.port, timeout=5.0) as connection:
        for key in _keys(connection, _MEMORY):
            held[key.removeprefix(_MEMORY)] = _text(connection.command("GET", key))
        for key in _keys(connection, _COPY):
            body = key.removeprefix(_COPY).rpartition(":")[0]
            copies.setdefault(body, set()).add(_text(connection.command("GET", key)))
            held.setdefault(body, None)
    at = time.monotonic()
    return [
        Ending(str(hashed(body)), hashed(text), frozenset(map(hashed, copies.get(body, ()))), at)
        for body, text in held.items()
    ]


def _keys(connection: RespConnection, prefix: str) -> list[str]:
    reply: Any = connection.command("KEYS", f"{prefix}*")
    return [str(key) for key in reply]


def _text(reply: Any) -> str | None:
    record = json.loads(reply)
    return None if record.get("deleted") else str(record["data"]["working_memory"])


def _hurt(server: RedisServer, outage: Outage, draw: random.Random, until: float) -> None:
    """Break the server again and again, and leave it whole."""
    while outage != "none" and time.monotonic() < until - 0.4:
        time.sleep(draw.uniform(0.1, 0.4))
        if outage == "freeze":
            server.freeze()
        elif outage == "kill":
            server.kill()
        else:
            server.stop()
        time.sleep(draw.uniform(0.1, 0.6))
        server.start()


def main(arguments: list[str] | None = None) -> int:
    """Run one trial and print the verdicts; return the exit status of the checks."""
    parser = argparse.ArgumentParser(prog="python -m remanence.lab.history.trial", description=main.__doc__)
    parser.add_argument("--manager", choices=["bare", "resilient", "reference"], default="resilient")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--outage", choices=get_args(Outage), default="none")
    parser.add_argument("--durability", choices=["off", "everysec", "always"], default="always")
    parser.add_argument("--logs", type=Path, help="a directory for the logs, kept; default: a temporary one")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--deletes", type=float, default=0.05)
    parser.add_argument("--conversations", type=int, default=6)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary, RedisServer(durability=options.durability) as server:
        directory = options.logs or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        history = run_trial(
            server,
            directory,
            manager=options.manager,
            seed=options.seed,
            seconds=options.seconds,
            outage=options.outage,
            processes=options.processes,
            threads=options.threads,
            conversations=options.conversations,
            deletes=options.deletes,
        )
    report: Report = check(
        history,
        checks=HEALTHY if options.outage == "none" else IN_OUTAGES,
        overwrites=options.manager != "reference",
    )
    print(report)  # noqa: T201 - a program prints
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
