"""A server of the user's own: nothing is broken there, and nothing of anybody else's is touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from remanence.errors import ConfigurationError
from remanence.lab import RedisServer
from remanence.lab.errors import LabError, ServerReplyError
from remanence.lab.ports import choose_port
from remanence.testing import ManualClock, RedisForTests
from remanence.testing.own_server import ChaosRefusedError, OwnServer, OwnServerError
from remanence.testing.urls import SecretUrl

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]

PASSWORD = "hunter2@/?"  # noqa: S105 - of a server of this module, and hard to hide on purpose
PREFIX = "remanence-test-0123456789abcdef"


@pytest.fixture(scope="module")
def theirs() -> Iterator[RedisServer]:
    """Somebody's server, with a password."""
    with RedisServer(durability="off", config={"requirepass": PASSWORD}) as server:
        yield server


@pytest.fixture
def database(theirs: RedisServer) -> Iterator[RedisServer]:
    """The same, holding somebody's data that must be there afterwards."""
    theirs.command("FLUSHALL")
    for key in ("theirs", "memory:WORKING_MEMORY:c1", "remanence-test-of-theirs", "remanence-conflict:x"):
        theirs.command("SET", key, "1")
    theirs.command("SET", "expiring", "1", "EX", 100)
    yield theirs
    assert sorted(str(key) for key in theirs.command("KEYS", "*") or ()) == sorted(  # type: ignore[union-attr]
        ["expiring", "memory:WORKING_MEMORY:c1", "remanence-conflict:x", "remanence-test-of-theirs", "theirs"]
    )
    assert int(str(theirs.command("TTL", "expiring"))) > 0


@pytest.fixture
def own(database: RedisServer) -> Iterator[OwnServer]:
    """That server as one test may use it."""
    own = OwnServer(database.url, key_prefix=PREFIX)
    yield own
    own.remove_keys()
    own.close()


def test_only_the_keys_of_the_test_are_removed(nested: Nested, database: RedisServer) -> None:
    """After the tests of a run nothing of theirs is left, conflict copies included, and everything else is there."""
    result = nested.run(
        """
        import asyncio, pathlib

        MEMORY = {"conversation_id": "c1", "working_memory": "Likes Python."}

        def test_memory(remanence_redis, remanence_manager, remanence_resilient):
            assert not remanence_redis.is_private
            assert remanence_resilient.store(MEMORY).outcome == "committed"
            assert remanence_manager.retrieve(MEMORY)

        def test_async(remanence_async_resilient):
            assert asyncio.run(remanence_async_resilient.store(MEMORY)).outcome == "committed"

        def test_conflict(remanence_redis, remanence_manager, remanence_resilient, remanence_faults):
            remanence_resilient.store(MEMORY)
            remanence_faults.refuse()
            remanence_faults.reset()
            assert remanence_resilient.store({**MEMORY, "working_memory": "blind"}).outcome == "journaled"
            remanence_redis.command("SET", f"{remanence_redis.key_prefix}:WORKING_MEMORY:c1",
                '{"data": {"working_memory": "somebody else"}, "metadata": {}, "created_at": "2026-01-01T00:00:00", '
                '"last_update": "2026-01-01T00:00:00"}')
            remanence_faults.heal()
            remanence_resilient.replay()
            copies = [copy.text for copy in remanence_resilient.conflicts()]
            assert len(copies) == 1
            pathlib.Path("copies").write_text(str(copies))

        def test_wider(remanence_redis_session, remanence_key_prefix):
            remanence_redis_session.command("SET", remanence_redis_session.key_prefix + ":mine", "1")
            assert remanence_key_prefix != remanence_redis_session.key_prefix
        """,
        f"--remanence-redis-url={database.url}",
    )
    assert result.parseoutcomes() == {"passed": 4}
    assert (nested.path / "copies").exists()


HARMFUL = ["kill", "freeze", "thaw", "stop", "start", "restart", "enter", "state", "leave", "disconnect_clients", "pid",
           "recover", "reset"]  # fmt: skip


@pytest.mark.parametrize("name", HARMFUL)
def test_chaos_is_refused(own: OwnServer, name: str) -> None:
    """Whatever breaks or empties a private server is refused, with what to do instead."""
    assert hasattr(RedisForTests, name)
    with pytest.raises(ChaosRefusedError, match=f"{name} of remanence_redis was refused and nothing was done") as error:
        getattr(own, name)
    assert "remanence_redis_factory" in str(error.value)
    assert isinstance(error.value, LabError)


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("SHUTDOWN", "NOSAVE"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("DEL", "theirs"),
        ("MSET", f"{PREFIX}:a", "1", "theirs", "2"),
        ("RENAME", f"{PREFIX}:a", "theirs"),
        ("EVAL", "redis.call('FLUSHALL')", 0),
        ("EVAL", "return redis.call('FLUSHALL')", 1, f"{PREFIX}:a"),
        ("eval", "return redis.call('FLUSHALL')", 1, f"{PREFIX}:a"),
        ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 1, f"{PREFIX}:a"),
        ("EVAL_RO", "return redis.call('GET', 'theirs')", 1, f"{PREFIX}:a"),
        ("FCALL", "f", 1, f"{PREFIX}:a"),
        ("MOVE", f"{PREFIX}:a", 5),
        ("COPY", f"{PREFIX}:a", f"{PREFIX}:b", "DB", 5),
        ("MIGRATE", "127.0.0.1", 1, f"{PREFIX}:a", 0, 10),
        ("RESTORE", f"{PREFIX}:b", 0, "x"),
        ("SORT", f"{PREFIX}:a", "BY", "nosort", "GET", "theirs"),
        ("SET  ", f"{PREFIX}:a", "2"),
        ("SCRIPT", "FLUSH"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("SWAPDB", 0, 1),
        ("KEYS", "*"),
        ("no such command",),
    ],
    ids=lambda command: " ".join(str(part) for part in command[:3]),
)
def test_commands_beyond_the_keys_of_the_test_are_not_sent(own: OwnServer, command: tuple[str, ...]) -> None:
    """A command that could touch what is not the test's is refused before it is sent."""
    own.command("SET", f"{PREFIX}:a", "1")
    with pytest.raises(ChaosRefusedError, match="beyond the keys of this test"):
        own.command(*command)
    assert own.command("GET", f"{PREFIX}:a") == "1"


def test_commands_on_its_own_keys_are_sent(own: OwnServer) -> None:
    """A test may look at its keys and write them, with replies as the private server gives them."""
    assert own.command("SET", f"{PREFIX}:a", "1", "EX", 100) == "OK"
    assert own.command("GET", f"{PREFIX}:a") == "1"
    assert own.command("EXPIRE", f"{PREFIX}:a", 50) == 1
    assert own.command("mset", f"{PREFIX}:b", "2", f"remanence-conflict-{PREFIX}:a", "3") == "OK"
    assert own.command("RENAME", f"{PREFIX}:b", f"{PREFIX}:c") == "OK"
    assert own.command("HSET", f"{PREFIX}:h", "field", "1") == 1
    assert own.command("PING") == "PONG"
    assert isinstance(own.command("INFO", "server"), str)
    with pytest.raises(ServerReplyError, match="WRONGTYPE"):
        own.command("LPUSH", f"{PREFIX}:a", "1")


NAMED = "ConfigurationError: the key prefix {} was refused and nothing was done"


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "app",
        "memory",
        "*",
        "remanence-test",
        "remanence-test-",
        "remanence-test-012345",
        f"x{PREFIX}",
        PREFIX.upper(),
    ],
)
def test_a_prefix_that_others_may_have_is_refused(nested: Nested, database: RedisServer, prefix: str) -> None:
    """Where a project overrides the fixture with a prefix of its own, no test is run, and no key of others removed."""
    database.command("SET", "application", "1")
    database.command("SET", "app:1", "1")
    result = nested.run(
        f"""
        import pytest

        @pytest.fixture
        def remanence_key_prefix(): return {prefix!r}

        def test_server(remanence_redis): remanence_redis.command("SET", {prefix!r} + "k", "1")
        def test_manager(remanence_manager): pass
        def test_async(remanence_async_resilient): pass
        """,
        f"--remanence-redis-url={database.url}",
    )
    assert database.command("DEL", "application", "app:1") == 2
    assert result.parseoutcomes() == {"errors": 3}
    assert str(result.stdout).count(NAMED.format(repr(prefix)) + ": this") >= 3
    assert "Traceback" not in str(result.stdout)


@pytest.mark.parametrize("prefix", ["", "app", None, b"x"])
def test_nothing_removes_by_such_a_prefix(theirs: RedisServer, prefix: str) -> None:
    """Also by hand there is no such object, neither for a test nor for a session; and a prefix is not changed later."""
    with pytest.raises(ConfigurationError, match="may belong to others"):
        OwnServer(theirs.url, key_prefix=prefix)
    with pytest.raises(ConfigurationError, match="may belong to others"):
        OwnServer(theirs.url, key_prefix=PREFIX, session_prefix=prefix or "")
    own = OwnServer(theirs.url, key_prefix=PREFIX)
    with pytest.raises(AttributeError):
        own.key_prefix = prefix  # type: ignore[misc]
    own.close()


def test_a_prefix_may_be_made_longer(nested: Nested, database: RedisServer) -> None:
    """A project that adds to the random prefix has its keys removed, also where what it adds looks like a pattern."""
    result = nested.run(
        r"""
        import pytest

        @pytest.fixture(params=["app", "[a]*?\\x^-"])
        def remanence_key_prefix(remanence_key_prefix, request): return remanence_key_prefix + request.param

        def test_it(remanence_redis, remanence_manager, remanence_key_prefix):
            remanence_manager.store({"conversation_id": "c1", "working_memory": "."})
            assert remanence_redis.command("EXISTS", remanence_key_prefix + ":WORKING_MEMORY:c1") == 1
        """,
        f"--remanence-redis-url={database.url}",
    )
    assert result.parseoutcomes() == {"passed": 2}


def test_no_prefix_but_its_own_is_removed_by(own: OwnServer) -> None:
    """Keys of the session stay when a test ends, whatever else is in their names."""
    session = PREFIX.replace("0", "f")
    test = OwnServer(own.url, key_prefix=PREFIX, session_prefix=session)
    names = [f"{session}:{PREFIX}", f"remanence-conflict-{session}:{PREFIX}"]
    for name in names:
        test.command("SET", name, "1")
    test.command("SET", f"{PREFIX}:a", "1")
    assert test.remove_keys() == 1
    assert test.command("DEL", *names) == 2
    test.close()


def test_data_of_a_wider_scope_stay_until_its_end(nested: Nested, database: RedisServer) -> None:
    """What a module puts there under the session's prefix each test finds as it was; then it is removed."""
    result = nested.run(
        """
        import pytest

        @pytest.fixture(scope="module")
        def seeded(remanence_redis_session):
            key = f"{remanence_redis_session.key_prefix}:WORKING_MEMORY:c1"
            with remanence_redis_session.keep_data():
                remanence_redis_session.command("SET", key, "{}", "EX", 100)
                yield key

        @pytest.mark.parametrize("n", range(2))
        def test_it_is_there(seeded, remanence_redis, n):
            assert remanence_redis.command("EXISTS", seeded) == 1
            remanence_redis.advance(1000)
            assert remanence_redis.command("EXISTS", seeded) == 1
        """,
        f"--remanence-redis-url={database.url}",
    )
    assert result.parseoutcomes() == {"passed": 2}


def test_advance_moves_its_own_keys_alone(own: OwnServer) -> None:
    """Keys of the test expire, those of others do not; the clock moves too."""
    own.clock = ManualClock(monotonic=0)
    own.command("SET", f"{PREFIX}:a", "1", "EX", 60)
    own.command("SET", f"remanence-conflict-{PREFIX}:a", "1", "EX", 600)
    own.advance(120)  # theirs has 100 s left: see the fixture's end
    assert own.command("EXISTS", f"{PREFIX}:a") == 0
    assert 400 < int(str(own.command("TTL", f"remanence-conflict-{PREFIX}:a"))) <= 480
    assert own.clock.monotonic() == 120


def test_the_password_is_shown_nowhere(nested: Nested, database: RedisServer) -> None:
    """A failing test, its locals and the values of its fixtures show no password; the server gets it all the same."""
    result = nested.run(
        """
        def test_it(
            remanence_redis, remanence_redis_url, remanence_faults, remanence_redis_session, _remanence_settings
        ):
            from remanence import RedisWorkingMemoryManager
            manager = RedisWorkingMemoryManager(remanence_redis_url, key_prefix=remanence_redis.key_prefix)
            assert manager.store({"conversation_id": "c1", "working_memory": "."})
            manager.close()
            assert not remanence_redis_url

        def test_direct(remanence_redis_url, remanence_async_manager):
            assert not [remanence_redis_url]

        def test_equal(remanence_redis_url): assert remanence_redis_url == "redis://localhost"
        def test_reversed(remanence_redis): assert "redis://localhost" == remanence_redis.url
        def test_unequal(remanence_redis_url): assert remanence_redis_url != remanence_redis_url
        def test_in(remanence_redis_url): assert "sentinel" in remanence_redis_url
        def test_not_in(remanence_redis_url): assert "127.0.0.1" not in remanence_redis_url
        def test_order(remanence_redis_url): assert remanence_redis_url < ""
        def test_starts(remanence_redis_url): assert remanence_redis_url.startswith("rediss")
        def test_list(remanence_redis): assert [remanence_redis.url] == ["x"]
        def test_dict(remanence_redis): assert {"u": remanence_redis.url} == {"u": "x"}
        """,
        "--showlocals",
        "-vv",
        f"--remanence-redis-url={database.url}",
    )
    assert result.parseoutcomes() == {"failed": 11}
    text = str(result.stdout) + str(result.stderr)
    assert f"'redis://…@127.0.0.1:{database.port}/0' == 'redis://localhost'" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:p@ss@host:1/2", "'redis://…@host:1/2'"),
        ("redis://host:1/2?password=secret", "'redis://host:1/2'"),
        ("unix://:pw@/run/redis.sock?db=1", "'unix://…@/run/redis.sock'"),
    ],
)
def test_urls_show_no_credentials(url: str, shown: str) -> None:
    """The repr leaves out who and what opens the door; the text is whole."""
    assert repr(SecretUrl(url)) == shown
    assert SecretUrl(url) == url


def test_option_then_ini_then_environment(
    nested: Nested, database: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option decides, without it the ini file, without that the environment."""
    text = "def test_it(remanence_redis): print('\\nON', remanence_redis.port, remanence_redis.is_private)"
    dead = "redis://127.0.0.1:1/0"
    theirs = f"ON {database.port} False"
    monkeypatch.setenv("REMANENCE_TEST_REDIS_URL", database.url)
    assert theirs in str(nested.run(text, "-s").stdout)
    nested.ini(f"remanence_redis_url = {database.url}\n")
    monkeypatch.setenv("REMANENCE_TEST_REDIS_URL", dead)
    assert theirs in str(nested.run(text, "-s").stdout)
    nested.ini(f"remanence_redis_url = {dead}\n")
    assert theirs in str(nested.run(text, "-s", f"--remanence-redis-url={database.url}").stdout)
    nested.ini("")
    monkeypatch.setenv("REMANENCE_TEST_REDIS_URL", "")
    assert " True" in str(nested.run(text, "-s").stdout)


def test_an_empty_one_switches_off_those_after_it(nested: Nested, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option or a line of the ini file that is there and empty means a private server, whatever comes after it."""
    text = "def test_it(remanence_redis): assert remanence_redis.is_private"
    dead = "redis://127.0.0.1:1/0"
    monkeypatch.setenv("REMANENCE_TEST_REDIS_URL", dead)
    assert nested.run(text).parseoutcomes() == {"errors": 1}
    assert nested.run(text, "--remanence-redis-url=").parseoutcomes() == {"passed": 1}
    nested.ini(f"remanence_redis_url = {dead}\n")
    assert nested.run(text, "--remanence-redis-url=").parseoutcomes() == {"passed": 1}
    assert nested.run(text, "-o", "remanence_redis_url=").parseoutcomes() == {"passed": 1}
    nested.ini("remanence_redis_url =\n")
    assert nested.run(text).parseoutcomes() == {"passed": 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: f"{url}x", "ConfigurationError: the Redis URL names a database that is not"),
        (lambda url: url.replace("redis://", "http://"), "ConfigurationError: the Redis URL does not begin with"),
        (lambda url: f"{url}?no_such_option=1", "ConfigurationError: the Redis URL has a wrong option."),
        (lambda _: f"redis://:hunter2@127.0.0.1:{choose_port()}/0", "OwnServerError: Your server at 127.0.0.1:"),
        (lambda url: f"redis://:hunter3@127.0.0.1:{urlsplit(url).port}/0", "OwnServerError: * refused the user or the"),
        (lambda _: "unix:///no/such/hunter2.sock", "OwnServerError: Your server at /no/such"),
    ],
    ids=["database", "scheme", "option", "dead", "password", "socket"],
)
def test_a_url_that_cannot_work_is_one_line(nested: Nested, theirs: RedisServer, change: object, says: str) -> None:
    """Each test that wanted the server errs with a named line without the password; others run."""
    assert callable(change)
    result = nested.run(
        """
        def test_one(remanence_redis): pass
        def test_two(remanence_resilient): pass
        def test_other(remanence_clock): pass
        """,
        f"--remanence-redis-url={change(theirs.url)}",
    )
    assert result.parseoutcomes() == {"errors": 2, "passed": 1}
    result.stdout.fnmatch_lines([f"{says}*"])
    text = str(result.stdout)
    assert "hunter" not in text.replace("hunter2.sock", "")
    assert "During handling" not in text
    assert "Traceback" not in text


def test_a_server_that_is_lost_meanwhile_is_named(nested: Nested) -> None:
    """Where the keys of a test cannot be removed any more, the test says so and which they are."""
    with RedisServer(durability="off") as server:
        result = nested.run(
            f"""
            import os, signal
            def test_it(remanence_manager):
                remanence_manager.store({{"conversation_id": "c1", "working_memory": "."}})
                os.kill({server.pid}, signal.SIGKILL)
            """,
            f"--remanence-redis-url={server.url}",
        )
    assert result.parseoutcomes() == {"passed": 1, "errors": 1}
    result.stdout.fnmatch_lines(["OwnServerError: Your server at * Keys with remanence-test-* may be left there."])


def test_a_proxy_cannot_stand_before_every_server(nested: Nested, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before a server on a Unix socket there is no proxy, and the test that wants one is told."""
    socket = tmp_path_factory.mktemp("s") / "redis.sock"
    with RedisServer(durability="off", config={"unixsocket": str(socket)}):
        result = nested.run(
            """
            def test_one(remanence_faults): pass
            def test_two(remanence_manager): remanence_manager.store({"conversation_id": "c", "working_memory": "."})
            """,
            f"--remanence-redis-url=unix://{socket}",
        )
    assert result.parseoutcomes() == {"errors": 1, "passed": 1}
    result.stdout.fnmatch_lines(["ValueError: The proxy takes redis:// URLs, not unix*"])


def test_private_servers_are_there_all_the_same(nested: Nested, theirs: RedisServer) -> None:
    """A test that has to break one takes it from the factory."""
    result = nested.run(
        "def test_it(remanence_redis_factory): remanence_redis_factory().kill()",
        f"--remanence-redis-url={theirs.url}",
    )
    assert result.parseoutcomes() == {"passed": 1}


def test_a_wrong_url_is_no_reason_to_quote_it() -> None:
    """Made by hand it raises the same named error."""
    with pytest.raises(ConfigurationError) as error:
        OwnServer("redis://:hunter2@host:port/0", key_prefix=PREFIX)
    assert "hunter2" not in str(error.value)
    with pytest.raises(OwnServerError, match="does not answer"):
        OwnServer(f"redis://127.0.0.1:{choose_port()}", key_prefix=PREFIX).check()
