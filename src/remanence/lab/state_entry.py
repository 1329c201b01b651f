"""How a server is put into each state of `server_states`, and taken out of it: one context manager each.

Nothing is simulated: the server is configured, or its clients and its disk are treated, as they are when it really gets
into that state. The settings' names are those of Redis 7 and Valkey.
"""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from remanence.lab.control import COMMAND_TIMEOUT, Control, configured, wait_until
from remanence.lab.errors import ServerReplyError, ServerStateError
from remanence.lab.resp import RespConnection
from remanence.lab.server_states import ServerState
from remanence.lab.state_restarts import cluster_without_slots, loading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["enter"]

_SCRIPT_BEGINS: Final = 0.02
_PAUSE_MS: Final = 3_600_000


def enter(state: ServerState, control: Control) -> AbstractContextManager[None]:
    """Return the context manager in which the server is in `state`, or about to be."""
    return _WAYS[state](control)


def _out_of_memory(control: Control) -> AbstractContextManager[None]:
    # The policy first, and last on the way back: with any other the server would throw its keys away instead.
    return configured(control, {"maxmemory-policy": "noeviction", "maxmemory": 1})


@contextmanager
def _replica(control: Control) -> Iterator[None]:
    try:
        # Nobody listens on port 1, so there is never a master that could empty it.
        control.command("REPLICAOF", "127.0.0.1", 1)
        yield
    finally:
        control.command("REPLICAOF", "NO", "ONE")


@contextmanager
def _replica_that_serves_nothing(control: Control) -> Iterator[None]:
    with configured(control, {"replica-serve-stale-data": "no"}), _replica(control):
        yield


def _without_replicas(control: Control) -> AbstractContextManager[None]:
    return configured(control, {"min-replicas-max-lag": 10, "min-replicas-to-write": 1})


@contextmanager
def _cannot_save(control: Control) -> Iterator[None]:
    # The save is written to a temporary file and renamed. A directory of that name is in the way of everyone, also of
    # root, whom permissions do not stop; a missing data directory would take the append-only file with it.
    in_the_way = Path(control.get("dir")) / control.get("dbfilename")
    try:
        in_the_way.unlink(missing_ok=True)
        in_the_way.mkdir()
        with configured(control, {"stop-writes-on-bgsave-error": "yes", "save": "3600 1"}):
            wait_until(lambda: _has_failed_to_save(control), "did not fail to save")
            yield
    finally:
        with suppress(FileNotFoundError):
            in_the_way.rmdir()
        # Until a save succeeds the server would refuse writes as soon as somebody sets save points.
        wait_until(lambda: _is_saved(control), "did not save its data")
        in_the_way.unlink()


def _has_failed_to_save(control: Control) -> bool:
    if control.info("rdb_last_bgsave_status") == "err":
        return True
    with suppress(ServerReplyError):  # another save is still under way
        control.command("BGSAVE", "SCHEDULE")
    return False


def _is_saved(control: Control) -> bool:
    try:
        control.command("SAVE")
    except ServerReplyError:
        return False  # another save is still under way
    return True


@contextmanager
def _too_many_clients(control: Control) -> Iterator[None]:
    with configured(control, {"maxclients": 1}):  # this connection is the one
        _hang_up(control)
        yield


@contextmanager
def _another_password(control: Control) -> Iterator[None]:
    before = control.password
    try:
        control.password = secrets.token_hex(16)
        control.command("CONFIG", "SET", "requirepass", control.password)
        _hang_up(control)  # a connection that is authenticated stays so
        yield
    finally:
        control.command("CONFIG", "SET", "requirepass", before or "")
        control.password = before


@contextmanager
def _password_required(control: Control) -> Iterator[None]:
    if control.password is not None:
        raise ServerStateError(
            "This server's URL brings a password, so its clients never meet NOAUTH; nothing was changed. Enter "
            "WRONGPASS, or use a server without requirepass."
        )
    with _another_password(control):
        yield


@contextmanager
def _without_permissions(control: Control) -> Iterator[None]:
    allowed = _commands_of_default_user(control)
    try:
        control.command("ACL", "SETUSER", "default", "-@read", "-@write", "-@scripting")
        yield
    finally:
        control.command("ACL", "SETUSER", "default", "-@all", *allowed)


def _commands_of_default_user(control: Control) -> list[str]:
    """Return the rules that say which commands it may use."""
    users = control.command("ACL", "LIST")
    for user in users if isinstance(users, list) else ():
        _, name, *rules = str(user).split()
        if name == "default":
            return [rule for rule in rules if rule.startswith(("+", "-"))]
    raise ServerStateError("The server has no default user, so nothing was changed.")


@contextmanager
def _busy(control: Control) -> Iterator[None]:
    with configured(control, {"busy-reply-threshold": 1}):
        try:
            port, password = control.server.port, control.password
            # The server goes on with the script when the one who sent it has hung up.
            with (
                suppress(TimeoutError),
                RespConnection(port, timeout=_SCRIPT_BEGINS, password=password) as sender,
            ):
                sender.command("EVAL", "while true do end", 0)
            yield
        finally:
            wait_until(lambda: _is_script_over(control), "did not end its script")


def _is_script_over(control: Control) -> bool:
    try:
        control.command("SCRIPT", "KILL")
    except ServerReplyError as error:
        return error.code == "NOTBUSY"
    return False  # it has been told to end; asked again, it says when it has


@contextmanager
def _paused(control: Control) -> Iterator[None]:
    # A paused server takes no command any more, not even the one that ends the pause, except from its replicas. So one
    # registers before, and the transfer that it has asked for is put off until it is gone.
    port, password = control.server.port, control.password
    with (
        configured(control, {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": 3_600}),
        _Replica(port, timeout=COMMAND_TIMEOUT, password=password) as replica,
    ):
        wait_until(lambda: control.info("connected_slaves") == "0", "did not lose its replica")
        # Who cannot take the transfer over the connection gets it by way of the disk, and at once.
        replica.command("REPLCONF", "capa", "eof")
        replica.send(b"SYNC")
        wait_until(lambda: control.info("connected_slaves") == "1", "did not take a replica")
        try:
            control.command("CLIENT", "PAUSE", _PAUSE_MS, "ALL")
            yield
        finally:
            replica.send(b"CLIENT UNPAUSE")


class _Replica(RespConnection):
    def send(self, command: bytes) -> None:
        """Send a command; what a replica is answered tells it nothing."""
        self._socket.sendall(command + b"\r\n")


@contextmanager
def _writes_paused(control: Control) -> Iterator[None]:
    try:
        control.command("CLIENT", "PAUSE", _PAUSE_MS, "WRITE")
        yield
    finally:
        control.command("CLIENT", "UNPAUSE")


def _hang_up(control: Control) -> None:
    control.command("CLIENT", "KILL", "TYPE", "normal")  # all but the one who asks


_WAYS: Final[Mapping[ServerState, Callable[[Control], AbstractContextManager[None]]]] = {
    ServerState.OOM: _out_of_memory,
    ServerState.READONLY: _replica,
    ServerState.MASTERDOWN: _replica_that_serves_nothing,
    ServerState.NOREPLICAS: _without_replicas,
    ServerState.MISCONF: _cannot_save,
    ServerState.MAXCLIENTS: _too_many_clients,
    ServerState.NOAUTH: _password_required,
    ServerState.WRONGPASS: _another_password,
    ServerState.NOPERM: _without_permissions,
    ServerState.BUSY: _busy,
    ServerState.LOADING: loading,
    ServerState.CLUSTERDOWN: cluster_without_slots,
    ServerState.PAUSED: _paused,
    ServerState.WRITES_PAUSED: _writes_paused,
}
