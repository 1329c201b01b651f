"""The states of a real server: each holds as the table says, for every kind of client, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from remanence import RedisWorkingMemoryManager
from remanence.classify import classify
from remanence.lab import (
    STATES,
    Failure,
    RedisServer,
    ServerNotRunningError,
    ServerReplyError,
    ServerState,
    ServerStateError,
)
from remanence.lab.resp import RespConnection
from remanence.lab.state_entry import _WAYS
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remanence.lab.control import Control

EACH = pytest.mark.parametrize("state", list(ServerState))
INPUT = {"conversation_id": "c", "working_memory": "text"}
KEY = "memory:WORKING_MEMORY:c"


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    """A server that all states of this module are tried on, one after the other."""
    with RedisServer() as own:
        yield own


@pytest.fixture(scope="module")
def undurable() -> Iterator[RedisServer]:
    """One without an append-only file, which is quicker to restart."""
    with RedisServer(durability="off") as own:
        yield own


@pytest.fixture
def quick(undurable: RedisServer) -> RedisServer:
    """The quick server, holding one key."""
    undurable.command("FLUSHALL")
    undurable.command("SET", "kept", "é")
    return undurable


@pytest.fixture
def kept(shared: RedisServer) -> RedisServer:
    """The server, holding one key."""
    shared.command("FLUSHALL")
    shared.command("SET", "kept", "é")
    return shared


def patience(failure: Failure | None) -> float:
    """Return how many seconds to wait for an answer: only where none can come it is short."""
    return 0.05 if failure is not None and not failure.code else 5.0


def refusal(
    server: RedisServer, *command: str, expected: Failure | None = None, password: str | None = None
) -> str | None:
    """Return the code with which a new client is refused: "" for silence, None for not at all."""
    try:
        with RespConnection(server.port, timeout=patience(expected), password=password) as client:
            return refusal_of(client, *command)
    except ServerReplyError as error:
        return error.code
    except TimeoutError:
        return ""


def refusal_of(client: RespConnection, *command: str) -> str | None:
    """Return the code with which this client is refused."""
    try:
        client.command(*command)
    except ServerReplyError as error:
        return error.code
    except TimeoutError:
        return ""
    return None


def code(failure: Failure | None) -> str | None:
    """Return the failure's code, None without one."""
    return None if failure is None else failure.code


def settings(server: RedisServer) -> dict[str, str]:
    """Return all settings, and the default user's rules."""
    pairs: Any = server.command("CONFIG", "GET", "*")
    users: Any = server.command("ACL", "LIST")
    return {**dict(zip(pairs[::2], pairs[1::2], strict=True)), "users": "|".join(users)}


def files(server: RedisServer) -> set[str]:
    """Return what lies in the data directory, the append-only file's parts aside."""
    pair: Any = server.command("CONFIG", "GET", "dir")
    return {path.name for path in Path(pair[1]).iterdir()} - {"appendonlydir"}


# What a state does --------------------------------------------------------------------------------------------------


@EACH
def test_a_state_refuses_what_the_table_says(quick: RedisServer, state: ServerState) -> None:
    """A new client meets its codes for reads and plain writes; one from before too, or its connection is closed."""
    password = "any" if state is ServerState.WRONGPASS else None
    with RespConnection(quick.port, timeout=patience(STATES[state].writes)) as earlier:
        assert earlier.command("GET", "kept") == "é"
        with quick.state(state) as held:
            assert (held.state, held.facts) == (state, STATES[state])
            reads, writes = held.facts.reads, held.facts.writes
            assert refusal(quick, "GET", "kept", expected=reads, password=password) == code(reads)
            assert refusal(quick, "SETEX", "new", "9", "x", expected=writes, password=password) == code(writes)
            if held.facts.disconnects:
                with pytest.raises(ConnectionError):
                    earlier.command("SETEX", "new", 9, "x")
            else:
                assert refusal_of(earlier, "SETEX", "new", "9", "x") == code(held.facts.writes)


@EACH
def test_leaving_a_state_leaves_nothing_behind(kept: RedisServer, state: ServerState) -> None:
    """However the block ends: settings, users, data and files are those from before, and clients are served again."""
    before, pid = (settings(kept), files(kept)), kept.pid
    with pytest.raises(KeyError, match="body"), kept.state(state):
        raise KeyError("body")
    assert (settings(kept), files(kept)) == before
    assert (kept.pid == pid) is not STATES[state].restarts
    assert kept.command("KEYS", "*") == ["kept"]
    assert kept.command("GET", "kept") == "é"
    assert kept.command("SET", "new", "x") == "OK"


def failure_of(act: Callable[[], Any]) -> Exception | None:
    """Return what `act` raises, or gives for its only item; None when it succeeds."""
    try:
        result = act()
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        return error
    return result[0] if isinstance(result, list) and result and isinstance(result[0], Exception) else None


def assert_fails(act: Callable[[], Any], failure: Failure | None, what: str) -> None:
    """Check that redis-py raises exactly the table's class, and that `classify` says what it means."""
    error = failure_of(act)
    if failure is None:
        assert error is None, f"{what}: {type(error).__name__}"
    else:
        assert f"{type(error).__module__}.{type(error).__name__}" == failure.error, what
        assert error is not None
        assert classify(error) is failure.meaning, what


def url_for(server: RedisServer, state: ServerState) -> str:
    """Return the URL that brings a password where the state needs one; a server without one takes any."""
    return server.url.replace("redis://", "redis://:any@") if state is ServerState.WRONGPASS else server.url


@EACH
def test_the_bare_manager_raises_the_class_of_the_table(quick: RedisServer, state: ServerState) -> None:
    """Reads, plain writes, guarded writes and batches, over a new connection and over one that was open."""
    facts, url = STATES[state], url_for(quick, state)
    other = {**INPUT, "conversation_id": "other"}
    with (
        RedisWorkingMemoryManager(url, timeout=5.0) as connected,
        RedisWorkingMemoryManager(url, timeout=5.0) as new,
    ):
        connected.store(INPUT)
        connected.store(INPUT, if_version=connected.retrieve(INPUT).version)
        with quick.state(state):
            if facts.disconnects:
                failure_of(lambda: connected.retrieve(INPUT))  # may tell no more than that the connection is gone
            for manager in (connected, new):
                for name, act, failure in (
                    ("retrieve", manager.retrieve, facts.reads),
                    ("retrieve_many", lambda value, manager=manager: manager.retrieve_many([value]), facts.reads),
                    ("store", manager.store, facts.writes),
                    ("guarded", lambda value, manager=manager: manager.store(value, if_version=None), facts.scripts),
                    ("store_many", lambda value, manager=manager: manager.store_many([value]), facts.scripts),
                ):
                    manager.timeout = patience(failure)
                    assert_fails(lambda act=act: act(other), failure, name)  # type: ignore[misc]


@EACH
def test_asyncio_raises_the_class_of_the_table(quick: RedisServer, state: ServerState) -> None:
    """redis-py's asynchronous client raises what its synchronous one does."""
    facts = STATES[state]

    async def scenario() -> list[Any]:
        # A client for each command: one that was refused may leave its connection unusable.
        results: list[Any] = []
        for command, failure in ((("GET", KEY), facts.reads), (("SETEX", KEY, 9, "x"), facts.writes)):
            client: Any = redis.asyncio.Redis.from_url(url_for(quick, state), socket_timeout=patience(failure))
            results += await asyncio.gather(client.execute_command(*command), return_exceptions=True)
            await client.aclose()
        return results

    with quick.state(state):
        read, write = asyncio.run(scenario())
    for result, failure in ((read, facts.reads), (write, facts.writes)):
        if failure is None:
            assert not isinstance(result, Exception)
        else:
            assert f"{type(result).__module__}.{type(result).__name__}" == failure.error
            assert classify(result) is failure.meaning


@pytest.mark.parametrize("state", [ServerState.PAUSED, ServerState.WRITES_PAUSED])
def test_a_pause_holds_commands_back_for_those_who_wait_and_drops_them_of_those_who_left(
    kept: RedisServer, state: ServerState
) -> None:
    """Whoever waits is answered when it ends; a command whose client has hung up is never carried out."""
    answers: list[Any] = []

    def patient() -> None:
        with RespConnection(kept.port, timeout=10) as client:
            answers.append(client.command("SET", "patient", "x"))

    waiting = threading.Thread(target=patient)
    with kept.state(state):
        with RespConnection(kept.port, timeout=0.1) as hasty, suppress(TimeoutError):
            hasty.command("SET", "hasty", "x")
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        assert answers == []
    waiting.join(10)
    assert answers == ["OK"]
    assert kept.command("EXISTS", "hasty") == 0


def test_a_command_of_the_lab_that_is_not_answered_does_no_harm(
    kept: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It times out; the server is then healed as it is, without a restart."""
    monkeypatch.setattr("remanence.lab.control.COMMAND_TIMEOUT", 0.05)
    pid = kept.pid
    with kept.state(ServerState.PAUSED) as held:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                held.command("PING")
    assert kept.pid == pid
    assert kept.command("GET", "kept") == "é"


def test_loading_goes_on_until_it_is_left(kept: RedisServer) -> None:
    """It is no race: the state is still there when much has been done in it."""
    with kept.state(ServerState.LOADING) as held:
        for _ in range(50):
            assert refusal(kept, "GET", "kept") == "LOADING"
        assert "loading:1" in str(held.command("INFO", "persistence"))


@pytest.mark.parametrize("state", [ServerState.LOADING, ServerState.CLUSTERDOWN, ServerState.MISCONF])
def test_a_server_without_durability_keeps_its_data_in_a_state(state: ServerState) -> None:
    """Where the state needs a restart or the disk; and nothing of that comes back at its next restart."""
    with RedisServer(durability="off") as server:
        server.command("SET", "kept", "x")
        with server.state(state):
            pass
        assert server.command("KEYS", "*") == ["kept"]
        assert files(server) == set()
        server.restart()
        assert server.command("KEYS", "*") == []


def test_states_of_a_server_with_a_password() -> None:
    """The lab brings it, and the clients have it in their URL; it is the same again afterwards."""
    with RedisServer(config={"requirepass": "secret"}) as server:
        for state in ServerState:
            if state is ServerState.NOAUTH:
                continue
            with server.state(state) as held:
                reads = held.facts.reads
                assert refusal(server, "GET", "k", expected=reads, password="secret") == code(reads), state  # noqa: S106
            assert refusal(server, "GET", "k", password="secret") is None, state  # noqa: S106
            assert refusal(server, "GET", "k") == "NOAUTH", state
        with pytest.raises(ServerStateError, match="WRONGPASS"):
            server.enter(ServerState.NOAUTH)
        assert refusal(server, "GET", "k", password="secret") is None  # noqa: S106


def test_oom_evicts_nothing(kept: RedisServer) -> None:
    """Also on a server that evicts: the state refuses writes, it does not throw memories away."""
    kept.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with kept.state(ServerState.OOM):
            assert refusal(kept, "SET", "new", "x") == "OOM"
        assert kept.command("CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "allkeys-lru"]
        assert kept.command("GET", "kept") == "é"
    finally:
        kept.command("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_clients_are_disconnected_at_once(kept: RedisServer) -> None:
    """All of them, and how many they were is told; new connections are taken."""
    with RespConnection(kept.port, timeout=5) as one, RespConnection(kept.port, timeout=5) as other:
        for client in (one, other):
            client.command("PING")
        assert kept.disconnect_clients() == 2
        for client in (one, other):
            with pytest.raises(ConnectionError):
                client.command("PING")
    assert kept.command("PING") == "PONG"


# Entering and leaving -----------------------------------------------------------------------------------------------


def test_one_state_at_a_time(kept: RedisServer) -> None:
    """Entering again, the same or another, is refused by name, and the first one stays."""
    with kept.state("oom"):
        for other in ("oom", "readonly"):
            with pytest.raises(ServerStateError, match=r"state OOM .* before entering"):
                kept.enter(other)
            assert refusal(kept, "SET", "new", "x") == "OOM"
    with kept.state("readonly"):
        assert refusal(kept, "SET", "new", "x") == "READONLY"


def test_a_name_that_is_no_state(kept: RedisServer) -> None:
    """It is refused before anything is done."""
    with pytest.raises(ValueError, match="on_fire"):
        kept.enter("on_fire")
    assert kept.command("SET", "new", "x") == "OK"


def test_leaving_without_a_state_does_nothing(kept: RedisServer) -> None:
    """Neither before, nor twice, nor inside the block."""
    kept.leave()
    with kept.state("oom"):
        kept.leave()
        kept.leave()
        assert kept.command("SET", "new", "x") == "OK"
    kept.enter("oom")
    kept.leave()
    assert kept.command("SET", "new", "x") == "OK"


def test_a_server_that_is_down_enters_no_state(private_server: RedisServer) -> None:
    """It says so, and can be started."""
    private_server.kill()
    with pytest.raises(ServerNotRunningError):
        private_server.enter("oom")
    assert private_server.start().command("SET", "new", "x") == "OK"


def test_a_state_that_cannot_be_entered_is_undone(private_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed on the way is changed back, and another state can be entered."""
    monkeypatch.setattr("remanence.lab.control.WAIT", 0.2)
    before = settings(private_server)
    # A save that takes long is in the way of the one that has to fail.
    private_server.command("CONFIG", "SET", "rdb-key-save-delay", 600_000)
    private_server.command("SET", "kept", "x")
    private_server.command("BGSAVE")
    private_server.command("CONFIG", "SET", "rdb-key-save-delay", 0)
    with pytest.raises(ServerStateError, match="data is kept"):
        private_server.enter("misconf")
    assert settings(private_server) == before
    with private_server.state("readonly"):
        assert refusal(private_server, "SET", "new", "x") == "READONLY"
    assert private_server.command("GET", "kept") == "x"


@pytest.mark.parametrize(
    "state", [ServerState.OOM, ServerState.MISCONF, ServerState.LOADING, ServerState.CLUSTERDOWN, ServerState.PAUSED]
)
def test_a_server_that_is_killed_in_a_state_comes_up_healthy(kept: RedisServer, state: ServerState) -> None:
    """Leaving brings it back, with its data."""
    with kept.state(state):
        kept.kill()
    assert kept.command("GET", "kept") == "é"
    assert kept.command("SET", "new", "x") == "OK"
    kept.restart()
    assert kept.command("GET", "kept") == "é"


@pytest.mark.parametrize("hurt", ["freeze", "restart", "disconnect_clients"])
@pytest.mark.parametrize("state", [ServerState.OOM, ServerState.WRITES_PAUSED, ServerState.CLUSTERDOWN])
def test_what_else_is_done_to_a_server_in_a_state_does_not_keep_it_from_healing(
    kept: RedisServer, state: ServerState, hurt: str
) -> None:
    """Frozen, restarted, or with the lab's own connection cut off."""
    with kept.state(state):
        getattr(kept, hurt)()
    assert kept.command("GET", "kept") == "é"
    assert kept.command("SET", "new", "x") == "OK"


def test_a_frozen_server_is_thawed_and_not_restarted(kept: RedisServer) -> None:
    """Leaving a state of a frozen server keeps its process."""
    pid = kept.pid
    with kept.state("oom"):
        kept.freeze()
    assert kept.pid == pid


def test_a_state_counts_as_entered_only_when_a_client_sees_it(
    kept: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where clients meet something else than the table says, entering fails and the server is as before."""
    monkeypatch.setattr("remanence.lab.control.WAIT", 0.1)
    monkeypatch.setattr("remanence.lab.stateful.STATES", {ServerState.OOM: STATES[ServerState.READONLY]})
    before = settings(kept)
    with pytest.raises(ServerStateError, match="did not get into the state OOM"):
        kept.enter("oom")
    assert settings(kept) == before
    assert kept.command("SET", "new", "x") == "OK"


def test_a_server_that_does_not_recover_is_restarted(kept: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving is over when a client can write, whatever it takes."""

    @contextmanager
    def no_way_back(control: Control) -> Iterator[None]:
        control.command("CONFIG", "SET", "maxmemory", 1)
        yield

    monkeypatch.setattr("remanence.lab.control.WAIT", 0.1)
    monkeypatch.setitem(_WAYS, ServerState.OOM, no_way_back)
    pid = kept.pid
    with kept.state("oom"):
        monkeypatch.setattr("remanence.lab.control.WAIT", 0.3)
    assert kept.pid != pid
    assert kept.command("GET", "kept") == "é"
    assert kept.command("SET", "new", "x") == "OK"


def test_a_server_that_could_not_save_can_save_again(kept: RedisServer) -> None:
    """After MISCONF it does not refuse writes as soon as somebody sets save points."""
    with kept.state("misconf"):
        pass
    kept.command("CONFIG", "SET", "save", "3600 1")
    try:
        assert kept.command("SET", "new", "x") == "OK"
    finally:
        kept.command("CONFIG", "SET", "save", "")


def test_settings_given_to_a_restart_last_until_the_next_start(private_server: RedisServer) -> None:
    """They are not the constructor's; what the class sets itself is refused there too."""
    private_server.restart(config={"maxmemory": "10mb"})
    assert private_server.command("CONFIG", "GET", "maxmemory") == ["maxmemory", str(10 * 1024 * 1024)]
    private_server.kill()
    private_server.start()
    assert private_server.command("CONFIG", "GET", "maxmemory") == ["maxmemory", "0"]
    with pytest.raises(ValueError, match="port"):
        private_server.restart(config={"port": "1"})
    assert private_server.running


def test_a_frozen_server_in_a_state_is_closed_at_once() -> None:
    """Nobody waits for its answers."""
    server = RedisServer().start()
    server.enter("misconf")
    server.freeze()
    begun = time.monotonic()
    server.close()
    assert time.monotonic() - begun < 2.0  # one unanswered command would take 5 s
    assert not server.running


@pytest.mark.parametrize("state", [ServerState.OOM, ServerState.MAXCLIENTS, ServerState.BUSY, ServerState.PAUSED])
def test_a_server_can_be_closed_in_a_state(state: ServerState) -> None:
    """Nothing is left of it, neither a process nor an open connection."""
    server = RedisServer().start()
    server.enter(state)
    pid = server.pid
    server.close()
    assert not server.running
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or not server.running, "it is gone")
    server.leave()
