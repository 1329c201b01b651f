"""The states that a real server gets into, and what each does to those who use it: one table.

How a server is put into them is in `state_entry`; `RedisServer.state` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from remanence.classify import ErrorClass

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["STATES", "Failure", "ServerState", "StateFacts"]


class ServerState(StrEnum):
    """A state of a server, named after what it answers then; `STATES` tells the rest."""

    OOM = "oom"
    READONLY = "readonly"
    MASTERDOWN = "masterdown"
    NOREPLICAS = "noreplicas"
    MISCONF = "misconf"
    MAXCLIENTS = "maxclients"
    NOAUTH = "noauth"
    WRONGPASS = "wrongpass"
    NOPERM = "noperm"
    BUSY = "busy"
    LOADING = "loading"
    CLUSTERDOWN = "clusterdown"
    PAUSED = "paused"
    WRITES_PAUSED = "writes_paused"


@dataclass(frozen=True, slots=True)
class Failure:
    """How a command fails in a state.

    Attributes:
        code: The first word of the server's error reply; "" where no reply comes.
        error: The exception that redis-py raises, as ``module.Class``; exactly that class, not one below it.
        meaning: What `remanence.classify.classify` says to that exception.
    """

    code: str
    error: str
    meaning: ErrorClass


@dataclass(frozen=True, slots=True)
class StateFacts:
    """What a state does.

    Attributes:
        summary: What has happened to the server.
        reads: How a read fails (GET); None where it is answered.
        writes: How a plain write fails (SETEX); None where it is carried out.
        scripts: How a write by a script fails (EVALSHA), as the guarded writes of the stack are.
        restarts: Whether the server is restarted on entering or leaving, on the same port and with its data; its
            clients lose their connections then, and it has another run id.
        disconnects: Whether connections that were open before are closed on entering.
    """

    summary: str
    reads: Failure | None
    writes: Failure | None
    scripts: Failure | None
    restarts: bool = False
    disconnects: bool = False


def _writes_refused(summary: str, code: str, error: str) -> StateFacts:
    failure = Failure(code, f"redis.exceptions.{error}", ErrorClass.WRITES_REFUSED)
    return StateFacts(summary, reads=None, writes=failure, scripts=failure)


def _all_refused(
    summary: str, code: str, error: str, meaning: ErrorClass, *, restarts: bool = False, disconnects: bool = False
) -> StateFacts:
    failure = Failure(code, f"redis.exceptions.{error}", meaning)
    return StateFacts(summary, failure, failure, failure, restarts=restarts, disconnects=disconnects or restarts)


_LINK_DOWN: Final = Failure("MASTERDOWN", "redis.exceptions.MasterDownError", ErrorClass.TRANSIENT)
_REPLICA: Final = Failure("READONLY", "redis.exceptions.ReadOnlyError", ErrorClass.WRITES_REFUSED)
_SILENT: Final = Failure("", "redis.exceptions.TimeoutError", ErrorClass.TRANSIENT)

STATES: Final[Mapping[ServerState, StateFacts]] = MappingProxyType(
    {
        ServerState.OOM: _writes_refused(
            "It has reached maxmemory and may evict nothing; deletions are still carried out.",
            "OOM",
            "OutOfMemoryError",
        ),
        ServerState.READONLY: _writes_refused(
            "It has become a replica, as after a failover, and serves what it holds.",
            "READONLY",
            "ReadOnlyError",
        ),
        ServerState.MASTERDOWN: StateFacts(
            "It is a replica without its master, and may not serve what it holds.",
            reads=_LINK_DOWN,
            writes=_REPLICA,  # looked at before the link is
            scripts=_LINK_DOWN,  # the script's first GET meets the link
        ),
        ServerState.NOREPLICAS: _writes_refused(
            "It has fewer replicas than min-replicas-to-write asks for.",
            "NOREPLICAS",
            "ResponseError",
        ),
        ServerState.MISCONF: _writes_refused(
            "Its last background save has failed (stop-writes-on-bgsave-error).",
            "MISCONF",
            "ResponseError",
        ),
        ServerState.MAXCLIENTS: _all_refused(
            "All connections that maxclients allows are taken: each new one is refused and closed.",
            "ERR",
            "ConnectionError",
            ErrorClass.TRANSIENT,
            disconnects=True,
        ),
        ServerState.NOAUTH: _all_refused(
            "It asks for a password that its clients do not bring.",
            "NOAUTH",
            "AuthenticationError",
            ErrorClass.CONFIGURATION,
            disconnects=True,
        ),
        ServerState.WRONGPASS: _all_refused(
            "Its password was changed: the one that clients bring is wrong.",
            "WRONGPASS",
            "AuthenticationError",
            ErrorClass.CONFIGURATION,
            disconnects=True,
        ),
        ServerState.NOPERM: _all_refused(
            "Its default user may no longer read, write or run scripts.",
            "NOPERM",
            "NoPermissionError",
            ErrorClass.CONFIGURATION,
        ),
        ServerState.BUSY: _all_refused(
            "It runs a script that does not end.",
            "BUSY",
            "ResponseError",
            ErrorClass.TRANSIENT,
        ),
        ServerState.LOADING: _all_refused(
            "It was restarted and is loading its data; it stays so for half a minute at least.",
            "LOADING",
            "BusyLoadingError",
            ErrorClass.TRANSIENT,
            restarts=True,
        ),
        ServerState.CLUSTERDOWN: _all_refused(
            "It is a node of a cluster whose slots nobody serves; it must hold data in database 0 alone.",
            "CLUSTERDOWN",
            "ClusterDownError",
            ErrorClass.TRANSIENT,
            restarts=True,
        ),
        ServerState.PAUSED: StateFacts(
            "It takes commands and answers none (CLIENT PAUSE ALL).", _SILENT, _SILENT, _SILENT
        ),
        ServerState.WRITES_PAUSED: StateFacts(
            "It answers reads and holds writes back (CLIENT PAUSE WRITE), as in a planned failover.",
            reads=None,
            writes=_SILENT,
            scripts=_SILENT,
        ),
    }
)
