"""Spans of every convention become the same call."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry.made_spans import CHAT, START_NS, of_calls, span, spans
from tracemill.events import LlmCallAborted, LlmCallFailed, LlmCallFinished, LlmCallStarted
from tracemill.log import EventLog
from tracemill.messages import (
    File,
    Image,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from tracemill.prices import load
from tracemill.telemetry.ingest import ingest
from tracemill.telemetry.spans import call_events

_ASKED = (Message(role="system", content="Be brief."), Message(role="user", content="2+2?"))
_TOOL = Tool(name="find", description="Finds.", parameters={"type": "object"})


def _call(
    attributes: dict[str, Any], events: Any = (), **more: Any
) -> tuple[LlmCallStarted, LlmCallFinished]:
    resource = more.pop("resource", None)
    one = spans(span(attributes=attributes, events=events, **more), resource=resource)[0]
    made = call_events(one, load(), redact=False)
    assert made is not None
    assert isinstance(made[1], LlmCallFinished)
    return made[0], made[1]


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


NEW = {
    **CHAT,
    "gen_ai.response.model": "gpt-5.4-mini-2026-03-17",
    "gen_ai.usage.cache_read.input_tokens": 64,
    "gen_ai.usage.cache_write.input_tokens": 8,
    "gen_ai.usage.reasoning.output_tokens": 5,
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.max_tokens": 50,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.input.messages": json.dumps([_text("system", "Be brief."), _text("user", "2+2?")]),
    "gen_ai.output.messages": json.dumps([{**_text("assistant", "4"), "finish_reason": "stop"}]),
    "gen_ai.tool.definitions": json.dumps(
        [
            {
                "type": "function",
                "name": "find",
                "description": "Finds.",
                "parameters": {"type": "object"},
            }
        ]
    ),
    "gen_ai.conversation.id": "c1",
    "user.id": "u1",
}
OLD = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-5.4-mini",
    "gen_ai.response.model": "gpt-5.4-mini-2026-03-17",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 20,
    "gen_ai.usage.cache_read_input_tokens": 64,
    "gen_ai.usage.cache_creation.input_tokens": 8,
    "gen_ai.usage.reasoning_tokens": 5,
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.max_tokens": 50,
    "gen_ai.tool.definitions": NEW["gen_ai.tool.definitions"],
    "session.id": "c1",
    "enduser.id": "u1",
}
OLD_EVENTS = [
    ("gen_ai.system.message", {"content": "Be brief."}),
    ("gen_ai.user.message", {"content": "2+2?"}),
    ("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": '{"content": "4"}'}),
]
OPENLLMETRY = {
    "llm.request.type": "chat",
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "gpt-5.4-mini",
    "gen_ai.response.model": "gpt-5.4-mini-2026-03-17",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 20,
    "gen_ai.usage.cache_read_input_tokens": 64,
    "gen_ai.usage.cache_creation_input_tokens": 8,
    "gen_ai.usage.reasoning_tokens": 5,
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.max_tokens": 50,
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": "2+2?",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "4",
    "gen_ai.completion.0.finish_reason": "stop",
    "llm.request.functions.0.name": "find",
    "llm.request.functions.0.description": "Finds.",
    "llm.request.functions.0.parameters": '{"type": "object"}',
    "session.id": "c1",
    "user.id": "u1",
}
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.request.model_name": "gpt-5.4-mini",
    "llm.response.model_name": "gpt-5.4-mini-2026-03-17",
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 20,
    "llm.token_count.prompt_details.cache_read": 64,
    "llm.token_count.prompt_details.cache_write": 8,
    "llm.token_count.completion_details.reasoning": 5,
    "llm.invocation_parameters": '{"temperature": 0.5, "max_tokens": 50}',
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "2+2?",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "4",
    "llm.finish_reason": "stop",
    "llm.tools.0.tool.json_schema": NEW["gen_ai.tool.definitions"][1:-1],
    "session.id": "c1",
    "user.id": "u1",
}


@pytest.mark.parametrize(
    ("attributes", "events"),
    [(NEW, ()), (OLD, OLD_EVENTS), (OPENLLMETRY, ()), (OPENINFERENCE, ())],
    ids=["genai", "genai until 1.36", "openllmetry", "openinference"],
)
def test_every_convention_tells_the_same_call(attributes: dict[str, Any], events: Any) -> None:
    began, ended = _call(attributes, events)
    assert (began.messages, began.tools) == (_ASKED, (_TOOL,))
    assert (began.temperature, began.max_output_tokens) == (0.5, 50)
    about = (ended.operation, ended.provider, ended.request_model, ended.response_model)
    assert about == ("chat", "openai", "gpt-5.4-mini", "gpt-5.4-mini-2026-03-17")
    assert (ended.conversation_id, ended.user_id) == ("c1", "u1")
    assert (ended.content, ended.finish_reasons) == ("4", ("stop",))
    assert ended.usage.model_copy(update={"raw": None}) == Usage(
        input_tokens=100,
        output_tokens=20,
        cache_read_input_tokens=64,
        cache_write_input_tokens=8,
        reasoning_output_tokens=5,
    )
    assert ended.cost_usd is not None
    assert ended.cost_usd > 0
    assert ended.latency_ms == 1500
    assert began.occurred_at.timestamp() * 1_000_000_000 == START_NS


def test_the_trace_and_its_spans_are_kept() -> None:
    began, ended = _call(NEW, parentSpanId="0f" * 8)
    assert (began.trace_id, began.span_id) == ("0" * 31 + "1", "0" * 15 + "1")
    assert (began.parent_span_id, ended.trace_id) == ("0f" * 8, began.trace_id)
    assert ended.causation_id == began.event_id


def test_parts_of_messages_keep_their_kind() -> None:
    asked = [
        {"role": "user", "parts": [
            {"type": "text", "content": "what is this"},
            {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
            {"type": "hologram", "content": 3},
            {"type": "uri", "modality": "audio", "uri": "https://example.org/a"},
            {"type": "blob", "mime_type": "application/pdf", "content": "JVBERg=="},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"type": "document", "title": "A", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        ]},
        {"role": "assistant", "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "tool_call", "id": "t1", "name": "look", "arguments": {"x": 1}},
        ]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "a cat"}]},
    ]  # fmt: skip
    began, _ = _call({**CHAT, "gen_ai.input.messages": json.dumps(asked)})
    user, assistant, tool = (message.parts for message in began.messages)
    assert user[:2] == (Text(content="what is this"), Image(uri="https://example.org/a.png"))
    assert isinstance(user[2], Image)
    assert user[2].uri.startswith("data:image/png;sha256=")
    assert user[3] == Text(content='{"type":"hologram","content":3}')
    assert [(each.mime_type, each.name) for each in user[4:] if isinstance(each, File)] == [
        (None, None),
        ("application/pdf", None),
        (None, "a.pdf"),
        (None, None),
        ("audio/wav", None),
        (None, "A"),
    ]
    assert [each.uri.partition("=")[0] for each in user[4:] if isinstance(each, File)] == [
        "https://example.org/a",
        *["data:application/pdf;sha256"] * 2,
        "file-1",
        "data:audio/wav;sha256",
        "https://example.org/a.pdf",
    ]
    call = ToolCall(id="t1", name="look", arguments='{"x":1}')
    assert assistant == (Reasoning(content="hm"), call)
    assert tool == (ToolResult(id="t1", response="a cat"),)


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.request.method": "GET"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "openai"},
        {"gen_ai.operation.name": "execute_tool", "gen_ai.request.model": "gpt-5.4-mini"},
        {"openinference.span.kind": "CHAIN", "llm.model_name": "gpt-5.4-mini"},
        {"langfuse.observation.type": "span"},
    ],
)
def test_other_spans_are_no_calls(attributes: dict[str, Any]) -> None:
    assert call_events(spans(span(attributes=attributes))[0], load()) is None


def test_vectors_and_rankings_are_calls_without_text() -> None:
    _, vectors = _call(
        {
            "openinference.span.kind": "EMBEDDING",
            "embedding.model_name": "text-embedding-3-small",
            "embedding.embeddings.0.embedding.text": "a",
            "embedding.embeddings.1.embedding.text": "b",
            "llm.token_count.prompt": 4,
        }
    )
    assert (vectors.operation, vectors.provider, vectors.content) == ("embeddings", "openai", "")
    began, ranked = _call(
        {
            "openinference.span.kind": "RERANKER",
            "reranker.model_name": "rerank-v3.5",
            "reranker.input_documents.0.document.content": "d",
        }
    )
    assert (ranked.operation, ranked.provider, began.inputs) == ("rerank", "cohere", 1)


def test_an_error_is_a_call_that_failed() -> None:
    raised = [
        ("exception", {"exception.type": "openai.RateLimitError", "exception.message": "slow"})
    ]
    one = spans(
        span(attributes=CHAT | {"gen_ai.usage.input_tokens": ""}, events=raised, status={"code": 2})
    )
    attributes = {n: v for n, v in one[0].attributes.items() if "usage" not in n}
    made = call_events(one[0]._replace(attributes=attributes), load())
    assert made is not None
    failed = made[1]
    assert isinstance(failed, LlmCallFailed)
    assert (failed.error_type, failed.error_message) == ("rate_limited", "slow")


def test_an_error_after_a_part_of_the_answer_is_a_call_that_was_cut() -> None:
    told = {**NEW, "error.type": "timeout"}
    made = call_events(spans(span(attributes=told))[0], load())
    assert made is not None
    cut = made[1]
    assert isinstance(cut, LlmCallAborted)
    assert (cut.error_type, cut.content, cut.usage.output_tokens) == ("timeout", "4", 20)


def test_counts_beside_the_cache_are_told_from_counts_with_it() -> None:
    # Numbers as Anthropic counts them, passed on by an instrumentation as they came.
    told = CHAT | {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 5000}
    _, ended = _call(told)
    assert ended.usage.input_tokens == 5010
    assert ended.usage.parts.input_uncached == 10


def test_a_recorded_cost_is_kept_and_a_missing_one_worked_out() -> None:
    _, told = _call({**CHAT, "gen_ai.usage.cost": 0.5})
    assert (told.cost_usd, told.price_snapshot) == (Decimal("0.5"), "otlp")
    _, ours = _call(CHAT)
    assert ours.cost_usd is not None
    assert "genai-prices" in (ours.price_snapshot or "")
    _, unknown = _call(CHAT | {"gen_ai.request.model": "nobody-knows-me"})
    assert (unknown.cost_usd, unknown.price_snapshot) == (None, None)


def test_values_that_fit_nowhere_do_not_sink_a_call() -> None:
    told = CHAT | {
        "gen_ai.request.temperature": 9.5,
        "gen_ai.request.top_k": 1.5,
        "gen_ai.response.finish_reasons": "nonsense",
        "gen_ai.input.messages": "[{not json",
        "gen_ai.conversation.id": "a\nb" * 200,
    }
    began, ended = _call(told)
    assert (began.temperature, began.extra) == (None, {"temperature": 9.5, "top_k": 1.5})
    assert began.messages[0].content == "[{not json"
    assert ended.finish_reasons == ("other",)
    assert began.conversation_id == ("ab" * 200)[:200]


# Into the log


def test_a_span_that_is_sent_again_is_one_call(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log") as log:
        told = spans(span(1, attributes=NEW), span(2, attributes=NEW))
        first = ingest(log, told, "key-1")
        again = ingest(log, [*told, *spans(span(3, attributes=NEW))], "key-1")
        # Sent by somebody who has meanwhile set the clock: still the same call.
        later = spans(span(1, attributes=NEW, endTimeUnixNano=str(START_NS + 9_000_000_000)))
        assert ingest(log, later).calls == 0
        assert (first.accepted, first.calls, again.accepted, again.calls) == (2, 2, 3, 1)
        assert log.sql("SELECT status, count(*) AS n FROM calls GROUP BY status").rows() == [
            ("finished", 3)
        ]
        assert {event.key_id for event in of_calls(log)} == {"key-1"}


def test_the_key_that_a_span_was_sent_with_goes_before_what_it_says(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log") as log:
        ingest(log, spans(span(attributes=CHAT | {"tracemill.key_id": "someone-else"})), "mine")
        assert {event.key_id for event in of_calls(log)} == {"mine"}


def test_bad_spans_are_quarantined_with_their_reason_and_the_others_taken(tmp_path: Path) -> None:
    bad = [
        span(1, attributes=CHAT, traceId="0" * 32),
        span(2, attributes=CHAT, spanId="xyz"),
        span(3, attributes=CHAT, startTimeUnixNano="0"),
        span(4, attributes=CHAT | {"gen_ai.usage.input_tokens": -1}),
        span(5, attributes=CHAT | {"gen_ai.usage.input_tokens": "many"}),
        span(6, attributes=CHAT | {"gen_ai.input.messages": "x" * 16_100_000}),
    ]
    with EventLog(tmp_path / "log") as log:
        done = ingest(log, spans(*bad, span(7, attributes=CHAT), span(8, name="GET /")))
        assert (done.accepted, done.rejected, done.calls) == (2, 6, 1)
    lines = next((tmp_path / "quarantine" / "spans").glob("*.jsonl")).read_text().splitlines()
    kept = sorted((json.loads(line) for line in lines), key=lambda one: one["row"])
    assert [one["row"] for one in kept] == [1, 2, 3, 4, 5, 6]
    assert [one["reason"].partition(":")[0] for one in kept[:3]] == [
        "its trace id is not 32 hex digits",
        "its span id is not 16 hex digits",
        "its time cannot be 0 ns after 1970",
    ]
    assert "cannot be -1" in kept[3]["reason"]
    assert "is no number" in kept[4]["reason"]
    assert "16,000,000" in kept[5]["reason"]
    assert json.loads(kept[3]["raw"])["span_id"] == f"{4:016x}"


def test_personal_data_becomes_placeholders_unless_it_is_wanted(tmp_path: Path) -> None:
    asked = json.dumps([_text("user", "write to ann@example.org")])
    told = CHAT | {"gen_ai.input.messages": asked, "user.id": "ann@example.org"}
    with EventLog(tmp_path / "a" / "log") as log:
        ingest(log, spans(span(attributes=told)))
        began = of_calls(log)[0]
        assert isinstance(began, LlmCallStarted)
        assert began.messages[0].content == "write to [email]"
        assert (began.user_id or "").startswith("redacted:")
    with EventLog(tmp_path / "b" / "log") as log:
        ingest(log, spans(span(attributes=told)), redact=False)
        assert of_calls(log)[0].user_id == "ann@example.org"
