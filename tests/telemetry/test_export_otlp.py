"""Calls go out as spans: a collector gets each once, and another log reads the same call out of it."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tracemill.errors import InputError, TracemillError, UsageError
from tracemill.events import (
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
    new_id,
)
from tracemill.log import EventLog
from tracemill.messages import Message, Reasoning, Text, Tool, ToolCall, Usage
from tracemill.prices import load
from tracemill.telemetry import outgoing
from tracemill.telemetry.export import Refused, address_of, export, spans
from tracemill.telemetry.otlp import PROTOBUF, Span, read
from tracemill.telemetry.spans import call_events

_WORD = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc"]),
    min_size=1,
    max_size=12,
)
_MAYBE = st.none() | _WORD
_COUNT = st.integers(0, 10**6)
_MS = st.floats(0, 10**6).map(lambda x: round(x, 3))
_USD = st.none() | st.decimals(0, 9999, places=9).filter(bool)
_REASON = st.sampled_from(
    ["stop", "length", "tool_call", "content_filter", "refusal", "pause", "other"]
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    read, wrote = draw(_COUNT), draw(_COUNT)
    hit = draw(st.integers(0, read))
    stored = draw(st.integers(0, read - hit))
    return Usage(
        input_tokens=read,
        output_tokens=wrote,
        cache_read_input_tokens=hit,
        cache_write_input_tokens=stored,
        cache_write_1h_input_tokens=draw(st.integers(0, stored)),
        reasoning_output_tokens=draw(st.integers(0, wrote)),
        input_audio_tokens=draw(_COUNT),
        cache_read_audio_tokens=draw(_COUNT),
        output_audio_tokens=draw(_COUNT),
        billed=draw(st.dictionaries(_WORD, st.floats(0, 100), max_size=2)),
        estimated=draw(st.booleans()),
    )


@st.composite
def calls(draw: st.DrawFn) -> tuple[LlmCallStarted, outgoing.Ended]:
    began_at = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(microseconds=draw(_COUNT))
    about: dict[str, Any] = {
        "call_id": new_id(),
        "operation": draw(st.sampled_from(["chat", "embeddings", "rerank", "text_completion"])),
        "provider": draw(st.sampled_from(["openai", "anthropic", "gcp.gemini", "local"])),
        "request_model": draw(_WORD),
        "metadata": draw(st.dictionaries(_WORD, _WORD, max_size=3)),
        "trace_id": draw(st.sampled_from(["ab" * 16])),
        **{
            n: draw(_MAYBE)
            for n in (
                "conversation_id",
                "user_id",
                "key_id",
                "prompt_name",
                "prompt_version",
                "actor",
            )
        },
    }
    began = LlmCallStarted(
        **about,
        occurred_at=began_at,
        streamed=draw(st.booleans()),
        temperature=draw(st.none() | st.floats(0, 2)),
        max_output_tokens=draw(st.none() | st.integers(1, 10**6)),
        stop=tuple(draw(st.lists(_WORD, max_size=2))),
    )
    about |= {
        "occurred_at": began_at + timedelta(microseconds=draw(_COUNT)),
        "causation_id": began.event_id,
    }
    failed: dict[str, Any] = {
        "error_type": draw(st.sampled_from(["timeout", "rate_limited", "overloaded"])),
        "error_message": draw(_WORD),
    }
    answered: dict[str, Any] = {
        "response_model": draw(_WORD),
        "usage": draw(usages()),
        "attempts": draw(st.integers(1, 5)),
        "latency_ms": draw(_MS),
        "time_to_first_chunk_ms": draw(st.none() | _MS),
        "cost_usd": draw(_USD),
        "service_tier": draw(st.none() | st.sampled_from(["flex", "batch"])),
        **{name: draw(_MAYBE) for name in ("response_id", "request_id")},
    }
    answered["price_snapshot"] = None if answered["cost_usd"] is None else draw(_WORD)
    match draw(st.sampled_from(["finished", "failed", "aborted", "crashed"])):
        case "finished":
            reasons: Any = (draw(_REASON),)
            return began, LlmCallFinished(
                **about,
                **answered,
                content="",
                finish_reasons=reasons,
                raw_finish_reason=draw(_WORD),
            )
        case "aborted":
            return began, LlmCallAborted(**about, **answered, **failed, content="")
        case "failed":
            more = {name: answered[name] for name in ("attempts", "latency_ms", "request_id")}
            status = draw(st.none() | st.sampled_from([429, 503]))
            return began, LlmCallFailed(
                **about, **failed, **more, error_code=draw(_MAYBE), status=status
            )
        case _:
            return began, LlmCallCrashed(**about, process=draw(_WORD))


def _out_and_in(began: LlmCallStarted | None, ended: outgoing.Ended, **how: Any) -> tuple[Any, ...]:
    body = outgoing.request([outgoing.span(began, ended, **how)], "tests")
    [one] = read(body, PROTOBUF)
    made = call_events(one, load(), redact=False)
    assert made is not None
    return made


def _figures(event: Any) -> dict[str, Any]:
    """Everything but ids of events, what a span cannot carry, and rounding."""
    told = event.model_dump(exclude={"event_id", "causation_id", "span_id", "parent_span_id"})
    told.pop("service_tier", None)  # of a start: a span has it once
    for name in ("latency_ms", "time_to_first_chunk_ms"):
        if told.get(name) is not None:
            told[name] = round(told[name], 3)
    if told.get("usage"):
        del told["usage"]["raw"]
    return told


@given(calls())
def test_a_call_that_went_out_and_came_in_again_is_the_same_call(
    made: tuple[LlmCallStarted, outgoing.Ended],
) -> None:
    began, ended = made
    # A model's own price is never asked for where none was recorded.
    if getattr(ended, "cost_usd", 1) is None:
        ended = ended.model_copy(update={"provider": "nobody"})
        began = began.model_copy(update={"provider": "nobody"})
    came = _out_and_in(began, ended)
    assert _figures(came[0]) == _figures(began)
    assert _figures(came[1]) == _figures(ended)
    if isinstance(ended, LlmCallFinished):
        assert came[1].service_tier == ended.service_tier


def test_messages_go_out_only_when_they_are_asked_for() -> None:
    call_id = new_id()
    about: Any = {"call_id": call_id, "provider": "openai", "request_model": "gpt-5.4-mini"}
    look = ToolCall(id="t1", name="look", arguments='{"x":1}')
    thought = Reasoning(content="hm", signature="s", provider="openai")
    began = LlmCallStarted(
        **about,
        messages=(
            Message(role="user", content="a secret"),
            Message(role="assistant", content=(look,)),
        ),
        system="Be brief.",
        tools=(Tool(name="look"),),
    )
    ended = LlmCallFinished(
        **about,
        response_model="gpt-5.4-mini",
        content=(thought, Text(content="4")),
        finish_reasons=("stop",),
        usage=Usage(),
        latency_ms=1,
    )
    assert b"secret" not in outgoing.request([outgoing.span(began, ended)], "tests")
    came = _out_and_in(began, ended, content=True)
    assert (came[0].messages, came[0].system, came[0].tools) == (
        began.messages,
        "Be brief.",
        began.tools,
    )
    assert came[1].content == ended.content


def test_an_answer_from_the_cache_goes_out_too() -> None:
    ended = LlmCallCached(
        call_id=new_id(),
        provider="openai",
        request_model="m",
        cached_call_id=new_id(),
        latency_ms=2,
    )
    [came] = _out_and_in(None, ended)
    assert (came.kind, came.cached_call_id) == ("llm.call.cached", ended.cached_call_id)


# Over a socket


class _Collector(ThreadingHTTPServer):
    """Takes spans, unless it was told to answer otherwise first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[tuple[dict[str, str], list[Span]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        answers = self.server.answers
        status, headers, answer = answers.pop(0) if answers else (200, {}, b"")
        if status == 200:
            told = {name.lower(): value for name, value in self.headers.items()}
            got = read(body, self.headers["content-type"], self.headers["content-encoding"])
            self.server.requests.append((told | {":path": self.path}, got))
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(answer))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def collector() -> Iterator[_Collector]:
    with _Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _fill(log: EventLog, count: int) -> list[str]:
    ids = [new_id() for _ in range(count)]
    for call_id in ids:
        about: Any = {"call_id": call_id, "provider": "local", "request_model": "echo"}
        answer: Any = {
            "response_model": "echo",
            "content": "x",
            "finish_reasons": ("stop",),
            "usage": Usage(),
        }
        log.append([LlmCallStarted(**about), LlmCallFinished(**about, **answer, latency_ms=1)])
    return ids


def test_every_call_is_sent_once_also_after_a_restart(
    tmp_path: Path, collector: _Collector
) -> None:
    state = tmp_path / "cache" / "otlp"
    with EventLog(tmp_path / "log") as log:
        _fill(log, 1)
        # Its start is behind what the first run read.
        late: Any = {"call_id": new_id(), "provider": "local", "request_model": "echo"}
        log.append([LlmCallStarted(**late, temperature=0.5)])
        headers = {"authorization": "Bearer secret"}
        assert export(log, collector.address, headers, state=state).spans == 1
        assert export(log, collector.address, headers, state=state).spans == 0
        log.append([LlmCallFailed(**late, error_type="timeout", error_message="no", latency_ms=1)])
        assert export(log, collector.address, headers, state=state).spans == 1
    sent = [one for _, got in collector.requests for one in got]
    assert [one.name for one in sent] == ["chat echo", "chat echo"]
    assert sent[1].attributes["gen_ai.request.temperature"] == 0.5
    assert (sent[1].error, sent[1].attributes["error.type"]) == (True, "timeout")
    first = collector.requests[0][0]
    assert (first[":path"], first["authorization"]) == ("/v1/traces", "Bearer secret")
    assert first["content-encoding"] == "gzip"
    kept = "".join(path.read_text() for path in state.iterdir())
    assert "secret" not in kept
    # Without the file all of it goes again, under the same ids.
    for path in state.glob("*.json"):
        path.unlink()
    with EventLog(tmp_path / "log") as log:
        export(log, collector.address, state=state)
    assert [one.span_id for one in collector.requests[-1][1]] == [one.span_id for one in sent]


def test_a_busy_collector_is_waited_for(tmp_path: Path, collector: _Collector) -> None:
    collector.answers = [(503, {"retry-after": "7"}, b"busy"), (429, {}, b"slow"), (502, {}, b"")]
    waited: list[float] = []
    with EventLog(tmp_path / "log") as log:
        _fill(log, 2)
        assert export(log, collector.address, state=tmp_path, wait=waited.append).spans == 2
    assert waited[0] == 7
    assert 1 <= waited[1] <= 2
    assert 2 <= waited[2] <= 4
    assert len(collector.requests) == 1


def test_what_was_taken_before_a_refusal_is_not_sent_again(
    tmp_path: Path, collector: _Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracemill.telemetry.export.BATCH", 2)
    collector.answers = [(200, {}, b""), (401, {}, b"who are you?")]
    with EventLog(tmp_path / "log") as log:
        _fill(log, 5)
        with pytest.raises(Refused, match="401: who are you"):
            export(log, collector.address, state=tmp_path)
        assert export(log, collector.address, state=tmp_path).spans == 3
    assert [len(got) for _, got in collector.requests] == [2, 2, 1]
    ids = [one.span_id for _, got in collector.requests for one in got]
    assert len(set(ids)) == 5


def test_a_collector_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    waited: list[float] = []
    with EventLog(tmp_path / "log") as log:
        _fill(log, 1)
        with pytest.raises(TracemillError, match=r"took no spans in 8 tries: no connection"):
            export(log, "http://127.0.0.1:9", state=tmp_path, wait=waited.append)
    assert len(waited) == 7


@pytest.mark.parametrize("kind", ["json", "protobuf"])
def test_spans_that_the_collector_refused_are_told(
    tmp_path: Path, collector: _Collector, kind: str
) -> None:
    if kind == "json":
        partial = {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}
        told = (200, {"content-type": "application/json"}, json.dumps(partial).encode())
    else:
        made = ExportTraceServiceResponse()
        made.partial_success.rejected_spans, made.partial_success.error_message = 2, "too old"
        told = (200, {"content-type": PROTOBUF}, made.SerializeToString())
    collector.answers = [told]
    with EventLog(tmp_path / "log") as log:
        _fill(log, 3)
        done = export(log, collector.address, state=tmp_path)
    assert (done.spans, done.rejected, done.why) == (3, 2, "too old")


def test_two_exports_to_one_address_do_not_run_at_once(
    tmp_path: Path, collector: _Collector
) -> None:
    refused: list[str] = []

    def second(_: int) -> None:
        with pytest.raises(UsageError, match="another process exports") as raised:
            export(log, collector.address, state=tmp_path)
        refused.append(str(raised.value))

    with EventLog(tmp_path / "log") as log:
        _fill(log, 1)
        export(log, collector.address, state=tmp_path, progress=second)
    assert len(refused) == 1


def test_a_damaged_state_is_told(tmp_path: Path, collector: _Collector) -> None:
    with EventLog(tmp_path / "log") as log:
        _fill(log, 1)
        export(log, collector.address, state=tmp_path / "state")
        next((tmp_path / "state").glob("*.json")).write_text("{")
        with pytest.raises(InputError, match="delete it"):
            export(log, collector.address, state=tmp_path / "state")


def test_batches_are_bounded_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.telemetry.export.BATCH_BYTES", 1_000)
    with EventLog(tmp_path / "log") as log:
        _fill(log, 10)
        sizes = [len(batch.spans) for batch in spans(log)]
    assert sum(sizes) == 10
    assert max(sizes) < 5


@pytest.mark.parametrize("wrong", ["localhost:4318", "ftp://x", "http://", "http://a:b@host"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError):
        address_of(wrong)


def test_a_price_of_many_digits_survives() -> None:
    assert Decimal(repr(float(Decimal("9998.123456789")))) == Decimal("9998.123456789")
