"""Figures of this process in Prometheus' text, under the names of OpenTelemetry's GenAI conventions.

A call costs a few microseconds: the series of each provider, model and operation are looked up once.
Sources: open-telemetry/semantic-conventions-genai, gen-ai-metrics.md (names, units and boundaries of
buckets); names as the OpenTelemetry specification translates them for Prometheus (dots to underscores,
the unit and `_total` behind).
"""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import TracemillError, UsageError
from tracemill.messages import Usage

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MAX_SERIES = 1_000
"""Of provider, model and operation: models are what callers say, and must not fill the memory."""
OTHER = "other"
"""Stands for models beyond that."""

_DURATION_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
_FIRST_TOKEN_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_ABOUT = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_TOKENS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_input_tokens",
    "cache_write_input_tokens": "cache_write_input_tokens",
    "reasoning_output_tokens": "reasoning_output_tokens",
}


class Queued(NamedTuple):
    """What the queue of jobs holds."""

    requests: Mapping[str, int]
    """By where they stand."""
    jobs: int
    """Jobs that something of waits."""
    age_s: float
    """Since the oldest of these was handed over, in seconds; 0 where nothing waits."""


class _Series(NamedTuple):
    """What one provider, model and operation is counted in."""

    tokens: tuple[tuple[str, "Counter"], ...]
    usd: "Counter"
    unpriced: "Counter"
    first_chunk: "Histogram"
    first_token: "Histogram"
    per_token: "Histogram"
    durations: dict[str, tuple["Histogram", "Histogram"]]
    """By `error.type`, empty for calls that were answered: of the client, of the server."""


class Metrics:
    """The figures of one process. Any thread may record."""

    def __init__(
        self,
        *,
        log_position: Callable[[], int] | None = None,
        queue: Callable[[], Queued] | None = None,
    ) -> None:
        """
        Args:
            log_position: asked for the number of events in the log when somebody looks.
            queue: asked for what the queue of jobs holds; where that cannot be read its figures
                are left out, and the others are told.

        Raises `UsageError`: prometheus-client is not installed.
        """
        try:
            import prometheus_client
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError:
            raise UsageError(
                "metrics need prometheus-client: pip install 'tracemill[server]'"
            ) from None
        # A third of the text, which says when each series began: nobody asks that.
        prometheus_client.disable_created_metrics()
        self._registry: CollectorRegistry = CollectorRegistry()
        self._known: dict[tuple[str, str, str], _Series] = {}
        self._lock = threading.Lock()

        def histogram(name: str, what: str, buckets: tuple[float, ...], *more: str) -> "Histogram":
            labels = (*_ABOUT, *more)
            return Histogram(name, what, labels, buckets=buckets, registry=self._registry)

        def counter(name: str, what: str) -> "Counter":
            return Counter(name, what, _ABOUT, registry=self._registry)

        client, server = "gen_ai_client_inference", "gen_ai_server"
        self._duration = histogram(
            f"{client}_duration_seconds", "Duration of calls to models.", _DURATION_S, "error_type"
        )
        self._served = histogram(
            f"{server}_request_duration_seconds",
            "Duration of requests to this server.",
            _DURATION_S,
            "error_type",
        )
        self._first_chunk = histogram(
            f"{client}_time_to_first_chunk_seconds",
            "Until the first piece of a streamed answer.",
            _FIRST_TOKEN_S,
        )
        self._first_token = histogram(
            f"{server}_time_to_first_token_seconds",
            "Until this server sent the first piece.",
            _FIRST_TOKEN_S,
        )
        self._per_token = histogram(
            f"{server}_time_per_output_token_seconds",
            "Of streamed answers, per token after the first.",
            _PER_TOKEN_S,
        )
        self._tokens = {
            field: counter(f"{client}_usage_{name}", f"Tokens: {name.replace('_', ' ')}.")
            for field, name in _TOKENS.items()
        }
        self._usd = counter("tracemill_cost_usd", "What calls cost, in US dollars.")
        self._unpriced = counter("tracemill_unpriced_calls", "Answered calls of unknown price.")
        self._in_flight: Gauge = Gauge(
            "tracemill_calls_in_flight", "Calls being made now.", registry=self._registry
        )
        if log_position is not None:
            self._registry.register(_Position(log_position))
        if queue is not None:
            self._registry.register(_Queue(queue))

    def record(
        self,
        provider: str,
        model: str,
        operation: str,
        *,
        error_type: str | None = None,
        duration_s: float,
        usage: Usage | None = None,
        usd: Decimal | None = None,
        first_chunk_s: float | None = None,
    ) -> None:
        """Count one call that has ended.

        Args:
            error_type: the log's class of error; None where it was answered.
            first_chunk_s: until the first piece, of a streamed answer.
        """
        series = self._known.get((operation, provider, model)) or self._series(
            operation, provider, model
        )
        durations = series.durations.get(error_type or "")
        if durations is None:
            durations = self._durations(operation, provider, model, error_type or "", series)
        for histogram in durations:
            histogram.observe(duration_s)
        if first_chunk_s is not None:
            series.first_chunk.observe(first_chunk_s)
            series.first_token.observe(first_chunk_s)
            if usage is not None and usage.output_tokens > 1:
                after_s = max(0.0, duration_s - first_chunk_s)
                series.per_token.observe(after_s / (usage.output_tokens - 1))
        if usage is not None:
            for field, counter in series.tokens:
                if tokens := getattr(usage, field):
                    counter.inc(tokens)
            if usd is None:
                series.unpriced.inc()
        if usd:
            series.usd.inc(float(usd))

    @contextmanager
    def in_flight(self) -> Generator[None]:
        """While this is open, one more call is being made."""
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()

    def render(self, *, openmetrics: bool = False) -> bytes:
        """All figures as text: Prometheus' (`TEXT`), or OpenMetrics (`OPENMETRICS`)."""
        if openmetrics:
            from prometheus_client.openmetrics import exposition

            return exposition.generate_latest(self._registry)  # pyright: ignore
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def _series(self, operation: str, provider: str, model: str) -> _Series:
        with self._lock:
            if len(self._known) >= MAX_SERIES:
                operation = provider = model = OTHER
            about = (operation, provider, model)
            if about not in self._known:
                self._known[about] = _Series(
                    tokens=tuple((field, c.labels(*about)) for field, c in self._tokens.items()),
                    usd=self._usd.labels(*about),
                    unpriced=self._unpriced.labels(*about),
                    first_chunk=self._first_chunk.labels(*about),
                    first_token=self._first_token.labels(*about),
                    per_token=self._per_token.labels(*about),
                    durations={},
                )
            return self._known[about]

    def _durations(
        self, operation: str, provider: str, model: str, error_type: str, series: _Series
    ) -> "tuple[Histogram, Histogram]":
        if self._known.get((operation, provider, model)) is not series:
            operation = provider = model = OTHER
        about = (operation, provider, model, error_type)
        made = self._duration.labels(*about), self._served.labels(*about)
        series.durations[error_type] = made
        return made


class _Position:
    """The end of the log, asked for when somebody looks."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Generator[Any]:
        from prometheus_client.core import CounterMetricFamily

        yield CounterMetricFamily("tracemill_log_events", "Events in the log.", value=self._ask())


class _Queue:
    """The queue of jobs, asked once each time that somebody looks."""

    def __init__(self, ask: Callable[[], Queued]) -> None:
        self._ask = ask

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Generator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        try:
            found = self._ask()
        except TracemillError:
            return
        depth = GaugeMetricFamily(
            "tracemill_queue_depth", "Requests of jobs, by where they stand.", labels=["state"]
        )
        for state, requests in found.requests.items():
            depth.add_metric([state], requests)  # pyright: ignore[reportUnknownMemberType]
        yield depth
        yield GaugeMetricFamily("tracemill_queue_jobs", "Jobs that wait.", value=found.jobs)
        yield GaugeMetricFamily(
            "tracemill_queue_age_seconds",
            "Since the oldest job that waits was handed over.",
            value=found.age_s,
        )


def wants_openmetrics(accept: str) -> bool:
    """Whether a scraper that sends this header `accept` takes OpenMetrics."""
    return "application/openmetrics-text" in accept.lower()
