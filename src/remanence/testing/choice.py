"""Which server tests get: a private one, or the user's own where the settings name one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from remanence.errors import ConfigurationError
from remanence.testing.clock import ManualClock
from remanence.testing.outcomes import missing_server, reported
from remanence.testing.own_server import OwnServer
from remanence.testing.prefixes import new_key_prefix
from remanence.testing.server import RedisForTests

__all__ = ["Settings", "for_one_test", "for_the_session", "private_servers"]

_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Settings:
    """What option, ini file and environment say.

    Attributes:
        url: Of the user's own server; "" for private ones. Not in the repr, for it may hold a password.
        require: Whether to fail rather than skip where no server can be had.
        durability: Of private servers.
    """

    url: str = field(repr=False)
    require: bool
    durability: str

    @classmethod
    def read(cls, *, url: str, require: bool | str, durability: str) -> Self:
        """Understand the settings as they were written; a word that is none fails the test in one line.

        Args:
            url: "" for private servers.
            require: "" for no.
            durability: As for `RedisForTests`, which looks at it.
        """
        with reported():
            return cls(url, _understand(str(require) or "no"), durability)

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn errors into the test's outcome: see `outcomes`."""
        with reported(), missing_server(required=self.require):
            yield


def _understand(require: str) -> bool:
    if require.lower() not in _WORDS:
        message = f"remanence_require_redis must be one of {', '.join(_WORDS)}, not {require!r}."
        raise ConfigurationError(message)
    return _WORDS[require.lower()]


@contextmanager
def for_the_session(settings: Settings) -> Iterator[Any]:
    """Give the session's server, a `RedisForTests` or an `OwnServer`, and end or tidy it afterwards."""
    server: Any = None
    try:
        with settings.reported():
            if settings.url:
                server = OwnServer(settings.url, key_prefix=new_key_prefix())
                server.check()
            else:
                server = RedisForTests(durability=settings.durability)  # type: ignore[arg-type] # it looks
                server.start()
        yield server
        if not server.is_private and not server.lost:
            with settings.reported():
                server.remove_keys()
    finally:
        if server is not None:
            server.close()


@contextmanager
def for_one_test(settings: Settings, server: Any, key_prefix: str, clock: ManualClock) -> Iterator[Any]:
    """Give one test the session's server: a private one healthy and empty, the user's own with a prefix of its own."""
    kind = getattr(server, "is_private", None)
    with reported():
        if kind is None:
            message = (
                f"remanence_redis_session must yield a remanence.testing.RedisForTests, not {type(server).__name__}."
            )
            raise ConfigurationError(message)
    lend = _private if kind else _own
    with lend(settings, server, key_prefix, clock) as lent:
        yield lent


@contextmanager
def private_servers(settings: Settings) -> Iterator[Callable[..., RedisForTests]]:
    """Give a function that makes private servers, which end with the block."""
    with ExitStack() as servers:

        def make(**options: Any) -> RedisForTests:
            with missing_server(required=settings.require):  # what else fails is the test's own
                server = RedisForTests(**options)
            servers.callback(server.close)
            return server.start()

        yield make


@contextmanager
def _private(settings: Settings, server: Any, key_prefix: str, clock: ManualClock) -> Iterator[Any]:  # noqa: ARG001
    server.clock, before = clock, server.clock
    try:
        with settings.reported():
            server.reset()
        yield server
        with settings.reported():
            # At once and not only before the next test: in a wider scope others may look at it meanwhile.
            server.recover()
    finally:
        server.clock = before


@contextmanager
def _own(settings: Settings, server: Any, key_prefix: str, clock: ManualClock) -> Iterator[Any]:
    with reported():
        own = OwnServer(server.url, key_prefix=key_prefix, clock=clock, session_prefix=server.key_prefix)
    with closing(own):
        with settings.reported():
            own.check()
        yield own
        try:
            with settings.reported():
                own.remove_keys()
        finally:
            server.lost = own.lost  # said once is enough
