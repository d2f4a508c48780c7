"""Figures under the convention's names, in text that Prometheus' own reader takes."""

from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.jobs.working import Work, asked, opened
from tracemill.errors import QueueUnreachable
from tracemill.jobs.depth import figures
from tracemill.jobs.leases import Leases
from tracemill.messages import Usage
from tracemill.telemetry import metrics as module
from tracemill.telemetry.metrics import Metrics, Queued, wants_openmetrics

_USAGE = Usage(input_tokens=100, output_tokens=21, cache_read_input_tokens=64)


def _samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Name of the sample and what tells it from others, to its value."""
    return {
        (
            one.name,
            one.labels.get("le")
            or one.labels.get("error_type")
            or one.labels.get("state")
            or one.labels.get("gen_ai_request_model", ""),
        ): one.value
        for family in read_text(metrics.render().decode())
        for one in family.samples
    }


def test_a_call_is_counted_under_the_names_of_the_convention() -> None:
    metrics = Metrics(log_position=lambda: 42)
    metrics.record("openai", "m", "chat", duration_s=0.05, usage=_USAGE, usd=Decimal("0.25"))
    metrics.record("openai", "m", "chat", duration_s=3, error_type="timeout")
    told = _samples(metrics)
    client = "gen_ai_client_inference"
    assert told[f"{client}_duration_seconds_count", "m"] == 1
    assert told[f"{client}_duration_seconds_count", "timeout"] == 1
    assert told["gen_ai_server_request_duration_seconds_count", "m"] == 1
    assert told[f"{client}_usage_input_tokens_total", "m"] == 100
    assert told[f"{client}_usage_output_tokens_total", "m"] == 21
    assert told[f"{client}_usage_cache_read_input_tokens_total", "m"] == 64
    assert told["tracemill_cost_usd_total", "m"] == 0.25
    assert told["tracemill_log_events_total", ""] == 42
    edges = {le for name, le in told if name == f"{client}_duration_seconds_bucket"}
    assert {"0.01", "0.02", "5.12", "81.92", "+Inf"} <= edges
    assert len(edges) == 15


def test_the_queue_of_jobs_is_told(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as jobs, closing(jobs.log):
        metrics = Metrics(queue=partial(figures, jobs))
        names = [f"tracemill_queue_{name}" for name in ("jobs", "age_seconds")]
        states = ("waiting", "put_off", "under_way", "parked")

        def told() -> tuple[list[float], list[float]]:
            found = _samples(metrics)
            depth = [found["tracemill_queue_depth", state] for state in states]
            return depth, [found[name, ""] for name in names]

        assert told() == ([0, 0, 0, 0], [0, 0])
        jobs.submit([*asked(3), *asked(2, "WAIT {}")])
        gone = jobs.submit(asked(4))
        jobs.cancel(gone.id)
        before, (waiting, age_s) = told()
        assert (before, waiting) == ([5, 0, 0, 0], 1)
        assert 0 < age_s < 60
        ticket = jobs.queue.pop()
        assert ticket is not None
        jobs.queue.later(ticket, 60)
        leases = Leases(jobs.settings.jobs / "leases")
        leases.announce()
        taken = jobs.queue.pop()
        assert taken is not None
        lease = leases.take(taken, taken.indices)
        assert told()[0] == [3, 1, 1, 0]
        assert lease.end(taken.first)
        leases.leave()
        jobs.queue.put([ticket, taken], 0)
        Work(jobs).until_done()
        assert told() == ([0, 0, 0, 2], [0, 0])


def test_a_queue_that_cannot_be_read_takes_nothing_else_with_it() -> None:
    def ask() -> Queued:
        raise QueueUnreachable("the queue in Redis cannot be reached")

    found = _samples(Metrics(log_position=lambda: 42, queue=ask))
    assert found["tracemill_log_events_total", ""] == 42
    assert not [name for name, _ in found if name.startswith("tracemill_queue")]


def test_a_streamed_answer_tells_when_it_began_and_how_fast_it_came() -> None:
    metrics = Metrics()
    metrics.record("openai", "m", "chat", duration_s=1.2, usage=_USAGE, first_chunk_s=0.2)
    told = _samples(metrics)
    assert told["gen_ai_client_inference_time_to_first_chunk_seconds_sum", "m"] == 0.2
    assert told["gen_ai_server_time_to_first_token_seconds_sum", "m"] == 0.2
    assert told["gen_ai_server_time_per_output_token_seconds_sum", "m"] == pytest.approx(0.05)


def test_calls_in_flight_are_counted_while_they_are() -> None:
    metrics = Metrics()
    with metrics.in_flight():
        assert _samples(metrics)["tracemill_calls_in_flight", ""] == 1
    assert _samples(metrics)["tracemill_calls_in_flight", ""] == 0


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    metrics = Metrics(log_position=lambda: 1)
    metrics.record("openai", "m", "chat", duration_s=0.1, usage=_USAGE, usd=Decimal(1))
    families = {one.name for one in read_openmetrics(metrics.render(openmetrics=True).decode())}
    assert {"tracemill_cost_usd", "gen_ai_client_inference_duration_seconds"} <= families
    assert wants_openmetrics("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert not wants_openmetrics("text/plain")


def test_models_that_callers_invent_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SERIES", 3)
    metrics = Metrics()
    for number in range(20):
        metrics.record("openai", f"m{number}", "chat", duration_s=0.1, usage=_USAGE)
        metrics.record("openai", f"m{number}", "chat", duration_s=0.1, error_type="timeout")
    told = _samples(metrics)
    models = {
        model for name, model in told if name == "gen_ai_client_inference_usage_input_tokens_total"
    }
    assert models == {"m0", "m1", "m2", "other"}
    assert told["gen_ai_client_inference_usage_input_tokens_total", "other"] == 1700
