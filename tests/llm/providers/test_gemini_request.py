"""Gemini: requests keep to the published schema and say no more than what was asked."""

import importlib.util
import json
from typing import Any

import pytest

from tests.llm.recorded import DATA, needs_specs
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, gemini
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

GEMINI = PROVIDERS["gemini"]
PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER = Tool(
    name="weather",
    description="The weather of a place",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)


def sent(request: Request, model: str = "gemini-2.5-flash") -> Any:
    return gemini.chat(request, model, GEMINI).body


def asked(*messages: Message, **more: Any) -> Request:
    messages = messages or (Message(role="user", content="Hello"),)
    return Request(model="gemini/x", messages=messages, **more)


def every_request() -> list[Request]:
    call = ToolCall(id="c1", name="weather", arguments='{"city": "Rome"}', signature="c2ln")
    history = (
        Message(role="system", content="In English."),
        Message(role="user", content=(Text(content="Look"), Image(uri=PNG))),
        Message(role="user", content=(Image(uri="https://example.org/a.png"),)),
        Message(role="user", content=(Image(uri="gs://bucket/a", mime_type="image/png"),)),
        Message(role="user", content=(File(uri="data:application/pdf;base64,JVBERg=="),)),
        Message(role="user", content=(File(uri="gs://bucket/a.mp4"), Text(content="And?"))),
        Message(role="assistant", content=(Reasoning(content="Hm", signature="c2ln"), call)),
        Message(role="tool", content=(ToolResult(id="c1", response='{"t": 20}'),)),
        Message(role="tool", content=(ToolResult(id="c1", response="no", is_error=True),)),
        Message(role="assistant", content=(Text(content="20"), Reasoning(signature="c2ln"))),
        Message(role="user", content="Thanks"),
    )
    choices = (None, "auto", "none", "required", "weather")
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh")
    return [
        asked(),
        asked(system="Be kind.", stream=True, prompt_cache="1h", user_id="u"),
        asked(*history, tools=(WEATHER, Tool(name="now"))),
        *(asked(*history, tools=(WEATHER,), tool_choice=choice) for choice in choices),
        asked(tools=(WEATHER.model_copy(update={"strict": True}),)),
        asked(response_schema={"type": "object", "properties": {"a": {"type": "integer"}}}),
        asked(max_output_tokens=9, temperature=0, top_p=0.5, top_k=4, stop=("END",), seed=7),
        *(asked(reasoning_effort=effort) for effort in efforts),
        *(asked(service_tier=tier) for tier in ("standard", "flex", "priority")),
    ]


@needs_specs
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-flash-preview"])
def test_requests_keep_to_the_published_schema(model: str) -> None:
    spec = importlib.util.spec_from_file_location("schemas", DATA / "specs" / "request_schemas.py")
    assert spec is not None
    assert spec.loader is not None
    schemas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schemas)
    for request in every_request():
        body = sent(request, model)
        assert schemas.errors("google", "GenerateContentRequest", body) == []
        assert "null" not in json.dumps(body)
    body = gemini.embed(["a"], "m", GEMINI, dimensions=8, input_kind="query").body
    assert schemas.errors("google", "BatchEmbedContentsRequest", body) == []


def test_a_request_says_only_what_was_asked() -> None:
    wire = gemini.chat(asked(), "gemini-x", GEMINI)
    assert wire.path == "/models/gemini-x:generateContent"
    assert wire.body == {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-x", "/models/gemini-x:streamGenerateContent?alt=sse"),
        ("models/gemini-x", "/models/gemini-x:streamGenerateContent?alt=sse"),
        ("tunedModels/mine-1", "/tunedModels/mine-1:streamGenerateContent?alt=sse"),
        ("a b?c#d", "/models/a%20b%3Fc%23d:streamGenerateContent?alt=sse"),
    ],
)
def test_model_names_in_the_path(model: str, path: str) -> None:
    assert gemini.chat(asked(stream=True), model, GEMINI).path == path


def test_the_whole_of_a_conversation_with_tools() -> None:
    calls = (ToolCall(id="a", name="f", arguments=""), ToolCall(id="b", name="g", arguments="{}"))
    body = sent(
        asked(
            Message(role="user", content="Go"),
            Message(role="assistant", content=calls),
            Message(role="tool", content=(ToolResult(id="a", response="[1, 2]"),)),
            Message(role="tool", content=(ToolResult(id="b", response="NaN", is_error=True),)),
            Message(role="user", content="And?"),
            system="One.",
        )
    )
    assert body == {
        "systemInstruction": {"parts": [{"text": "One."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Go"}]},
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"id": "a", "name": "f", "args": {}}},
                    {"functionCall": {"id": "b", "name": "g", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "id": "a",
                            "name": "f",
                            "response": {"output": [1, 2]},
                        }
                    },
                    {"functionResponse": {"id": "b", "name": "g", "response": {"error": "NaN"}}},
                ],
            },
            {"role": "user", "parts": [{"text": "And?"}]},
        ],
    }


def test_what_gemini_wrote_goes_back_as_it_was() -> None:
    parts = [
        {"text": "Hm", "thought": True, "thoughtSignature": "YQ=="},
        {"text": "Well", "thoughtSignature": "Yg=="},
        {
            "functionCall": {"id": "1", "name": "f", "args": {"x": [1, None]}},
            "thoughtSignature": "Yw==",
        },
        {"functionCall": {"id": "2", "name": "g", "args": {}}},
    ]
    reply = gemini.read({"candidates": [{"content": {"parts": parts}}]}, GEMINI)
    body = sent(asked(Message(role="assistant", content=reply.parts)), "gemini-3-pro")
    assert body["contents"] == [{"role": "model", "parts": parts}]


def test_gemini_3_gets_calls_of_other_models_with_the_signature_that_it_accepts() -> None:
    calls = tuple(ToolCall(id=i, name="f", arguments="{}") for i in "ab")
    request = asked(Message(role="assistant", content=calls))
    first, second = sent(request, "gemini-3.5-flash")["contents"][0]["parts"]
    assert first["thoughtSignature"] == "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
    assert "thoughtSignature" not in second
    assert "thoughtSignature" not in str(sent(request, "gemini-2.5-flash"))


def test_thoughts_of_other_providers_stay_behind() -> None:
    thoughts = (Reasoning(id="rs_1", signature="x"), Reasoning(redacted=True, signature="y"))
    message = Message(role="assistant", content=(*thoughts, Text(content="Hi")))
    assert sent(asked(message))["contents"] == [{"role": "model", "parts": [{"text": "Hi"}]}]


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "medium", {"includeThoughts": True, "thinkingBudget": 8192}),
        ("gemini-3-flash", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-flash", "low", {"includeThoughts": True, "thinkingLevel": "LOW"}),
    ],
)
def test_reasoning_effort(model: str, effort: Any, thinking: dict[str, Any]) -> None:
    config = sent(asked(reasoning_effort=effort), model)["generationConfig"]
    assert config == {"thinkingConfig": thinking}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asked(service_tier="turbo"), "service_tier"),
        (asked(stop=("a", "b", "c", "d", "e", "f")), "stop"),
        (asked(Message(role="system", content="Only this")), "messages"),
        (asked(Message(role="tool", content=(ToolResult(id="x", response="1"),))), "messages"),
        (asked(Message(role="user", content=(File(uri="file-1"),))), "messages"),
        (
            asked(
                Message(
                    role="assistant", content=(ToolCall(id="x", name="f", arguments='{"a": 1'),)
                )
            ),
            "messages",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_gemini_cannot_do_is_said_with_the_field(request_: Request, field: str) -> None:
    with pytest.raises(CallFailed, match=rf"^{field}: ") as caught:
        sent(request_)
    assert caught.value.error_type == "invalid_request"


def test_a_model_that_always_thinks_says_so() -> None:
    with pytest.raises(CallFailed, match=r"^reasoning_effort: "):
        sent(asked(reasoning_effort="none"), "gemini-2.5-pro")


def test_embedding_requests() -> None:
    wire = gemini.embed(["a", "b"], "e-1", GEMINI, dimensions=64, input_kind="document")
    same = {
        "model": "models/e-1",
        "taskType": "RETRIEVAL_DOCUMENT",
        "outputDimensionality": 64,
    }
    assert wire.path == "/models/e-1:batchEmbedContents"
    assert wire.body == {
        "requests": [same | {"content": {"parts": [{"text": text}]}} for text in ("a", "b")]
    }
    bare = gemini.embed(["a"], "models/e-1", GEMINI, dimensions=None, input_kind=None).body
    assert bare == {"requests": [{"model": "models/e-1", "content": {"parts": [{"text": "a"}]}}]}
    with pytest.raises(CallFailed, match=r"^input_kind: "):
        gemini.embed(["a"], "e-1", GEMINI, dimensions=None, input_kind="image")
