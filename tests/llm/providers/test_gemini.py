"""Gemini: recordings decode as the SDK decodes them, however they are cut."""

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.llm.damaged import damaged
from tests.llm.recorded import Recorded, needs_recordings, recordings
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Reply, gemini
from tracemill.llm.sse import Decoder, Event
from tracemill.messages import Delta, Image, Reasoning, Text, ToolCall, Usage

GEMINI = PROVIDERS["gemini"]
RECORDED = [r for r in recordings("google") if r.expected]
CHATS = [r for r in RECORDED if r.endpoint.endswith("enerateContent")]
EMBEDS = [r for r in RECORDED if r.endpoint.endswith("mbedContents")]
ERRORS = [r for r in recordings("google") if r.status >= 400]
PNG = "data:image/png;base64,iVBORw0KGgo="


def name(recorded: Recorded) -> str:
    return recorded.file


def streamed(body: bytes, cuts: Iterable[int] = ()) -> tuple[list[Delta], gemini.Fold]:
    decoder, fold, deltas = Decoder(), gemini.Fold(), []
    for start, end in pairwise([0, *sorted(cuts), len(body)]):
        for event in decoder.feed(body[start:end]):
            deltas += fold.feed(event)
    for event in decoder.close():
        deltas += fold.feed(event)
    return deltas, fold


def sse(*chunks: Any) -> bytes:
    lines = (json.dumps(chunk, ensure_ascii=False) for chunk in chunks)
    return "".join(f"data: {line}\r\n\r\n" for line in lines).encode()


def chunk(*parts: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-x", "responseId": "r1"} | more


def normal(reply: Reply) -> dict[str, Any]:
    """A reply in the words of the recordings' `expected`."""
    usage = reply.usage or Usage()
    said = {
        "text": reply.text,
        "thinking": "".join(p.content for p in reply.parts if isinstance(p, Reasoning)),
        "tool_calls": [[p.name, p.arguments] for p in reply.parts if isinstance(p, ToolCall)],
        "finish": reply.raw_finish_reason,
        "model": reply.response_model,
        "usage": {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_input_tokens,
            "cache_write": usage.cache_write_input_tokens,
            "reasoning": usage.reasoning_output_tokens,
        },
    }
    said["thinking"] = said["thinking"][:200]  # as far as `expected` goes
    return {key: value for key, value in said.items() if value}


def failure(error: dict[str, Any], status: int = 0) -> CallFailed:
    return gemini.error(status or error["code"], {}, json.dumps({"error": error}).encode())


# Answers


@needs_recordings
@pytest.mark.parametrize("recorded", CHATS, ids=name)
def test_a_recorded_answer_reads_as_the_sdk_reads_it(recorded: Recorded) -> None:
    if recorded.is_stream:
        _, fold = streamed(recorded.body, range(0, len(recorded.body), 7))
        assert fold.done
        reply = fold.reply()
    else:
        reply = gemini.read(json.loads(recorded.body), GEMINI)
    assert recorded.expected is not None
    assert normal(reply) == recorded.expected
    word = "CALL" if "tool_calls" in recorded.expected else recorded.expected["finish"]
    kinds = {"STOP": "stop", "MAX_TOKENS": "length", "CALL": "tool_call"}
    assert reply.finish_reason == kinds[word]
    assert reply.usage is not None
    told = reply.usage.raw or {}
    assert told.get("totalTokenCount") in (None, sum(reply.usage.parts))


@needs_recordings
@pytest.mark.parametrize("recorded", EMBEDS, ids=name)
def test_recorded_vectors(recorded: Recorded) -> None:
    vectors = gemini.read_vectors(json.loads(recorded.body), GEMINI).vectors
    assert recorded.expected == {
        "n": len(vectors),
        "dim": len(vectors[0]),
        "first": [round(v, 7) for v in vectors[0][:4]],
    }


def test_one_vector_alone() -> None:
    body = {"embedding": {"values": [1, -2]}, "usageMetadata": {"promptTokenCount": 3}}
    usage = Usage(input_tokens=3, raw={"promptTokenCount": 3})
    assert gemini.read_vectors(body, GEMINI) == ([[1.0, -2.0]], "", usage)


def test_usage_counts_thoughts_and_tool_prompts_beside_the_rest() -> None:
    told = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 20,
        "candidatesTokenCount": 30,
        "thoughtsTokenCount": 7,
        "cachedContentTokenCount": 60,
        "totalTokenCount": 157,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 75},
            {"modality": "AUDIO", "tokenCount": 25},
        ],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 15}],
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 11}],
        "serviceTier": "flex",
    }
    reply = gemini.read(chunk({"text": "x"}, finish="STOP", usageMetadata=told), GEMINI)
    assert reply.usage == Usage(
        input_tokens=120,
        output_tokens=37,
        cache_read_input_tokens=60,
        reasoning_output_tokens=7,
        input_audio_tokens=25,
        cache_read_audio_tokens=15,
        output_audio_tokens=11,
        raw=told,
    )
    assert reply.service_tier == "flex"


def test_a_blocked_prompt_is_an_answer() -> None:
    body = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
        "modelVersion": "gemini-x",
    }
    for reply in (gemini.read(body, GEMINI), streamed(sse(body))[1].reply()):
        assert reply == Reply(
            (),
            "content_filter",
            "PROHIBITED_CONTENT",
            "gemini-x",
            Usage(input_tokens=9, raw=body["usageMetadata"]),
        )


def test_an_answer_without_candidates_keeps_what_was_counted() -> None:
    counted = {"promptTokenCount": 9, "thoughtsTokenCount": 4, "totalTokenCount": 13}
    body = {"usageMetadata": counted, "modelVersion": "gemini-x", "responseId": "r1"}
    usage = Usage(input_tokens=9, output_tokens=4, reasoning_output_tokens=4, raw=counted)
    for told in (body, body | {"candidates": []}, body | {"candidates": None, "error": None}):
        assert gemini.read(told, GEMINI) == Reply((), "other", None, "gemini-x", usage, "r1")
        assert not streamed(sse(told))[1].done


FINISH = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR IMAGE_SAFETY",
    "error": "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL MISSING_THOUGHT_SIGNATURE",
    "other": "LANGUAGE OTHER A_NEW_WORD",
}


@pytest.mark.parametrize(
    ("word", "kind"), [(word, kind) for kind, words in FINISH.items() for word in words.split()]
)
def test_finish_reasons(word: str, kind: str) -> None:
    body = {"candidates": [{"finishReason": word, "finishMessage": "Because."}]}
    reply = gemini.read(body, GEMINI)
    assert (reply.finish_reason, reply.raw_finish_reason) == (kind, word)
    assert reply.refusal == ("Because." if kind == "content_filter" else None)


def test_calls_without_ids_get_the_same_ids_each_time() -> None:
    call = {"functionCall": {"name": "weather", "args": {"city": "Zürich"}}}
    body = chunk(call, call, finish="STOP")
    reply = gemini.read(body, GEMINI)
    assert reply.parts == (
        ToolCall(id="call_r1_0", name="weather", arguments='{"city": "Zürich"}'),
        ToolCall(id="call_r1_1", name="weather", arguments='{"city": "Zürich"}'),
    )
    assert reply == gemini.read(body, GEMINI)
    assert reply.finish_reason == "tool_call"


def test_a_picture_in_an_answer_is_kept() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    reply = gemini.read(chunk({"text": "Here:"}, part, finish="STOP"), GEMINI)
    assert reply.parts == (Text(content="Here:"), Image(uri=PNG, mime_type="image/png"))


@pytest.mark.parametrize("body", [{}, [], None, 3, "x", [[]], {"candidates": []}])
def test_what_is_no_answer_is_malformed(body: Any) -> None:
    with pytest.raises(CallFailed) as caught:
        gemini.read(body, GEMINI)
    assert caught.value.error_type == "malformed_response"


# Streams

STREAM = sse(
    chunk({"text": "Well: ", "thought": True}, usageMetadata={"promptTokenCount": 169}),
    chunk({"text": "so.", "thought": True}),
    chunk({"text": "one\u2028two "}),
    chunk({"text": "drei 🙂"}, usageMetadata={"promptTokenCount": 91, "candidatesTokenCount": 5}),
    chunk({"functionCall": {"name": "f", "args": {}, "id": "c"}, "thoughtSignature": "c2ln"}),
    chunk({"text": "", "thoughtSignature": "ZW5k"}, finish="STOP"),
)
STREAMED = (
    Reasoning(content="Well: so."),
    Text(content="one\u2028two drei 🙂"),
    ToolCall(id="c", name="f", arguments="{}", signature="c2ln"),
    Reasoning(signature="ZW5k"),
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
@example(list(range(len(STREAM))))
def test_a_stream_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    deltas, fold = streamed(STREAM, cuts)
    reply = fold.reply()
    assert fold.done
    assert reply.parts == STREAMED
    assert "".join(d.text for d in deltas) == reply.text
    assert "".join(d.reasoning for d in deltas) == "Well: so."
    assert [d.tool_call for d in deltas if d.tool_call] == [STREAMED[2]]
    # The last usage counts, though an earlier one was larger.
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (91, 5)


def test_an_array_of_chunks_reads_as_the_stream_does() -> None:
    chunks = [json.loads(line[6:]) for line in STREAM.decode().split("\r\n\r\n") if line]
    assert gemini.read(chunks, GEMINI) == streamed(STREAM)[1].reply()
    assert streamed(sse(chunks))[1].reply() == streamed(STREAM)[1].reply()


def test_a_cut_stream_is_not_done_and_its_usage_is_estimated() -> None:
    _, fold = streamed(STREAM[: STREAM.rindex(b"data:", 0, STREAM.index(b'"functionCall"'))])
    assert not fold.done
    reply = fold.reply()
    assert reply.parts == STREAMED[:2]
    assert (reply.finish_reason, reply.raw_finish_reason) == ("other", None)
    assert reply.usage is not None
    assert reply.usage.estimated


def test_an_error_within_a_stream_is_raised() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    with pytest.raises(CallFailed) as caught:
        streamed(STREAM[:200].rsplit(b"data:", 1)[0] + sse(error))
    found = caught.value
    assert (found.error_type, found.status, found.code) == ("overloaded", 503, "UNAVAILABLE")
    assert found.retry


def test_done_and_noise_in_a_stream_are_passed_over() -> None:
    fold = gemini.Fold()
    assert list(fold.feed(Event("", "[DONE]"))) == []
    assert list(fold.feed(Event("ping", '{"unknown": {"deep": [1]}}'))) == []
    assert not fold.done


# Errors

MINUTE = {
    "code": 429,
    "status": "RESOURCE_EXHAUSTED",
    "message": "You exceeded your current quota.\n* limit: 15, model: gemini-x\nPlease retry.",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48.25s"},
    ],
}


def test_a_quota_of_a_minute_is_waited_for() -> None:
    found = failure(MINUTE)
    assert (found.error_type, found.retry, found.retry_after_s) == ("rate_limited", True, 48.25)
    assert (found.status, found.code) == (429, "RESOURCE_EXHAUSTED")
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    "change",
    [
        {"details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}]},
        {"message": "Quota exceeded for metric: x, limit: 0, model: gemini-x"},
        {"message": "Your project has exceeded its monthly spending cap."},
    ],
)
def test_a_quota_of_a_day_or_of_nothing_is_a_matter_of_money(change: dict[str, Any]) -> None:
    found = failure(MINUTE | change)
    assert (found.error_type, found.retry) == ("billing", False)


@pytest.mark.parametrize(
    ("status", "word", "message", "kind", "retry"),
    [
        (400, "INVALID_ARGUMENT", "Bad field", "invalid_request", False),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200011) exceeds the maximum number of tokens allowed (1048576).",
            "context_length_exceeded",
            False,
        ),
        (400, "FAILED_PRECONDITION", "Free tier: please enable billing.", "billing", False),
        (401, "UNAUTHENTICATED", "No key", "authentication", False),
        (403, "PERMISSION_DENIED", "Not yours", "permission_denied", False),
        (404, "NOT_FOUND", "models/x is not found for API version v1beta", "unknown_model", False),
        (404, "NOT_FOUND", "Requested entity was not found.", "not_found", False),
        (500, "INTERNAL", "Oops", "server_error", True),
        (503, "UNAVAILABLE", "The model is overloaded", "overloaded", True),
        (504, "DEADLINE_EXCEEDED", "Too slow", "timeout", True),
    ],
)
def test_error_statuses(status: int, word: str, message: str, kind: str, retry: bool) -> None:
    found = failure({"code": status, "message": message, "status": word})
    assert (found.error_type, found.retry, found.status) == (kind, retry, status)
    assert (found.code, str(found)) == (word, message)


@needs_recordings
@pytest.mark.parametrize("recorded", ERRORS, ids=name)
def test_recorded_errors(recorded: Recorded) -> None:
    told = json.loads(recorded.body)["error"]
    found = gemini.error(recorded.status, recorded.headers, recorded.body)
    bad_key = "API key not valid" in told["message"]
    assert found.error_type == ("authentication" if bad_key else "unknown_model")
    assert (found.status, found.code, str(found)) == (
        recorded.status,
        told["status"],
        told["message"],
    )
    assert not found.retry


def test_an_error_in_an_array_and_one_without_json() -> None:
    found = gemini.error(429, {}, json.dumps([{"error": MINUTE}]).encode())
    assert found.retry_after_s == 48.25
    assert (
        str(gemini.error(502, {}, b"<html>\n bad  gateway</html>")) == "<html> bad gateway</html>"
    )
    assert str(gemini.error(502, {}, b"")) == "Gemini answered 502 and no words"


# Nothing that a server sends raises anything but CallFailed


WHOLE = chunk(
    {"text": "Hm", "thought": True, "thoughtSignature": "YQ=="},
    {"text": "Well", "thoughtSignature": "Yg=="},
    {"functionCall": {"id": "1", "name": "f", "args": {"x": 1}}, "thoughtSignature": "Yw=="},
    {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
    finish="SAFETY",
    usageMetadata={
        "promptTokenCount": 1,
        "candidatesTokenCount": 1,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}],
        "serviceTier": "flex",
    },
    promptFeedback={"blockReason": "SAFETY", "blockReasonMessage": "No."},
)
VECTORS = {"embeddings": [{"values": [1.0, 2]}], "usageMetadata": {"promptTokenCount": 1}}


@given(damaged(WHOLE, [WHOLE], VECTORS, {"error": MINUTE}, [{"error": MINUTE}]))
def test_no_answer_breaks_a_reader(answer: Any) -> None:
    for reader in (gemini.read, gemini.read_vectors):
        with suppress(CallFailed):
            reader(answer, GEMINI)
    fold = gemini.Fold()
    with suppress(CallFailed):
        list(fold.feed(Event("", json.dumps(answer))))
    fold.reply()
    assert isinstance(gemini.error(400, {}, json.dumps(answer).encode()), CallFailed)


@given(st.binary(max_size=60), st.integers(400, 599))
def test_no_bytes_break_the_error_or_the_stream(body: bytes, status: int) -> None:
    assert isinstance(gemini.error(status, {}, body), CallFailed)
    with suppress(CallFailed):
        streamed(b"data: " + body + b"\n\n")
