"""Cohere: requests say what API v2 wants, and no more than what was asked."""

from typing import Any

import pytest

from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Wire, cohere
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

COHERE = PROVIDERS["cohere"]
PNG = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
WEATHER, CLOCK = Tool(name="weather", description="Of a city", parameters=SCHEMA), Tool(name="now")


def asked(*messages: Message, **more: Any) -> Request:
    messages = messages or (Message(role="user", content="Hello"),)
    return Request(model="cohere/x", messages=messages, **more)


def sent(request: Request) -> Any:
    return cohere.chat(request, "command-x", COHERE).body


def function(tool: Tool) -> dict[str, Any]:
    told = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": told}


def test_a_request_says_only_what_was_asked() -> None:
    body = {
        "model": "command-x",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
    }
    assert cohere.chat(asked(), "command-x", COHERE) == Wire("/v2/chat", body)
    assert sent(asked(prompt_cache="1h", user_id="u", stream=True)) == body | {"stream": True}


def test_all_settings_go_by_coheres_names() -> None:
    request = asked(
        max_output_tokens=9,
        temperature=0,
        top_p=0.5,
        top_k=0,
        stop=("END",),
        seed=0,
        response_schema=SCHEMA,
        reasoning_effort="low",
    )
    assert sent(request) == sent(asked()) | {
        "max_tokens": 9,
        "temperature": 0,
        "p": 0.5,
        "k": 0,
        "stop_sequences": ["END"],
        "seed": 0,
        "response_format": {"type": "json_object", "json_schema": SCHEMA},
        "thinking": {"type": "enabled", "token_budget": 2048},
    }


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [
        ("none", {"type": "disabled"}),
        ("minimal", {"type": "enabled", "token_budget": 512}),
        ("high", {"type": "enabled"}),
    ],
)
def test_reasoning_effort(effort: Any, thinking: dict[str, Any]) -> None:
    assert sent(asked(reasoning_effort=effort))["thinking"] == thinking


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (None, {"tools": [function(WEATHER), function(CLOCK)]}),
        ("auto", {"tools": [function(WEATHER), function(CLOCK)]}),
        ("none", {"tools": [function(WEATHER), function(CLOCK)], "tool_choice": "NONE"}),
        ("required", {"tools": [function(WEATHER), function(CLOCK)], "tool_choice": "REQUIRED"}),
        ("now", {"tools": [function(CLOCK)], "tool_choice": "REQUIRED"}),
    ],
)
def test_tools_and_the_choice_of_one(choice: str | None, told: dict[str, Any]) -> None:
    assert sent(asked(tools=(WEATHER, CLOCK), tool_choice=choice)) == sent(asked()) | told


def test_strict_tools() -> None:
    strict = WEATHER.model_copy(update={"strict": True})
    assert sent(asked(tools=(strict,)))["strict_tools"] is True


def test_the_whole_of_a_conversation() -> None:
    calls = (
        ToolCall(id="a", name="weather", arguments='{"a": 1}'),
        ToolCall(id="b", name="now", arguments=""),
    )
    request = asked(
        Message(role="user", content=(Text(content="Look"), Image(uri=PNG))),
        Message(role="assistant", content=(Reasoning(content="Plan.", id="tool_plan"), *calls)),
        Message(role="tool", content=(ToolResult(id="a", response="20"),)),
        Message(role="tool", content=(ToolResult(id="b", response="no", is_error=True),)),
        Message(role="assistant", content=(Reasoning(content="Hm."), Text(content="20."))),
        Message(role="assistant", content=""),
        Message(role="user", content=(Text(content="And"), Text(content="?"))),
        system="Be kind.",
    )
    assert sent(request)["messages"] == [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": PNG}},
            ],
        },
        {
            "role": "assistant",
            "tool_plan": "Plan.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"a": 1}'},
                },
                {"id": "b", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "20"},
        {"role": "tool", "tool_call_id": "b", "content": '{"error": "no"}'},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "20."}],
        },
        {"role": "user", "content": "And?"},
    ]


def test_what_cohere_wrote_goes_back_as_it_was() -> None:
    message = {
        "role": "assistant",
        "tool_plan": "I will f.",
        "tool_calls": [
            {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        ],
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "So."}],
    }
    reply = cohere.read({"message": message, "finish_reason": "TOOL_CALL"}, COHERE)
    assert sent(asked(Message(role="assistant", content=reply.parts)))["messages"] == [message]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asked(service_tier="flex"), "service_tier"),
        (asked(stop=("a", "b", "c", "d", "e", "f")), "stop"),
        (asked(Message(role="system", content="Only this")), "messages"),
        (asked(Message(role="assistant", content=(Image(uri=PNG),))), "messages"),
        (asked(Message(role="user", content=(Image(uri="gs://b/a.png"),))), "messages"),
        (asked(Message(role="user", content=(File(uri="https://b.org/a.pdf"),))), "messages"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cohere_cannot_do_is_said_with_the_field(request_: Request, field: str) -> None:
    with pytest.raises(CallFailed, match=rf"^{field}: ") as caught:
        sent(request_)
    assert caught.value.error_type == "invalid_request"


def test_embedding_requests() -> None:
    body = {
        "model": "embed-x",
        "texts": ["a", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
    }
    for kind, told in ((None, "document"), ("document", "document"), ("query", "query")):
        wire = cohere.embed(["a", "b"], "embed-x", COHERE, dimensions=None, input_kind=kind)
        assert wire == Wire("/v2/embed", body | {"input_type": f"search_{told}"})
    wire = cohere.embed(["a", "b"], "embed-x", COHERE, dimensions=256, input_kind=None)
    assert wire.body == body | {"output_dimension": 256}
    with pytest.raises(CallFailed, match=r"^input_kind: "):
        cohere.embed(["a"], "embed-x", COHERE, dimensions=None, input_kind="image")


def test_rerank_requests() -> None:
    wire = cohere.rerank("q", ("a", "b"), "rerank-x", COHERE, top_n=9)
    body = {"model": "rerank-x", "query": "q", "documents": ["a", "b"], "top_n": 2}
    assert wire == Wire("/v2/rerank", body)
    for query, documents, top_n, field in (
        (" ", ["a"], 1, "query"),
        ("q", [], 1, "documents"),
        ("q", ["a"], 0, "top_n"),
    ):
        with pytest.raises(CallFailed, match=rf"^{field}: "):
            cohere.rerank(query, documents, "rerank-x", COHERE, top_n=top_n)
