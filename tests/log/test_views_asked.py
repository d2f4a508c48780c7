"""The views over calls of a small log by hand: whole rows, with the truth worked out beside them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from tracemill.events import (
    FeedbackGiven,
    Happened,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
    LogTailLost,
)
from tracemill.log import EventLog
from tracemill.messages import Message, Usage

SONNET: dict[str, Any] = {"provider": "anthropic", "request_model": "claude-sonnet-5-5"}
OURS: dict[str, Any] = {"provider": "vllm", "request_model": "ours"}
AT = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = AT.date()
D = Decimal


def cid(n: int) -> str:
    return f"0197a000-0000-7000-8000-{n:012d}"


def started(n: int, **more: Any) -> LlmCallStarted:
    said = (Message(role="user", content=f"question {n}"),)
    return LlmCallStarted(call_id=cid(n), messages=said, occurred_at=AT, **more)


def finished(n: int, read: int, written: int, after_s: int = 1, **more: Any) -> LlmCallFinished:
    usage = {name: more.pop(name) for name in list(more) if name in Usage.model_fields}
    given: dict[str, Any] = {"finish_reasons": ("stop",), "latency_ms": 1000.0 * after_s} | more
    return LlmCallFinished(
        call_id=cid(n),
        response_model=given["request_model"],
        content="answer",
        usage=Usage(input_tokens=read, output_tokens=written, **usage),
        occurred_at=AT + timedelta(seconds=after_s),
        **given,
    )


def failed(n: int, why: str, message: str, **more: Any) -> LlmCallFailed:
    given: dict[str, Any] = {"error_type": why, "error_message": message, "latency_ms": 5} | more
    return LlmCallFailed(call_id=cid(n), occurred_at=AT + timedelta(seconds=n), **given)


def story() -> list[Happened]:
    """Two models, two days. Sonnet costs 2 to read, 10 to write, 0.1 cached, 2.5 stored a million."""
    ann: dict[str, Any] = {
        "user_id": "ann",
        "key_id": "prod",
        "metadata": {"team": "a", "job": "x"},
    }
    bob: dict[str, Any] = {"user_id": "bob", "key_id": "test", "metadata": {"team": "b"}}
    one: dict[str, Any] = {"conversation_id": "c1", "prompt_name": "p", "prompt_version": "v1"}
    retried: dict[str, Any] = {"error_type": "overloaded", "error_message": "wait", "status": 529}
    return [
        started(1, streamed=True, **SONNET, **ann, **one),
        LlmCallRetried(
            call_id=cid(1), attempt=1, wait_ms=50, latency_ms=7, occurred_at=AT, **retried, **SONNET
        ),
        finished(
            1, 1_000_000, 100_000, 2, attempts=2, time_to_first_chunk_ms=300.0,
            cache_read_input_tokens=400_000, cache_write_input_tokens=100_000,
            reasoning_output_tokens=40_000, cost_usd=D("2.29"), **SONNET, **ann, **one,
        ),
        started(2, **SONNET, **bob, **one),
        finished(2, 500_000, 0, 4, cost_usd=D("1"), estimated=True, **SONNET, **bob, **one),
        started(3, **SONNET, **ann),
        failed(3, "timeout", "no answer in 30 s", **SONNET, **ann),
        started(4, **SONNET, **ann),
        failed(4, "timeout", "no answer in 7 s", **SONNET, **bob),
        started(5, **OURS, **bob),
        finished(5, 10, 20, 3, **OURS, **bob),
        started(6, **OURS),
        LlmCallCrashed(call_id=cid(6), process="gone", occurred_at=AT, **OURS),
        LlmCallAborted(
            call_id=cid(7), response_model="ours", content="", usage=Usage(output_tokens=1),
            error_type="interrupted", error_message="stopped", latency_ms=1, occurred_at=AT, **OURS,
        ),
        LlmCallCached(
            call_id=cid(8), cached_call_id=cid(1), saved_usd=D("0.5"), latency_ms=1,
            occurred_at=AT, **SONNET, **ann, **one,
        ),
        started(9, **SONNET, **ann),
        finished(10, 1, 1, 86_400, refusal="I will not.", **OURS, conversation_id="c1"),
        FeedbackGiven(call_id=cid(1), score=1, occurred_at=AT, user_id="eve"),
        LogTailLost(after_position=3, through_position=9, occurred_at=AT),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    """The first half of it sealed, so that calls have their start in a file and their end in the tail."""
    with EventLog(tmp_path_factory.mktemp("asked") / "log") as log:
        told = story()
        log.append(told[:9])
        log.fold()
        log.append(told[9:])
        yield log


def rows(log: EventLog, query: str) -> list[dict[str, Any]]:
    return log.sql(query).to_dicts()


COSTS = "calls, failed, aborted, cached, input_tokens, output_tokens, cost_usd, recorded_usd, saved_usd, unpriced, known_share"
ANN = (3, 1, 0, 1, 1_000_000, 100_000, D("2.29"), D("2.29"), D("0.5"), 0, 1.0)
BOB = (3, 1, 0, 0, 500_010, 20, D("1"), D("1"), D(0), 1, 0.5)
NOBODY = (3, 1, 1, 0, 1, 2, D(0), D(0), D(0), 2, 0.0)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("costs_by_key", [(None, *NOBODY), ("prod", *ANN), ("test", *BOB)]),
        ("costs_by_user", [(None, *NOBODY), ("ann", *ANN), ("bob", *BOB)]),
        (
            "costs_by_tag",
            [(None, None, *NOBODY), ("job", "x", *ANN), ("team", "a", *ANN), ("team", "b", *BOB)],
        ),
        (
            "costs_by_provider",
            [
                ("anthropic", 5, 2, 0, 1, 1_500_000, 100_000, D("3.29"), D("3.29"), D("0.5"), 0, 1.0),
                ("vllm", 4, 1, 1, 0, 11, 22, D(0), D(0), D(0), 3, 0.0),
            ],
        ),
        (
            "costs_by_prompt",
            [
                (None, None, 6, 3, 1, 0, 11, 22, D(0), D(0), D(0), 3, 0.0),
                ("p", "v1", 3, 0, 0, 1, 1_500_000, 100_000, D("3.29"), D("3.29"), D("0.5"), 0, 1.0),
            ],
        ),
    ],
)  # fmt: skip
def test_money_by_who_and_what_for(log: EventLog, view: str, expected: list[Any]) -> None:
    assert log.sql(f"FROM {view} ORDER BY ALL NULLS FIRST").rows() == expected
    assert ", ".join(log.sql(f"FROM {view}").columns).endswith(COSTS)


def test_what_caches_saved(log: EventLog) -> None:
    known = {"provider": "vllm", "request_model": "ours", "hits": 0, "cache_read_tokens": 0}
    nothing = known | {
        "cache_write_tokens": 0, "read_share": 0.0, "reads_saved_usd": D(0), "known_share": 0.0,
        "writes_cost_usd": D(0), "saved_usd": D(0), "answered": 0, "answers_saved_usd": D(0),
    }  # fmt: skip
    assert rows(log, "FROM cache_savings ORDER BY provider, day") == [
        {
            "day": DAY, **SONNET, "calls": 2, "hits": 1, "input_tokens": 1_500_000,
            "cache_read_tokens": 400_000, "cache_write_tokens": 100_000,
            "read_share": pytest.approx(4 / 15),
            "reads_saved_usd": D("0.76"),  # 400,000 at 0.1 instead of 2 a million
            "writes_cost_usd": D("0.05"),  # 100,000 at 2.5 instead of 2
            "saved_usd": D("0.71"), "answered": 1, "answers_saved_usd": D("0.5"), "known_share": 1.0,
        },
        {"day": DAY, "calls": 2, "input_tokens": 10, **nothing},
        {"day": DAY + timedelta(days=1), "calls": 1, "input_tokens": 1, **nothing},
    ]  # fmt: skip


def test_percentiles_of_streams_and_of_whole_answers(log: EventLog) -> None:
    assert rows(log, "FROM latency WHERE provider = 'anthropic' ORDER BY streamed") == [
        {
            "day": DAY, **SONNET, "streamed": streamed, "calls": 1,
            "p50_latency_ms": took, "p95_latency_ms": took, "p99_latency_ms": took,
            "p50_first_chunk_ms": first, "p95_first_chunk_ms": first, "p99_first_chunk_ms": first,
            "output_tokens_per_s": speed,
        }
        for streamed, took, first, speed in ((False, 4000.0, None, 0.0), (True, 2000.0, 300.0, 5e4))
    ]  # fmt: skip


def test_errors_by_class_with_what_retries_did(log: EventLog) -> None:
    found = log.sql("FROM error_rates ORDER BY day, provider, error_type NULLS FIRST").rows()
    after, s = DAY + timedelta(days=1), tuple(SONNET.values())
    ours = tuple(OURS.values())
    assert found == [
        (DAY, *s, None, 5, 2, 0.4, 1, 50.0, 1),
        (DAY, *s, "overloaded", 5, 0, 0.0, 1, 50.0, 1),
        (DAY, *s, "timeout", 5, 2, 0.4, 0, 0.0, 0),
        (DAY, *ours, None, 3, 1, pytest.approx(1 / 3), 0, 0.0, 0),
        (DAY, *ours, "crashed", 3, 1, pytest.approx(1 / 3), 0, 0.0, 0),
        (after, *ours, None, 1, 0, 0.0, 0, 0.0, 0),
    ]


def test_what_tokens_were_of(log: EventLog) -> None:
    assert rows(log, "FROM token_mix WHERE provider = 'anthropic'") == [
        {
            "day": DAY, **SONNET, "calls": 2, "estimated": 1, "input_tokens": 1_500_000,
            "input_uncached_tokens": 1_000_000, "cache_read_input_tokens": 400_000,
            "cache_write_input_tokens": 100_000, "input_audio_tokens": 0, "output_tokens": 100_000,
            "reasoning_output_tokens": 40_000, "output_audio_tokens": 0,
            "output_by_input": pytest.approx(1 / 15), "cache_read_share": pytest.approx(4 / 15),
            "reasoning_share": 0.4, "mean_input_tokens": 750_000.0, "mean_output_tokens": 50_000.0,
            "known_share": 0.5,
        }
    ]  # fmt: skip


def test_a_conversation_is_one_row(log: EventLog) -> None:
    assert rows(log, "FROM conversations") == [
        {
            "conversation_id": "c1", "calls": 4, "failed": 0, "cached": 1, "user_id": "ann", "users": 2,
            "models": ["claude-sonnet-5-5", "ours"], "first_at": AT, "last_at": AT + timedelta(days=1),
            "input_tokens": 1_500_001, "output_tokens": 100_001, "cost_usd": D("3.29"), "unpriced": 1,
            "latency_ms": 86_406_001.0, "last_status": "finished",
        }
    ]  # fmt: skip


def test_failures_of_one_kind_are_one_row(log: EventLog) -> None:
    found = rows(log, "FROM failure_clusters ORDER BY signature")
    gone = "the process that made the call ended without a word"
    ours, sonnet = ["vllm/ours"], ["anthropic/claude-sonnet-5-5"]
    assert [tuple(row.values()) for row in found] == [
        (f"crashed: {gone}", "crashed", 1, 0, ours, AT, AT, cid(6), gone),
        ("refusal: I will not.", "refusal", 1, 0, ours, *[AT + timedelta(days=1)] * 2, cid(10), "I will not."),
        (
            "timeout: no answer in <n> s", "timeout", 2, 2, sonnet,
            AT + timedelta(seconds=3), AT + timedelta(seconds=4), cid(4), "no answer in 7 s",
        ),
    ]  # fmt: skip
    assert log.sql(
        "SELECT signature, count(*) AS n FROM failures GROUP BY 1 ORDER BY 1"
    ).rows() == [(row["signature"], row["calls"]) for row in found]


def test_a_failure_shows_its_question(log: EventLog) -> None:
    query = "SELECT call_id, user_id, error_message, prompt FROM failures WHERE status = 'failed' ORDER BY ALL"
    assert log.sql(query).rows() == [
        (cid(3), "ann", "no answer in 30 s", "question 3"),
        (cid(4), "bob", "no answer in 7 s", "question 4"),
    ]


def test_how_much_of_a_day_is_known(log: EventLog) -> None:
    found = rows(log, "FROM completeness ORDER BY day")
    assert found == [
        {
            "day": DAY, "calls": 8, "billed": 4, "priced": 2, "unpriced": 2, "estimated": 1, "running": 1,
            "crashed": 1, "aborted": 1, "lost_events": 6, "known_share": 0.4,
        },
        {
            "day": date(2026, 11, 3), "calls": 1, "billed": 1, "priced": 0, "unpriced": 1, "estimated": 0,
            "running": 0, "crashed": 0, "aborted": 0, "lost_events": 0, "known_share": 0.0,
        },
    ]  # fmt: skip


def test_costs_of_calls_carry_what_they_are_summed_by(log: EventLog) -> None:
    columns = "day, status, operation, conversation_id, key_id, user_id, metadata, prompt_name, prompt_version"
    query = f"SELECT {columns}, cache_saved_usd, cache_write_usd FROM call_costs WHERE call_id = ?"  # noqa: S608
    assert log.sql(query, [cid(1)]).rows() == [
        (DAY, "finished", "chat", "c1", "prod", "ann", '{"team":"a","job":"x"}', "p", "v1", D("0.76"), D("0.05"))
    ]  # fmt: skip


def test_a_running_call_is_a_call_and_every_call_is_one_row(log: EventLog) -> None:
    found = log.sql("SELECT status, count(*) AS n FROM calls GROUP BY 1 ORDER BY 1")
    assert found.rows() == [
        ("aborted", 1), ("cached", 1), ("crashed", 1), ("failed", 2), ("finished", 4), ("running", 1),
    ]  # fmt: skip
    running = pl.DataFrame({"call_id": [cid(9)], "prompt": ["question 9"], "user_id": ["ann"]})
    query = "SELECT call_id, prompt, user_id FROM calls WHERE status = 'running'"
    assert log.sql(query).equals(running)
