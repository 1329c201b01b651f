"""The proxy that comes as a fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]


def test_a_test_that_asks_for_faults_talks_through_the_proxy(nested: Nested) -> None:
    """Managers and remanence_redis_url go through the proxy where a test has one, in whichever order it asks."""
    result = nested.run(
        """
        import pytest, redis

        MEMORY = {"conversation_id": "c1", "working_memory": "Likes Python."}

        def test_through(remanence_resilient, remanence_redis_url, remanence_redis, remanence_faults):
            assert remanence_redis_url == remanence_faults.url != remanence_redis.url
            lost = remanence_faults.drop_reply(command="EVAL", then="reset")
            assert remanence_resilient.store(MEMORY).outcome == "committed"
            assert lost.fired == 1

        def test_first(remanence_faults, remanence_manager):
            remanence_faults.error("OOM command not allowed", command="SETEX")
            with pytest.raises(redis.OutOfMemoryError):
                remanence_manager.store(MEMORY)

        def test_direct(remanence_redis_url, remanence_redis, remanence_manager):
            assert remanence_redis_url == remanence_redis.url
        """
    )
    assert result.parseoutcomes() == {"passed": 3}


def test_no_fault_outlives_its_test(nested: Nested) -> None:
    """Whatever a test left broken, the next begins without faults, and the proxy's thread and port are gone."""
    result = nested.run(
        """
        import pathlib, pytest, socket, threading

        MEMORY = {"conversation_id": "c1", "working_memory": "Likes Python."}
        BEFORE = threading.enumerate()

        @pytest.mark.parametrize("fault", ["refuse", "hold"])
        def test_broken(remanence_faults, remanence_resilient, fault):
            pathlib.Path("port").write_text(str(remanence_faults.port))
            getattr(remanence_faults, fault)()
            assert remanence_resilient.store(MEMORY).outcome == "journaled"

        def test_well(remanence_faults, remanence_resilient):
            assert remanence_resilient.store(MEMORY).outcome == "committed"
            assert not remanence_faults.faults

        def test_gone():
            made = [thread for thread in threading.enumerate() if thread not in BEFORE]
            assert not [thread for thread in made if "remanence" in thread.name]
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(pathlib.Path("port").read_text())))
        """
    )
    assert result.parseoutcomes() == {"passed": 4}
    # A replay that hangs in a held request is let go first; it would last another second or more.
    reports = result.reprec.getreports("pytest_runtest_logreport")  # type: ignore[attr-defined]
    assert max(report.duration for report in reports if report.when == "teardown") < 0.7
