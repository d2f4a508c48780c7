"""The views over jobs, data sets, prompts and alerts, of a small log whose truth is known."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tracemill.events import (
    AlertAcknowledged,
    AlertDelivered,
    AlertRaised,
    AlertResolved,
    BatchCollected,
    BatchProgressed,
    BatchSubmitted,
    ContaminationChecked,
    DatasetBuilt,
    EvaluationFinished,
    FeedbackGiven,
    FineTuneCreated,
    FineTuneProgressed,
    FineTuneRequested,
    LlmCallFailed,
    LlmCallFinished,
    Measured,
    ModelRegistered,
    TrainingData,
)
from tracemill.log import EventLog
from tracemill.messages import Usage

AT = datetime(2026, 11, 2, 12, tzinfo=UTC)


def uid(n: int) -> str:
    return f"0197a000-0000-7000-8000-{n:012d}"


def after(minutes: int) -> datetime:
    return AT + timedelta(minutes=minutes)


def rows(log: EventLog, query: str) -> list[dict[str, Any]]:
    return log.sql(query).to_dicts()


@pytest.fixture
def log(tmp_path: Any) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def finetune(job: int, minute: int, **more: Any) -> FineTuneRequested:
    return FineTuneRequested(
        job_id=uid(job), name="router", provider="openai", base_model="gpt", method="supervised",
        seed=1, dataset="questions", dataset_digest="d1", idempotency_key=str(job),
        training=TrainingData(split="train", sha256="s", rows=80, size_bytes=9),
        deadline_at=after(9_999), occurred_at=after(minute), **more,
    )  # fmt: skip


def test_jobs_are_fine_tunes_and_batches_with_where_they_stand_since_when(log: EventLog) -> None:
    calls = {str(i): uid(100 + i) for i in range(3)}

    def progressed(step: int, minute: int) -> FineTuneProgressed:
        return FineTuneProgressed(
            job_id=uid(1), state="running", raw_state="r", step=step, total_steps=40,
            occurred_at=after(minute),
        )  # fmt: skip

    def batch(state: Any, minute: int) -> BatchProgressed:
        return BatchProgressed(
            batch_id=uid(2), state=state, raw_state=state, occurred_at=after(minute)
        )

    log.append(
        [
            finetune(1, 0),
            FineTuneCreated(job_id=uid(1), remote_id="r", raw_state="q", occurred_at=after(1)),
            progressed(1, 2),
            progressed(10, 5),
            BatchSubmitted(
                batch_id=uid(2),
                provider="anthropic",
                request_model="c",
                calls=calls,
                occurred_at=AT,
            ),
            batch("running", 3),
            batch("running", 4),
            batch("ended", 7),
            BatchCollected(batch_id=uid(2), finished=2, failed=1, occurred_at=after(8)),
            BatchSubmitted(
                batch_id=uid(3),
                provider="openai",
                request_model="g",
                calls={},
                occurred_at=after(9),
            ),
        ]
    )
    unknown = {"cost_usd": None, "error": None}
    assert rows(log, "FROM jobs ORDER BY requested_at, kind") == [
        {
            "kind": "batch", "job_id": uid(2), "what": "c", "provider": "anthropic",
            "state": "collected", "since": after(8), "requested_at": AT, "ended_at": after(8),
            "duration_s": 480.0, "progress": 1.0, "items": 3, "failed": 1, **unknown,
        },
        {
            "kind": "finetune", "job_id": uid(1), "what": "router", "provider": "openai",
            "state": "running", "since": after(2), "requested_at": AT, "ended_at": None,
            "duration_s": None, "progress": 0.25, "items": 80, "failed": None, **unknown,
        },
        {
            "kind": "batch", "job_id": uid(3), "what": "g", "provider": "openai",
            "state": "submitted", "since": after(9), "requested_at": after(9), "ended_at": None,
            "duration_s": None, "progress": None, "items": 0, "failed": None, **unknown,
        },
    ]  # fmt: skip


def evaluated(n: int, model: str, outcome: Any, minute: int, **more: Any) -> EvaluationFinished:
    given: dict[str, Any] = {"metrics": {"accuracy": measured(0.5)}, "dataset": "cases"} | more
    return EvaluationFinished(
        evaluation_id=uid(n), name="e", model=model, dataset_digest="c1", cases=9, outcome=outcome,
        reason="so", occurred_at=after(minute), **given,
    )  # fmt: skip


def measured(value: float) -> Measured:
    return Measured(value=value, low=value - 0.1, high=value + 0.1, n=9)


def test_a_data_set_knows_its_inputs_its_models_and_how_they_did(log: EventLog) -> None:
    def built(digest: str, minute: int, **more: Any) -> DatasetBuilt:
        return DatasetBuilt(
            name="questions", digest=digest, rows={"train": 80, "test": 20}, salt="s",
            inputs=("i1", "i2"), log_position=7, occurred_at=after(minute), **more,
        )  # fmt: skip

    model = ModelRegistered(
        name="router", digest="m1", model="openai/ft:router", provider="openai", base_model="gpt",
        method="supervised", job_id=uid(1), dataset="questions", dataset_digest="d1", split="train",
        training_sha256="s", rows=80, occurred_at=after(3),
    )  # fmt: skip
    log.append(
        [
            built("d1", 0, dropped={"near duplicates": 5, "too short": 2}),
            model,
            evaluated(5, "openai/ft:router", "fail", 4),
            evaluated(6, "openai/ft:router", "pass", 5),
            evaluated(7, "somebody/else", "fail", 6),
            ContaminationChecked(
                dataset="cases",
                dataset_digest="c1",
                trained_on="d1",
                split="train",
                cases=9,
                found=2,
            ),
            built("d2", 9),
            built("d1", 10),
        ]
    )
    same = {
        "dataset": "questions", "rows": 100, "splits": '{"train":80,"test":20}', "salt": "s",
        "inputs": ["i1", "i2"], "log_position": 7,
    }  # fmt: skip
    assert rows(log, "FROM dataset_lineage ORDER BY built_at") == [
        same | {
            "dataset_digest": "d1", "built_at": AT, "dropped": 7,
            "dropped_by": '{"near duplicates":5,"too short":2}', "models": ["openai/ft:router"],
            "evaluations": 2, "last_outcome": "pass", "last_evaluated_at": after(5), "contaminated": 2,
        },
        same | {
            "dataset_digest": "d2", "built_at": after(9), "dropped": 0, "dropped_by": "{}",
            "models": [], "evaluations": 0, "last_outcome": None, "last_evaluated_at": None,
            "contaminated": None,
        },
    ]  # fmt: skip


def test_the_scoreboard_shows_the_newest_evaluation_of_each_version(log: EventLog) -> None:
    same: dict[str, Any] = {
        "provider": "anthropic", "request_model": "claude-sonnet-5-5", "prompt_name": "p",
        "prompt_version": "v1", "latency_ms": 40.0, "occurred_at": AT,
    }  # fmt: skip
    answer = LlmCallFinished(
        call_id=uid(1), response_model="claude-sonnet-5-5", content="", finish_reasons=("stop",),
        usage=Usage(input_tokens=1_000_000), **same,
    )  # fmt: skip
    prompt = {"prompt_name": "p", "prompt_version": "v1"}
    new = {"accuracy": measured(0.7), "cost": measured(3.0)}
    log.append(
        [
            answer,
            LlmCallFailed(call_id=uid(2), error_type="timeout", error_message="late", **same),
            FeedbackGiven(call_id=uid(1), score=0.5),
            evaluated(5, "m", "fail", 1, **prompt),
            evaluated(6, "m", "pass", 2, metrics=new, **prompt),
        ]
    )
    shown = {name: dict(zip(("value", "low", "high", "n"), (m.value, m.low, m.high, 9), strict=True)) for name, m in new.items()}  # fmt: skip
    (row,) = rows(log, "FROM prompt_scoreboard")
    figures = row.pop("figures")
    assert figures == shown
    assert row == {
        **prompt, "labels": [], "calls": 2, "failed": 1, "failure_rate": 0.5,
        "cost_per_call_usd": 2.0, "known_share": 1.0, "p50_latency_ms": 40.0, "p95_latency_ms": 40.0,
        "feedback": 1, "mean_feedback": 0.5, "dataset": "cases", "dataset_digest": "c1",
        "outcome": "pass", "evaluated_at": after(2), "last_used_at": AT,
    }  # fmt: skip


def test_an_alert_is_one_row_from_its_raising_to_its_end(log: EventLog) -> None:
    def raised(n: int, minute: int) -> AlertRaised:
        return AlertRaised(
            alert_id=uid(n), rule="errors", severity="critical", value=0.2, comparison=">",
            threshold=0.1, window_from=AT, window_until=after(minute), message="too many",
            occurred_at=after(minute),
        )  # fmt: skip

    def told(n: int, sink: str, **more: Any) -> AlertDelivered:
        return AlertDelivered(alert_id=uid(n), rule="errors", sink=sink, attempt=1, **more)

    log.append(
        [
            raised(1, 0),
            told(1, "file", delivered=True),
            told(1, "hook", delivered=False, error_message="no answer"),
            told(1, "hook", delivered=True),
            AlertAcknowledged(
                alert_id=uid(1), rule="errors", note="mine", actor="ann", occurred_at=after(5)
            ),
            AlertResolved(alert_id=uid(1), rule="errors", value=0.0, occurred_at=after(9)),
            raised(2, 10),
        ]
    )
    same = {
        "rule": "errors", "severity": "critical", "message": "too many", "value": 0.2,
        "comparison": ">", "threshold": 0.1,
    }  # fmt: skip
    assert rows(log, "FROM alerts ORDER BY raised_at") == [
        same | {
            "alert_id": uid(1), "state": "resolved", "raised_at": AT, "acknowledged_at": after(5),
            "acknowledged_by": "ann", "note": "mine", "resolved_at": after(9), "duration_s": 540.0,
            "delivered": 2, "undelivered": 1, "sinks": ["file", "hook"], "last_error": "no answer",
        },
        same | {
            "alert_id": uid(2), "state": "open", "raised_at": after(10), "acknowledged_at": None,
            "acknowledged_by": None, "note": None, "resolved_at": None, "duration_s": None,
            "delivered": 0, "undelivered": 0, "sinks": [], "last_error": None,
        },
    ]  # fmt: skip
