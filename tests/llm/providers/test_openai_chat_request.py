"""Requests to chat completions keep to OpenAI's schema, and say what cannot be sent."""

import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.recorded import DATA, needs_specs
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Wire, openai_chat
from tracemill.messages import (
    File,
    Image,
    Message,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

OPENAI = PROVIDERS["openai"]
USER = Message(role="user", content="What is the weather in Kyiv?")
WEATHER = Tool(name="weather", description="Of a city.", strict=True)
CALL = ToolCall(id="c1", name="weather", arguments='{"city": "Kyiv"}')
PICTURE = Image(uri="data:image/png;base64,aGk=")
REPORT = File(uri="data:application/pdf;base64,JVBERg==", name="report.pdf")
SPOKEN = File(uri="data:audio/wav;base64,UklGRg==")
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}}


@cache
def schemas() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "request_schemas", DATA / "specs" / "request_schemas.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problems(body: Any) -> list[str]:
    return schemas().errors("openai", "CreateChatCompletionRequest", body)


def asked(**fields: object) -> Request:
    return Request.model_validate({"model": "openai/gpt-5.6", "messages": (USER,)} | fields)


def built(request: Request) -> dict[str, Any]:
    wire = openai_chat.chat(request, "gpt-5.6", OPENAI)
    assert isinstance(wire.body, dict)
    assert wire == Wire("/chat/completions", wire.body)
    return wire.body


def without_nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(without_nulls, value.values()))
    return all(map(without_nulls, value)) if isinstance(value, list) else value is not None


EVERYTHING = asked(
    system="Be brief.",
    messages=(
        Message(role="user", content=(Text(content="Where is this?"), PICTURE)),
        Message(
            role="assistant",
            content=(Reasoning(content="Hmm.", signature="s"), Text(content="I look."), CALL),
        ),
        Message(role="tool", content=(ToolResult(id="c1", response="Sun", name="weather"),)),
        Message(role="system", content="Be briefer."),
        USER,
    ),
    tools=(WEATHER, Tool(name="plain")),
    tool_choice="weather",
    response_schema=PERSON,
    max_output_tokens=100,
    temperature=0.5,
    top_p=0.9,
    stop=("END", "STOP"),
    seed=7,
    reasoning_effort="low",
    service_tier="flex",
    prompt_cache="1h",
    metadata={"team": "ours"},
    conversation_id="c",
    user_id="u-1",
    prompt_name="p",
    prompt_version="v",
    stream=True,
)


def test_everything_at_once():
    assert built(EVERYTHING) == {
        "model": "gpt-5.6",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Where is this?"},
                    {"type": "image_url", "image_url": {"url": PICTURE.uri}},
                ],
            },
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {
                        "type": "function",
                        "id": "c1",
                        "function": {"name": "weather", "arguments": CALL.arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "Sun"},
            {"role": "system", "content": "Be briefer."},
            {"role": "user", "content": USER.text},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Of a city.",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": True,
                },
            },
            {
                "type": "function",
                "function": {
                    "name": "plain",
                    "parameters": {"type": "object", "properties": {}},
                },
            },
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": PERSON | {"additionalProperties": False, "required": ["name"]},
                "strict": True,
            },
        },
        "max_completion_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END", "STOP"],
        "seed": 7,
        "reasoning_effort": "low",
        "service_tier": "flex",
        "safety_identifier": "u-1",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_is_not_given_is_not_sent():
    messages = [{"role": "user", "content": USER.text}]
    assert built(asked()) == {"model": "gpt-5.6", "messages": messages}


REQUESTS = [
    EVERYTHING,
    asked(),
    asked(stream=True),
    asked(user_id="u" * 200),
    asked(response_schema={"type": "object", "additionalProperties": {"type": "string"}}),
    *(asked(tools=(WEATHER,), tool_choice=choice) for choice in ("auto", "none", "required")),
    asked(messages=(Message(role="assistant", content=(CALL,)), USER)),
    asked(messages=(Message(role="assistant", content=(Reasoning(content="Hmm."),)), USER)),
    asked(messages=(Message(role="user", content=""),)),
    asked(messages=(Message(role="user", content=(Image(uri="https://a.b/c.png"),)),)),
]


@needs_specs
@pytest.mark.parametrize("request_", REQUESTS)
def test_requests_keep_to_the_schema(request_: Request):
    body = built(request_)
    assert problems(body) == []
    assert without_nulls(body)


TEXTS = st.text(max_size=5)
PARTS = st.one_of(
    st.builds(Text, content=TEXTS),
    st.sampled_from([PICTURE, REPORT, SPOKEN]),
    st.builds(Reasoning, content=TEXTS),
    st.builds(ToolCall, id=TEXTS, name=st.just("weather"), arguments=TEXTS),
    st.builds(ToolResult, id=TEXTS, response=TEXTS),
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant", "tool", "system"]),
    content=TEXTS | st.lists(PARTS, max_size=4).map(tuple),
)


def outcome(request: Request) -> dict[str, Any] | str:
    """The body, or why there is none."""
    try:
        return built(request)
    except CallFailed as error:
        return f"{error.error_type}: {error}"


@needs_specs
@given(st.lists(MESSAGES, min_size=1, max_size=4))
def test_any_conversation_keeps_to_the_schema_or_is_refused(messages: list[Message]):
    body = outcome(asked(messages=tuple(messages)))
    if isinstance(body, str):
        assert body.startswith("invalid_request: messages: ")
    else:
        assert problems(body) == []


def test_documents_go_with_a_name_and_recordings_by_their_form():
    heard = File(uri="data:;base64,SUQz", mime_type="audio/mpeg")
    unnamed = File(uri="data:application/pdf,%25PDF")
    message = Message(role="user", content=(REPORT, SPOKEN, heard, unnamed))
    assert built(asked(messages=(message,)))["messages"][0]["content"] == [
        {"type": "file", "file": {"filename": "report.pdf", "file_data": REPORT.uri}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
        {
            "type": "file",
            "file": {"filename": "file.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        },
    ]


def test_results_come_before_what_the_user_says_besides():
    results = (ToolResult(id="a", response="1"), ToolResult(id="b", response="2"))
    message = Message(role="tool", content=(Text(content="Both."), *results))
    assert built(asked(messages=(message,)))["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "user", "content": "Both."},
    ]


def test_a_map_with_free_keys_cannot_be_strict():
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    inner = built(asked(response_schema=free))["response_format"]["json_schema"]
    assert inner == {"name": "answer", "schema": free, "strict": False}


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_where_there_are_no_tools_nothing_is_chosen(choice: str):
    assert built(asked(tool_choice=choice)) == built(asked())


def test_a_long_user_is_sent_as_a_digest():
    [a, b] = [built(asked(user_id=c * 65))["safety_identifier"] for c in "ab"]
    assert (len(a), len(b), a != b) == (64, 64, True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"top_k": 5}, "top_k: OpenAI has none: leave it out"),
        ({"stop": tuple("abcde")}, "stop: OpenAI takes 4 texts, not 5: drop some"),
        ({"messages": (Message(role="tool", content="x"),)}, "needs a ToolResult"),
        (
            {"messages": (Message(role="user", content=(Image(uri="gs://a/b.png"),)),)},
            "cannot read the image 'gs://a/b.png'",
        ),
        ({"messages": (Message(role="system", content=(PICTURE,)),)}, "system message"),
        (
            {"messages": (Message(role="user", content=(File(uri="https://x.org/a.pdf"),)),)},
            "fetches no files, such as 'https://x.org/a.pdf'",
        ),
        (
            {"messages": (Message(role="user", content=(File(uri="data:audio/flac;base64,aa"),)),)},
            "WAV and MP3, not audio/flac",
        ),
        ({"messages": (Message(role="assistant", content=(PICTURE,)),)}, "assistant's message"),
        ({"messages": (Message(role="user", content=(CALL,)),)}, "user cannot call a tool"),
    ],
)
def test_what_cannot_be_sent_is_named(fields: dict[str, Any], said: str):
    with pytest.raises(CallFailed, match=said) as caught:
        built(asked(**fields))
    assert caught.value.error_type == "invalid_request"
    assert str(caught.value).startswith(f"{next(iter(fields))}: ")
