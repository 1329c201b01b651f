"""A proxy in front of a real server that goes wrong on purpose, at one chosen command.

The parts: `resp` and `framing` (where commands and replies end), `aim`, `effects`, `faults` and `table` (what goes
wrong with which command), `endpoint`, `pending` and `connection` (the bytes), `door`, `target`, `loop` and `core` (the
thread that does it), and `proxy` (what a test holds in its hand).
"""

from __future__ import annotations

from remanence.lab.fault_proxy.core import LogEntry
from remanence.lab.fault_proxy.faults import Fault, HeldRequests
from remanence.lab.fault_proxy.proxy import FaultProxy

__all__ = ["Fault", "FaultProxy", "HeldRequests", "LogEntry"]
