"""Chat completions: recorded answers of OpenAI and fourteen others are read as its SDK reads them."""

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.recorded import Recorded, answered, name, needs_recordings, recordings
from tests.llm.recorded import fed as fed_to
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Reply, openai_chat
from tracemill.llm.sse import Decoder, Event
from tracemill.messages import Delta, Reasoning, Text, ToolCall, Usage

OPENAI = PROVIDERS["openai"]
RECORDED = [
    r
    for r in [*recordings("openai"), *recordings("compat-*")]
    if r.endpoint.removeprefix("v1.") in ("chat.completions", "completions") and r.expected
]
ANSWERS = [r for r in RECORDED if r.status == 200 and "stream_raises" not in (r.expected or {})]
STREAMS = [r for r in ANSWERS if r.is_stream]
# What the SDK's decoding, or the normalised form of it, leaves out of what the provider said.
UNREAD_CALLS = {
    "openai/v1.chat.completions/tools-12d267ab60.json": "function_call",
    "openai/v1.chat.completions/tools-toolcall-reasoning-b875ba5dbc.json": "a custom tool",
    "compat-mistral/chat.completions/tools-toolcall-a43dbaa120.json": "a call without a type",
    "compat-mistral/chat.completions/tools-toolcall-c319f0b98c.json": "a call without a type",
}


def fed(chunks: Iterable[bytes]) -> tuple[openai_chat.Fold, list[Delta]]:
    return fed_to(openai_chat.fold(OPENAI), chunks)


def answer(recorded: Recorded) -> Reply:
    return answered(openai_chat, OPENAI, recorded)


def as_the_sdk(reply: Reply) -> dict[str, Any]:
    usage = reply.usage or Usage()
    return {
        "text": reply.text,
        "tool_calls": [[p.name, p.arguments] for p in reply.parts if isinstance(p, ToolCall)],
        "finish": reply.raw_finish_reason,
        "model": reply.response_model,
        "refusal": reply.refusal,
        "usage": {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_input_tokens,
            "cache_write": usage.cache_write_input_tokens,
            "reasoning": usage.reasoning_output_tokens,
        },
    }


@needs_recordings
def test_there_are_recordings_of_all_hosts():
    hosts = {r.provider for r in RECORDED}
    assert len(hosts) >= 12
    assert len(STREAMS) > 40


@needs_recordings
@pytest.mark.parametrize("recorded", ANSWERS, ids=name)
def test_an_answer_is_read_as_the_sdk_reads_it(recorded: Recorded):
    expected = dict(recorded.expected or {})
    expected.pop("n_choices", None)
    if recorded.file not in UNREAD_CALLS:
        expected = {"text": "", "tool_calls": []} | expected
    read = as_the_sdk(answer(recorded))
    assert {key: read[key] for key in expected} == expected


@needs_recordings
@pytest.mark.parametrize("recorded", ANSWERS, ids=name)
def test_usage_falls_into_parts_that_sum_to_it(recorded: Recorded):
    usage = answer(recorded).usage or Usage()
    assert sum(usage.parts) == usage.input_tokens + usage.output_tokens


@needs_recordings
@pytest.mark.parametrize("recorded", STREAMS, ids=name)
def test_the_pieces_of_a_stream_are_its_answer(recorded: Recorded):
    fold, deltas = fed([recorded.body])
    reply = fold.reply()
    assert "".join(d.text for d in deltas) == reply.text
    thoughts = [p.content for p in reply.parts if isinstance(p, Reasoning)]
    assert "".join(d.reasoning for d in deltas) == "".join(thoughts)
    pieces: dict[tuple[str, str], str] = {}
    for call in (d.tool_call for d in deltas if d.tool_call):
        pieces[call.id, call.name] = pieces.get((call.id, call.name), "") + call.arguments
    calls = [p for p in reply.parts if isinstance(p, ToolCall)]
    assert pieces == {(call.id, call.name): call.arguments for call in calls}


@needs_recordings
@given(st.data())
def test_a_stream_may_be_cut_into_any_chunks(data: st.DataObject):
    recorded = data.draw(st.sampled_from(sorted(STREAMS, key=lambda r: len(r.body))[:20]))
    ends = sorted(data.draw(st.lists(st.integers(0, len(recorded.body)), max_size=20)))
    chunks = [recorded.body[a:b] for a, b in pairwise([0, *ends, len(recorded.body)])]
    assert fed(chunks)[0].reply() == fed([recorded.body])[0].reply()


@needs_recordings
@pytest.mark.parametrize("recorded", STREAMS, ids=name)
def test_a_stream_without_its_finish_is_not_done(recorded: Recorded):
    whole = fed([recorded.body])[0].reply()
    fold, _ = fed([recorded.body[: recorded.body.index(b'"finish_reason":"')]])
    reply = fold.reply()
    assert (fold.done, reply.raw_finish_reason) == (False, None)
    assert whole.text.startswith(reply.text)


@needs_recordings
def test_a_recorded_error_in_mid_stream():
    [recorded] = [r for r in RECORDED if "stream_raises" in (r.expected or {})]
    with pytest.raises(CallFailed) as caught:
        fed([recorded.body])
    error = caught.value
    assert str(error) == (recorded.expected or {})["message"]
    assert (error.error_type, error.status, error.code, error.retry) == (
        "invalid_request",
        400,
        "tool_use_failed",
        False,
    )


@needs_recordings
def test_azure_fails_with_status_200():
    [recorded] = [r for r in recordings("compat-azure") if b"ResponsibleAIPolicy" in r.body]
    with pytest.raises(CallFailed, match="Content management policy") as caught:
        openai_chat.read(json.loads(recorded.body), OPENAI)
    assert (caught.value.error_type, caught.value.status) == ("content_filter", 400)


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20, "audio_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 10, "audio_tokens": 3},
}
COUNTS = Usage(
    input_tokens=100,
    output_tokens=50,
    cache_read_input_tokens=30,
    cache_write_input_tokens=20,
    reasoning_output_tokens=10,
    input_audio_tokens=2,
    output_audio_tokens=3,
    raw=USAGE,
)
WHOLE = Reply(
    parts=(Text(content="One\u2028two"),),
    finish_reason="stop",
    raw_finish_reason="stop",
    response_model="gpt-5.6",
    usage=COUNTS,
    response_id="c1",
    service_tier="flex",
)
HEAD = {"id": "c1", "model": "gpt-5.6", "service_tier": "flex"}


def told(message: object = None, finish: str | None = "stop", **more: object) -> dict[str, Any]:
    choice = {"index": 0, "message": message or {"content": "One\u2028two"}}
    return HEAD | {"choices": [choice | {"finish_reason": finish}], "usage": USAGE} | more


def read(**message: object) -> Reply:
    return openai_chat.read(told(message), OPENAI)


def piece(finish: str | None = None, **delta: object) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return HEAD | {"choices": [choice], "usage": None}


def stream(*chunks: dict[str, Any] | str) -> bytes:
    texts = [c if isinstance(c, str) else json.dumps(c, ensure_ascii=False) for c in chunks]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


LAST = HEAD | {"choices": [], "usage": USAGE}
GOOD = [piece(role="assistant", content=""), piece(content="One\u2028"), piece(content="two")]


def test_a_whole_answer():
    assert openai_chat.read(told(), OPENAI) == WHOLE


def test_a_whole_stream_with_things_that_nobody_knows():
    odd = HEAD | {"object": "hologram", "choices": [{"index": 1, "delta": {"content": "no"}}]}
    fold, deltas = fed([stream(*GOOD, odd, {}, piece("stop"), LAST, "[DONE]", "{broken")])
    assert (fold.done, fold.reply()) == (True, WHOLE)
    assert deltas == [Delta(text="One\u2028"), Delta(text="two")]


def test_a_stream_without_done_ends_with_its_finish_reason():
    fold, _ = fed([stream(*GOOD, piece("stop") | {"usage": USAGE})])
    assert (fold.done, fold.reply()) == (True, WHOLE)


def test_a_stream_is_done_without_a_finish_reason():
    fold, _ = fed([stream(*GOOD, "[DONE]")])
    assert (fold.done, fold.reply().finish_reason, fold.reply().usage) == (True, "other", None)


def test_a_cut_stream_keeps_what_came():
    body = stream(*GOOD, piece(content="!"))
    fold, _ = fed([body[:-12]])
    cut = WHOLE._replace(finish_reason="other", raw_finish_reason=None, usage=None)
    assert (fold.done, fold.reply()) == (False, cut)


def test_usage_in_every_piece_is_that_of_the_last():
    counts = [
        {"prompt_tokens": 100, "completion_tokens": n, "total_tokens": 100 + n} for n in (9, 4)
    ]
    fold, _ = fed([stream(*(piece(content="x") | {"usage": c} for c in counts))])
    assert fold.reply().usage == Usage(input_tokens=100, output_tokens=4, raw=counts[1])


@pytest.mark.parametrize(
    "bad",
    [
        {"error": {"message": "Sorry", "code": 502}},
        {"error": {"message": "Sorry", "type": "server_error"}},
        {"error": "Sorry"},
        {"object": "error", "message": "Sorry", "code": 500},
        HEAD | {"choices": [{"index": 0, "delta": {}, "error": {"message": "Sorry", "code": 500}}]},
    ],
)
def test_an_error_in_mid_stream_leaves_what_came(bad: dict[str, Any]):
    decoder, fold = Decoder(), openai_chat.fold(OPENAI)
    events = list(decoder.feed(stream(*GOOD, bad)))
    seen = [delta for event in events[:-1] for delta in fold.feed(event)]
    with pytest.raises(CallFailed, match="Sorry") as caught:
        list(fold.feed(events[-1]))
    assert (caught.value.error_type, caught.value.retry) == ("server_error", True)
    assert (len(seen), fold.done, fold.reply().text) == (2, False, "One\u2028two")


def test_a_named_error_event_is_an_error():
    fold = openai_chat.fold(OPENAI)
    with pytest.raises(CallFailed, match="Sorry"):
        list(fold.feed(Event("error", '{"message": "Sorry"}')))


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_call"),
        ("function_call", "tool_call"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        ("eos_token", "stop"),
        ("stop_sequence", "stop"),
        ("model_length", "context_window"),
        ("error", "error"),
        ("tired", "other"),
        (None, "other"),
    ],
)
def test_why_it_stopped(finish: str | None, reason: str):
    reply = openai_chat.read(told(finish=finish), OPENAI)
    assert (reply.finish_reason, reply.raw_finish_reason) == (reason, finish)


def test_a_filtered_choice_without_a_message():
    body = HEAD | {"choices": [{"index": 0, "finish_reason": "content_filter"}]}
    reply = openai_chat.read(body, OPENAI)
    assert (reply.parts, reply.finish_reason) == ((), "content_filter")


def test_a_refusal_is_apart_from_the_text():
    reply = read(content=None, refusal="No.")
    assert (reply.refusal, reply.parts, reply.finish_reason) == ("No.", (), "refusal")
    fold, _ = fed([stream(piece(refusal="N"), piece(refusal="o."), piece("stop"), LAST)])
    assert fold.reply() == reply


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CALLED = ToolCall(id="c1", name="f", arguments='{"a": 1}')


def test_a_call_that_was_demanded_ends_with_stop():
    reply = read(tool_calls=[CALL])
    assert (reply.parts, reply.finish_reason, reply.raw_finish_reason) == (
        (CALLED,),
        "tool_call",
        "stop",
    )


@pytest.mark.parametrize(
    ("call", "read_as"),
    [
        ({"function": {"name": "f", "arguments": {"a": 1}}}, CALLED),
        ({"id": "c1", "function": {"name": "f", "arguments": None}}, ("c1", "f", "")),
        ({"function": {"name": "f"}}, ("call_0", "f", "")),
        ({"id": 7, "function": "f"}, ("call_0", "", "")),
        ({"id": "c", "type": "custom", "custom": {"name": "f", "input": "1+1"}}, ("c", "f", "1+1")),
    ],
)
def test_calls_in_odd_forms(call: dict[str, Any], read_as: Any):
    [part] = read(tool_calls=[call]).parts
    assert isinstance(part, ToolCall)
    if isinstance(read_as, ToolCall):
        assert part.arguments == read_as.arguments
    else:
        assert (part.id, part.name, part.arguments) == read_as


def calls(*pieces: dict[str, Any]) -> list[tuple[str, str, str]]:
    fold, _ = fed([stream(*(piece(tool_calls=[p]) for p in pieces), piece("tool_calls"))])
    found = [p for p in fold.reply().parts if isinstance(p, ToolCall)]
    return [(call.id, call.name, call.arguments) for call in found]


def part(arguments: str, **more: object) -> dict[str, Any]:
    named = {"name": more.pop("name")} if "name" in more else {}
    return {"function": named | {"arguments": arguments}} | more


TWO = [("a", "f", '{"x": 1}'), ("b", "g", "{}")]


@pytest.mark.parametrize(
    "pieces",
    [
        # OpenAI: an index on each, the id and the name on the first.
        [
            part("", index=0, id="a", name="f"),
            part('{"x"', index=0),
            part(": 1}", index=0),
            part("", index=1, id="b", name="g"),
            part("{}", index=1),
        ],
        # Pieces of two calls take turns.
        [
            part('{"x"', index=0, id="a", name="f"),
            part("{", index=1, id="b", name="g"),
            part(": 1}", index=0),
            part("}", index=1),
        ],
        # Mistral: whole, without an index.
        [part('{"x": 1}', id="a", name="f"), part("{}", id="b", name="g")],
        # Index 0 for all.
        [part('{"x": 1}', index=0, id="a", name="f"), part("{}", index=0, id="b", name="g")],
        # The id again on every piece.
        [
            part('{"x"', index=0, id="a", name="f"),
            part(": 1}", index=0, id="a", name="f"),
            part("{}", index=1, id="b", name="g"),
        ],
        # A new id on every piece, but the name on the first alone.
        [
            part('{"x"', index=0, id="a", name="f"),
            part(": 1}", index=0, id="z"),
            part("{}", index=1, id="b", name="g"),
        ],
        # No index on what goes on.
        [
            part('{"x"', index=0, id="a", name="f"),
            part(": 1}"),
            part("{}", index=1, id="b", name="g"),
        ],
    ],
)
def test_pieces_of_calls_find_each_other(pieces: list[dict[str, Any]]):
    assert calls(*pieces) == TWO


def test_a_piece_of_a_call_has_its_id_and_name():
    pieces = [part('{"x"', index=0, id="a", name="f"), part(": 1}", index=0)]
    _, deltas = fed([stream(*(piece(tool_calls=[p]) for p in pieces))])
    assert [d.tool_call for d in deltas] == [
        ToolCall(id="a", name="f", arguments='{"x"'),
        ToolCall(id="a", name="f", arguments=": 1}"),
    ]


THOUGHTS = (Reasoning(content="Hmm."), Text(content="Yes."))
MISTRAL = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}]},
    {"type": "text", "text": "Yes."},
]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Yes.", "reasoning_content": "Hmm."},
        {"content": "Yes.", "reasoning": "Hmm."},
        {"content": MISTRAL},
    ],
)
def test_thoughts_are_apart_from_the_text_wherever_they_are(message: dict[str, Any]):
    assert openai_chat.read(told(message), OPENAI).parts == THOUGHTS
    fold, deltas = fed([stream(piece(**message), piece("stop"))])
    assert fold.reply().parts == THOUGHTS
    assert deltas == [Delta(text="Yes.", reasoning="Hmm.")]


def test_details_of_thoughts_are_put_together():
    said = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}
    hidden = {"type": "reasoning.encrypted", "index": 1, "data": "gAAA", "id": "rs_1"}
    pieces = [
        piece(reasoning="Hm", reasoning_details=[said | {"text": "Hm"}]),
        piece(reasoning="m.", reasoning_details=[said | {"text": "m."}]),
        piece(reasoning_details=[said | {"signature": "sig"}, hidden]),
    ]
    fold, deltas = fed([stream(*pieces, piece("stop", content="Yes."))])
    whole = [said | {"text": "Hmm.", "signature": "sig"}, hidden]
    parts = read(content="Yes.", reasoning="Hmm.", reasoning_details=whole).parts
    assert [d.reasoning for d in deltas] == ["Hm", "m.", ""]
    assert fold.reply().parts[2:] == parts[2:] == (Text(content="Yes."),)
    for streamed, at_once in zip(fold.reply().parts[:2], parts[:2], strict=True):
        assert isinstance(streamed, Reasoning)
        assert isinstance(at_once, Reasoning)
        assert (streamed.content, streamed.redacted) == (at_once.content, at_once.redacted)
        assert json.loads(streamed.signature or "") == json.loads(at_once.signature or "")


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, {"cache_read_input_tokens": 4}),
        ({"prompt_tokens": 9, "cached_tokens": 4}, {"cache_read_input_tokens": 4}),
        ({"prompt_tokens": 9, "num_search_queries": 3}, {"billed": {"num_search_queries": 3.0}}),
        ({"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None}, {}),
        ({"prompt_tokens": 9, "completion_tokens_details": [1]}, {}),
        # xAI: 32 + 9 + 94 = 135.
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 108,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            {"output_tokens": 99, "reasoning_output_tokens": 94},
        ),
    ],
)
def test_usage_of_others(usage: dict[str, Any], counts: dict[str, Any]):
    reply = openai_chat.read(told(usage=usage), OPENAI)
    assert reply.usage == Usage.model_validate({"input_tokens": 9, "raw": usage} | counts)


def test_usage_that_only_groq_tells():
    fold, _ = fed([stream(*GOOD, piece("stop") | {"x_groq": {"id": "r", "usage": USAGE}})])
    assert fold.reply().usage == COUNTS


def test_more_cached_tokens_than_prompt_are_no_more_than_the_prompt():
    usage = {"prompt_tokens": 23, "completion_tokens": 5, "prompt_tokens_details": {}}
    usage["prompt_tokens_details"] = {"cached_tokens": 190, "text_tokens": 23}
    found = openai_chat.read(told(usage=usage), OPENAI).usage or Usage()
    assert (found.cache_read_input_tokens, sum(found.parts)) == (190, 28)


def test_half_a_character_is_no_reason_to_lose_an_answer():
    body = json.loads(
        json.dumps(told({"content": "a\ud83d"}, usage={"prompt_tokens": 1, "x": "\ud83d"}))
    )
    reply = openai_chat.read(body, OPENAI)
    assert reply.text == "a\ufffd"
    assert (reply.usage or Usage()).model_dump_json()


@pytest.mark.parametrize(
    "body", [None, 3, "text", [], {}, {"choices": None}, {"choices": {"a": 1}}]
)
def test_what_is_no_answer_is_malformed(body: Any):
    with pytest.raises(CallFailed) as caught:
        openai_chat.read(body, OPENAI)
    assert caught.value.error_type == "malformed_response"


FIELDS = [
    "choices",
    "message",
    "delta",
    "content",
    "text",
    "thinking",
    "tool_calls",
    "function",
    "index",
    "finish_reason",
    "refusal",
    "reasoning_details",
    "usage",
    "prompt_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "error",
    "code",
    "id",
    "model",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(JSON)
def test_any_json_is_an_answer_or_a_failed_call(body: Any):
    for given_body in (body, {"choices": [body]}, {"choices": [{"message": body}], "usage": body}):
        with suppress(CallFailed):
            openai_chat.read(given_body, OPENAI)


@given(st.lists(JSON, max_size=5), st.text(max_size=10))
def test_any_stream_is_an_answer_or_a_failed_call(chunks: list[Any], rest: str):
    fold = openai_chat.fold(OPENAI)
    wrapped = [{"choices": [{"index": 0, "delta": chunk}]} for chunk in chunks]
    for event in [json.dumps(c) for c in [*wrapped, *chunks]] + [rest]:
        with suppress(CallFailed):
            list(fold.feed(Event("", event)))
        assert fold.reply().response_model is not None


@given(st.integers(400, 599), st.binary(max_size=60) | JSON.map(lambda j: json.dumps(j).encode()))
def test_any_body_is_an_error_with_a_sentence(status: int, body: bytes):
    error = openai_chat.error(status, {}, body)
    assert str(error)
    assert error.status == status
