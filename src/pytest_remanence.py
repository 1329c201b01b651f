"""The pytest plugin of Remanence: a real Redis to break, aimed faults, a clock and caught telemetry, as fixtures.

pytest loads this module in every run of every project in whose environment Remanence is installed. So it imports
nothing but pytest until a fixture is used, and stands outside the package, whose import costs more than pytest's. The
docstrings of fixtures are one paragraph each, because ``pytest --fixtures`` shows the first.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remanence import AsyncRedisWorkingMemoryManager, RedisWorkingMemoryManager
    from remanence.decorated import AsyncDecoratedManager, DecoratedManager
    from remanence.lab import FaultProxy
    from remanence.testing import CaughtTelemetry, ManualClock, RedisForTests
    from remanence.testing.choice import Settings

# pytest does so by itself for installed packages; this is for those that are developed in place.
if "remanence.testing" not in sys.modules:
    pytest.register_assert_rewrite("remanence.testing")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings; an option goes before the ini file, which goes before the environment.

    Each is None where it is not given; one that is given but empty switches off those after it.
    """
    group = parser.getgroup("remanence", "a real Redis for tests (remanence)")
    group.addoption(
        "--remanence-redis-url",
        metavar="URL",
        help="run on this Redis server of yours: under random key prefixes, never emptied, never broken; "
        "empty for a private server after all",
    )
    group.addoption(
        "--remanence-require-redis",
        action="store_true",
        default=None,
        help="fail, rather than skip, where no Redis or Valkey server can be had",
    )
    parser.addini(
        "remanence_redis_url",
        "as --remanence-redis-url; else the environment's REMANENCE_TEST_REDIS_URL",
        default=None,
    )
    parser.addini(
        "remanence_require_redis",
        "as --remanence-require-redis (true or false); else the environment's REMANENCE_TEST_REQUIRE_REDIS",
        default=None,
    )
    parser.addini(
        "remanence_redis_durability",
        "what a private server keeps when it is killed: off (default), everysec or always",
        default="off",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Show a URL of a fixture by its repr where an assertion compares it: pytest's diff of two texts has the password.

    Args:
        op: "==", "not in" and the like.
        left: What stands before it.
        right: What stands after it.
    """
    urls = sys.modules.get("remanence.testing.urls")  # where nobody has imported it there is no such URL
    if urls is None or not any(isinstance(side, urls.SecretUrl) for side in (left, right)):
        return None
    return [f"{left!r} {op} {right!r}", "(user, password and options of the URL are not shown)"]


@pytest.fixture(scope="session")
def _remanence_settings(pytestconfig: pytest.Config) -> Settings:
    from remanence.testing.choice import Settings

    def setting(name: str, variable: str) -> Any:
        given = (pytestconfig.getoption(name), pytestconfig.getini(name), os.environ.get(variable))
        return next((value for value in given if value is not None), "")

    return Settings.read(
        url=setting("remanence_redis_url", "REMANENCE_TEST_REDIS_URL"),
        require=setting("remanence_require_redis", "REMANENCE_TEST_REQUIRE_REDIS"),
        durability=pytestconfig.getini("remanence_redis_durability"),
    )


@pytest.fixture(scope="session")
def remanence_redis_session(_remanence_settings: Settings) -> Iterator[RedisForTests]:
    """The server of the whole run (of each xdist worker), as it is: for fixtures of session or module scope.
    Tests take `remanence_redis`, which is this server made healthy and empty first. Data that a wider scope puts there
    outlive that inside `with remanence_redis_session.keep_data():`. To have all tests run on a server of another kind,
    define a fixture of this name that yields a `remanence.testing.RedisForTests`.
    """
    from remanence.testing.choice import for_the_session

    with for_the_session(_remanence_settings) as server:
        yield server


@pytest.fixture
def remanence_key_prefix() -> str:
    """A key prefix that belongs to this test alone; on a server of your own only keys that begin so are removed.
    Who overrides it may add to its end; another one is refused there, because all keys that begin so would be removed.
    """
    from remanence.testing.prefixes import new_key_prefix

    return new_key_prefix()


@pytest.fixture
def remanence_clock() -> ManualClock:
    """A clock on which time passes only by `advance(seconds)` and by sleeping: monotonic, time, sleep, sleep_async.
    For managers in this process: `InMemoryManager(clock=remanence_clock)`. On a server use `remanence_redis.advance`.
    """
    from remanence.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def remanence_redis(
    _remanence_settings: Settings,
    remanence_redis_session: RedisForTests,
    remanence_key_prefix: str,
    remanence_clock: ManualClock,
) -> Iterator[RedisForTests]:
    """A private Redis server, running, healthy and empty, whatever the tests before have done to it.
    `kill()`, `freeze()`, `thaw()`, `stop()`, `start()`, `restart(keep_data=False)`, `state("oom")`,
    `disconnect_clients()`, `command("GET", key)`, `url`, `port`; `advance(seconds)` moves `remanence_clock` and lets
    keys expire that would have by then. With `--remanence-redis-url` it is your own server instead: what would break
    or empty it raises ChaosRefusedError, and `is_private` is False.
    """
    from remanence.testing.choice import for_one_test

    with for_one_test(_remanence_settings, remanence_redis_session, remanence_key_prefix, remanence_clock) as server:
        yield server


@pytest.fixture
def remanence_redis_factory(_remanence_settings: Settings) -> Iterator[Callable[..., RedisForTests]]:
    """Make further private servers, which end with the test: `factory(durability="always", config={...}, port=None)`.
    They are private also with `--remanence-redis-url`. Options: those of `remanence.testing.RedisForTests`.
    """
    from remanence.testing.choice import private_servers

    with private_servers(_remanence_settings) as make:
        yield make


@pytest.fixture
def remanence_faults(_remanence_settings: Settings, remanence_redis: RedisForTests) -> Iterator[FaultProxy]:
    """A proxy before the server that goes wrong on purpose, at one chosen command; without faults when the test begins.
    `drop_reply`, `hold`, `error`, `reset`, `refuse`, `blackhole`, `latency`, `truncate`, ..., aimed by `command=`,
    `key=` and `nth=`. In a test that asks for it, `remanence_redis_url` and the managers go through it.
    """
    from remanence.lab import FaultProxy
    from remanence.testing.outcomes import reported

    with reported():
        proxy = FaultProxy(remanence_redis.url)
    with proxy:
        yield proxy


@pytest.fixture
def remanence_redis_url(request: pytest.FixtureRequest, remanence_redis: RedisForTests) -> str:
    """The URL of the server; through the proxy in a test that asks for `remanence_faults`."""
    from remanence.testing.urls import SecretUrl

    if "remanence_faults" in request.fixturenames:
        return SecretUrl(request.getfixturevalue("remanence_faults").url)
    return SecretUrl(remanence_redis.url)


@pytest.fixture
def remanence_manager(remanence_redis_url: str, remanence_key_prefix: str) -> Iterator[RedisWorkingMemoryManager]:
    """A bare RedisWorkingMemoryManager on the server, under a key prefix of this test's own."""
    from remanence import RedisWorkingMemoryManager

    with RedisWorkingMemoryManager(remanence_redis_url, key_prefix=remanence_key_prefix) as manager:
        yield manager


@pytest.fixture
def remanence_resilient(
    request: pytest.FixtureRequest, remanence_redis: RedisForTests, remanence_manager: RedisWorkingMemoryManager
) -> Iterator[DecoratedManager]:
    """The recommended stack, `resilient(remanence_manager)`; closed without waiting for what is still pending."""
    from remanence import resilient
    from remanence.testing.closing import close

    unblock = [remanence_redis.recover] if remanence_redis.is_private else []
    if "remanence_faults" in request.fixturenames:
        unblock.insert(0, request.getfixturevalue("remanence_faults").close)
    manager = resilient(remanence_manager)
    yield manager
    close(manager, *unblock)


@pytest.fixture
def remanence_async_manager(
    remanence_redis_url: str, remanence_key_prefix: str
) -> Iterator[AsyncRedisWorkingMemoryManager]:
    """A bare AsyncRedisWorkingMemoryManager: a plain fixture, for pytest-asyncio, anyio or asyncio.run alike."""
    from remanence import AsyncRedisWorkingMemoryManager
    from remanence.testing.closing import close_async

    manager = AsyncRedisWorkingMemoryManager(remanence_redis_url, key_prefix=remanence_key_prefix)
    yield manager
    close_async(manager)


@pytest.fixture
def remanence_async_resilient(
    remanence_async_manager: AsyncRedisWorkingMemoryManager,
) -> Iterator[AsyncDecoratedManager]:
    """The recommended stack, `resilient(remanence_async_manager)`; a plain fixture, closed without waiting."""
    from remanence import resilient
    from remanence.testing.closing import close_async

    manager = resilient(remanence_async_manager)
    yield manager
    close_async(manager, 0.0)


@pytest.fixture
def remanence_telemetry() -> Iterator[CaughtTelemetry]:
    """Spans and metrics caught in memory: give `tracer_provider` and `meter_provider` to what is tested.
    `assert_span(name, attributes)`, `assert_no_span(name)`, `spans`, `metric(name).value(attributes)`. Nothing global
    is set. Skips where OpenTelemetry's SDK is not installed.
    """
    try:
        from remanence.testing.caught import CaughtTelemetry
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        pytest.skip("OpenTelemetry's SDK is not installed: pip install 'remanence[telemetry]'.")
    caught = CaughtTelemetry()
    yield caught
    caught.close()
