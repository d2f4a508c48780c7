"""Requests to Anthropic keep to the schema of its SDK, and say what cannot be sent."""

import gzip
import json
from functools import cache

import pytest
from jsonschema import Draft202012Validator

from tests.llm.recorded import DATA, needs_specs
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, anthropic
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

NEW, OLD = PROVIDERS["anthropic"], PROVIDERS["anthropic-2023"]
MODEL = "claude-sonnet-5-5"
WEATHER = Tool(name="weather", description="Of a city.", strict=True)
CALL = ToolCall(id="t1", name="weather", arguments='{"city": "Kyiv"}')
USER = Message(role="user", content="What is the weather in Kyiv?")


@cache
def validator(definition: str) -> Draft202012Validator:
    with gzip.open(DATA / "specs" / "anthropic-2.12-derived.schema.json.gz") as file:
        schema = json.load(file)[definition]
    return Draft202012Validator(schema | {"unevaluatedProperties": False})


def built(request: Request, provider=NEW, model: str = MODEL) -> dict:
    wire = anthropic.chat(request, model, provider)
    assert wire.path == "/messages"
    assert isinstance(wire.body, dict)
    return wire.body


def asked(**fields: object) -> Request:
    return Request.model_validate({"model": f"anthropic/{MODEL}", "messages": (USER,)} | fields)


DOCUMENTS = (
    Text(content="Read."),
    File(uri="data:application/pdf;base64,JVBERg==", name="Report"),
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
                Reasoning(content="Hm.", signature="sig"),
                Reasoning(signature="secret", redacted=True),
                Text(content="I look."),
                CALL,
                CALL.model_copy(update={"id": "t2"}),
            ),
        ),
        Message(role="tool", content=(ToolResult(id="t1", response="Sunny"),)),
        Message(role="tool", content=(ToolResult(id="t2", response="no", is_error=True),)),
        Message(
            role="user",
            content=(
                Text(content="And this?"),
                Image(uri="https://example.org/a.png"),
                Image(uri="data:image/png;base64,iVBORw0KGgo="),
            ),
        ),
        Message(role="assistant", content="A "),
        Message(role="system", content="Now in French."),
        Message(role="user", content="So?"),
    ),
    tools=(WEATHER, Tool(name="bare")),
    tool_choice="auto",
    response_schema={"type": "object", "properties": {"sky": {"type": "string"}}},
    max_output_tokens=500,
    stop=("END",),
    reasoning_effort="high",
    service_tier="auto",
    prompt_cache="1h",
    user_id="u1",
    metadata={"mine": "stays"},
)


@needs_specs
@pytest.mark.parametrize(
    "request_",
    [
        EVERYTHING,
        asked(),
        asked(messages=EVERYTHING.messages),
        *(asked(tools=(WEATHER,), tool_choice=c) for c in ("none", "required", "weather")),
        *(asked(reasoning_effort=e) for e in ("none", "minimal", "low", "medium", "xhigh")),
        asked(prompt_cache="5m"),
        asked(messages=(Message(role="user", content=DOCUMENTS),)),
    ],
)
def test_a_request_keeps_to_the_schema(request_: Request):
    assert list(validator("MessageCreateParamsNonStreaming").iter_errors(built(request_))) == []
    streamed = built(request_.model_copy(update={"stream": True}))
    assert list(validator("MessageCreateParamsStreaming").iter_errors(streamed)) == []


@needs_specs
def test_the_schema_notices_what_is_wrong():
    for wrong in ({"temperature": 1.0}, {"messages": [{"role": "tool", "content": "x"}]}):
        check = validator("MessageCreateParamsNonStreaming")
        assert list(check.iter_errors(built(asked()) | wrong))


def test_a_whole_request():
    assert anthropic.chat(EVERYTHING, MODEL, NEW).headers == {"anthropic-version": "2026-10-21"}
    call = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Kyiv"}}
    kept = {"type": "ephemeral", "ttl": "1h"}
    assert built(EVERYTHING) == {
        "model": MODEL,
        "max_tokens": 500,
        "system": [{"type": "text", "text": "Be brief.\n\nBe kind.", "cache_control": kept}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": USER.text}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "secret"},
                    {"type": "text", "text": "I look."},
                    call,
                    call | {"id": "t2"},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "Sunny"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "content": "no",
                        "is_error": True,
                    },
                    {"type": "text", "text": "And this?"},
                    {
                        "type": "image",
                        "source": {"type": "url", "url": "https://example.org/a.png"},
                    },
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/png",
                            "data": "iVBORw0KGgo=",
                        },
                    },
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "A "}]},
            {"role": "system", "content": [{"type": "text", "text": "Now in French."}]},
            {"role": "user", "content": [{"type": "text", "text": "So?"}]},
        ],
        "tools": [
            {
                "name": "weather",
                "description": "Of a city.",
                "input_schema": {"type": "object", "properties": {}},
                "strict": True,
            },
            {"name": "bare", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "adaptive"},
        "output_config": {
            "effort": "high",
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"sky": {"type": "string"}},
                    "additionalProperties": False,
                },
            },
        },
        "stop_sequences": ["END"],
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
        "service_tier": "auto",
        "metadata": {"user_id": "u1"},
    }


def test_the_least_request_says_how_much_may_be_written():
    assert built(asked()) == {
        "model": MODEL,
        "max_tokens": 16_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": USER.text}]}],
    }


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k"])
def test_sampling_is_refused_by_the_new_version_and_sent_to_the_old(field: str):
    request = asked(**{field: 1})
    with pytest.raises(CallFailed, match=f"leave out {field}, or use anthropic-2023/") as caught:
        built(request)
    assert caught.value.error_type == "invalid_request"
    assert built(request, OLD)[field] == 1
    assert anthropic.chat(request, MODEL, OLD).headers == {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"seed": 1}, "seed: Anthropic has none"),
        ({"service_tier": "flex"}, "service_tier: Anthropic takes auto or standard_only"),
        ({"messages": (Message(role="user", content=" \n"),)}, "no text"),
        ({"messages": (Message(role="user", content=(Image(uri="gs://b/a.png"),)),)}, "gs://b"),
        (
            {"messages": (Message(role="user", content=(File(uri="gs://b/a.pdf"),)),)},
            "file 'gs://b",
        ),
        (
            {"messages": (Message(role="user", content=(File(uri="https://b.org/a.mp3"),)),)},
            "of the type PDF, not audio/mpeg",
        ),
        (
            {
                "messages": (
                    USER,
                    Message(
                        role="assistant", content=(CALL.model_copy(update={"arguments": '{"ci'}),)
                    ),
                )
            },
            "arguments of tool call t1",
        ),
    ],
)
def test_what_cannot_be_sent_is_named(fields: dict, problem: str):
    with pytest.raises(CallFailed, match=problem) as caught:
        built(asked(**fields))
    assert caught.value.error_type == "invalid_request"


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_where_there_are_no_tools_nothing_is_chosen(choice: str):
    assert built(asked(tool_choice=choice)) == built(asked())


def test_temperature_goes_to_one():
    with pytest.raises(CallFailed, match="takes 0 to 1"):
        built(asked(temperature=1.5), OLD)


def test_results_come_before_what_else_the_user_says():
    results = tuple(ToolResult(id=f"t{i}", response="Sunny") for i in (1, 2))
    turns = (
        USER,
        Message(role="assistant", content=(CALL, CALL.model_copy(update={"id": "t2"}))),
        Message(role="tool", content=(Text(content="Both."), results[0])),
        Message(role="user", content="So?"),
        Message(role="tool", content=results[1:]),
    )
    blocks = built(asked(messages=turns))["messages"][2]["content"]
    assert [block.get("tool_use_id") or block["text"] for block in blocks] == [
        *("t1", "t2", "Both.", "So?")
    ]


def test_another_providers_thoughts_stay_at_home():
    thought = Reasoning(content="Hm.", id="rs_1", signature="gAAA")
    mine = Message(role="assistant", content=(thought, Reasoning(content="Hm."), Text(content="A")))
    turns = built(asked(messages=(USER, mine, USER)))["messages"]
    assert turns[1] == {"role": "assistant", "content": [{"type": "text", "text": "A"}]}


@pytest.mark.parametrize(
    ("model", "by_budget"),
    [
        ("claude-haiku-4-5", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-opus-4-1-20250805", True),
        ("claude-3-7-sonnet-latest", True),
        ("claude-opus-4-6", False),
        ("claude-opus-4-8", False),
        ("claude-sonnet-5", False),
        ("claude-haiku-5-5", False),
    ],
)
def test_models_before_adaptive_thinking_get_a_budget(model: str, by_budget: bool):
    body = built(asked(reasoning_effort="medium"), model=model)
    if by_budget:
        assert body["thinking"] == {"type": "enabled", "budget_tokens": 8_192}
        assert body["max_tokens"] == 8_192 + 16_000
        assert "output_config" not in body
    else:
        assert (body["thinking"], body["output_config"]) == (
            {"type": "adaptive"},
            {"effort": "medium"},
        )


def test_a_budget_leaves_room_for_the_answer():
    few = asked(reasoning_effort="high", max_output_tokens=4_000)
    body = built(few, model="claude-haiku-4-5")
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (4_000, 2_000)
    with pytest.raises(CallFailed, match="max_output_tokens"):
        built(few.model_copy(update={"max_output_tokens": 1_500}), model="claude-haiku-4-5")


def test_an_answer_goes_back_as_it_came():
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "thinking", "thinking": "", "signature": "hidden"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Київ"}},
    ]
    reply = anthropic.read({"content": content}, NEW)
    again = Message(role="assistant", content=reply.parts)
    assert built(asked(messages=(USER, again)))["messages"][1]["content"] == content


def test_documents_are_blocks_with_a_title():
    assert built(asked(messages=(Message(role="user", content=DOCUMENTS),)))["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Read."},
                {
                    "type": "document",
                    "source": {
                        "type": "base64",
                        "media_type": "application/pdf",
                        "data": "JVBERg==",
                    },
                    "title": "Report",
                },
                {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
            ],
        }
    ]
