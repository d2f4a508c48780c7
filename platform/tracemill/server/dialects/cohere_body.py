"""Requests to Cohere's chat (v2), as our values: the reverse of `llm/providers/cohere_request`.

What has a name of ours goes by it, to any provider; fields that only this API has go along as they
are where the model speaks it.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tracemill.llm.providers.cohere_request import PLAN
from tracemill.messages import (
    Image,
    Json,
    Message,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from tracemill.server.dialects.forms import Form, Loose, content_of, extra
from tracemill.server.trouble import invalid

_CHANGES_NOTHING = frozenset({"citation_options", "safety_mode", "priority", "citation_quality"})
# As `cohere_request` spends them: the effort whose budget is the next below.
_EFFORTS = ((8_192, "medium"), (2_048, "low"), (0, "minimal"))


class Url(Loose):
    url: str


class Document(Loose):
    """What a tool found."""

    data: str | Json = ""


class Piece(Loose):
    """A part of a message's content."""

    type: str
    text: str | None = None
    thinking: str | None = None
    image_url: Url | None = None
    document: Document | None = None


class Function(Loose):
    name: str
    arguments: str | None = None


class Called(Loose):
    id: str
    function: Function


class Turn(Loose):
    """A message."""

    role: Literal["user", "assistant", "system", "tool"]
    content: str | list[Piece] | None = None
    tool_calls: list[Called] | None = None
    tool_plan: str | None = None
    tool_call_id: str | None = None


class Declared(Loose):
    name: str
    description: str | None = None
    parameters: Json | None = None


class GivenTool(Loose):
    """A function."""

    function: Declared


class Format(Loose):
    type: Literal["text", "json_object"] = "text"
    json_schema: Json | None = None
    schema_: Annotated[Json | None, Field(alias="schema")] = None


class Thinking(Form):
    type: Literal["enabled", "disabled"]
    token_budget: Annotated[int, Field(ge=0)] | None = None


class Body(Form):
    """A request for a chat."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Turn], Field(min_length=1)]
    tools: list[GivenTool] | None = None
    strict_tools: bool | None = None
    tool_choice: Literal["REQUIRED", "NONE", "required", "none"] | None = None
    response_format: Format | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10**9)] | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    p: Annotated[float, Field(ge=0, le=1)] | None = None
    k: Annotated[int, Field(ge=0)] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    thinking: Thinking | None = None
    stream: bool | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


def asked(body: Body, *, speaks: bool) -> dict[str, Any]:
    """The fields of a `Request`, but for the model and whose call it is.

    Args:
        speaks: whether the model's provider speaks this language, so that fields without a name of
            ours can go along.

    Raises `Trouble` (400), which names the field.
    """
    tools = tuple(_tool(tool.function, strict=body.strict_tools) for tool in body.tools or ())
    more = extra(body.model_extra, _CHANGES_NOTHING, speaks=speaks)
    if speaks and body.thinking is not None:
        more["thinking"] = body.thinking.model_dump(exclude_none=True)
    if speaks and body.response_format is not None and _shape(body.response_format) is None:
        more["response_format"] = {"type": body.response_format.type}
    return {
        "messages": tuple(m for n, turn in enumerate(body.messages) for m in [_message(turn, n)]),
        "tools": tools,
        "tool_choice": body.tool_choice.lower() if body.tool_choice and tools else None,
        "response_schema": _schema(body.response_format, speaks=speaks),
        "max_output_tokens": body.max_tokens,
        "stop": tuple(body.stop_sequences or ()),
        "temperature": body.temperature,
        "top_p": body.p,
        "top_k": body.k,
        "seed": body.seed,
        "logprobs": 0 if body.logprobs else None,
        "reasoning_effort": None if speaks else _effort(body.thinking),
        "extra": more,
    }


def _shape(given: Format) -> Json | None:
    return given.json_schema if given.json_schema is not None else given.schema_


def _schema(given: Format | None, *, speaks: bool) -> Json | None:
    if given is None or given.type == "text":
        return None
    shape = _shape(given)
    return shape if shape is not None or speaks else {"type": "object"}


def _effort(thinking: Thinking | None) -> str | None:
    if thinking is None:
        return None
    if thinking.type == "disabled":
        return "none"
    budget = thinking.token_budget
    if budget is None:
        return "high"
    return next(name for least, name in _EFFORTS if budget >= least)


def _tool(declared: Declared, *, strict: bool | None) -> Tool:
    return Tool(
        name=declared.name,
        description=declared.description or "",
        parameters=declared.parameters or {"type": "object", "properties": {}},
        strict=strict,
    )


def _message(turn: Turn, number: int) -> Message:
    where = f"messages.{number}"
    if turn.role == "tool":
        if not turn.tool_call_id:
            raise invalid(f"{where}: a message of the role tool needs a tool_call_id", where)
        result = ToolResult(id=turn.tool_call_id, response=_found(turn.content, where))
        return Message(role="tool", content=(result,))
    parts = _parts(turn.content, where)
    if turn.role != "assistant":
        return Message(role=turn.role, content=content_of(tuple(parts)))
    plan: list[Part] = []
    if turn.tool_plan:
        plan = [Reasoning(content=turn.tool_plan, id=PLAN, provider="cohere")]
    calls = [
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments or "{}")
        for call in turn.tool_calls or ()
    ]
    return Message(role="assistant", content=content_of((*plan, *parts, *calls)))


def _parts(content: str | list[Piece] | None, where: str) -> list[Part]:
    if isinstance(content, list):
        return [_part(piece, where) for piece in content]
    return [Text(content=content)] if content else []


def _part(piece: Piece, where: str) -> Part:
    match piece.type:
        case "text" if piece.text is not None:
            return Text(content=piece.text)
        case "thinking" if piece.thinking is not None:
            return Reasoning(content=piece.thinking)
        case "image_url" if piece.image_url:
            return Image(uri=piece.image_url.url)
        case _:
            raise invalid(
                f"{where}.content: a part of the type {piece.type[:40]!r} cannot be sent: text, "
                "thinking and image_url can",
                f"{where}.content",
            )


def _found(content: str | list[Piece] | None, where: str) -> str:
    """What a tool gave back, as text: documents as the JSON of their fields."""
    if isinstance(content, str) or content is None:
        return content or ""
    words: list[str] = []
    for piece in content:
        if piece.document is not None:
            data = piece.document.data
            words.append(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False))
        else:
            part = _part(piece, where)
            if not isinstance(part, Text):
                raise invalid(f"{where}.content: a tool gives text and documents", where)
            words.append(part.content)
    return "\n".join(words)
