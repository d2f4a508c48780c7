"""Whatever a server answers, the readers of Anthropic and of the Responses API stay in one piece.

They give a reply, or they raise `CallFailed`: never the `KeyError` of someone who trusted.
"""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Reply, anthropic, openai_responses
from tracemill.llm.sse import Event

adapters = pytest.mark.parametrize(
    "adapter", [anthropic, openai_responses], ids=lambda a: a.__name__
)
PROVIDER = PROVIDERS["anthropic"]
KEYS = st.sampled_from(
    [
        "type",
        "id",
        "name",
        "model",
        "content",
        "text",
        "status",
        "error",
        "code",
        "message",
        "usage",
        "stop_reason",
        "stop_details",
        "thinking",
        "signature",
        "data",
        "input",
        "delta",
        "index",
        "content_block",
        "partial_json",
        "input_tokens",
        "cache_creation",
        "server_tool_use",
        "details",
        "output",
        "output_index",
        "item",
        "response",
        "summary",
        "arguments",
        "call_id",
        "encrypted_content",
        "incomplete_details",
        "reason",
        "content_index",
        "refusal",
        "input_tokens_details",
    ]
)
KINDS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
        "text",
        "thinking",
        "tool_use",
        "redacted_thinking",
        "text_delta",
        "input_json_delta",
        "signature_delta",
        "thinking_delta",
        "message",
        "output_text",
        "reasoning",
        "function_call",
        "refusal",
        "completed",
        "incomplete",
        "failed",
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.refusal.delta",
        "response.reasoning_summary_text.delta",
        "response.completed",
        "response.failed",
    ]
)
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | KINDS
NEARLY = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner | KINDS, max_size=6),
    max_leaves=25,
)
OBJECTS = st.dictionaries(KEYS, NEARLY, max_size=5)
EVENTS = NEARLY | st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "item": OBJECTS,
        "response": OBJECTS,
        "message": OBJECTS,
        "content_block": OBJECTS,
        "index": st.integers(0, 2) | NEARLY,
        "output_index": st.integers(0, 2) | NEARLY,
        "delta": st.text() | OBJECTS,
    },
)


@adapters
@given(NEARLY)
def test_no_answer_breaks_the_reader(adapter: Any, body: object):
    with suppress(CallFailed):
        assert isinstance(adapter.read(body, PROVIDER), Reply)


@adapters
@given(st.lists(EVENTS, max_size=6))
def test_no_stream_breaks_the_reader(adapter: Any, events: list[object]):
    fold = adapter.fold(PROVIDER)
    with suppress(CallFailed):
        for event in events:
            list(fold.feed(Event("", json.dumps(event))))
    assert isinstance(fold.reply(), Reply)


@adapters
@given(st.integers(400, 599), st.binary() | NEARLY.map(lambda one: json.dumps(one).encode()))
def test_no_error_breaks_the_reader(adapter: Any, status: int, body: bytes):
    error = adapter.error(status, {}, body)
    assert (error.status, bool(str(error))) == (status, True)


@adapters
@pytest.mark.parametrize("data", ["{", "[]", "null", "\u2028x", "[" * 100_000])
def test_an_event_that_is_no_object_is_malformed(adapter: Any, data: str):
    with pytest.raises(CallFailed) as caught:
        list(adapter.fold(PROVIDER).feed(Event("", data)))
    assert caught.value.error_type == "malformed_response"


@adapters
@pytest.mark.parametrize("body", [None, [], "text", {}, {"content": "x", "output": "x"}])
def test_an_answer_without_its_list_is_malformed(adapter: Any, body: object):
    with pytest.raises(CallFailed) as caught:
        adapter.read(body, PROVIDER)
    assert caught.value.error_type == "malformed_response"
