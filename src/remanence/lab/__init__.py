"""The lab: a real server to break, conversations to replay while it is broken, and an audit of what was kept."""

from __future__ import annotations

from remanence.lab.errors import (
    FaultNotFiredError,
    LabError,
    NothingHeldError,
    PortTakenError,
    ProxyError,
    ProxyNotRunningError,
    ProxyPortTakenError,
    ServerNotFoundError,
    ServerNotRunningError,
    ServerReplyError,
    ServerStartError,
    ServerStateError,
    ServerStopError,
)
from remanence.lab.fault_proxy import Fault, FaultProxy, HeldRequests, LogEntry
from remanence.lab.history import AsyncRecordingManager, History, Recorder, RecordingManager, read_history
from remanence.lab.redis_server import RedisServer
from remanence.lab.server_states import STATES, Failure, ServerState, StateFacts
from remanence.lab.stateful import HeldState

__all__ = [
    "STATES",
    "AsyncRecordingManager",
    "Failure",
    "Fault",
    "FaultNotFiredError",
    "FaultProxy",
    "HeldRequests",
    "HeldState",
    "History",
    "LabError",
    "LogEntry",
    "NothingHeldError",
    "PortTakenError",
    "ProxyError",
    "ProxyNotRunningError",
    "ProxyPortTakenError",
    "Recorder",
    "RecordingManager",
    "RedisServer",
    "ServerNotFoundError",
    "ServerNotRunningError",
    "ServerReplyError",
    "ServerStartError",
    "ServerState",
    "ServerStateError",
    "ServerStopError",
    "StateFacts",
    "read_history",
]
