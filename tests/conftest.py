"""What every test may use: a real server, and Hypothesis set up for tests that talk to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvloop
from hypothesis import settings

from remanence.lab import RedisServer
from tests.awaited import Loop, in_both_flavours, put_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadline per example: a real server on a busy machine is slow now and then, and that is not what is tested.
settings.register_profile("ci", print_blob=True, deadline=None, max_examples=50)
settings.load_profile("ci")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules with synchronous and with awaited managers."""
    in_both_flavours(metafunc)


@pytest.fixture(autouse=True)
def redis_flavour(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put awaited managers in the place of the others where a test asks for that."""
    name: str = getattr(request, "param", "sync")
    if name != "sync":
        loop = request.getfixturevalue("loop" if name == "async" else "uv_loop")
        put_in_place(request.module, loop, monkeypatch)
    return name


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    """An event loop in a thread of its own, for tests that run in both flavours."""
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="session")
def uv_loop() -> Iterator[Loop]:
    """The same of another make, which services use."""
    made = Loop(uvloop.new_event_loop)
    yield made
    made.close()


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """A server that all tests share; those that hurt one take `private_server`."""
    with RedisServer(durability="everysec") as shared:
        yield shared


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    """The URL of the shared server, emptied."""
    server.start()
    server.command("FLUSHALL")
    return server.url


@pytest.fixture
def private_server() -> Iterator[RedisServer]:
    """A server of this test's own, to kill, freeze and reconfigure."""
    with RedisServer() as own:
        yield own
