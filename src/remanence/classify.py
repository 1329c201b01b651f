"""One table that says what a failure means: who repeats it, who takes over, who must see it.

By class name, because only the managers may import redis and a foreign manager may bring errors of its own.
Source of the server's prefixes: Redis `src/server.c` (createSharedObjects) and redis-py's `EXCEPTION_CLASSES`.
"""

from __future__ import annotations

from enum import Enum, auto

from remanence.errors import (
    AttemptTimeoutError,
    LateWriteError,
    MemoryUnavailableError,
    RemanenceError,
    UnavailableError,
)

__all__ = ["ErrorClass", "classify", "is_outage", "is_transient", "refuses_writes"]


class ErrorClass(Enum):
    """What a failure means.

    TRANSIENT: the store did not answer, or not now: repeat, then fall back.
    WRITES_REFUSED: reads still work: repeating does not help, fall back.
    UNAVAILABLE: one of our own policies said no: fall back, do not repeat.
    CONFIGURATION: a wrong password, a missing permission: a person has to see it.
    CALLER: the caller's data or version: the caller has to see it.
    """

    TRANSIENT = auto()
    WRITES_REFUSED = auto()
    UNAVAILABLE = auto()
    CONFIGURATION = auto()
    CALLER = auto()


_BY_CLASS = {
    "redis.exceptions.AuthenticationError": ErrorClass.CONFIGURATION,
    "redis.exceptions.AuthorizationError": ErrorClass.CONFIGURATION,
    "redis.exceptions.AuthenticationWrongNumberOfArgsError": ErrorClass.CONFIGURATION,
    "redis.exceptions.NoPermissionError": ErrorClass.CONFIGURATION,
    "redis.exceptions.ReadOnlyError": ErrorClass.WRITES_REFUSED,
    "redis.exceptions.OutOfMemoryError": ErrorClass.WRITES_REFUSED,
    "redis.exceptions.MaxConnectionsError": ErrorClass.UNAVAILABLE,
    "redis.exceptions.NoScriptError": ErrorClass.TRANSIENT,
    "redis.exceptions.TryAgainError": ErrorClass.TRANSIENT,
    "redis.exceptions.ClusterDownError": ErrorClass.TRANSIENT,
    "redis.exceptions.MasterDownError": ErrorClass.TRANSIENT,
    "redis.exceptions.BusyLoadingError": ErrorClass.TRANSIENT,
    "redis.exceptions.InvalidResponse": ErrorClass.TRANSIENT,
    "redis.exceptions.ConnectionError": ErrorClass.TRANSIENT,
    "redis.exceptions.TimeoutError": ErrorClass.TRANSIENT,
    "redis.exceptions.DataError": ErrorClass.CALLER,
    "builtins.ConnectionError": ErrorClass.TRANSIENT,
    "builtins.TimeoutError": ErrorClass.TRANSIENT,
    "builtins.OSError": ErrorClass.TRANSIENT,
}
_BY_PREFIX = {
    "LOADING": ErrorClass.TRANSIENT,
    "MASTERDOWN": ErrorClass.TRANSIENT,
    "CLUSTERDOWN": ErrorClass.TRANSIENT,
    "TRYAGAIN": ErrorClass.TRANSIENT,
    "BUSY": ErrorClass.TRANSIENT,
    "UNBLOCKED": ErrorClass.TRANSIENT,
    "READONLY": ErrorClass.WRITES_REFUSED,
    "OOM": ErrorClass.WRITES_REFUSED,
    "MISCONF": ErrorClass.WRITES_REFUSED,
    "NOREPLICAS": ErrorClass.WRITES_REFUSED,
    "NOAUTH": ErrorClass.CONFIGURATION,
    "WRONGPASS": ErrorClass.CONFIGURATION,
    "NOPERM": ErrorClass.CONFIGURATION,
    "WRONGTYPE": ErrorClass.CALLER,
}
_QUOTED = ("READONLY", "OOM", "MISCONF", "NOREPLICAS", "NOPERM", "WRONGTYPE")
"""What a script's refusal quotes inside the reply ("… script: -READONLY You can't write …" on older servers)."""

_DENIED_INSIDE = ("ACL failure in script", "The user executing the script can't run")
"""How servers from Redis 7 on say NOPERM for a command inside a script."""

_POOL_EXHAUSTED = ("No connection available", "Too many connections")
"""What redis-py's pools say where they have no class of their own for it."""

_REPLY = "redis.exceptions.ResponseError"


def classify(error: BaseException) -> ErrorClass:
    """Return what `error` means; unknown exceptions are the caller's to see."""
    if isinstance(error, RemanenceError):
        return _classify_ours(error)
    for cls in type(error).__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name == _REPLY:
            return _by_prefix(error)
        if name == "redis.exceptions.ConnectionError" and _message(error).startswith(_POOL_EXHAUSTED):
            return ErrorClass.UNAVAILABLE
        known = _BY_CLASS.get(name)
        if known is not None:
            return known
    return ErrorClass.CALLER


def is_transient(error: BaseException) -> bool:
    """Whether repeating the attempt may help."""
    return classify(error) is ErrorClass.TRANSIENT


def is_outage(error: BaseException) -> bool:
    """Whether a fallback may answer in the store's place."""
    return classify(error) in {ErrorClass.TRANSIENT, ErrorClass.WRITES_REFUSED, ErrorClass.UNAVAILABLE}


def refuses_writes(error: BaseException) -> bool:
    """Whether the store still answers reads."""
    return classify(error) is ErrorClass.WRITES_REFUSED


def _classify_ours(error: RemanenceError) -> ErrorClass:
    if isinstance(error, AttemptTimeoutError | LateWriteError):
        return ErrorClass.TRANSIENT
    if isinstance(error, UnavailableError) and not isinstance(error, MemoryUnavailableError):
        return ErrorClass.UNAVAILABLE
    return ErrorClass.CALLER


def _by_prefix(error: BaseException) -> ErrorClass:
    words = _message(error).split(" ", 1)[0].removesuffix(":")
    if words in _BY_PREFIX:
        return _BY_PREFIX[words]
    for prefix in _QUOTED:
        if f"{prefix} " in _message(error):
            return _BY_PREFIX[prefix]
    return ErrorClass.CONFIGURATION if _message(error).startswith(_DENIED_INSIDE) else ErrorClass.CALLER


def _message(error: BaseException) -> str:
    return str(error.args[0]) if error.args else ""
