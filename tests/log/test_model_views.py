"""What the log tells of fine-tunes, and of evaluations and comparisons figure by figure."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.finetune.versions_made import compared, evaluated
from tracemill import EventLog
from tracemill.events import (
    FineTuneCancelled,
    FineTuneCheckpointed,
    FineTuneCreated,
    FineTuneFailed,
    FineTunePaused,
    FineTuneProgressed,
    FineTuneRequested,
    FineTuneResumed,
    FineTuneSucceeded,
    FineTuneValidated,
    Measured,
    TrainingData,
    new_id,
)
from tracemill.events.evaluations import Tested as Compared
from tracemill.finetune.job import states

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log")


def job(*events: tuple[type, dict[str, Any]]) -> list[Any]:
    """A request, and what came of it: an event a minute."""
    same: dict[str, Any] = {"job_id": new_id()}
    asked = FineTuneRequested(
        name="router",
        provider="local",
        base_model="classify",
        method="classify",
        seed=0,
        dataset="records",
        dataset_digest="d",
        training=TrainingData(split="train", sha256="e", rows=100, size_bytes=9),
        idempotency_key="k",
        deadline_at=NOON + timedelta(days=1),
        occurred_at=NOON,
        **same,
    )
    made = [
        kind(occurred_at=NOON + timedelta(minutes=at), **fields, **same)
        for at, (kind, fields) in enumerate(events, 1)
    ]
    return [asked, *made]


CREATED = (FineTuneCreated, {"remote_id": "r", "raw_state": "queued"})
STEP = (
    FineTuneProgressed,
    {
        "state": "running",
        "raw_state": "on",
        "step": 3,
        "total_steps": 9,
        "loss": 0.5,
        "metrics": {"validation_loss": 0.6},
    },
)
SAID = (FineTuneProgressed, {"state": "running", "raw_state": "on", "messages": ("going on",)})
ENDED = (
    FineTuneSucceeded,
    {
        "model": "ft:local:router:1",
        "model_digest": "1",
        "trained_tokens": 1_000,
        "cost_usd": Decimal("1.5"),
        "metrics": {"validation_loss": 0.1},
    },
)


def test_a_fine_tune_is_a_row_from_its_request_to_its_end(log: EventLog) -> None:
    validated = (FineTuneValidated, {"estimated_cost_usd": Decimal(2), "trained_tokens": 900})
    kept = (FineTuneCheckpointed, {"checkpoint_id": "c", "step": 3})
    events = job(validated, CREATED, STEP, kept, SAID, ENDED)
    log.append(events)
    (row,) = log.sql("FROM finetunes").to_dicts()
    assert row == {
        "job_id": events[0].job_id,
        "name": "router",
        "provider": "local",
        "base_model": "classify",
        "method": "classify",
        "state": "succeeded",
        "step": 3,
        "total_steps": 9,
        "loss": 0.5,
        "metrics": '{"validation_loss":0.1}',
        "rows": 100,
        "dataset": "records",
        "dataset_digest": "d",
        "requested_at": NOON,
        "started_at": NOON + timedelta(minutes=2),
        "ended_at": NOON + timedelta(minutes=6),
        "duration_s": 240.0,
        "estimated_cost_usd": Decimal(2),
        "trained_tokens": 1_000,
        "cost_usd": Decimal("1.5"),
        "model": "ft:local:router:1",
        "model_digest": "1",
        "error": None,
    }


@pytest.mark.parametrize(
    ("events", "state", "error"),
    [
        ([], "requested", None),
        ([(FineTuneValidated, {})], "validated", None),
        ([CREATED], "created", None),
        ([CREATED, STEP, (FineTunePaused, {"raw_state": "p"})], "paused", None),
        ([CREATED, (FineTunePaused, {"raw_state": "p"}), (FineTuneResumed, {"raw_state": "r"})],
         "running", None),
        ([CREATED, (FineTuneProgressed, {"state": "unknown", "raw_state": "?"})], "unknown", None),
        ([CREATED, (FineTuneFailed, {"error_type": "x", "error_message": "no luck"})],
         "failed", "no luck"),
        ([CREATED, (FineTuneCancelled, {"reason": "enough"}), STEP], "cancelled", "enough"),
        ([CREATED, (FineTuneCancelled, {"reason": "enough"}), ENDED], "cancelled", "enough"),
    ],
)  # fmt: skip
def test_the_state_is_that_of_the_fold(
    log: EventLog, events: list[Any], state: str, error: str | None
) -> None:
    log.append([*job(*events), *job(CREATED, STEP, ENDED)])
    rows = log.sql("SELECT state, step, loss, model, error FROM finetunes ORDER BY job_id").rows()
    fold, other = states(log)
    assert rows[0] == (state, fold.step, fold.loss, fold.model, error)
    assert fold.state == state
    assert rows[1] == ("succeeded", 3, 0.5, other.model, None)


def test_a_fine_tune_is_seen_as_it_was(log: EventLog) -> None:
    events = job(CREATED, STEP, ENDED)
    positions = log.append(events)
    seen = [
        log.sql("SELECT state, model FROM finetunes", until=position).rows()[0]
        for position in positions
    ]
    assert seen == [
        ("requested", None),
        ("created", None),
        ("running", None),
        ("succeeded", "ft:local:router:1"),
    ]
    assert log.sql("FROM finetunes", until=positions[0] - 1).is_empty()


def test_an_evaluation_is_a_row_for_each_figure(log: EventLog) -> None:
    figures = {
        "accuracy": Measured(value=0.9, low=0.85, high=0.94, n=200),
        'odd "name".x': Measured(value=1, low=1, high=1, n=3),
    }
    event = evaluated(1, metrics=figures, failed=2, cost_usd=Decimal("0.25"), latency_ms=7.5)
    log.append([event, evaluated(2, metrics={})])
    rows = log.sql(
        "SELECT evaluation_id, figure, value, low, high, n, threshold, outcome, failed, cost_usd, "
        "latency_ms FROM evaluations ORDER BY figure"
    ).rows()
    same = ("pass", 2, Decimal("0.25"), 7.5)
    assert rows == [
        (event.evaluation_id, "accuracy", 0.9, 0.85, 0.94, 200, 0.8, *same),
        (event.evaluation_id, 'odd "name".x', 1.0, 1.0, 1.0, 3, None, *same),
    ]
    assert log.sql("FROM evaluations", until=0).is_empty()


def test_a_comparison_is_a_row_for_each_figure(log: EventLog) -> None:
    event = compared(2, 1)
    new = Compared(after=0.5, n=0, test="none", tolerance=0, verdict="new")
    event = event.model_copy(update={"tests": {**event.tests, "z": new}})
    log.append(event)
    query = (
        "SELECT comparison_id, figure, before, after, difference, low, high, p, p_adjusted, n, "
        "test, tolerance, verdict, outcome FROM comparisons ORDER BY figure"
    )
    assert log.sql(query).rows() == [
        (
            *(event.event_id, "accuracy", 0.91, 0.9, -0.01, -0.03, 0.01, 0.2, 0.2, 200),
            *("mcnemar", 0.02, "pass", "pass"),
        ),
        (event.event_id, "z", None, 0.5, *[None] * 5, 0, "none", 0.0, "new", "pass"),
    ]
