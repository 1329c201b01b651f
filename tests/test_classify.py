"""What a failure means: the errors of real servers in the states that servers get into, and of the library itself."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from remanence import RedisWorkingMemoryManager, errors
from remanence.classify import ErrorClass, classify, is_outage, is_transient, refuses_writes
from remanence.lab import RedisServer, ServerReplyError
from remanence.lab.ports import choose_port
from remanence.operations import ANY_VERSION, store_call
from tests.support import threads, wait_until

TEXT = {"conversation_id": "c", "working_memory": "text"}

TRANSIENT = ErrorClass.TRANSIENT
WRITES_REFUSED = ErrorClass.WRITES_REFUSED
CONFIGURATION = ErrorClass.CONFIGURATION
UNAVAILABLE = ErrorClass.UNAVAILABLE
CALLER = ErrorClass.CALLER

WRITES: dict[str, Callable[[RedisWorkingMemoryManager], Any]] = {
    "store": lambda manager: manager.store(TEXT),
    "guarded store": lambda manager: manager.store(TEXT, if_version=None),
    "store_many": lambda manager: manager.store_many([TEXT])[0],
}
READS: dict[str, Callable[[RedisWorkingMemoryManager], Any]] = {
    "retrieve": lambda manager: manager.retrieve(TEXT),
    "retrieve_many": lambda manager: manager.retrieve_many([TEXT])[0],
}


def failure(act: Callable[[], Any]) -> BaseException:
    """Return what `act` raises, or gives for its only item."""
    try:
        result = act()
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        return error
    assert isinstance(result, Exception), "it succeeded"
    return result


@contextmanager
def managed(server: RedisServer, **options: Any) -> Iterator[RedisWorkingMemoryManager]:
    """Give a patient manager of the server."""
    with RedisWorkingMemoryManager(server.url, timeout=5.0, **options) as manager:
        yield manager


def assert_class(manager: RedisWorkingMemoryManager, expected: ErrorClass, *, reads: bool) -> None:
    """Check what each write, and each read where they fail too, means."""
    for name, act in {**WRITES, **(READS if reads else {})}.items():
        error = failure(lambda act=act: act(manager))  # type: ignore[misc]
        assert classify(error) is expected, f"{name}: {type(error).__name__}"
    if not reads:
        for act in READS.values():
            assert act(manager) == []


@pytest.mark.parametrize(
    ("state", "expected", "reads"),
    [
        ([("CONFIG", "SET", "maxmemory", "1")], WRITES_REFUSED, False),
        ([("REPLICAOF", "127.0.0.1", "1")], WRITES_REFUSED, False),
        ([("CONFIG", "SET", "min-replicas-to-write", "1")], WRITES_REFUSED, False),
        ([("CONFIG", "SET", "requirepass", "secret")], CONFIGURATION, True),
        ([("ACL", "SETUSER", "default", "-@all", "+hello", "+client", "+select", "+info")], CONFIGURATION, True),
        ([("ACL", "SETUSER", "default", "resetkeys", "~other:*")], CONFIGURATION, True),
        (
            [("ACL", "SETUSER", "default", "-@all", "+@connection", "+get", "+eval", "+evalsha", "+time", "+info")],
            CONFIGURATION,
            False,
        ),
    ],
    ids=["OOM", "READONLY", "NOREPLICAS", "NOAUTH", "NOPERM", "NOPERM for the key", "NOPERM inside"],
)
def test_the_state_of_a_server(
    private_server: RedisServer,
    state: list[tuple[str, ...]],
    expected: ErrorClass,
    reads: bool,  # noqa: FBT001
) -> None:
    """A real server in that state: what it answers means the same for a plain, a guarded and a pipelined write."""
    for command in state:
        private_server.command(*command)
    with managed(private_server) as manager:
        assert_class(manager, expected, reads=reads)


def test_a_replica_without_its_master(private_server: RedisServer) -> None:
    """MASTERDOWN: reads may work later, writes are refused as by any replica."""
    private_server.command("CONFIG", "SET", "replica-serve-stale-data", "no")
    private_server.command("REPLICAOF", "127.0.0.1", "1")
    with managed(private_server) as manager:
        for read in READS.values():
            assert classify(failure(lambda read=read: read(manager))) is TRANSIENT  # type: ignore[misc]
        for write in WRITES.values():
            error = failure(lambda write=write: write(manager))  # type: ignore[misc]
            assert classify(error) in {TRANSIENT, WRITES_REFUSED}


def test_a_server_that_cannot_save(tmp_path: Path) -> None:
    """MISCONF: it refuses writes and answers reads."""
    with RedisServer(durability="off", directory=tmp_path) as server, managed(server) as manager:
        server.command("CONFIG", "SET", "save", "3600 1")
        server.command("SET", "any", "thing")
        shutil.rmtree(tmp_path / "data")  # where it would save
        server.command("BGSAVE")
        wait_until(lambda: _info(manager)["rdb_last_bgsave_status"] == "err", "the save has failed")
        assert_class(manager, WRITES_REFUSED, reads=False)


def _info(manager: RedisWorkingMemoryManager) -> dict[str, Any]:
    found: dict[str, Any] = manager.redis_client.info("persistence")
    return found


def test_a_wrong_password() -> None:
    """WRONGPASS, at the handshake."""
    with RedisServer(config={"requirepass": "secret"}) as server:
        with RedisWorkingMemoryManager(server.url.replace("secret", "wrong"), timeout=5.0) as manager:
            assert_class(manager, CONFIGURATION, reads=True)
        with managed(server) as manager:
            assert manager.store(TEXT).outcome == "committed"


def test_a_server_busy_with_a_script(private_server: RedisServer) -> None:
    """BUSY passes: it is transient."""
    private_server.command("CONFIG", "SET", "busy-reply-threshold", "1")
    with managed(private_server) as manager, threads(1, lambda _: _loop(private_server)):
        wait_until(lambda: _is_busy(private_server), "the script is running")
        try:
            assert_class(manager, TRANSIENT, reads=True)
        finally:
            private_server.command("SCRIPT", "KILL")


def _loop(server: RedisServer) -> None:
    with suppress(ServerReplyError):  # it is killed
        server.command("EVAL", "while true do end", 0)


def _is_busy(server: RedisServer) -> bool:
    try:
        server.command("GET", "x")
    except ServerReplyError as error:
        return "BUSY" in str(error)
    return False


def test_a_server_that_is_loading() -> None:
    """LOADING passes, and a write that it refused is settled: a retry need not wait."""
    with RedisServer(
        durability="off", config={"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
    ) as server:
        server.command("EVAL", "for i = 1, 3000 do redis.call('SET', 'k' .. i, string.rep('x', 100)) end", 0)
        server.command("SAVE")
        server.kill()
        server.start(wait=False)
        with managed(server) as manager:
            wait_until(lambda: _is_loading(manager), "it is loading")
            assert_class(manager, TRANSIENT, reads=True)
            call = store_call(manager, TEXT, ANY_VERSION)
            error = failure(lambda: manager.perform(call))
            assert isinstance(error, redis.BusyLoadingError)
            assert call.unsettled_until == 0.0


def _is_loading(manager: RedisWorkingMemoryManager) -> bool:
    try:
        return bool(_info(manager)["loading"])
    except redis.ConnectionError:
        return False


def test_a_server_with_too_many_clients(private_server: RedisServer) -> None:
    """The limit of clients is reached now and not for ever: transient."""
    private_server.command("CONFIG", "SET", "maxclients", "1")
    with (
        socket.create_connection(("127.0.0.1", private_server.port), timeout=5) as only,
        managed(private_server) as manager,
    ):
        only.sendall(b"PING\r\n")
        assert only.recv(100)
        assert_class(manager, TRANSIENT, reads=True)


def test_nobody_there_and_nobody_answering(private_server: RedisServer) -> None:
    """Refused and timed out are transient."""
    with RedisWorkingMemoryManager(f"redis://127.0.0.1:{choose_port()}/0") as manager:
        assert_class(manager, TRANSIENT, reads=True)
    private_server.freeze()
    with RedisWorkingMemoryManager(private_server.url, timeout=0.05) as manager:
        assert_class(manager, TRANSIENT, reads=True)


@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_an_exhausted_pool(redis_url: str, kind: Any) -> None:
    """Our own pool is at its limit: the fallback takes over, and repeating would only add to the crowd."""
    options = {"timeout": 0.01} if kind is redis.BlockingConnectionPool else {}
    pool = kind.from_url(redis_url, max_connections=1, **options)
    held = pool.get_connection()
    assert_class(RedisWorkingMemoryManager(client=redis.Redis(connection_pool=pool)), UNAVAILABLE, reads=True)
    pool.release(held)
    pool.disconnect()


def test_a_value_of_another_type(redis_url: str) -> None:
    """WRONGTYPE is the caller's: whatever is stored there is somebody's."""
    with RedisWorkingMemoryManager(redis_url, timeout=5.0) as manager:
        manager.redis_client.rpush("memory:WORKING_MEMORY:c", "x")
        for act in (WRITES["guarded store"], *READS.values()):
            assert classify(failure(lambda act=act: act(manager))) is CALLER  # type: ignore[misc]


def test_a_cluster_without_slots() -> None:
    """CLUSTERDOWN is transient."""
    with RedisServer(config={"cluster-enabled": "yes"}) as server, managed(server) as manager:
        assert_class(manager, TRANSIENT, reads=True)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.AttemptTimeoutError(), TRANSIENT),
        (errors.LateWriteError(), TRANSIENT),
        (errors.CircuitOpenError("x", 1.0), UNAVAILABLE),
        (errors.DeadlineExceededError(1.0), UNAVAILABLE),
        (errors.MemoryUnavailableError(), CALLER),
        (errors.InvalidInputError("m"), CALLER),
        (errors.MemoryTooLargeError(2, 1), CALLER),
        (errors.VersionConflictError(), CALLER),
        (errors.CorruptRecordError("d", b""), CALLER),
        (errors.JournalFullError("m"), CALLER),
        (errors.ConfigurationError("m"), CALLER),
        (errors.ManagerClosedError(), CALLER),
        (ConnectionResetError(), TRANSIENT),
        (TimeoutError(), TRANSIENT),
        (OSError(), TRANSIENT),
        (KeyError("BUSY "), CALLER),
        (ValueError("OOM "), CALLER),
        (KeyboardInterrupt(), CALLER),
        (redis.ResponseError("BUSYKEY Target key name already exists"), CALLER),
        (redis.ResponseError("ERR unknown command"), CALLER),
        (redis.ResponseError(), CALLER),
        (redis.ResponseError("TRYAGAIN Multiple keys request during rehashing of slot"), TRANSIENT),
        (redis.ResponseError("UNBLOCKED force unblock"), TRANSIENT),
        (redis.ResponseError("MISCONF Errors writing to the AOF file"), WRITES_REFUSED),
        (redis.ResponseError("ERR Error running script: @user_script:9: -READONLY You can't write"), WRITES_REFUSED),
        (redis.DataError("x"), CALLER),
        (redis.exceptions.InvalidResponse("x"), TRANSIENT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.name,
)
def test_each_error_has_its_class(error: BaseException, expected: ErrorClass) -> None:
    """Ours by kind, redis-py's by class and by the server's prefix, anyone's else is the caller's to see."""
    assert classify(error) is expected
    assert is_transient(error) == (expected is TRANSIENT)
    assert refuses_writes(error) == (expected is WRITES_REFUSED)
    assert is_outage(error) == (expected in {TRANSIENT, WRITES_REFUSED, UNAVAILABLE})


def test_a_class_of_ones_own_is_judged_by_its_kin() -> None:
    """Subclasses of redis-py's errors, as wrappers make them, mean what their parents mean."""

    class Wrapped(redis.ConnectionError):
        pass

    class Refused(redis.exceptions.ReadOnlyError):
        pass

    assert classify(Wrapped("x")) is TRANSIENT
    assert classify(Refused("x")) is WRITES_REFUSED
