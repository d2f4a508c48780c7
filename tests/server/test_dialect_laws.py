"""What holds of every answer in every dialect: words that the SDKs know, thoughts that come back whole."""

import json
from decimal import Decimal
from typing import Any, get_args

import pytest
from anthropic.types import StopReason
from cohere.types import ChatFinishReason
from google.genai.types import BlockedReason, FinishReason
from hypothesis import given
from hypothesis import strategies as st

from tracemill.messages import FinishReason as Reason
from tracemill.messages import Reasoning, Request, Response, Text, ToolCall, Usage
from tracemill.server.dialects import anthropic_messages, cohere_chat, gemini_generate, thoughts
from tracemill.server.dialects.gemini_schema import json_schema

RAW = (None, "stop_sequence", "STOP_SEQUENCE", "SAFETY", "PROHIBITED_CONTENT", "something new")
REQUEST = Request.of("hello", stop=("END",))


def response(**fields: Any) -> Response:
    usual: Any = {
        "call_id": "1",
        "content": "Hello.",
        "finish_reasons": ("stop",),
        "response_model": "m",
        "usage": Usage(),
        "latency_ms": 1.0,
        "cost_usd": Decimal(0),
    }
    return Response(**usual | fields)


@pytest.mark.parametrize("content", ["", "Hello."])
@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_end_has_a_word_that_the_sdks_know(
    reason: Reason, raw: str | None, content: str
) -> None:
    ended = response(finish_reasons=(reason,), raw_finish_reason=raw, content=content)
    assert anthropic_messages.message(ended, REQUEST)["stop_reason"] in get_args(StopReason)
    assert cohere_chat.finish(ended) in get_args(get_args(ChatFinishReason)[0])
    told = gemini_generate.content(ended)
    if "candidates" in told:
        assert told["candidates"][0]["finishReason"] in FinishReason.__members__
    else:
        assert told["promptFeedback"]["blockReason"] in BlockedReason.__members__


def test_the_stop_text_is_told_where_there_is_one() -> None:
    ended = response(raw_finish_reason="stop_sequence")
    told = anthropic_messages.message(ended, REQUEST)
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "END")


def test_a_call_that_was_cut_is_still_an_answer() -> None:
    cut = response(content=(ToolCall(id="1", name="look", arguments='{"city": "Be'),))
    [block] = anthropic_messages.message(cut, REQUEST)["content"]
    assert block["input"] == {"arguments": '{"city": "Be'}
    [part] = gemini_generate.content(cut)["candidates"][0]["content"]["parts"]
    assert part["functionCall"]["args"] == {"arguments": '{"city": "Be'}
    [call] = cohere_chat.told(cut)["message"]["tool_calls"]
    assert call["function"]["arguments"] == '{"city": "Be'


def test_a_signature_without_words_belongs_to_the_text_before_it() -> None:
    signed = Reasoning(signature="c2ln", provider="gcp.gemini")
    told = gemini_generate.content(response(content=(Text(content="Hello."), signed)))
    parts = told["candidates"][0]["content"]["parts"]
    assert parts == [{"text": "Hello.", "thoughtSignature": "c2ln"}]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
foreign = st.builds(
    Reasoning,
    content=texts,
    id=st.none() | texts.filter(bool),
    signature=st.none() | texts.filter(bool),
    redacted=st.booleans(),
    provider=st.sampled_from(["openai", "deepseek", "cohere"]),
)


@given(foreign)
def test_a_thought_of_another_provider_comes_back_whole(thought: Reasoning) -> None:
    sealed = thoughts.seal(thought, "anthropic")
    assert thoughts.opened(thought.content, sealed, "anthropic") == thought
    # As Google's SDK writes the same bytes.
    written = sealed.replace("+", "-").replace("/", "_")
    assert thoughts.opened(thought.content, written, "gcp.gemini") == thought


@given(texts)
def test_whatever_a_client_signs_is_read(signature: str) -> None:
    read = thoughts.opened("hm", signature, "anthropic")
    assert read.content == "hm"
    assert read.signature == (signature or None)


def test_a_schema_of_gemini_is_json_schema() -> None:
    given_schema = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "nullable": True},
            "list": {"type": "ARRAY", "minItems": "1", "items": {"type": "INTEGER"}},
        },
        "property_ordering": ["type", "list"],
        "required": ["type"],
    }
    assert json_schema(given_schema) == {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"]},
            "list": {"type": "array", "minItems": 1, "items": {"type": "integer"}},
        },
        "required": ["type"],
    }
    assert json.loads(json.dumps(json_schema({}))) == {}
