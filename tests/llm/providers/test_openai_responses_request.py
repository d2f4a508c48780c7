"""Requests to the Responses API keep to OpenAI's schema, and say what cannot be sent."""

import importlib.util
from functools import cache
from itertools import chain
from types import ModuleType

import pytest

from tests.llm.recorded import DATA, needs_specs
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, openai_responses
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

OPENAI = PROVIDERS["openai-responses"]
USER = Message(role="user", content="What is the weather in Kyiv?")
WEATHER = Tool(name="weather", description="Of a city.", strict=True)
CALL = ToolCall(id="c1", name="weather", arguments='{"city": "Kyiv"}')


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


def problems(body: dict) -> list[str]:
    """What the schema has against a request.

    A message with a list of contents fits two of its alternatives, `EasyInputMessage` and
    `InputMessage`, of which it allows exactly one (OpenAI takes it): it is checked by itself.
    """
    lists = [item for item in body["input"] if isinstance(item.get("content"), list)]
    lists = [item for item in lists if "role" in item]
    rest = body | {"input": [item for item in body["input"] if item not in lists]}
    of_lists = [schemas().errors("openai", "InputMessage", item) for item in lists]
    return [*schemas().errors("openai", "CreateResponse", rest), *chain.from_iterable(of_lists)]


def asked(**fields: object) -> Request:
    return Request.model_validate({"model": "openai-responses/x", "messages": (USER,)} | fields)


def built(request: Request, model: str = "gpt-5.6") -> dict:
    wire = openai_responses.chat(request, model, OPENAI)
    assert (wire.path, wire.headers, wire.method) == ("/responses", {}, "POST")
    assert isinstance(wire.body, dict)
    return wire.body


SCHEMA = {
    "type": "object",
    "properties": {"sky": {"type": "string"}, "wind": {"$ref": "#/$defs/Wind"}},
    "required": ["sky"],
    "$defs": {"Wind": {"type": "object", "properties": {"kmh": {"type": "number"}}}},
}
DOCUMENTS = (
    Text(content="Read."),
    File(uri="data:application/pdf;base64,JVBERg==", name="report.pdf"),
    File(uri="https://example.org/a.pdf"),
)
EVERYTHING = asked(
    system="Be brief.",
    messages=(
        Message(role="system", content="Be kind."),
        USER,
        Message(
            role="assistant",
            content=(
                Reasoning(content="Hm.", id="rs_1", signature="gAAA"),
                Text(content="I look."),
                CALL,
                CALL.model_copy(update={"id": "c2"}),
            ),
        ),
        Message(role="tool", content=(ToolResult(id="c1", response="Sunny"),)),
        Message(role="tool", content=(ToolResult(id="c2", response="no", is_error=True),)),
        Message(
            role="user",
            content=(
                Text(content="And this?"),
                Image(uri="https://example.org/a.png"),
                Image(uri="data:image/png;base64,iVBORw0KGgo="),
            ),
        ),
        Message(role="assistant", content="Blue."),
        Message(role="user", content="So?"),
    ),
    tools=(WEATHER, Tool(name="bare")),
    tool_choice="weather",
    response_schema=SCHEMA,
    max_output_tokens=500,
    reasoning_effort="high",
    service_tier="flex",
    prompt_cache="1h",
    user_id="u1",
    temperature=0.5,
    top_p=0.9,
    metadata={"mine": "stays"},
)


@needs_specs
@pytest.mark.parametrize(
    "request_",
    [
        EVERYTHING,
        EVERYTHING.model_copy(update={"stream": True}),
        asked(),
        *(asked(tools=(WEATHER,), tool_choice=c) for c in ("auto", "none", "required")),
        asked(messages=(Message(role="user", content=DOCUMENTS),)),
        *(asked(reasoning_effort=e) for e in ("none", "minimal", "low", "medium", "xhigh")),
        asked(user_id="u" * 200),
        asked(response_schema={"type": "object", "additionalProperties": {"type": "string"}}),
        asked(
            messages=(USER, Message(role="assistant", content=(Reasoning(content="H", id="r"),)))
        ),
    ],
)
def test_a_request_keeps_to_the_schema(request_: Request):
    assert problems(built(request_)) == []


@needs_specs
def test_the_schema_notices_what_is_wrong():
    for wrong in ({"temperature": "hot"}, {"input": [{"role": "tool"}]}, {"stop": ["x"]}):
        assert problems(built(asked()) | wrong)


def test_a_whole_request():
    assert built(EVERYTHING) == {
        "model": "gpt-5.6",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "instructions": "Be brief.",
        "input": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": USER.text},
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "gAAA",
            },
            {"role": "assistant", "content": "I look."},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "weather",
                "arguments": '{"city": "Kyiv"}',
            },
            {
                "type": "function_call",
                "call_id": "c2",
                "name": "weather",
                "arguments": '{"city": "Kyiv"}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": "Sunny"},
            {"type": "function_call_output", "call_id": "c2", "output": "no"},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "And this?"},
                    {
                        "type": "input_image",
                        "image_url": "https://example.org/a.png",
                        "detail": "auto",
                    },
                    {
                        "type": "input_image",
                        "image_url": "data:image/png;base64,iVBORw0KGgo=",
                        "detail": "auto",
                    },
                ],
            },
            {"role": "assistant", "content": "Blue."},
            {"role": "user", "content": "So?"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "Of a city.",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
            {
                "type": "function",
                "name": "bare",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ],
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"sky": {"type": "string"}, "wind": {"$ref": "#/$defs/Wind"}},
                    "required": ["sky", "wind"],
                    "additionalProperties": False,
                    "$defs": {
                        "Wind": {
                            "type": "object",
                            "properties": {"kmh": {"type": "number"}},
                            "required": ["kmh"],
                            "additionalProperties": False,
                        }
                    },
                },
            }
        },
        "reasoning": {"effort": "high"},
        "max_output_tokens": 500,
        "temperature": 0.5,
        "top_p": 0.9,
        "service_tier": "flex",
        "safety_identifier": "u1",
    }


def test_the_least_request():
    assert built(asked()) == {
        "model": "gpt-5.6",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "input": [{"role": "user", "content": USER.text}],
    }


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("gpt-5.6", True),
        ("gpt-5-nano", True),
        ("o3-mini", True),
        ("grok-4.3", True),
        ("deepseek-v4-flash", True),
        ("openai/gpt-5.6-sol", True),
        ("gpt-oss-120b", True),
        ("gpt-4o-2024-08-06", False),
        ("gpt-4.1-mini", False),
        ("openai/gpt-4o", False),
        ("ft:gpt-4o-mini:org::id", False),
        ("gpt-5.2-chat-latest", False),
    ],
)
def test_only_models_that_reason_are_asked_for_their_thoughts(model: str, reasons: bool):
    assert ("include" in built(asked(), model)) == reasons


def test_a_map_with_free_keys_cannot_be_strict():
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    assert built(asked(response_schema=schema))["text"]["format"] == {
        "type": "json_schema",
        "name": "answer",
        "schema": schema,
        "strict": False,
    }


def test_a_long_user_id_becomes_a_digest():
    sent = built(asked(user_id="u" * 200))["safety_identifier"]
    assert len(sent) == 64
    assert sent == built(asked(user_id="u" * 200))["safety_identifier"]
    assert built(asked(user_id="u" * 64))["safety_identifier"] == "u" * 64


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"stop": ("END",)}, "stop: the Responses API has no stop texts.*use openai/"),
        ({"seed": 1}, "seed"),
        ({"top_k": 4}, "top_k"),
        ({"max_output_tokens": 15}, "max_output_tokens: .* 16 or more"),
        ({"messages": (Message(role="user", content=""),)}, "messages: there is no text"),
        ({"messages": (Message(role="user", content=(Image(uri="gs://b/a.png"),)),)}, "gs://b"),
        (
            {"messages": (Message(role="user", content=(File(uri="gs://b/a.pdf"),)),)},
            "file 'gs://b",
        ),
        (
            {"messages": (Message(role="user", content=(File(uri="data:audio/wav;base64,aa"),)),)},
            "hears no audio/wav",
        ),
        (
            {"messages": (Message(role="assistant", content=(Image(uri="https://a/b.png"),)),)},
            "images and files from users only",
        ),
    ],
)
def test_what_cannot_be_sent_is_named(fields: dict, problem: str):
    with pytest.raises(CallFailed, match=problem) as caught:
        built(asked(**fields))
    assert caught.value.error_type == "invalid_request"


def test_an_answer_goes_back_as_it_came():
    output = [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gBBB"},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
    ]
    reply = openai_responses.read({"status": "completed", "output": output}, OPENAI)
    again = Message(role="assistant", content=reply.parts)
    assert built(asked(messages=(USER, again)))["input"][1:] == output


def test_another_providers_thoughts_stay_at_home():
    thoughts = (Reasoning(content="Hm.", signature="sig"), Text(content="A"))
    sent = built(asked(messages=(USER, Message(role="assistant", content=thoughts))))["input"]
    assert sent[1:] == [{"role": "assistant", "content": "A"}]


def test_documents_are_given_or_fetched_by_the_provider():
    (message,) = built(asked(messages=(Message(role="user", content=DOCUMENTS),)))["input"]
    assert message["content"] == [
        {"type": "input_text", "text": "Read."},
        {
            "type": "input_file",
            "file_data": "data:application/pdf;base64,JVBERg==",
            "filename": "report.pdf",
        },
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
    ]
