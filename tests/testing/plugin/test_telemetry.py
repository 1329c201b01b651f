"""Telemetry caught in memory, and assertions that show what was caught."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from opentelemetry import metrics, trace

from remanence.testing import CaughtTelemetry

if TYPE_CHECKING:
    from tests.testing.plugin.conftest import Nested

pytest_plugins = ["pytester"]


@pytest.fixture
def caught() -> Iterator[CaughtTelemetry]:
    """What two spans and three instruments have told."""
    caught = CaughtTelemetry()
    tracer = caught.tracer_provider.get_tracer("mine")
    with tracer.start_as_current_span("upsert_memory", attributes={"memory.outcome": "success", "attempts": 1}):
        pass
    with tracer.start_as_current_span("upsert_memory", attributes={"memory.outcome": "fallback", "attempts": 3}):
        pass
    meter = caught.meter_provider.get_meter("mine")
    counter = meter.create_counter("retries", unit="{retry}")
    counter.add(2, {"operation": "store", "ok": True})
    counter.add(3, {"operation": "update", "ok": True})
    meter.create_histogram("duration", unit="s").record(0.25, {"operation": "store"})
    meter.create_observable_gauge("age", [lambda _: [metrics.Observation(14.0)]], unit="s")
    yield caught
    caught.close()


def test_a_span_is_found_by_name_and_attributes(caught: CaughtTelemetry) -> None:
    """The span that has all the attributes is returned, whichever way they are given."""
    assert caught.assert_span("upsert_memory") is caught.spans[0]
    assert caught.assert_span("upsert_memory", {"memory.outcome": "fallback"}) is caught.spans[1]
    assert caught.assert_span("upsert_memory", {"memory.outcome": "fallback"}, attempts=3) is caught.spans[1]
    caught.assert_no_span("delete_memory")


def test_a_span_that_is_missing_is_told_with_those_that_are_there(caught: CaughtTelemetry) -> None:
    """The failure shows every span with its attributes."""
    with pytest.raises(AssertionError) as failure:
        caught.assert_span("upsert_memory", {"memory.outcome": "success"}, attempts=3)
    assert str(failure.value).splitlines() == [
        'no span upsert_memory with {"attempts": 3, "memory.outcome": "success"} has ended; the spans are:',
        '  upsert_memory {"attempts": 1, "memory.outcome": "success"}',
        '  upsert_memory {"attempts": 3, "memory.outcome": "fallback"}',
    ]
    with pytest.raises(AssertionError, match="there is a span upsert_memory"):
        caught.assert_no_span("upsert_memory")
    with pytest.raises(AssertionError, match="no span upsert_memory"):
        caught.assert_span("upsert_memory", {"no.such": None})  # absent is not None


def test_metrics_are_summed_over_what_was_asked_for(caught: CaughtTelemetry) -> None:
    """A counter gives its sum, a histogram its count and a gauge its value, over the points with the attributes."""
    assert caught.metric("retries").value() == 5
    assert caught.metric("retries").value(operation="update") == 3
    assert caught.metric("retries").unit == "{retry}"
    assert caught.metric("duration").value({"operation": "store"}) == 1
    assert caught.metric("duration").points[0].sum == 0.25
    assert caught.metric("age").value() == 14.0


def test_a_metric_that_is_missing_is_told_with_those_that_are_there(caught: CaughtTelemetry) -> None:
    """The failure shows the names, and of a name's points the attributes and values."""
    with pytest.raises(
        AssertionError, match=r"no metric retry was recorded; the metrics are:\n  age\n  duration\n  ret"
    ):
        caught.metric("retry")
    with pytest.raises(AssertionError, match=r'\n  \{"ok": true, "operation": "update"\} = 3$'):
        caught.metric("retries").value(operation="delete")
    with pytest.raises(AssertionError, match="Were the providers of this object given"):
        CaughtTelemetry().metric("retries")


def test_many_spans_do_not_flood_the_failure() -> None:
    """Of a thousand spans twenty are shown, and how many more there were."""
    caught = CaughtTelemetry()
    tracer = caught.tracer_provider.get_tracer("mine")
    for _ in range(1_000):
        tracer.start_span("noise").end()
    with pytest.raises(AssertionError) as failure:
        caught.assert_span("signal")
    lines = str(failure.value).splitlines()
    assert (len(lines), lines[-1]) == (22, "  ... and 980 more")
    caught.clear()
    assert caught.spans == ()


def test_the_environment_does_not_switch_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and metrics are caught also where the environment disables the SDK or samples nothing."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    caught = CaughtTelemetry()
    caught.tracer_provider.get_tracer("mine").start_span("seen").end()
    caught.meter_provider.get_meter("mine").create_counter("seen").add(1)
    caught.assert_span("seen")
    assert caught.metric("seen").value() == 1


def test_nothing_global_is_set(nested: Nested) -> None:
    """The fixture leaves the process's providers alone; each test catches its own."""
    providers = trace.get_tracer_provider(), metrics.get_meter_provider()
    result = nested.run(
        """
        import pytest

        @pytest.mark.parametrize("number", range(2))
        def test_it(remanence_telemetry, number):
            assert remanence_telemetry.spans == ()
            remanence_telemetry.tracer_provider.get_tracer("mine").start_span("seen").end()
            remanence_telemetry.assert_span("seen")
        """
    )
    assert result.parseoutcomes() == {"passed": 2}
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == providers


def test_a_failure_shows_the_line_of_the_test(nested: Nested) -> None:
    """Pytest points at the test, not into this package."""
    result = nested.run(
        """
        def test_it(remanence_telemetry):
            remanence_telemetry.assert_span("unseen")  # here
        """
    )
    result.stdout.fnmatch_lines([">*# here", "E*AssertionError: no span unseen*", "test_nested.py:2: AssertionError"])


def test_without_the_sdk_it_skips_and_says_what_to_install(nested: Nested) -> None:
    """Where OpenTelemetry's SDK is missing the test is skipped, with the command that brings it."""
    nested.file("conftest", "import sys\nsys.modules['opentelemetry.sdk'] = None\n")
    run = nested.run_process("def test_it(remanence_telemetry): pass", "-rs")
    assert "1 skipped" in run.stdout
    assert "OpenTelemetry's SDK is not installed: pip install 'remanence[telemetry]'." in run.stdout
