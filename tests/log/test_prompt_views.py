"""What the log tells of prompts in use, and of the answers that were judged."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tracemill import EventLog, Usage
from tracemill.events import (
    FeedbackGiven,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    PromptLabelMoved,
    PromptVersionAdded,
    new_id,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
USAGE = Usage(input_tokens=100, output_tokens=10)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log")


def about(minute: int, version: str = "v1", **more: Any) -> dict[str, Any]:
    return {
        "call_id": new_id(),
        "provider": "local",
        "request_model": "echo",
        "prompt_name": "greeting",
        "prompt_version": version,
        "occurred_at": NOON + timedelta(minutes=minute),
        **more,
    }


def finished(minute: int, latency_ms: float, **more: Any) -> LlmCallFinished:
    return LlmCallFinished(
        response_model="echo",
        content="Hello.",
        finish_reasons=("stop",),
        usage=USAGE,
        latency_ms=latency_ms,
        cost_usd=Decimal("0.000000005"),
        **about(minute, **more),
    )


def aborted(minute: int, error_type: str) -> LlmCallAborted:
    return LlmCallAborted(
        response_model="echo",
        content="Hel",
        usage=USAGE,
        error_type=error_type,
        error_message="cut",
        latency_ms=1,
        **about(minute),
    )


def test_a_version_tells_its_use_its_cost_and_what_people_thought(log: EventLog) -> None:
    answers = [finished(minute, latency_ms=10.0 * (minute + 1)) for minute in range(5)]
    same = {"name": "greeting", "template": "Hi {{ x }}", "variables": {"x": "string"}}
    log.append(
        [
            PromptVersionAdded(version="v1", description="Says hello.", occurred_at=NOON, **same),
            PromptVersionAdded(version="v2", occurred_at=NOON, **same),
            PromptLabelMoved(name="greeting", label="production", version="v2"),
            PromptLabelMoved(name="greeting", label="production", version="v1"),
            PromptLabelMoved(name="greeting", label="beta", version="v1"),
            *answers,
            LlmCallFailed(error_type="timeout", error_message="late", latency_ms=999, **about(5)),
            LlmCallCrashed(process="p", **about(6)),
            aborted(7, "interrupted"),
            aborted(8, "connection"),
            LlmCallCached(cached_call_id=answers[0].call_id, latency_ms=1, **about(9)),
            finished(0, 5, version="unregistered"),
            finished(0, 5, prompt_name=None, version=None),  # type: ignore
            FeedbackGiven(call_id=answers[0].call_id, score=1),
            FeedbackGiven(call_id=answers[1].call_id, score=-0.5),
            FeedbackGiven(call_id=new_id(), score=-1),
        ]
    )
    rows = log.sql("FROM prompts ORDER BY prompt_version").rows(named=True)
    nothing = {
        "labels": [],
        "calls": 0,
        "failed": 0,
        "failure_rate": None,
        "cached": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": Decimal(0),
        "billed": 0,
        "priced": 0,
        "recorded_usd": Decimal(0),
        "p50_latency_ms": None,
        "p95_latency_ms": None,
        "feedback": 0,
        "mean_feedback": None,
        "first_used_at": None,
        "last_used_at": None,
        "added_at": None,
        "description": None,
        "prompt_name": "greeting",
    }
    assert [
        {k: v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for k, v in row.items()}
        for row in rows
    ] == [
        nothing
        | {
            "prompt_version": "unregistered",
            "calls": 1,
            "failure_rate": 0.0,
            "input_tokens": 100,
            "output_tokens": 10,
            "billed": 1,
            "priced": 1,
            "recorded_usd": Decimal("0.000000005"),
            "p50_latency_ms": 5.0,
            "p95_latency_ms": 5.0,
            "first_used_at": NOON,
            "last_used_at": NOON,
        },
        nothing
        | {
            "prompt_version": "v1",
            "labels": ["beta", "production"],
            "calls": 10,
            "failed": 3,
            "failure_rate": 0.3,
            "cached": 1,
            "input_tokens": 700,
            "output_tokens": 70,
            "billed": 7,
            "priced": 7,
            "recorded_usd": Decimal("0.000000025"),
            "p50_latency_ms": 30.0,
            "p95_latency_ms": 48.0,
            "feedback": 2,
            "mean_feedback": 0.25,
            "first_used_at": NOON,
            "last_used_at": NOON + timedelta(minutes=9),
            "added_at": NOON,
            "description": "Says hello.",
        },
        nothing | {"prompt_version": "v2", "added_at": NOON, "description": ""},
    ]


def test_feedback_names_the_call_and_who_judged(log: EventLog) -> None:
    answer = finished(0, 5, user_id="asker")
    given = FeedbackGiven(call_id=answer.call_id, score=0.5, comment="fine", user_id="judge")
    log.append([answer, given, FeedbackGiven(call_id=new_id(), score=-1)])
    rows = log.sql("SELECT * EXCLUDE (call_id, given_at) FROM feedback ORDER BY score DESC").rows()
    assert rows == [
        (0.5, "fine", "judge", "local", "echo", "greeting", "v1"),
        (-1.0, None, None, None, None, None, None),
    ]
