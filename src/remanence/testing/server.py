"""A private server for tests: everything that `RedisServer` can do, made whole and empty again between tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from remanence.lab.errors import LabError, ServerReplyError
from remanence.lab.redis_server import RedisServer
from remanence.lab.resp import RespConnection
from remanence.lab.server_settings import Durability
from remanence.testing.clock import ManualClock, check_seconds
from remanence.testing.expiry import bring_forward, scan
from remanence.testing.prefixes import new_key_prefix

__all__ = ["RedisForTests"]

_PATIENCE: Final = 1.0
"""Seconds that a server may take to answer between two tests before it is replaced by a fresh process."""


class RedisForTests(RedisServer):
    """A private Redis or Valkey server: kill it, freeze it, put it into a state; the next test gets it healthy.

    A context manager, so that it can stand in a fixture of any scope::

        @pytest.fixture(scope="session")
        def remanence_redis_session():
            with RedisForTests(config={"maxmemory": "20mb"}) as server:
                yield server

    Args:
        clock: Moved by `advance` as well; None for none.
        durability: As for `RedisServer`, but off by default: a test that kills the server wants its data gone or does
            not care.
        port: As for `RedisServer`, like what follows.
        directory: The same.
        config: The same.
        start_timeout: The same.
        stop_timeout: The same.

    Attributes:
        clock: As above.
        key_prefix: A random one, for the keys of fixtures of session or module scope. Here they may have any name; on a
            server of the user's own, which has this attribute too, they must begin so.
        is_private: True: it may be hurt. False for a server of the user's own.

    Raises:
        ServerNotFoundError: There is no server on this machine; the message says what to install.
        ValueError: An argument is not valid.
    """

    is_private: Final = True

    def __init__(
        self,
        *,
        clock: ManualClock | None = None,
        durability: Durability = "off",
        port: int | None = None,
        directory: str | Path | None = None,
        config: Mapping[str, str] | None = None,
        start_timeout: float = 10.0,
        stop_timeout: float = 10.0,
    ) -> None:
        super().__init__(
            port=port,
            durability=durability,
            directory=directory,
            config=config,
            start_timeout=start_timeout,
            stop_timeout=stop_timeout,
        )
        self.clock = clock
        self.key_prefix = new_key_prefix()
        self._keepers = 0
        self._configured: list[str] | None = None

    def start(self, *, wait: bool = True) -> Self:
        """Make it run and answer; see `RedisServer.start`."""
        super().start(wait=wait)
        if wait and self._configured is None:
            with self._connect(_PATIENCE) as connection:
                self._configured = _configuration(connection)
        return self

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for every key that expires, in all databases, and on `clock`; 0 or more.

        What would have expired by then is gone when this returns. The server's own clock does not move.

        Raises:
            OSError: It does not answer.
            ServerReplyError: It is in a state that refuses.
            ValueError: Time would run backwards.
        """
        check_seconds(seconds)
        with self._connect(_PATIENCE) as connection:
            for database in re.findall(r"^db(\d+):", str(connection.command("INFO", "keyspace")), re.MULTILINE):
                connection.command("SELECT", database)
                bring_forward(connection.command, scan(connection.command), seconds)
        if self.clock is not None:
            self.clock.advance(seconds)

    def recover(self) -> None:
        """Undo what was done to it: it runs, is thawed and in no state. Its data stay, as far as it keeps them.

        Raises:
            ServerStartError: It does not come up; `PortTakenError` where something else took its port meanwhile.
        """
        with self._lock:
            with suppress(LabError, OSError):
                self.leave()
            self.thaw()
            # Something that this object knows nothing of: a script without end, a SIGSTOP from elsewhere.
            if self.running and not self._is_ready():
                self.kill()
            self.start()

    def reset(self) -> None:
        """Make it as it was in the beginning: recovered, configured as it was started, without keys or scripts.

        A changed configuration (CONFIG SET, ACL, REPLICAOF) costs a restart. Inside `keep_data` the keys stay.

        Raises:
            ServerStartError: As for `recover`.
        """
        with self._lock:
            self.recover()
            try:
                self._empty()
            except (OSError, LabError):
                self._configured = None
                self.restart(keep_data=self._keepers > 0)
                self._empty()

    @contextmanager
    def keep_data(self) -> Iterator[None]:
        """Have `reset` leave the keys alone for the length of a block; for data that a wider scope has put there.

        A test that kills the server loses them all the same, unless the server has a durability.
        """
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1

    def _empty(self) -> None:
        with self._connect(_PATIENCE) as connection:
            if _configuration(connection) != self._configured:
                raise LabError("The server's configuration was changed.")
            if not self._keepers:
                connection.command("FLUSHALL")
                # Else the first guarded write would be one command in one order of the tests, and two in another.
                connection.command("SCRIPT", "FLUSH")
                with suppress(ServerReplyError):  # Redis 6 knows no functions
                    connection.command("FUNCTION", "FLUSH")


def _configuration(connection: RespConnection) -> list[str]:
    """Return settings and users, in an order that is the same after a restart."""
    flat = connection.command("CONFIG", "GET", "*")
    users = connection.command("ACL", "LIST")
    assert isinstance(flat, list)  # noqa: S101 - for the type checker
    return [*sorted(f"{name} {value}" for name, value in zip(flat[::2], flat[1::2], strict=True)), str(users)]
