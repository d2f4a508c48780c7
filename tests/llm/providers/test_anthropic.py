"""Anthropic's messages: recorded answers are read as its SDK reads them."""

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.recorded import Recorded, answered, name, needs_recordings, recordings
from tests.llm.recorded import fed as fed_to
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Reply, anthropic
from tracemill.llm.sse import Decoder, Event
from tracemill.messages import Delta, Native, Reasoning, Text, ToolCall, Usage

NEW = PROVIDERS["anthropic"]
MODEL = "claude-sonnet-5-5"
MESSAGES = [r for r in recordings("anthropic", "v1.messages") if r.expected]
ANSWERS = [r for r in MESSAGES if r.status == 200]
ERRORS = [r for r in recordings("anthropic") if r.status >= 400 and r.expected]
STREAMS = [r for r in ANSWERS if r.is_stream]
CALL = ToolCall(id="t1", name="weather", arguments='{"city": "Kyiv"}')


def fed(chunks: Iterable[bytes]) -> tuple[anthropic.Fold, list[Delta]]:
    return fed_to(anthropic.fold(NEW), chunks)


def answer(recorded: Recorded) -> Reply:
    return answered(anthropic, NEW, recorded)


def as_the_sdk(reply: Reply) -> dict:
    """The reply in the words of the expectations: thoughts are cut, input leaves out the cache."""
    usage = reply.usage or Usage()
    read, written = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    return {
        "text": reply.text,
        "thinking": "".join(p.content for p in reply.parts if isinstance(p, Reasoning))[:200],
        "tool_calls": [
            [p.name, json.loads(p.arguments)] for p in reply.parts if isinstance(p, ToolCall)
        ],
        "finish": reply.raw_finish_reason,
        "model": reply.response_model,
        "usage": {
            "input": usage.input_tokens - read - written,
            "output": usage.output_tokens,
            "cache_read": read,
            "cache_write": written,
            "reasoning": usage.reasoning_output_tokens,
        },
    }


@needs_recordings
@pytest.mark.parametrize("recorded", ANSWERS, ids=name)
def test_an_answer_is_read_as_the_sdk_reads_it(recorded: Recorded):
    expected = dict(recorded.expected or {})
    del expected["blocks"]
    calls = [[name, json.loads(arguments)] for name, arguments in expected.get("tool_calls", [])]
    wanted = {"text": "", "thinking": ""} | expected | {"tool_calls": calls}
    assert as_the_sdk(answer(recorded)) == wanted


@needs_recordings
@pytest.mark.parametrize("recorded", STREAMS, ids=name)
def test_what_is_streamed_is_what_is_answered(recorded: Recorded):
    fold, deltas = fed([recorded.body])
    seen = as_the_sdk(fold.reply())
    calls = {d.tool_call.id: "" for d in deltas if d.tool_call}
    for delta in deltas:
        if delta.tool_call:
            calls[delta.tool_call.id] += delta.tool_call.arguments
    assert "".join(d.text for d in deltas) == seen["text"]
    assert "".join(d.reasoning for d in deltas)[:200] == seen["thinking"]
    assert [json.loads(written) for written in calls.values()] == [
        arguments for _, arguments in seen["tool_calls"]
    ]


@needs_recordings
@given(st.data())
def test_a_stream_may_be_cut_into_any_chunks(data: st.DataObject):
    recorded = data.draw(st.sampled_from(sorted(STREAMS, key=lambda r: len(r.body))[:8]))
    ends = sorted(data.draw(st.lists(st.integers(0, len(recorded.body)), max_size=20)))
    bounds = [0, *ends, len(recorded.body)]
    chunks = [recorded.body[a:b] for a, b in pairwise(bounds)]
    assert fed(chunks)[0].reply() == fed([recorded.body])[0].reply()


@needs_recordings
@pytest.mark.parametrize("recorded", STREAMS, ids=name)
def test_a_stream_that_ends_early_is_not_done(recorded: Recorded):
    events = list(Decoder().feed(recorded.body))
    whole = fed([recorded.body])[0].reply().text
    for size in {0, 1, len(events) // 2, len(events) - 1}:
        fold = anthropic.fold(NEW)
        for event in events[:size]:
            list(fold.feed(event))
        assert (fold.done, whole.startswith(fold.reply().text)) == (False, True)


@needs_recordings
@pytest.mark.parametrize("recorded", ERRORS, ids=name)
def test_an_error_says_what_the_sdk_says(recorded: Recorded):
    expected = recorded.expected or {}
    error = anthropic.error(recorded.status, recorded.headers, recorded.body)
    seen = (error.status, error.code)
    assert seen == (expected["status"], expected["code"] or expected["type"])
    assert error.request_id == (expected["request_id"] or json.loads(recorded.body)["request_id"])
    model = str(error).startswith("model:")
    missing = "unknown_model" if model else "not_found"
    assert error.error_type == {400: "invalid_request", 404: missing}[recorded.status]


@needs_recordings
@pytest.mark.parametrize(
    "recorded",
    [r for r in recordings("anthropic", "v1.messages.count_tokens") if r.status == 200],
    ids=name,
)
def test_a_count_is_read(recorded: Recorded):
    assert {"input_tokens": anthropic.read_count(json.loads(recorded.body))} == recorded.expected


def told(**message) -> dict:
    return {"id": "msg_1", "model": MODEL, "content": [], "stop_reason": "end_turn"} | message


def stream(*events: dict) -> bytes:
    return b"".join(
        f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n".encode()
        for e in events
    )


START = {
    "type": "message_start",
    "message": told(
        stop_reason=None, usage={"input_tokens": 9, "output_tokens": 1, "service_tier": "standard"}
    ),
}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
STOP = {"type": "content_block_stop", "index": 0}
END = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"input_tokens": 20, "output_tokens": 7, "cache_read_input_tokens": 5},
}
LAST = {"type": "message_stop"}


def said(words: str) -> dict:
    delta = {"type": "text_delta", "text": words}
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def test_the_last_count_of_each_kind_holds_and_the_cache_is_part_of_the_input():
    fold, _ = fed([stream(START, TEXT, said("a\u2028b"), STOP, {"type": "ping"}, END, LAST)])
    usage = {"input_tokens": 20, "output_tokens": 7, "cache_read_input_tokens": 5}
    assert (fold.done, fold.reply()) == (
        True,
        Reply(
            parts=(Text(content="a\u2028b"),),
            finish_reason="stop",
            raw_finish_reason="end_turn",
            response_model=MODEL,
            usage=Usage(
                input_tokens=25,
                output_tokens=7,
                cache_read_input_tokens=5,
                raw=usage | {"service_tier": "standard"},
            ),
            response_id="msg_1",
            service_tier="standard",
        ),
    )


def test_a_stream_without_the_last_empty_line_is_whole():
    fold, _ = fed([stream(START, TEXT, said("x"), STOP, END, LAST).rstrip()])
    assert fold.done


def test_a_cut_stream_keeps_what_came_and_says_that_its_count_is_ours():
    fold, _ = fed([stream(START, TEXT, said("the quick brown fox jumps"))])
    reply = fold.reply()
    assert (fold.done, reply.text, reply.finish_reason) == (
        False,
        "the quick brown fox jumps",
        "other",
    )
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.estimated) == (9, True)
    assert reply.usage.output_tokens > 1


def test_a_stream_that_breaks_before_it_begins_has_no_count():
    assert anthropic.fold(NEW).reply().usage is None


@pytest.mark.parametrize(
    ("kind", "error_type", "retry"),
    [
        ("overloaded_error", "overloaded", True),
        ("api_error", "server_error", True),
        ("rate_limit_error", "rate_limited", True),
        ("invalid_request_error", "invalid_request", False),
        ("billing_error", "billing", False),
        ("what_is_this", "server_error", True),
    ],
)
def test_an_error_within_a_stream_is_raised(kind: str, error_type: str, retry: bool):
    problem = {"type": "error", "error": {"type": kind, "message": "Sorry"}, "request_id": "req_7"}
    fold = anthropic.fold(NEW)
    list(fold.feed(Event("message_start", json.dumps(START))))
    with pytest.raises(CallFailed, match="Sorry") as caught:
        list(fold.feed(Event("error", json.dumps(problem))))
    error = caught.value
    assert (error.error_type, error.retry, error.code) == (error_type, retry, kind)
    assert error.request_id == "req_7"


@pytest.mark.parametrize(
    ("status", "problem", "error_type", "retry"),
    [
        (529, {"type": "overloaded_error", "message": "Overloaded"}, "overloaded", True),
        (413, {"type": "request_too_large", "message": "Too large"}, "request_too_large", False),
        (
            400,
            {
                "type": "invalid_request_error",
                "message": "prompt is too long: 213462 tokens > 200000 maximum",
            },
            "context_length_exceeded",
            False,
        ),
        (
            400,
            {
                "type": "invalid_request_error",
                "message": "input length and `max_tokens` exceed context limit: 190000 + 16000",
            },
            "context_length_exceeded",
            False,
        ),
        (
            400,
            {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API.",
            },
            "billing",
            False,
        ),
        (
            429,
            {
                "type": "rate_limit_error",
                "message": "Limit",
                "details": {"error_code": "enforced_spend_limit_reached"},
            },
            "billing",
            False,
        ),
        (429, {"type": "rate_limit_error", "message": "Slow down"}, "rate_limited", True),
        (
            400,
            {
                "type": "invalid_request_error",
                "message": "Output blocked by content filtering policy",
            },
            "content_filter",
            False,
        ),
    ],
)
def test_an_error_has_its_class(status: int, problem: dict, error_type: str, retry: bool):
    body = json.dumps({"type": "error", "error": problem, "request_id": "req_0"}).encode()
    error = anthropic.error(status, {"request-id": "req_1", "retry-after": "3"}, body)
    assert (error.error_type, error.retry, error.retry_after_s, error.request_id, str(error)) == (
        error_type,
        retry,
        3.0,
        "req_1",
        problem["message"],
    )


def test_an_error_page_is_shown_as_it_is():
    error = anthropic.error(502, {}, b"<html>Bad gateway</html>")
    assert (error.error_type, str(error)) == ("server_error", "<html>Bad gateway</html>")
    assert "status 503" in str(anthropic.error(503, {}, b""))


def test_an_error_with_status_200_is_raised():
    with pytest.raises(CallFailed, match="Overloaded") as caught:
        anthropic.read(
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, NEW
        )
    assert caught.value.retry
    assert anthropic.read(told() | {"error": None}, NEW) == anthropic.read(told(), NEW)


@pytest.mark.parametrize(
    ("raw", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_call"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "context_window"),
        ("a_new_one", "other"),
        (None, "other"),
    ],
)
def test_why_it_stopped(raw: str | None, finish: str):
    reply = anthropic.read(told(stop_reason=raw), NEW)
    assert (reply.finish_reason, reply.raw_finish_reason) == (finish, raw)


def test_a_refusal_says_why():
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    reply = anthropic.read(told(stop_reason="refusal", stop_details=details), NEW)
    assert (reply.finish_reason, reply.refusal) == ("refusal", "Not this.")


def test_blocks_become_parts_and_those_that_only_anthropic_has_stay_as_they_are():
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "compaction", "content": "Earlier they spoke."},
        {"type": "something_new", "text": "?"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Kyiv"}},
    ]
    reply = anthropic.read(told(content=content, stop_reason="tool_use"), NEW)
    assert reply.parts == (
        Reasoning(content="Hm.", signature="sig"),
        Reasoning(signature="secret", redacted=True),
        Native(body={"type": "compaction", "content": "Earlier they spoke."}),
        Native(body={"type": "something_new", "text": "?"}),
        Text(content="Let me see."),
        CALL,
    )


def test_a_search_comes_whole_and_what_rests_on_it_is_cited():
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    cited = {"type": "web_search_result_location", "url": "https://example.org"}

    def started(index: int, block: dict) -> dict:
        return {"type": "content_block_start", "index": index, "content_block": block}

    def grown(index: int, **delta: object) -> dict:
        return {"type": "content_block_delta", "index": index, "delta": delta}

    def stopped(index: int) -> dict:
        return {"type": "content_block_stop", "index": index}

    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    events = [
        started(0, search),
        grown(0, type="input_json_delta", partial_json='{"query": '),
        grown(0, type="input_json_delta", partial_json='"sky"}'),
        stopped(0),
        started(1, found),
        stopped(1),
        started(2, {"type": "text", "text": ""}),
        grown(2, type="text_delta", text="I see: "),
        stopped(2),
        started(3, {"type": "text", "text": ""}),
        grown(3, type="citations_delta", citation=cited),
        grown(3, type="text_delta", text="it is blue"),
        stopped(3),
        started(4, {"type": "compaction", "content": None}),
        grown(4, type="compaction_delta", content="They spoke of the sky."),
        stopped(4),
    ]
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    fold, deltas = fed([lines.encode()])
    searched = Native(body={**search, "input": {"query": "sky"}})
    resting = Native(body=cited)
    summed_up = Native(body={"type": "compaction", "content": "They spoke of the sky."})
    assert deltas == [
        Delta(native=searched),
        Delta(native=Native(body=found)),
        Delta(text="I see: "),
        Delta(cited=()),
        Delta(text="it is blue"),
        Delta(cited=(resting,)),
        Delta(native=summed_up),
    ]
    assert fold.reply().parts == (
        searched,
        Native(body=found),
        Text(content="I see: "),
        Text(content="it is blue", citations=(resting,)),
        summed_up,
    )


def test_counts_by_lifetime_of_the_cache_and_by_other_units():
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 10},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
        "service_tier": "priority",
    }
    reply = anthropic.read(told(usage=usage), NEW)
    assert reply.usage == Usage(
        input_tokens=153,
        output_tokens=40,
        cache_read_input_tokens=100,
        cache_write_input_tokens=50,
        cache_write_1h_input_tokens=20,
        reasoning_output_tokens=10,
        billed={"web_search_requests": 2},
        raw=usage,
    )
    assert reply.usage
    assert reply.usage.parts == (3, 100, 30, 20, 30, 10)
    assert reply.service_tier == "priority"
