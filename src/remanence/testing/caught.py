"""Spans and metrics caught in memory, with assertions that show what was caught instead."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

__all__ = ["CaughtMetric", "CaughtTelemetry"]

_SHOWN: Final = 20
_SWITCH: Final = "OTEL_SDK_DISABLED"

Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CaughtMetric:
    """One metric, as it stands.

    Attributes:
        name: Its name.
        unit: Its unit.
        points: Its data points of the SDK, one for each set of attributes.
    """

    name: str
    unit: str
    points: tuple[Any, ...]

    def value(self, attributes: Attributes | None = None, /, **more: Any) -> float:
        """Return the sum over the points that have these attributes; of a histogram, how often it was recorded.

        Raises:
            AssertionError: No point has them; the message lists the points.
        """
        wanted = {**(attributes or {}), **more}
        values = [_value(point) for point in self.points if _has(point.attributes, wanted)]
        if not values:
            __tracebackhide__ = True  # pytest then shows the test's line
            seen = [f"{_show(point.attributes)} = {_value(point)}" for point in self.points]
            raise AssertionError(_message(f"no point of {self.name} has {_show(wanted)}", "points", seen))
        return sum(values)


class CaughtTelemetry:
    """Providers to inject, and what came through them; nothing global is set.

    ::

        caught = CaughtTelemetry()
        tracer = caught.tracer_provider.get_tracer("mine")

    Attributes:
        tracer_provider: To be given to what makes spans; it samples all of them, whatever the environment says.
        meter_provider: To be given to what makes metrics.
    """

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        nowhere = Resource({})
        with _without(_SWITCH):
            self.tracer_provider = TracerProvider(sampler=ALWAYS_ON, resource=nowhere, shutdown_on_exit=False)
            self.meter_provider = MeterProvider([self._reader], resource=nowhere, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in the order in which they did."""
        return self._exporter.get_finished_spans()

    @property
    def metrics(self) -> dict[str, CaughtMetric]:
        """What every metric stands at now, by name."""
        data = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return {
            metric.name: CaughtMetric(metric.name, metric.unit or "", tuple(metric.data.data_points))
            for metric in metrics
        }

    def assert_span(self, name: str, attributes: Attributes | None = None, /, **more: Any) -> ReadableSpan:
        """Return the first span of this name that has these attributes, among others.

        Args:
            name: The span's name.
            attributes: By name, for names with dots.
            more: The same, for names without.

        Raises:
            AssertionError: There is none; the message lists the spans.
        """
        wanted = {**(attributes or {}), **more}
        for span in self.spans:
            if span.name == name and _has(span.attributes, wanted):
                return span
        __tracebackhide__ = True
        seen = [f"{span.name} {_show(span.attributes)}" for span in self.spans]
        raise AssertionError(_message(f"no span {name} with {_show(wanted)} has ended", "spans", seen))

    def assert_no_span(self, name: str) -> None:
        """Make sure that no span of this name has ended.

        Raises:
            AssertionError: One has; the message lists the spans.
        """
        if any(span.name == name for span in self.spans):
            __tracebackhide__ = True
            seen = [f"{span.name} {_show(span.attributes)}" for span in self.spans]
            raise AssertionError(_message(f"there is a span {name}", "spans", seen))

    def metric(self, name: str) -> CaughtMetric:
        """Return a metric as it stands.

        Raises:
            AssertionError: Nothing was recorded under this name; the message lists the names.
        """
        metrics = self.metrics
        if name not in metrics:
            __tracebackhide__ = True
            raise AssertionError(_message(f"no metric {name} was recorded", "metrics", sorted(metrics)))
        return metrics[name]

    def clear(self) -> None:
        """Forget the spans so far; metrics go on counting."""
        self._exporter.clear()

    def close(self) -> None:
        """Shut the providers down."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def __repr__(self) -> str:
        return f"<CaughtTelemetry spans={len(self.spans)}>"


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Hide an environment variable: switched off, the SDK would catch nothing and say so nowhere."""
    held = os.environ.pop(name, None)
    try:
        yield
    finally:
        if held is not None:
            os.environ[name] = held


def _value(point: Any) -> float:
    value: float = point.count if hasattr(point, "count") else point.value
    return value


def _has(attributes: Attributes | None, wanted: Attributes) -> bool:
    held = attributes or {}
    return all(name in held and held[name] == value for name, value in wanted.items())


def _show(attributes: Attributes | None) -> str:
    return json.dumps(dict(attributes or {}), default=str, sort_keys=True)


def _message(what: str, kind: str, seen: list[str]) -> str:
    if not seen:
        return f"{what}; there are no {kind} at all. Were the providers of this object given to what is tested?"
    more = [f"... and {len(seen) - _SHOWN} more"] if len(seen) > _SHOWN else []
    return "\n  ".join([f"{what}; the {kind} are:", *seen[:_SHOWN], *more])
