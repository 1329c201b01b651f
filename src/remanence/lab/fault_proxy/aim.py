"""Which commands a fault is for: by name, by key, the nth of them, and how many times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypedDict

from remanence.lab.fault_proxy.resp import arguments

__all__ = ["Aim", "AimOptions", "Request"]

_HANDSHAKE: Final = frozenset(("AUTH", "CLIENT", "HELLO", "SELECT"))
_KEYS_COUNTED: Final = frozenset(("EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"))
_ALL_KEYS: Final = frozenset(("DEL", "EXISTS", "MGET", "TOUCH", "UNLINK", "WATCH"))
_EVERY_OTHER: Final = frozenset(("MSET", "MSETNX"))
_SUBCOMMAND_FIRST: Final = frozenset(("BITOP", "MEMORY", "OBJECT", "XGROUP", "XINFO"))
_NO_KEY: Final = _HANDSHAKE | {
    *("ACL", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "ECHO", "FLUSHALL", "FLUSHDB", "FUNCTION", "INFO", "KEYS"),
    *("LATENCY", "PING", "PUBLISH", "REPLICAOF", "SCAN", "SCRIPT", "SWAPDB", "WAIT", "WAITAOF"),
}


class AimOptions(TypedDict, total=False):
    """What every fault takes to say which commands it is for; see `FaultProxy`."""

    command: str | None
    key: str | bytes | None
    nth: int | None
    times: int | None
    probability: float
    connection: int | None


class Request:
    """One complete command of a client.

    Attributes:
        name: In capitals.
        raw: Its bytes; only the end of them where `begun` is set.
        begun: Whether its beginning was forwarded before anybody could want to hold it.
    """

    def __init__(self, name: str, raw: bytes, *, begun: bool = False) -> None:
        self.name = name
        self.raw = raw
        self.begun = begun

    @cached_property
    def subcommand(self) -> str:
        """The second word in capitals, or nothing."""
        words = arguments(self.raw)
        next(words, None)
        return next(words, b"").decode("ascii", "replace").upper()

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that it names."""
        return () if self.name in _NO_KEY else tuple(_keys(self.name, arguments(self.raw)))


@dataclass(frozen=True, slots=True)
class Aim:
    """Which commands a fault is for.

    Attributes:
        words: The command's name, and its subcommand if named; empty for any command but those of a handshake.
        key: One that it must name; None for any or none.
        nth: The first matching command that counts, from 1.
        times: How many commands; None for all.
        probability: Of each of those.
        connection: Number of the connection; None for any.
        whole: Whether nothing but the connection was named: the fault is then for whole connections.
    """

    words: tuple[str, ...] = ()
    key: bytes | None = None
    nth: int = 1
    times: int | None = None
    probability: float = 1.0
    connection: int | None = None
    whole: bool = True

    @classmethod
    def of(cls, options: AimOptions) -> Aim:
        """Check what a caller wrote.

        Raises:
            TypeError: There is no such option, or it is of the wrong type.
            ValueError: A value is out of range.
        """
        unknown = sorted(options.keys() - AimOptions.__annotations__.keys())
        if unknown:
            raise TypeError(f"Unknown option {', '.join(unknown)}; a fault is aimed by {_known_options()}.")
        command, key, nth = options.get("command"), options.get("key"), options.get("nth")
        aimed = not (command is None and key is None and nth is None)
        probability = options.get("probability", 1.0)
        if not 0 < probability <= 1:
            raise ValueError(f"probability={probability} is not above 0 and at most 1.")
        return cls(
            words=_words(command),
            key=key.encode("utf-8", "surrogateescape") if isinstance(key, str) else _bytes(key),
            nth=_positive("nth", nth) or 1,
            times=_positive("times", options["times"]) if "times" in options else 1 if aimed else None,
            probability=probability,
            connection=_positive("connection", options.get("connection")),
            whole=not (aimed or "times" in options or "probability" in options),
        )

    def covers(self, connection: int) -> bool:
        """Whether this connection is meant."""
        return self.connection is None or self.connection == connection

    def matches(self, request: Request, connection: int) -> bool:
        """Whether this command, on this connection, is one of those meant."""
        if not self.covers(connection):
            return False
        if not self.words:
            if request.name in _HANDSHAKE:
                return False
        elif request.name != self.words[0] or (len(self.words) > 1 and request.subcommand != self.words[1]):
            return False
        return self.key is None or self.key in request.keys

    def __str__(self) -> str:
        """Say what is meant; a key is only said to be there."""
        said = [
            f"command={' '.join(self.words)!r}" if self.words else "",
            "key=(hidden)" if self.key is not None else "",
            f"nth={self.nth}" if self.nth > 1 else "",
            "" if self.whole else f"times={self.times}",
            f"probability={self.probability}" if self.probability < 1 else "",
            f"connection={self.connection}" if self.connection is not None else "",
        ]
        return ", ".join(part for part in said if part)


def _keys(name: str, words: Iterator[bytes]) -> Iterator[bytes]:
    next(words, None)
    if name in _KEYS_COUNTED:
        next(words, None)  # the script
        count = next(words, b"0")
        for _ in range(int(count) if count.isdigit() else 0):
            yield from _take(words)
    elif name in _ALL_KEYS:
        yield from words
    elif name in _EVERY_OTHER:
        for key in words:
            yield key
            next(words, None)
    else:
        if name in _SUBCOMMAND_FIRST:
            next(words, None)
        yield from _take(words)


def _take(words: Iterator[bytes]) -> Iterator[bytes]:
    word = next(words, None)
    if word is not None:
        yield word


def _words(command: str | None) -> tuple[str, ...]:
    if command is None:
        return ()
    if not isinstance(command, str):
        raise TypeError(
            f"command is of type {type(command).__name__}; it is a name such as 'EVALSHA' or 'CLIENT SETINFO'."
        )
    words = tuple(command.upper().split())
    if len(words) not in {1, 2}:
        raise ValueError("command is a name such as 'EVALSHA', or two words such as 'CLIENT SETINFO'.")
    return words


def _bytes(key: bytes | None) -> bytes | None:
    if key is not None and not isinstance(key, bytes):
        raise TypeError(f"key is of type {type(key).__name__}; it is text or bytes.")
    return key


def _positive(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is of type {type(value).__name__}; it is a whole number or None.")
    if value < 1:
        raise ValueError(f"{name}={value} is below 1: what is counted begins at 1.")
    return value


def _known_options() -> str:
    return ", ".join(AimOptions.__annotations__)
