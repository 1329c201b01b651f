"""The lab: a real server to break, conversations to replay while it is broken, and an audit of what was kept."""

from __future__ import annotations

from remanence.lab.errors import (
    LabError,
    PortTakenError,
    ServerNotFoundError,
    ServerNotRunningError,
    ServerReplyError,
    ServerStartError,
    ServerStopError,
)
from remanence.lab.redis_server import RedisServer

__all__ = [
    "LabError",
    "PortTakenError",
    "RedisServer",
    "ServerNotFoundError",
    "ServerNotRunningError",
    "ServerReplyError",
    "ServerStartError",
    "ServerStopError",
]
