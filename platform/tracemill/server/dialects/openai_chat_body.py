"""Requests to OpenAI's chat completions, as our values: the reverse of `llm/providers/openai_chat_request`.

What has a name of ours goes by it, to any provider. Fields that only OpenAI's language has go along
where the model speaks it; to another they are left out where they change nothing of the answer, and
refused where they would.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tracemill.llm.providers.fields import obj
from tracemill.messages import (
    Effort,
    File,
    Image,
    Json,
    Message,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    text_of,
)
from tracemill.server.dialects.forms import Form, Loose, content_of, extra
from tracemill.server.dialects.openai import file_of
from tracemill.server.trouble import invalid


class Url(Loose):
    url: str


class Document(Loose):
    """A file: its bytes, or the id of one that was handed over before."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Sound(Loose):
    """A recording, in base64."""

    data: str
    format: Literal["wav", "mp3"]


class Piece(Loose):
    """A part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Url | None = None
    file: Document | None = None
    input_audio: Sound | None = None


class Function(Loose):
    name: str
    arguments: str = ""


class Custom(Loose):
    name: str
    input: str = ""


class Called(Loose):
    id: str
    type: str = "function"
    function: Function | None = None
    custom: Custom | None = None


class Turn(Loose):
    """A message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Piece] | None = None
    tool_calls: list[Called] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    """What the assistant thought, as DeepSeek's and our own answers tell it."""


class FunctionTool(Loose):
    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class GivenTool(Form):
    """A function, or a tool of the provider's own."""

    type: str
    function: FunctionTool | None = None


class Schema(Loose):
    name: str | None = None
    json_schema: Annotated[Json | None, Field(alias="schema")] = None
    strict: bool | None = None


class Format(Loose):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(Loose):
    include_usage: bool | None = None


class Body(Form):
    """A request for a chat completion."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Turn], Field(min_length=1)]
    tools: list[GivenTool] | None = None
    tool_choice: str | Json | None = None
    response_format: Format | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: Effort | Literal["max"] | None = None
    service_tier: Annotated[str, Field(max_length=40)] | None = None
    user: Annotated[str, Field(max_length=200)] | None = None
    safety_identifier: Annotated[str, Field(max_length=200)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)

CHANGES_NOTHING = frozenset(
    {
        *("store", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
        *("parallel_tool_calls", "verbosity", "prediction"),
    }
)
"""Fields that another provider can do without: the answer is of the same kind."""
_USUAL: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "modalities": ["text"],
}
"""Values by which some clients say that they want nothing unusual."""


def asked(body: Body, *, speaks: bool) -> dict[str, Any]:
    """The fields of a `Request`, but for the model and whose call it is.

    Args:
        speaks: whether the model's provider speaks this language, so that fields without a name of
            ours can go along.

    Raises `Trouble` (400), which names the field.
    """
    system, turns = _apart(body.messages)
    unusual = {n: v for n, v in (body.model_extra or {}).items() if v != _USUAL.get(n, v is None)}
    more = extra(unusual, CHANGES_NOTHING, speaks=speaks)
    effort = body.reasoning_effort
    if effort == "max":
        effort, more = (None, more | {"reasoning_effort": "max"}) if speaks else ("xhigh", more)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    made: dict[str, Any] = {
        "system": system,
        "messages": turns,
        "response_schema": _schema(body.response_format),
        "max_output_tokens": body.max_completion_tokens or body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        "seed": body.seed,
        "logprobs": logprobs,
        "reasoning_effort": effort,
        "service_tier": None if body.service_tier == "auto" else body.service_tier,
    }
    offered = tools(body.tools, body.tool_choice, speaks=speaks)
    more |= offered.pop("extra", {})
    return made | offered | {"extra": more}


def _apart(turns: list[Turn]) -> tuple[str | None, tuple[Message, ...]]:
    """The instructions that stand first, and the rest."""
    first = 0
    while first < len(turns) and turns[first].role in {"system", "developer"}:
        first += 1
    if first == len(turns):
        first -= 1  # there is no request without a message
    words = [text_of(_content(turn, number)) for number, turn in enumerate(turns[:first])]
    rest = (_message(turn, number) for number, turn in enumerate(turns) if number >= first)
    return "\n\n".join(words) or None, tuple(rest)


def _message(turn: Turn, number: int) -> Message:
    if turn.role in {"tool", "function"}:
        if turn.role == "tool" and turn.tool_call_id is None:
            raise invalid("a message of the role tool needs a tool_call_id", f"messages.{number}")
        result = ToolResult(
            id=turn.tool_call_id or turn.name or "",
            response=text_of(_content(turn, number)),
            name=turn.name,
        )
        return Message(role="tool", content=(result,))
    content = _content(turn, number)
    role = "system" if turn.role == "developer" else turn.role
    thought: list[Part] = []
    if turn.role == "assistant" and turn.reasoning_content:
        thought.append(Reasoning(content=turn.reasoning_content))
    if not turn.tool_calls and not thought:
        return Message(role=role, content=content)  # pyright: ignore[reportArgumentType]
    calls: list[Part] = [_called(call, number) for call in turn.tool_calls or ()]
    words: list[Part] = [Text(content=content)] if isinstance(content, str) and content else []
    return Message(
        role="assistant",
        content=(*thought, *(words if isinstance(content, str) else content), *calls),
    )


def _called(call: Called, number: int) -> ToolCall:
    if call.function is not None:
        made = call.function
        return ToolCall(id=call.id, name=made.name, arguments=made.arguments)
    if call.custom is not None:
        made = call.custom
        return ToolCall(id=call.id, name=made.name, arguments=made.input, custom=True)
    where = f"messages.{number}.tool_calls"
    raise invalid(f"{where}: a call needs its `function` or its `custom` tool", where)


def _content(turn: Turn, number: int) -> str | tuple[Part, ...]:
    if turn.content is None:
        return turn.refusal or ""
    if isinstance(turn.content, str):
        return turn.content
    return content_of(tuple(_part(piece, number) for piece in turn.content))


def _part(piece: Piece, number: int) -> Part:
    match piece.type:
        case "text" | "input_text" | "output_text" if piece.text is not None:
            return Text(content=piece.text)
        case "refusal" if piece.refusal is not None:
            return Text(content=piece.refusal)
        case "image_url" if piece.image_url:
            return Image(uri=piece.image_url.url)
        case "file" if piece.file and (told := piece.file.file_data or piece.file.file_id):
            return file_of(told, piece.file.filename)
        case "input_audio" if piece.input_audio:
            sound = piece.input_audio
            kind = "audio/mpeg" if sound.format == "mp3" else "audio/wav"
            return File(uri=f"data:{kind};base64,{sound.data}", mime_type=kind)
        case _:
            raise invalid(
                f"messages.{number}.content: a part of the type {piece.type[:40]!r} cannot be sent: "
                "text, image_url, input_audio and file with file_data or file_id can",
                f"messages.{number}.content",
            )


def tools(
    given: list[GivenTool] | None, choice: str | Json | None, *, speaks: bool = False
) -> dict[str, Any]:
    """The functions that a model may ask for, and which it should; with `speaks`, tools that only
    this API has go along as they are."""
    offered = given or []
    own_choice = isinstance(choice, dict) and choice.get("type") not in {None, "function"}
    if speaks and (own_choice or any(each.function is None for each in offered)):
        # In one list, which cannot be half ours.
        told: Json = {"tools": [each.model_dump(exclude_unset=True) for each in offered]}
        return {"extra": told | ({} if choice is None else {"tool_choice": choice})}
    made = tuple(_tool(each, number) for number, each in enumerate(offered))
    return {"tools": made, "tool_choice": _chosen(choice) if made else None}


def _tool(given: GivenTool, number: int) -> Tool:
    if given.function is None:
        raise invalid(
            f"tools.{number}: this model's provider has only functions, not {given.type[:40]!r}",
            f"tools.{number}.type",
        )
    return Tool(
        name=given.function.name,
        description=given.function.description or "",
        parameters=given.function.parameters or {"type": "object", "properties": {}},
        strict=given.function.strict,
    )


def _chosen(choice: str | Json | None) -> str | None:
    if choice is None or isinstance(choice, str):
        return choice
    name = obj(choice.get("function", choice)).get("name")
    if not isinstance(name, str):
        raise invalid(
            "tool_choice: name a function: {type: function, function: {name}}", "tool_choice"
        )
    return name


def _schema(given: Format | None) -> Json | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return {"type": "object"}
    if given.json_schema is None or given.json_schema.json_schema is None:
        raise invalid("response_format.json_schema.schema: it is missing", "response_format")
    return given.json_schema.json_schema
