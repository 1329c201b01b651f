"""The managers that come as fixtures, and their end, whatever the test has left behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]

HEAD = """
import asyncio, pathlib, pytest, threading

MEMORY = {"conversation_id": "c1", "working_memory": "Likes Python."}
BEFORE = threading.enumerate()
"""


def test_a_manager_and_its_stack_are_on_the_server(nested: Nested) -> None:
    """Stack and bare manager see the same memory, under a prefix that no other test has."""
    result = nested.run(
        HEAD
        + """
@pytest.mark.parametrize("number", range(2))
def test_it(remanence_redis, remanence_manager, remanence_resilient, remanence_key_prefix, number):
    assert remanence_resilient.store(MEMORY).outcome == "committed"
    assert remanence_manager.retrieve(MEMORY)[0].working_memory == "Likes Python."
    (key,) = remanence_redis.command("KEYS", "*")
    assert key == f"{remanence_key_prefix}:WORKING_MEMORY:c1"
    seen = pathlib.Path("prefix")
    assert not seen.exists() or seen.read_text() != remanence_key_prefix
    seen.write_text(remanence_key_prefix)
"""
    )
    assert result.parseoutcomes() == {"passed": 2}


@pytest.mark.parametrize("hurt", ["freeze", "kill"])
def test_closing_does_not_wait_for_a_server_that_is_gone(nested: Nested, hurt: str) -> None:
    """With writes pending on a server that the test has left frozen or dead, the test still ends at once."""
    begun = time.monotonic()
    result = nested.run(
        HEAD
        + f"""
def test_sync(remanence_redis, remanence_resilient):
    remanence_redis.{hurt}()
    assert remanence_resilient.store(MEMORY).outcome == "journaled"

def test_async(remanence_redis, remanence_async_resilient):
    remanence_redis.{hurt}()
    assert asyncio.run(remanence_async_resilient.store(MEMORY)).outcome == "journaled"

def test_no_thread_is_left():
    made = [thread for thread in threading.enumerate() if thread not in BEFORE]
    assert not [thread for thread in made if thread.name.startswith("remanence")]
"""
    )
    assert result.parseoutcomes() == {"passed": 3}
    # Twice 1.5 s for the stores themselves; the fallback's close_timeout would add 2 s for each.
    assert time.monotonic() - begun < (5 if hurt == "freeze" else 3)


def test_an_async_manager_needs_no_plugin(nested: Nested) -> None:
    """Async managers work in asyncio.run, in several loops one after the other, in a loop left open, and in none."""
    result = nested.run(
        HEAD
        + """
import gc

async def use(manager):
    assert (await manager.store(MEMORY)).outcome == "committed"
    assert (await manager.retrieve(MEMORY))[0].working_memory == "Likes Python."

def test_in_a_loop_that_is_closed(remanence_async_resilient, remanence_async_manager):
    for _ in range(2):
        asyncio.run(use(remanence_async_resilient))
    asyncio.run(use(remanence_async_manager))

def test_in_a_loop_that_is_gone(remanence_async_manager):
    asyncio.run(use(remanence_async_manager))
    gc.collect()

def test_in_none(remanence_async_manager, remanence_async_resilient):
    pass

def test_closed_by_the_test(remanence_async_resilient, remanence_async_manager):
    async def body():
        async with remanence_async_manager, remanence_async_resilient:
            await use(remanence_async_resilient)
    asyncio.run(body())

def test_cleaned_up():
    gc.collect()  # a socket that was left open would warn now
"""
    )
    assert result.parseoutcomes() == {"passed": 5}


@pytest.mark.parametrize("running", [False, True], ids=["idle", "running"])
def test_an_async_manager_works_with_plugins_that_keep_a_loop(nested: Nested, *, running: bool) -> None:
    """Where a plugin keeps a loop for the tests, idle or running as the fixtures end, that loop goes on as it was.

    As pytest-asyncio and anyio do it: tests are coroutines that the plugin runs in its loop.
    """
    nested.file(
        "conftest",
        f"""
        import asyncio, inspect, pytest

        RUNNING = {running}

        @pytest.fixture(scope="session", autouse=True)
        def loop():
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            pytest.loop = loop
            yield loop
            assert asyncio.get_event_loop_policy().get_event_loop() is loop
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            asyncio.set_event_loop(None)

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            if inspect.iscoroutinefunction(pyfuncitem.obj):
                arguments = {{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}}
                pytest.loop.run_until_complete(pyfuncitem.obj(**arguments))
                return True

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_teardown(item, nextitem):
            if not RUNNING or nextitem is None:
                return (yield)
            # The rest of the hooks are called from inside the running loop.
            asyncio._set_running_loop(pytest.loop)
            try:
                return (yield)
            finally:
                asyncio._set_running_loop(None)
        """,
    )
    result = nested.run(
        HEAD
        + """
async def test_one(remanence_async_resilient):
    assert (await remanence_async_resilient.store(MEMORY)).outcome == "committed"

async def test_two(remanence_redis, remanence_async_resilient):
    assert not await remanence_async_resilient.retrieve(MEMORY)
    remanence_redis.kill()
    assert (await remanence_async_resilient.store(MEMORY)).outcome == "journaled"

async def test_three(remanence_redis, remanence_async_manager):
    await asyncio.sleep(0.3)  # a replay that went on would write now
    assert remanence_redis.command("DBSIZE") == 0
    assert not await remanence_async_manager.retrieve(MEMORY)

def test_last():
    pass
"""
    )
    assert result.parseoutcomes() == {"passed": 4}
