"""Chaos on real processes: workers that are killed in every phase, a server that fails in every way, and an audit.

`plan` draws a schedule from its seed, `worker` is the process that is killed, with threads or with an event loop
(`tasks`, some of whose calls are cancelled), `writer` is what each thread or task does, `phases` are where it is struck
and `reports` is what it tells in files that outlive it. `crew` starts, strikes and replaces the workers, `blows` is
what happens to the server, `show` plays a schedule (`shown` is what became of it) and `audit` reads Redis raw and
compares. `campaign` plays many.
"""

from __future__ import annotations

from remanence.lab.chaos.audit import Verdict
from remanence.lab.chaos.campaign import Outcome, Total, campaign
from remanence.lab.chaos.plan import Plan, draw
from remanence.lab.chaos.show import play
from remanence.lab.chaos.shown import Shown

__all__ = ["Outcome", "Plan", "Shown", "Total", "Verdict", "campaign", "draw", "play"]
