"""Plays one schedule: starts the server and the workers, strikes them, lets them end, and has the rest audited."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from remanence.lab.chaos.audit import audit
from remanence.lab.chaos.blows import Stage
from remanence.lab.chaos.crew import LEASE, Crew
from remanence.lab.chaos.plan import Plan
from remanence.lab.chaos.shown import Shown
from remanence.lab.fault_proxy import FaultProxy
from remanence.lab.redis_server import RedisServer

__all__ = ["play"]


def play(plan: Plan) -> Shown:
    """Play a schedule on processes and a server of its own; nothing is left behind."""
    begun = time.monotonic()
    shown = Shown(plan, begun=begun)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="remanence-chaos-")))
        server = stack.enter_context(RedisServer(durability=plan.durability))
        proxy = stack.enter_context(FaultProxy(server.port, seed=plan.seed))
        # An append-only file that is synced once a second lacks what came in the last two, if the server dies then.
        stage = Stage(server, proxy, str(folder / "journal"), keeps_all=plan.durability == "always")
        with Crew(shown, stage, folder) as crew:
            crew.begin()
            for blow in plan.blows:
                crew.await_acks(blow.after)
                crew.note(f"server: {blow.kind}")
                shown.blows[blow.kind] += 1
                with stage.blow(blow.kind):
                    crew.await_acks(blow.lasting // 2)
                    if blow.worker is not None:
                        crew.kill(blow.worker)
                    crew.await_acks(blow.lasting - blow.lasting // 2)
                crew.note("server: well again")
            crew.await_acks(plan.writes - len(shown.acks))
            crew.end(is_abrupt=plan.is_abrupt)
        if len(shown.acks) < plan.writes // 2:
            shown.broken["too few writes were acknowledged"] += 1
        shown.away = sum(any(begin <= ack.ended < end for begin, end in stage.away) for ack in shown.acks)
        crew.note("audit")
        shown.verdict = audit(stage, shown.acks, shown.deletions, lease=LEASE)
    shown.seconds = time.monotonic() - begun
    return shown
