"""Every call is in the log before it is made, and ends in exactly one event."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tracemill.errors import CallFailed, VersionConflict
from tracemill.events import LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.llm import providers
from tracemill.llm.client import Client
from tracemill.llm.options import Options
from tracemill.llm.providers import local
from tracemill.log import EventLog
from tracemill.messages import Message, Request, Response, Usage


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def client(log: EventLog) -> Client:
    return Client(log)


def test_an_answered_call_is_started_and_finished(log: EventLog, client: Client):
    call_id = new_id()
    request = Request.of("say it", model="local/echo")
    response = client.generate(request, call_id=call_id, actor="test")
    started, finished = (recorded.event for recorded in log.read())
    assert response == Response(
        call_id=call_id,
        content="say it",
        finish_reasons=("stop",),
        raw_finish_reason="stop",
        response_model="echo",
        usage=Usage(input_tokens=2, output_tokens=2),
        latency_ms=response.latency_ms,
        cost_usd=Decimal(0),
    )
    about: dict[str, Any] = {"call_id": call_id, "provider": "local", "actor": "test"}
    about["request_model"] = "echo"
    assert started == LlmCallStarted(
        **about,
        event_id=started.event_id,
        occurred_at=started.occurred_at,
        messages=(Message(role="user", content="say it"),),
        process=log.process,
    )
    assert isinstance(finished, LlmCallFinished)
    assert finished == LlmCallFinished(
        **about,
        event_id=finished.event_id,
        occurred_at=finished.occurred_at,
        causation_id=started.event_id,
        response_model="echo",
        content="say it",
        raw_finish_reason="stop",
        finish_reasons=("stop",),
        usage=response.usage,
        latency_ms=response.latency_ms,
        cost_usd=Decimal(0),
        price_snapshot=finished.price_snapshot,
    )


def test_the_price_of_the_day_is_in_the_event(log: EventLog, client: Client):
    prompt = "Folding seals the tail of the journal.\n\nWhat does folding seal?"
    response = client.generate(Request.of(prompt))
    usage = response.usage
    expected = Decimal("0.01") * usage.input_tokens + Decimal("0.03") * usage.output_tokens
    assert response.cost_usd == expected / 1_000_000
    costs = log.sql("SELECT cost_usd FROM calls")["cost_usd"].to_list()
    assert costs == [response.cost_usd]


@pytest.mark.parametrize(
    ("model", "prompt", "error_type", "says"),
    [
        ("local/extract", "Who?", "no_answer", "nothing found: the prompt has no passages"),
        ("local/extract", "x " * 5_000, "context_length_exceeded", "reads at most 4,096"),
        ("local/poet", "Who?", "unknown_model", "local has no model 'poet'"),
        ("nowhere/poet", "Who?", "unknown_provider", "the providers are .*local"),
        ("extract", "Who?", "unknown_provider", "a model is named as provider/model"),
        ("a\x00b/" + "c" * 900, "Who?", "unknown_provider", "no provider 'ab'"),
    ],
)
def test_a_call_without_an_answer_is_in_the_log_with_its_reason(
    log: EventLog, client: Client, model: str, prompt: str, error_type: str, says: str
):
    with pytest.raises(CallFailed, match=says) as caught:
        client.generate(Request.of(prompt, model=model))
    assert caught.value.error_type == error_type
    assert [type(recorded.event) for recorded in log.read()] == [LlmCallStarted, LlmCallFailed]
    assert log.sql("SELECT status, error_type, error_message FROM calls").rows() == [
        ("failed", error_type, str(caught.value))
    ]


@pytest.mark.parametrize(
    ("broken", "raised", "error_type"),
    [
        (ZeroDivisionError, CallFailed, "internal_error"),
        (KeyboardInterrupt, KeyboardInterrupt, "interrupted"),
    ],
)
def test_a_provider_that_breaks_leaves_a_failed_call(
    log: EventLog,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    broken: type[BaseException],
    raised: type[BaseException],
    error_type: str,
):
    def breaks(model: str, request: Request) -> providers.Reply:
        raise broken("x")

    monkeypatch.setattr(local, "reply", breaks)
    with pytest.raises(raised):
        client.generate(Request.of("x", model="local/echo"))
    ended = [r.event for r in log.read(kinds=["llm.call.failed"])]
    assert [e.error_type for e in ended if isinstance(e, LlmCallFailed)] == [error_type]


def test_a_call_that_someone_else_ended_is_not_ended_twice(
    log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch
):
    call_id = new_id()

    def end_it_first(model: str, request: Request) -> providers.Reply:
        about: dict[str, Any] = {"call_id": call_id, "provider": "local", "request_model": model}
        log.append(LlmCallFailed(**about, error_type="x", error_message="x", latency_ms=0))
        return providers.Reply((), "stop", None, model, Usage())

    monkeypatch.setattr(local, "reply", end_it_first)
    with pytest.raises(VersionConflict):
        client.generate(Request.of("x"), call_id=call_id)
    assert log.sql("SELECT status, error_type FROM calls").rows() == [("failed", "x")]


def test_an_id_is_used_once(log: EventLog, client: Client):
    call_id = new_id()
    client.generate(Request.of("x", model="local/echo"), call_id=call_id)
    with pytest.raises(VersionConflict):
        client.generate(Request.of("x", model="local/echo"), call_id=call_id)
    assert log.position() == 2


def test_what_the_caller_knows_is_on_every_event(log: EventLog, client: Client):
    ids: Options = {"correlation_id": "build 7", "causation_id": new_id()}
    request = Request.of("x", model="local/echo").model_copy(
        update={"conversation_id": "c1", "user_id": "u1"}
    )
    client.generate(request, **ids)
    rows = log.sql("SELECT correlation_id, causation_id, conversation_id, user_id FROM events")
    started = next(iter(log.read())).event
    assert rows.rows() == [
        ("build 7", ids.get("causation_id"), "c1", "u1"),
        ("build 7", started.event_id, "c1", "u1"),
    ]
