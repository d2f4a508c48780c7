"""The Responses API: recorded answers of five hosts are read as OpenAI's SDK reads them."""

import json
from collections.abc import Iterable
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.recorded import Recorded, answered, name, needs_recordings, recordings
from tests.llm.recorded import fed as fed_to
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Reply, openai_responses
from tracemill.llm.sse import Decoder
from tracemill.messages import Delta, Native, Part, Reasoning, Text, ToolCall, Usage

OPENAI = PROVIDERS["openai-responses"]
RECORDED = [
    r
    for r in (*recordings("openai", "v1.responses"), *recordings("compat-*", "responses"))
    if r.expected
]
ANSWERS = [r for r in RECORDED if r.status == 200 and "finish" in (r.expected or {})]
STREAMS = [r for r in ANSWERS if r.is_stream]


def fed(chunks: Iterable[bytes]) -> tuple[openai_responses.Fold, list[Delta]]:
    return fed_to(openai_responses.fold(OPENAI), chunks)


def answer(recorded: Recorded) -> Reply:
    return answered(openai_responses, OPENAI, recorded)


def as_the_sdk(reply: Reply) -> dict:
    """The reply in the words of the recordings' expectations."""
    usage = reply.usage
    return {
        "text": reply.text,
        "tool_calls": [
            [p.name, json.loads(p.arguments)] for p in reply.parts if isinstance(p, ToolCall)
        ],
        "finish": reply.raw_finish_reason,
        "model": reply.response_model,
        "usage": usage
        and {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_input_tokens,
            "cache_write": usage.cache_write_input_tokens,
            "reasoning": usage.reasoning_output_tokens,
        },
    }


@needs_recordings
@pytest.mark.parametrize("recorded", ANSWERS, ids=name)
def test_an_answer_is_read_as_the_sdk_reads_it(recorded: Recorded):
    expected = dict(recorded.expected or {})
    expected.pop("output_types", None)
    calls = [[name, json.loads(arguments)] for name, arguments in expected.get("tool_calls", [])]
    wanted = {"text": "", "usage": None} | expected | {"tool_calls": calls}
    assert as_the_sdk(answer(recorded)) == wanted


@needs_recordings
@pytest.mark.parametrize("recorded", STREAMS, ids=name)
def test_what_is_streamed_is_what_is_answered(recorded: Recorded):
    fold, deltas = fed([recorded.body])
    reply = fold.reply()
    calls: dict[str, str] = {}
    for delta in deltas:
        if call := delta.tool_call:
            calls[call.id] = calls.get(call.id, "") + call.arguments
    thoughts = [p.content for p in reply.parts if isinstance(p, Reasoning)]
    assert "".join(d.text for d in deltas) == reply.text
    assert "".join(d.reasoning for d in deltas) == "".join(thoughts)
    assert calls == {p.id: p.arguments for p in reply.parts if isinstance(p, ToolCall)}


@needs_recordings
@pytest.mark.parametrize("recorded", STREAMS, ids=name)
def test_the_pieces_make_the_answer_that_the_last_event_repeats(recorded: Recorded):
    """A stream that is cut just before its end loses nothing but the counts."""
    events = list(Decoder().feed(recorded.body))
    fold = openai_responses.fold(OPENAI)
    for event in events[:-1]:
        list(fold.feed(event))
    cut = fold.reply()
    assert not fold.done
    list(fold.feed(events[-1]))
    assert fold.done
    assert (plain(cut), cut.response_id) == (plain(fold.reply()), fold.reply().response_id)


def plain(reply: Reply) -> list:
    """The parts without what is encrypted, which OpenAI encrypts anew in the last event."""

    def hidden(part: Part) -> Part:
        match part:
            case Reasoning():
                return part.model_copy(update={"signature": None})
            case Native(body=body):
                return Native(body={**body, "encrypted_content": None})
            case _:
                return part

    return [hidden(part) for part in reply.parts]


@needs_recordings
@given(st.data())
def test_a_stream_may_be_cut_into_any_chunks(data: st.DataObject):
    recorded = data.draw(st.sampled_from(sorted(STREAMS, key=lambda r: len(r.body))[:8]))
    ends = sorted(data.draw(st.lists(st.integers(0, len(recorded.body)), max_size=20)))
    bounds = [0, *ends, len(recorded.body)]
    chunks = [recorded.body[a:b] for a, b in pairwise(bounds)]
    assert fed(chunks)[0].reply() == fed([recorded.body])[0].reply()


@needs_recordings
@pytest.mark.parametrize(
    "recorded", [r for r in RECORDED if "stream" in (r.expected or {})], ids=name
)
def test_a_stream_without_an_end_is_not_done(recorded: Recorded):
    fold, _ = fed([recorded.body])
    assert (fold.done, fold.reply().parts, fold.reply().usage) == (False, (), None)


MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "One\u2028two", "annotations": []}],
}
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 10},
    "total_tokens": 150,
}


def told(**response: object) -> dict:
    head = {"id": "resp_1", "model": "gpt-5.6", "status": "completed", "error": None}
    return head | {"output": [MESSAGE], "service_tier": "flex", "usage": USAGE} | response


def stream(*events: dict) -> bytes:
    return b"".join(
        f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n".encode()
        for e in events
    )


def text(words: str, index: int = 0) -> dict:
    return {"type": "response.output_text.delta", "output_index": index, "delta": words}


ADDED = {
    "type": "response.output_item.added",
    "output_index": 0,
    "item": MESSAGE | {"content": [], "status": "in_progress"},
}
CREATED = {
    "type": "response.created",
    "response": told(status="in_progress", output=[], usage=None),
}
COMPLETED = {"type": "response.completed", "response": told()}

WHOLE = Reply(
    parts=(Text(content="One\u2028two"),),
    finish_reason="stop",
    raw_finish_reason="completed",
    response_model="gpt-5.6",
    usage=Usage(
        input_tokens=100,
        output_tokens=50,
        cache_read_input_tokens=30,
        cache_write_input_tokens=20,
        reasoning_output_tokens=10,
        raw=USAGE,
    ),
    response_id="resp_1",
    service_tier="flex",
)


def test_a_whole_answer():
    assert openai_responses.read(told(), OPENAI) == WHOLE


def test_a_whole_stream_with_events_that_nobody_knows():
    odd = {"type": "response.hologram.delta", "delta": "?", "output_index": 0}
    fold, deltas = fed([stream(CREATED, ADDED, text("One\u2028"), odd, text("two"), COMPLETED)])
    assert (fold.done, fold.reply()) == (True, WHOLE)
    assert [d.text for d in deltas] == ["One\u2028", "two"]


def test_a_server_that_only_sends_the_end_is_understood():
    fold, deltas = fed([stream(COMPLETED).rstrip() + b"\n\ndata: [DONE]\n\n"])
    assert (fold.done, fold.reply(), deltas) == (True, WHOLE, [Delta(text="One\u2028two")])


def test_a_server_that_leaves_the_last_event_empty_is_understood():
    done = {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}
    last = {"type": "response.completed", "response": told(output=[])}
    fold, deltas = fed([stream(CREATED, ADDED, text("One"), done, last)])
    assert (fold.done, fold.reply()) == (True, WHOLE)
    assert "".join(d.text for d in deltas) == "One\u2028two"


def test_a_call_that_comes_whole():
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    last = {"type": "response.completed", "response": told(output=[item])}
    fold, deltas = fed([stream(CREATED, done, last)])
    call = ToolCall(id="c1", name="f", arguments="{}")
    assert deltas == [
        Delta(tool_call=call.model_copy(update={"arguments": ""})),
        Delta(tool_call=call),
    ]
    assert (fold.reply().parts, fold.reply().finish_reason) == ((call,), "tool_call")


def test_a_cut_stream_keeps_what_came():
    opened = {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""},
    }
    grown = {
        "type": "response.function_call_arguments.delta",
        "output_index": 1,
        "delta": '{"ci',
    }
    fold, _ = fed([stream(CREATED, ADDED, text("One"), opened, grown)])
    assert (fold.done, fold.reply()) == (
        False,
        Reply(
            parts=(Text(content="One"), ToolCall(id="c1", name="f", arguments='{"ci')),
            finish_reason="other",
            raw_finish_reason="in_progress",
            response_model="gpt-5.6",
            usage=None,
            response_id="resp_1",
            service_tier="flex",
        ),
    )


def test_thoughts_are_paragraphs_and_keep_what_the_provider_encrypted():
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": t} for t in ("First.", "Then.")],
        "encrypted_content": "gAAA",
    }
    pieces = [
        {
            "type": "response.reasoning_summary_text.delta",
            "output_index": 0,
            "summary_index": place,
            "delta": words,
        }
        for place, words in ((0, "Fir"), (0, "st."), (1, "Then."))
    ]
    added = {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": item | {"summary": [], "encrypted_content": "gA"},
    }
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    fold, deltas = fed([stream(CREATED, added, *pieces, done)])
    thought = Reasoning(content="First.\n\nThen.", id="rs_1", signature="gAAA")
    assert fold.reply().parts == (thought,)
    assert "".join(d.reasoning for d in deltas) == thought.content
    assert openai_responses.read(told(output=[item]), OPENAI).parts == (thought,)


def test_a_thought_in_the_clear():
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    reply = openai_responses.read(told(output=[item, MESSAGE]), OPENAI)
    assert reply.parts == (Reasoning(content="Hm.", id="rs_1"), Text(content="One\u2028two"))


def test_a_refusal_is_apart_from_the_text():
    refused = MESSAGE | {"content": [{"type": "refusal", "refusal": "I cannot."}]}
    reply = openai_responses.read(told(output=[refused]), OPENAI)
    assert (reply.parts, reply.refusal, reply.finish_reason) == ((), "I cannot.", "refusal")
    piece = {"type": "response.refusal.delta", "output_index": 0, "delta": "I cannot."}
    fold, deltas = fed([stream(CREATED, ADDED, piece)])
    assert (fold.reply().refusal, fold.reply().text, deltas) == ("I cannot.", "", [])


@pytest.mark.parametrize(
    ("status", "reason", "finish", "raw"),
    [
        ("completed", None, "stop", "completed"),
        ("incomplete", "max_output_tokens", "length", "incomplete:max_output_tokens"),
        ("incomplete", "content_filter", "content_filter", "incomplete:content_filter"),
        ("incomplete", None, "other", "incomplete"),
        ("cancelled", None, "other", "cancelled"),
        ("queued", None, "other", "queued"),
        ("in_progress", None, "other", "in_progress"),
    ],
)
def test_why_it_stopped(status: str, reason: str | None, finish: str, raw: str):
    details = {"reason": reason} if reason else None
    response = told(status=status, incomplete_details=details)
    reply = openai_responses.read(response, OPENAI)
    assert (reply.finish_reason, reply.raw_finish_reason) == (finish, raw)
    if status == "incomplete":
        fold, _ = fed([stream(CREATED, {"type": "response.incomplete", "response": response})])
        assert (fold.done, fold.reply()) == (True, reply)


def test_an_error_in_mid_stream_leaves_what_came():
    fold = openai_responses.fold(OPENAI)
    problem = {"type": "error", "error": {"code": "server_error", "message": "Sorry"}}
    events = Decoder().feed(stream(CREATED, ADDED, text("One"), problem))
    with pytest.raises(CallFailed, match="Sorry"):
        list(chain.from_iterable(fold.feed(event) for event in events))
    assert (fold.done, fold.reply().text) == (False, "One")


def test_half_a_character_is_no_reason_to_lose_an_answer():
    content = [{"type": "output_text", "text": "a\ud83d"}]
    reply = openai_responses.read(told(output=[MESSAGE | {"content": content}]), OPENAI)
    assert reply.text == "a\ufffd"
