"""Cohere: recordings decode as the SDK decodes them, however they are cut."""

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
from tracemill.llm.providers import PROVIDERS, Ranked, Reply, cohere
from tracemill.llm.sse import Decoder, Event
from tracemill.messages import Delta, Native, Reasoning, Text, ToolCall, Usage

COHERE = PROVIDERS["cohere"]
RECORDED = [r for r in recordings("cohere") if r.expected]
CHATS = [r for r in RECORDED if r.endpoint == "v2.chat"]
EMBEDS = [r for r in RECORDED if r.endpoint.endswith("embed")]
RERANKS = [r for r in RECORDED if r.endpoint.endswith("rerank")]
ERRORS = [r for r in recordings("cohere") if r.status >= 400]


def name(recorded: Recorded) -> str:
    return recorded.file


def streamed(body: bytes, cuts: Iterable[int] = ()) -> tuple[list[Delta], cohere.Fold]:
    decoder, fold, deltas = Decoder(), cohere.Fold(), []
    for start, end in pairwise([0, *sorted(cuts), len(body)]):
        for event in decoder.feed(body[start:end]):
            deltas += fold.feed(event)
    for event in decoder.close():
        deltas += fold.feed(event)
    return deltas, fold


def sse(*events: Any) -> bytes:
    said = (f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events)
    return "".join(said).encode()


def piece(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    where = {} if index is None else {"index": index}
    return {"type": kind, "delta": {"message": message}} | where


def normal(reply: Reply) -> dict[str, Any]:
    """A reply in the words of the recordings' `expected`, which cuts thoughts off."""
    usage = reply.usage or Usage()
    thoughts = [part for part in reply.parts if isinstance(part, Reasoning)]
    said = {
        "text": reply.text,
        "thinking": "".join(t.content for t in thoughts if t.id is None)[:200],
        "tool_plan": "".join(t.content for t in thoughts if t.id == "tool_plan"),
        "tool_calls": [[p.name, p.arguments] for p in reply.parts if isinstance(p, ToolCall)],
        "finish": reply.raw_finish_reason,
        "usage": {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_input_tokens,
            "cache_write": usage.cache_write_input_tokens,
            "reasoning": usage.reasoning_output_tokens,
        },
    }
    return {key: value for key, value in said.items() if value}


# Answers


@needs_recordings
@pytest.mark.parametrize("recorded", CHATS, ids=name)
def test_a_recorded_answer_reads_as_the_sdk_reads_it(recorded: Recorded) -> None:
    if recorded.is_stream:
        _, fold = streamed(recorded.body, range(0, len(recorded.body), 7))
        assert fold.done
        reply = fold.reply()
    else:
        reply = cohere.read(json.loads(recorded.body), COHERE)
    expected = recorded.expected or {}
    assert normal(reply) == expected
    assert reply.finish_reason == {"COMPLETE": "stop", "TOOL_CALL": "tool_call"}[expected["finish"]]
    assert reply.usage is not None
    assert reply.usage.billed.keys() == {"input_tokens", "output_tokens"}


def test_calls_keep_their_ids_and_what_is_billed_is_kept_apart() -> None:
    usage = {
        "billed_units": {"input_tokens": 44.0, "output_tokens": 28, "search_units": 0},
        "tokens": {"input_tokens": 1476, "output_tokens": 58, "reasoning_tokens": 12},
        "cached_tokens": 1376,
    }
    call = {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {
        "role": "assistant",
        "tool_plan": "I will f.",
        "tool_calls": [call],
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "So."}],
        "citations": [{"start": 0, "end": 2, "text": "So"}],
    }
    body = {"id": "x", "message": message, "finish_reason": "TOOL_CALL", "usage": usage}
    assert cohere.read(body, COHERE) == Reply(
        (
            Reasoning(content="I will f.", id="tool_plan"),
            Reasoning(content="Hm."),
            Text(
                content="So.",
                citations=(Native(body={"start": 0, "end": 2, "text": "So"}),),
            ),
            ToolCall(id="f_1", name="f", arguments='{"a":1}'),
        ),
        "tool_call",
        "TOOL_CALL",
        "",
        Usage(
            input_tokens=1476,
            output_tokens=58,
            cache_read_input_tokens=1376,
            reasoning_output_tokens=12,
            billed={"input_tokens": 44.0, "output_tokens": 28.0},
            raw=usage,
        ),
        response_id="x",
    )


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_call"),
        ("ERROR", "error"),
        ("TIMEOUT", "error"),
        ("A_NEW_WORD", "other"),
    ],
)
def test_finish_reasons(word: str, kind: str) -> None:
    reply = cohere.read({"message": {"content": "Text."}, "finish_reason": word}, COHERE)
    assert reply == Reply((Text(content="Text."),), kind, word, "", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [{}, [], None, 3, "x", {"message": []}, {"message": None}])
def test_what_is_no_answer_is_malformed(body: Any) -> None:
    for reader in (cohere.read, cohere.read_vectors, cohere.read_ranking):
        with pytest.raises(CallFailed) as caught:
            reader(body, COHERE)
        assert caught.value.error_type == "malformed_response"


def test_an_error_that_comes_with_status_200_is_one() -> None:
    for reader in (cohere.read, cohere.read_vectors, cohere.read_ranking):
        with pytest.raises(CallFailed, match="no healthy upstream") as caught:
            reader({"id": "x", "message": "no healthy upstream"}, COHERE)
        assert caught.value.error_type == "server_error"


def test_an_error_that_is_null_is_none() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "So."}]}
    body = {"id": "x", "message": message, "finish_reason": "COMPLETE", "error": None}
    assert cohere.read(body, COHERE).text == "So."


# Streams

BILLED = {"billed_units": {"input_tokens": 4}, "tokens": {"input_tokens": 9, "output_tokens": 5}}
STREAM = sse(
    {"type": "message-start", "id": "m1", "delta": {"message": {"role": "assistant"}}},
    piece("tool-plan-delta", tool_plan="I will "),
    piece("tool-plan-delta", tool_plan="look."),
    piece("content-start", 0, content={"type": "thinking", "thinking": ""}),
    piece("content-delta", 0, content={"thinking": "Hm\u2028hm"}),
    {"type": "content-end", "index": 0},
    piece("content-start", 1, content={"type": "text", "text": ""}),
    piece("content-delta", 1, content={"text": "eins "}),
    piece("citation-start", 0, citations={"start": 0, "end": 4, "text": "eins"}),
    piece("content-delta", 1, content={"text": "zwei 🙂"}),
    piece("tool-call-start", 0, tool_calls={"id": "a", "function": {"name": "f", "arguments": ""}}),
    piece("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"x"'}}),
    piece("tool-call-delta", 0, tool_calls={"function": {"arguments": ": 1}"}}),
    piece("tool-call-start", 1, tool_calls={"id": "b", "function": {"name": "g", "arguments": ""}}),
    {"type": "tool-call-end", "index": 1},
    {"type": "something-new", "delta": 3},
    {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": BILLED}},
)
CITED = Native(body={"start": 0, "end": 4, "text": "eins"})
STREAMED = Reply(
    (
        Reasoning(content="I will look.", id="tool_plan"),
        Reasoning(content="Hm\u2028hm"),
        Text(content="eins zwei 🙂", citations=(CITED,)),
        ToolCall(id="a", name="f", arguments='{"x": 1}'),
        ToolCall(id="b", name="g", arguments=""),
    ),
    "tool_call",
    "TOOL_CALL",
    "",
    Usage(input_tokens=9, output_tokens=5, billed={"input_tokens": 4.0}, raw=BILLED),
    response_id="m1",
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans())
@example(list(range(len(STREAM))), True)
def test_a_stream_reads_the_same_however_it_is_cut(cuts: list[int], done: bool) -> None:
    deltas, fold = streamed(STREAM + (b"data: [DONE]\n\n" if done else b""), cuts)
    assert fold.done
    assert fold.reply() == STREAMED
    assert "".join(d.text for d in deltas) == "eins zwei 🙂"
    assert "".join(d.reasoning for d in deltas) == "I will look.Hm\u2028hm"
    calls = [(d.tool_call.id, d.tool_call.arguments) for d in deltas if d.tool_call]
    assert calls == [("a", ""), ("a", '{"x"'), ("a", ": 1}"), ("b", "")]
    assert deltas[-1] == Delta(cited=(CITED,))


def test_a_cut_stream_is_not_done_and_keeps_what_came() -> None:
    _, fold = streamed(STREAM[: STREAM.index(b"event: tool-call-start")])
    assert not fold.done
    reply = fold.reply()
    assert reply.parts == STREAMED.parts[:3]
    assert (reply.finish_reason, reply.raw_finish_reason, reply.usage) == ("other", None, None)


@pytest.mark.parametrize("usage", [{}, {"tokens": {}, "billed_units": {}}, None])
def test_an_error_at_the_end_is_a_finish_reason(usage: Any) -> None:
    delta = {"finish_reason": "ERROR", "error": "Something broke.", "usage": usage}
    _, fold = streamed(
        sse(piece("content-delta", 0, content={"text": "Half"}))
        + sse({"type": "message-end", "delta": delta})
    )
    assert fold.done
    half = (Text(content="Half"),)
    assert fold.reply() == Reply(half, "error", "ERROR", "", None, refusal="Something broke.")


def test_an_error_within_a_stream_is_raised() -> None:
    half = STREAM[: STREAM.index(b"event: tool-call-start")]
    with pytest.raises(CallFailed, match="internal server error") as caught:
        streamed(half + b'data: {"message": "internal server error"}\n\n')
    assert (caught.value.error_type, caught.value.retry) == ("server_error", True)


# Vectors and rankings


@needs_recordings
@pytest.mark.parametrize("recorded", EMBEDS, ids=name)
def test_recorded_vectors(recorded: Recorded) -> None:
    vectors, model, usage = cohere.read_vectors(json.loads(recorded.body), COHERE)
    first = [round(v, 7) for v in vectors[0][:4]]
    assert recorded.expected == {"n": len(vectors), "dim": len(vectors[0]), "first": first}
    assert model == ""
    assert usage is not None
    assert usage.input_tokens == usage.billed["input_tokens"]


@pytest.mark.parametrize(
    "told", [[[1, -2]], {"float": [[1.0, -2.0]]}, {"int8": [[1, -2]], "float": None}]
)
def test_vectors_of_each_form(told: Any) -> None:
    assert cohere.read_vectors({"embeddings": told}, COHERE) == ([[1.0, -2.0]], "", None)


@needs_recordings
@pytest.mark.parametrize("recorded", RERANKS, ids=name)
def test_recorded_rankings(recorded: Recorded) -> None:
    ranked = cohere.read_ranking(json.loads(recorded.body), COHERE)
    ranking = [[index, round(score, 6)] for index, score in ranked.ranking]
    assert {"ranking": ranking} == recorded.expected
    assert ranked.usage is not None
    assert ranked.usage.billed == {"search_units": 1.0}


def test_a_ranking_is_best_first_and_names_each_document_once() -> None:
    rows = [{"index": 4, "relevance_score": 0.25}, {"index": 0, "relevance_score": 1}]
    ranked = cohere.read_ranking({"results": rows}, COHERE)
    assert ranked == Ranked(((0, 1), (4, 0.25)), "", None)
    for wrong in ({"index": 4}, {"index": -1, "relevance_score": 1}, rows[1], 7):
        with pytest.raises(CallFailed) as caught:
            cohere.read_ranking({"results": [*rows, wrong]}, COHERE)
        assert caught.value.error_type == "malformed_response"


# Errors


@needs_recordings
@pytest.mark.parametrize("recorded", ERRORS, ids=name)
def test_recorded_errors(recorded: Recorded) -> None:
    told = json.loads(recorded.body)
    found = cohere.error(recorded.status, recorded.headers, recorded.body)
    kinds = {400: "context_length_exceeded", 401: "authentication", 404: "unknown_model"}
    assert (found.error_type, found.retry) == (kinds[recorded.status], False)
    assert (str(found), found.code) == (told["message"], told.get("error_type"))
    assert found.request_id == recorded.headers.get("x-debug-trace-id", told["id"])


TRIAL = "You are using a Trial key, which is limited to {} API calls / {}. Upgrade your key."


@pytest.mark.parametrize(
    ("status", "message", "kind", "retry"),
    [
        (400, "invalid request: all good but not", "invalid_request", False),
        (400, "too many tokens: total number cannot exceed 4081", "context_length_exceeded", False),
        (400, "too many tokens: max tokens must be less than 4096", "invalid_request", False),
        (401, "invalid api token", "authentication", False),
        (402, "Please add or update your payment method", "billing", False),
        (
            404,
            "model 'x' not found, make sure the correct model ID was used",
            "unknown_model",
            False,
        ),
        (404, "dataset with id x not found", "not_found", False),
        (429, TRIAL.format(20, "minute"), "rate_limited", True),
        (429, TRIAL.format(1000, "month"), "billing", False),
        (498, "blocked input", "content_filter", False),
        (499, "request cancelled by the user", "interrupted", False),
        (500, "internal server error", "server_error", True),
        (503, "no healthy upstream", "overloaded", True),
    ],
)
def test_error_statuses(status: int, message: str, kind: str, retry: bool) -> None:
    for body in ({"message": message}, {"error": message}, {"message": {"message": message}}):
        found = cohere.error(status, {}, json.dumps(body).encode())
        assert (found.error_type, found.retry, str(found)) == (kind, retry, message)
    assert str(cohere.error(status, {}, b"<h1>\nno</h1>")) == "<h1> no</h1>"
    assert str(cohere.error(status, {}, b"{}")) == f"Cohere answered {status} and no words"


# Nothing that a server sends raises anything but CallFailed

EVENTS = [json.loads(line[6:]) for line in STREAM.decode().split("\n") if line[:5] == "data:"]
WHOLE = {
    "id": "x",
    "message": {
        "tool_plan": "I will.",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "So."}],
        "tool_calls": [{"id": "f_1", "function": {"name": "f", "arguments": "{}"}}],
    },
    "finish_reason": "COMPLETE",
    "usage": {"billed_units": {"a": 1}, "tokens": {"input_tokens": 1}, "cached_tokens": 1},
}
VECTORS = {"embeddings": {"float": [[1.0, 2]]}, "meta": {"billed_units": {"input_tokens": 1}}}
RANKING = {"results": [{"index": 0, "relevance_score": 0.5}], "meta": {"billed_units": {"s": 1}}}


@given(damaged(WHOLE, VECTORS, RANKING, {"message": "no", "error_type": "x", "id": "y"}))
def test_no_answer_breaks_a_reader(answer: Any) -> None:
    for reader in (cohere.read, cohere.read_vectors, cohere.read_ranking):
        with suppress(CallFailed):
            reader(answer, COHERE)
    assert isinstance(cohere.error(400, {}, json.dumps(answer).encode()), CallFailed)


@given(st.lists(damaged(*EVENTS), max_size=6))
def test_no_event_breaks_a_stream(events: list[Any]) -> None:
    fold = cohere.Fold()
    for event in events:
        with suppress(CallFailed):
            list(fold.feed(Event("", json.dumps(event))))
    fold.reply()


@given(st.binary(max_size=60), st.integers(400, 599))
def test_no_bytes_break_the_error_or_the_stream(body: bytes, status: int) -> None:
    assert isinstance(cohere.error(status, {}, body), CallFailed)
    with suppress(CallFailed):
        streamed(b"data: " + body + b"\n\n")
