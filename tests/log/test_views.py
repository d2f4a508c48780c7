"""What the views about calls say; costs and prompts have tests of their own."""

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from tests.log.made import NOON, call
from tracemill.events import (
    BreakerChanged,
    GuardDecided,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
    new_id,
)
from tracemill.log import EventLog
from tracemill.messages import Image, Message, Reasoning, Text, ToolCall, ToolResult, Usage

MODEL: dict[str, Any] = {"provider": "openai", "request_model": "gpt-5"}


def one(log: EventLog, query: str) -> dict[str, Any]:
    (row,) = log.sql(query).to_dicts()
    return row


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def test_a_finished_call_is_one_row_with_everything(log: EventLog) -> None:
    same = {**MODEL, "call_id": new_id(), "conversation_id": "c", "user_id": "u"} | {
        "prompt_name": "answer",
        "prompt_version": "v1",
        "occurred_at": NOON,
    }
    before = new_id()
    log.append(
        [
            LlmCallStarted(
                messages=(Message(role="user", content="Well?"),),
                streamed=True,
                fallback_of=before,
                batch_id="b1",
                service_tier="flex",
                metadata={"team": 'a "b"'},
                **same,
            ),
            LlmCallFinished(
                response_model="gpt-5-may",
                response_id="resp",
                request_id="req",
                service_tier="default",
                content="Yes.",
                finish_reasons=("stop",),
                usage=Usage(
                    input_tokens=9,
                    output_tokens=8,
                    cache_read_input_tokens=4,
                    cache_write_input_tokens=3,
                    cache_write_1h_input_tokens=2,
                    reasoning_output_tokens=1,
                    input_audio_tokens=2,
                    cache_read_audio_tokens=1,
                    output_audio_tokens=3,
                    estimated=True,
                ),
                attempts=2,
                latency_ms=12.5,
                time_to_first_chunk_ms=3.5,
                cost_usd=Decimal("0.000000001"),
                **same,
            ),
        ]
    )
    row = one(log, "FROM calls")
    del row["started_at"], row["ended_at"]
    assert {name: value for name, value in row.items() if value is not None} == {
        "call_id": same["call_id"],
        "status": "finished",
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-5",
        "response_model": "gpt-5-may",
        "input_tokens": 9,
        "output_tokens": 8,
        "cache_read_input_tokens": 4,
        "cache_write_input_tokens": 3,
        "cache_write_1h_input_tokens": 2,
        "reasoning_output_tokens": 1,
        "input_audio_tokens": 2,
        "cache_read_audio_tokens": 1,
        "output_audio_tokens": 3,
        "usage_estimated": True,
        "service_tier": "default",
        "cost_usd": Decimal("0.000000001"),
        "latency_ms": 12.5,
        "time_to_first_chunk_ms": 3.5,
        "attempts": 2,
        "finish_reason": "stop",
        "request_id": "req",
        "response_id": "resp",
        "conversation_id": "c",
        "user_id": "u",
        "prompt_name": "answer",
        "prompt_version": "v1",
        "streamed": True,
        "fallback_of": before,
        "batch_id": "b1",
        "metadata": '{"team":"a \\"b\\""}',
        "prompt": "Well?",
        "answer": "Yes.",
    }


def test_every_way_that_a_call_can_end_has_its_status(log: EventLog) -> None:
    usage = Usage(input_tokens=1, output_tokens=1)
    for event in (
        LlmCallStarted(call_id=new_id(), messages=(), **MODEL),
        LlmCallFailed(
            call_id=new_id(),
            error_type="rate_limited",
            error_message="slow down",
            error_code="rate_limit_exceeded",
            status=429,
            attempts=3,
            latency_ms=1,
            **MODEL,
        ),
        LlmCallAborted(
            call_id=new_id(),
            response_model="m",
            content="Once",
            usage=usage,
            error_type="interrupted",
            error_message="the reader stopped",
            latency_ms=1,
            **MODEL,
        ),
        LlmCallCrashed(call_id=new_id(), process="p", **MODEL),
        LlmCallCached(
            call_id=new_id(),
            messages=(Message(role="user", content="Again?"),),
            cached_call_id=new_id(),
            saved_usd=Decimal("0.5"),
            latency_ms=1,
            **MODEL,
        ),
    ):
        log.append(event)
    columns = "status, error_type, error_code, http_status, attempts, prompt, answer, saved_usd"
    assert log.sql(f"SELECT {columns} FROM calls ORDER BY status").rows() == [  # noqa: S608
        ("aborted", "interrupted", None, None, 1, None, "Once", None),
        ("cached", None, None, None, 0, "Again?", None, Decimal("0.5")),
        ("crashed", "crashed", None, None, None, None, None, None),
        ("failed", "rate_limited", "rate_limit_exceeded", 429, 3, None, None, None),
        ("running", None, None, None, None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([], None),
        ([("system", "Be short.")], None),
        ([("user", "")], ""),
        ([("user", "one"), ("assistant", "two"), ("user", 'th"r\\ee\u2028\u00e9')], 'th"r\\ee\u2028\u00e9'),
        ([("user", "first"), ("assistant", (ToolCall(id="1", name="f", arguments="{}"),)),
          ("tool", (ToolResult(id="1", response="not this"),))], "first"),
        ([("user", (Text(content="a"), Image(uri="https://x.org/y"), Text(content="b")))], "ab"),
        ([("user", (Image(uri="https://x.org/y"),))], ""),
    ],
)  # fmt: skip
def test_the_prompt_is_the_text_of_the_last_user_message(
    log: EventLog, messages: list[tuple[Any, Any]], prompt: str | None
) -> None:
    said = tuple(Message(role=role, content=content) for role, content in messages)
    log.append(LlmCallStarted(call_id=new_id(), messages=said, **MODEL))
    assert one(log, "SELECT prompt FROM calls") == {"prompt": prompt}


def test_the_answer_is_its_text_without_thoughts_and_calls(log: EventLog) -> None:
    asked, finished = call("")
    parts = (Reasoning(content="hm"), Text(content="It "), Text(content="is."))
    more = (ToolCall(id="1", name="f", arguments='{"content":"no"}'),)
    log.append([asked, finished.model_copy(update={"content": (*parts, *more)})])
    assert one(log, "SELECT answer FROM calls") == {"answer": "It is."}


def test_typed_columns_are_grouped_without_reading_a_payload(log: EventLog) -> None:
    log.append([*call(), *call(None)])
    log.fold()
    with duckdb.connect(str(log.folder.with_suffix(".duckdb"))) as connection:
        query = "SELECT provider, status, sum(cost_usd), sum(output_tokens) FROM calls GROUP BY ALL"
        plan = connection.sql(f"EXPLAIN {query}").fetchall()[0][1]
        assert "output_tokens" in plan
        assert "payload" not in plan
        assert "payload" in connection.sql("EXPLAIN SELECT prompt FROM calls").fetchall()[0][1]


# Failures


def failing(message: str, error_type: str = "server_error") -> LlmCallFailed:
    return LlmCallFailed(
        call_id=new_id(), error_type=error_type, error_message=message, latency_ms=1, **MODEL
    )


@pytest.mark.parametrize(
    ("message", "other", "signature"),
    [
        ("no answer in 30 s", "no answer in 7.5 s", "no answer in <n> s"),
        ("try again in 6m0s", "try again in 20.35s", "try again in <n>s"),
        ("Limit 10,000, Used 3", "Limit 5, Used 12:30", "Limit <n>, Used <n>"),
        (
            "request req_011CTxY7abc failed",
            "request req_9Zz failed",
            "request <id> failed",
        ),
        (
            "id 01a202af-dd02-77cf-9d8e-51863ab63d96",
            "id 7ef8dd02-1234-77cf-9d8e-51863ab63d96",
            "id <id>",
        ),
        (
            "model 'gpt-5' is not known",
            'model "my model" is not known',
            "model <value> is not known",
        ),
        ("see https://a.org/x?y=1 now", "see http://b.org/z now", "see <url> now"),
        ("it doesn't\n  work", "it  doesn't work", "it doesn't work"),
        ("sha 0123456789abcdef0123", "sha fedcba98765432100000", "sha <id>"),
    ],
)
def test_what_differs_from_time_to_time_is_not_in_the_signature(
    log: EventLog, message: str, other: str, signature: str
) -> None:
    log.append([failing(message), failing(other)])
    found = log.sql("SELECT DISTINCT signature FROM failures")["signature"].to_list()
    assert found == [f"server_error: {signature}"]


def test_failures_are_failed_crashed_cut_refused_and_filtered_calls_and_no_others(
    log: EventLog,
) -> None:
    _, finished = call('a text about "refusal" and "content_filter"')

    def ended(**changed: Any) -> LlmCallFinished:
        return LlmCallFinished.model_validate(
            finished.model_dump() | {"call_id": new_id(), "event_id": new_id()} | changed
        )

    cut = {"response_model": "m", "content": "", "usage": Usage(), "latency_ms": 1, **MODEL}
    log.append(
        [
            finished,
            ended(finish_reasons=("length",)),
            ended(finish_reasons=("refusal",)),
            ended(finish_reasons=("stop", "content_filter")),
            ended(refusal="I will not help with that."),
            failing("oh"),
            LlmCallCrashed(call_id=new_id(), process="p", **MODEL),
            LlmCallAborted(call_id=new_id(), error_type="interrupted", error_message="", **cut),
            LlmCallAborted(call_id=new_id(), error_type="connection", error_message="gone", **cut),
            LlmCallStarted(call_id=new_id(), messages=(), **MODEL),
        ]
    )
    found = log.sql("SELECT status, error_type, signature FROM failures ORDER BY position").rows()
    assert found == [
        ("finished", "refusal", "refusal"),
        ("finished", "content_filter", "content_filter"),
        ("finished", "refusal", "refusal: I will not help with that."),
        ("failed", "server_error", "server_error: oh"),
        ("crashed", "crashed", "crashed: the process that made the call ended without a word"),
        ("aborted", "connection", "connection: gone"),
    ]


# Retries, guard, breakers


def retried(call_id: str, attempt: int, error_type: str = "rate_limited") -> LlmCallRetried:
    return LlmCallRetried(
        call_id=call_id,
        attempt=attempt,
        error_type=error_type,
        error_message="slow down",
        status=429,
        wait_ms=100.0 * attempt,
        latency_ms=5,
        occurred_at=NOON + timedelta(seconds=attempt),
        **MODEL,
    )


def test_retries_are_counted_with_their_waits_and_their_outcome(log: EventLog) -> None:
    (_, won), (_, lost) = call("yes"), call(None)
    assert isinstance(won, LlmCallFinished)
    assert isinstance(lost, LlmCallFailed)
    log.append(
        [retried(won.call_id, 1), retried(won.call_id, 2), won, retried(lost.call_id, 1), lost]
    )
    log.append(retried(new_id(), 1))
    assert one(log, "FROM retries") == {
        **MODEL,
        "error_type": "rate_limited",
        "http_status": 429,
        "retries": 4,
        "calls": 3,
        "recovered": 1,
        "lost": 1,
        "waited_ms": 500.0,
        "spent_ms": 20.0,
        "last_at": NOON + timedelta(seconds=2),
    }
    attempts = log.sql("SELECT call_id, attempt, wait_ms FROM attempts ORDER BY ALL").rows()
    assert (won.call_id, 2, 200.0) in attempts
    assert len(attempts) == 4


def test_the_guard_is_heard(log: EventLog) -> None:
    decided = GuardDecided(
        call_id=new_id(),
        rule="pii",
        side="input",
        action="redacted",
        found={"email": 2},
        message="2 email addresses were redacted",
        occurred_at=NOON,
    )
    log.append(decided)
    assert one(log, "FROM guard") == {
        "call_id": decided.call_id,
        "decided_at": NOON,
        "rule": "pii",
        "side": "input",
        "action": "redacted",
        "found": '{"email":2}',
        "message": "2 email addresses were redacted",
    }


def test_a_breaker_is_as_it_was_last_heard_of(log: EventLog) -> None:
    for minute, state in enumerate(("open", "half_open", "open", "half_open", "closed")):
        at = NOON + timedelta(minutes=minute)
        log.append(BreakerChanged(**MODEL, state=state, reason=state, occurred_at=at))
    assert one(log, "FROM breakers") == {
        **MODEL,
        "state": "closed",
        "reason": "closed",
        "changed_at": NOON + timedelta(minutes=4),
        "opened": 2,
        "last_opened_at": NOON + timedelta(minutes=2),
    }


def test_functions_of_the_views_serve_questions_too(log: EventLog) -> None:
    asked = "SELECT pattern_of('limit 3 for \"x\"') AS p, words_of('Don''t, 42! \u6771\u4eac') AS w"
    assert one(log, asked) == {"p": "limit <n> for <value>", "w": "don t 0 \u6771 \u4eac"}


def test_the_catalogue_holds_the_functions_too() -> None:
    with tempfile.TemporaryDirectory() as folder, EventLog(Path(folder) / "log") as log:
        log.append(call(None))
        log.fold()
        with duckdb.connect(str(log.folder.with_suffix(".duckdb")), read_only=True) as connection:
            found = connection.sql("SELECT signature, prompt FROM failures").pl()
    assert found.equals(pl.DataFrame({"signature": ["timeout: late"], "prompt": ["is it?"]}))
