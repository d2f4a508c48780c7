"""Requests to OpenAI's responses, as our values: the reverse of `llm/providers/openai_responses_request`.

What has a name of ours goes by it, to any provider. Fields and tools that only this API has go along
where the model speaks it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tracemill.messages import (
    Attached,
    Effort,
    Image,
    Json,
    Message,
    Native,
    Part,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from tracemill.server.dialects import thoughts
from tracemill.server.dialects.forms import Form, content_of, extra
from tracemill.server.dialects.openai import file_of
from tracemill.server.trouble import invalid

OWN = "openai"
"""Whose thoughts go as they are."""
_OURS = re.compile(r"rs_[0-9a-f]{8}-")
"""Names of thoughts that the provider does not know: it has its own, sealed with them."""
_KNOWN = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "item_reference"}
)
_BY_MODEL = re.compile(r"_call$|^compaction$|^mcp_list_tools$")
_LOGPROBS = "message.output_text.logprobs"
_CHANGES_NOTHING = frozenset(
    {
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "truncation"),
        *("parallel_tool_calls", "max_tool_calls", "stream_options", "context_management"),
    }
)


class Block(Form):
    """A part of a message, of a thought, or of a function's result."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class Item(Form):
    """A message, a thought, a function that was called, or its result."""

    type: str | None = None
    id: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Block] | list[Json] | Json | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | Json | None = None
    output: str | list[Block] | list[Json] | Json | None = None
    summary: list[Block] | None = None
    encrypted_content: str | None = None


class GivenTool(Form):
    """A function, or a tool of the provider's own."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class Choice(Form):
    type: str
    name: str | None = None


class Format(Form):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    json_schema: Annotated[Json | None, Field(alias="schema")] = None
    strict: bool | None = None


class Words(Form):
    """How the text is to be."""

    format: Format | None = None


class Thinking(Form):
    effort: Effort | None = None


class Asked(Form):
    """What a model is to read."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: str | list[Item] | None = None
    instructions: str | None = None
    tools: list[GivenTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | Choice | None = None
    text: Words | None = None
    reasoning: Thinking | None = None
    previous_response_id: Annotated[str, Field(max_length=200)] | None = None


class Body(Asked):
    """A request for a response."""

    max_output_tokens: Annotated[int, Field(ge=1, le=10**9)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    service_tier: Annotated[str, Field(max_length=40)] | None = None
    user: Annotated[str, Field(max_length=200)] | None = None
    safety_identifier: Annotated[str, Field(max_length=200)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None

    @property
    def logprobs(self) -> int | None:
        """Beside how many alternatives each token is to be told; None: not at all."""
        wanted = _LOGPROBS in (self.include or ()) or self.top_logprobs
        return (self.top_logprobs or 0) if wanted else None


BODY: TypeAdapter[Body] = TypeAdapter(Body)
COUNTED: TypeAdapter[Asked] = TypeAdapter(Asked)


def asked(body: Body, before: tuple[Message, ...], *, speaks: bool) -> dict[str, Any]:
    """The fields of a `Request`, but for the model and whose call it is.

    Args:
        before: the conversation that the request goes on with.
        speaks: whether the model's provider speaks this language, so that fields without a name of
            ours can go along.

    Raises `Trouble` (400), which names the field.
    """
    if body.background:
        raise invalid("background: answers are not made in the background: leave it out; "
                      "/v1/batches and /v1/jobs are", "background")  # fmt: skip
    given = extra(body.model_extra, _CHANGES_NOTHING, speaks=speaks)
    told = (_thinking(body, speaks=speaks), _format(body, speaks=speaks), _tools(body, speaks))
    more: Json = {}
    for fields in told:
        more |= fields.pop("extra", {})
    return {
        "system": body.instructions or None,
        "messages": conversation(body, before, speaks=speaks),
        "max_output_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "logprobs": body.logprobs,
        "service_tier": None if body.service_tier == "auto" else body.service_tier,
        **told[0],
        **told[1],
        **told[2],
        "extra": {**given, **more},
    }


def conversation(
    body: Asked, before: tuple[Message, ...] = (), *, speaks: bool
) -> tuple[Message, ...]:
    """All messages; `speaks` as of `asked`. Raises `Trouble` (400) for what cannot be sent, and where
    there is none."""
    items = [Item(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    made = (*before, *_messages(items or (), speaks))
    if not made:
        raise invalid("input: there is nothing to answer", "input")
    return made


def _messages(items: Iterable[Item], speaks: bool) -> list[Message]:
    """Items as messages: what an assistant thinks, says and calls is one, and so are results."""
    made: list[tuple[Role, list[Part]]] = []
    for number, item in enumerate(items):
        role, parts = _read(item, number, speaks)
        spoken = any(isinstance(part, Text | Attached) for part in parts)
        goes_on = bool(made) and made[-1][0] == role and role in {"assistant", "tool"}
        if goes_on and not (spoken and _has_more(made[-1][1])):
            made[-1][1].extend(parts)
        else:
            made.append((role, parts))
    return [Message(role=role, content=content_of(tuple(parts))) for role, parts in made]


def _has_more(parts: list[Part]) -> bool:
    """Whether something stands there after which words begin a message of their own."""
    return any(not isinstance(part, Reasoning) for part in parts)


def _read(item: Item, number: int, speaks: bool) -> tuple[Role, list[Part]]:
    where = f"input.{number}"
    match item.type:
        case None | "message" if item.role is not None:
            role: Role = "system" if item.role == "developer" else item.role
            return role, _blocks(item.content, f"{where}.content")
        case "function_call" if item.call_id and item.name and not isinstance(item.arguments, dict):
            call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments or "")
            return "assistant", [call]
        case "function_call_output" if item.call_id and item.output is not None:
            return "tool", _result(item.call_id, item.output, f"{where}.output")
        case "reasoning":
            return "assistant", _thought(item)
        case str(kind) if kind not in _KNOWN and (speaks or _BY_MODEL.search(kind)):
            # What a model did that another provider cannot, that one is not told.
            body = item.model_dump(by_alias=True, exclude_unset=True)
            return "assistant", [Native(body=body, provider=OWN)]
        case _:
            raise invalid(
                f"{where}: an item of the type {(item.type or 'message')[:40]!r} that can be sent "
                "was expected: message, reasoning, function_call and function_call_output with "
                "their fields are",
                where,
            )


def _blocks(content: str | list[Block] | list[Json] | Json | None, where: str) -> list[Part]:
    if isinstance(content, str):
        return [Text(content=content)] if content else []
    if isinstance(content, dict):
        raise invalid(f"{where}: it is a text or a list of parts", where)
    return [_part(block, where) for block in content or ()]


def _part(block: Block | Json, where: str) -> Part:
    if isinstance(block, dict):
        raise invalid(f"{where}: a part needs a `type`", where)
    match block.type:
        case "input_text" | "output_text" | "text" if block.text is not None:
            return Text(content=block.text)
        case "refusal" if block.refusal is not None:
            return Text(content=block.refusal)
        case "input_image" if block.image_url:
            return Image(uri=block.image_url)
        case "input_image" if block.file_id:
            return Image(uri=block.file_id)
        case "input_file" if told := block.file_data or block.file_url or block.file_id:
            return file_of(told, block.filename)
        case _:
            raise invalid(
                f"{where}: a part of the type {block.type[:40]!r} cannot be sent: input_text, "
                "output_text, refusal, input_image with an image_url or file_id, and input_file "
                "with file_data, file_url or file_id can",
                where,
            )


def _result(call_id: str, output: str | list[Block] | list[Json] | Json, where: str) -> list[Part]:
    """What a function gave back; pictures and files stand beside it."""
    if isinstance(output, str):
        return [ToolResult(id=call_id, response=output)]
    parts = _blocks(output, where)
    words = "\n".join(part.content for part in parts if isinstance(part, Text))
    beside = [part for part in parts if isinstance(part, Attached)]
    return [ToolResult(id=call_id, response=words), *beside]


def _thought(item: Item) -> list[Part]:
    blocks = item.content if isinstance(item.content, list) and item.content else item.summary
    texts = (block.text for block in blocks or () if isinstance(block, Block))
    words = "\n\n".join(filter(None, texts))
    made = thoughts.opened(words, item.encrypted_content, OWN)
    if made.id is None and made.provider in {None, OWN} and item.id and not _OURS.match(item.id):
        made = made.model_copy(update={"id": item.id})
    return [made] if words or made.signature else []


def _thinking(body: Asked, *, speaks: bool) -> Json:
    """How long to think; beside it goes what only this API knows, such as how to sum thoughts up."""
    if body.reasoning is None:
        return {}
    made: Json = {"reasoning_effort": body.reasoning.effort}
    if speaks and (more := _given(body.reasoning.model_extra)):
        made["extra"] = {"reasoning": more}
    return made


def _format(body: Asked, *, speaks: bool) -> Json:
    words = body.text
    if words is None:
        return {}
    made: Json = {}
    if speaks and (more := _given(words.model_extra)):
        made["extra"] = {"text": more}
    match words.format:
        case Format(type="json_schema", json_schema=None):
            raise invalid("text.format.schema: it is missing", "text.format.schema")
        case Format(type="json_schema", json_schema=schema):
            made["response_schema"] = schema
        case Format(type="json_object"):
            made["response_schema"] = {"type": "object"}
        case _:
            pass
    return made


def _given(fields: Mapping[str, Any] | None) -> Json:
    return {name: value for name, value in (fields or {}).items() if value is not None}


def _tools(body: Asked, speaks: bool) -> Json:
    given, choice = body.tools or [], body.tool_choice
    functions = all(tool.type == "function" for tool in given)
    own_choice = isinstance(choice, Choice) and choice.type != "function"
    if speaks and not (functions and not own_choice):
        # In one list, which cannot be half ours.
        told: Json = {"tools": [tool.model_dump(exclude_unset=True) for tool in given]}
        if choice is not None:
            chosen = choice if isinstance(choice, str) else choice.model_dump(exclude_unset=True)
            told["tool_choice"] = chosen
        return {"extra": told}
    made: Json = {"tools": tuple(_tool(tool, number) for number, tool in enumerate(given))}
    if choice is not None and given:
        made["tool_choice"] = choice if isinstance(choice, str) else _chosen(choice)
    return made


def _chosen(choice: Choice) -> str:
    if choice.type != "function" or not choice.name:
        raise invalid("tool_choice: name a function: {type: function, name}", "tool_choice")
    return choice.name


def _tool(tool: GivenTool, number: int) -> Tool:
    if tool.type != "function":
        raise invalid(
            f"tools.{number}: this model's provider has no {tool.type[:40]!r}: only functions can "
            "be offered",
            f"tools.{number}.type",
        )
    if not tool.name:
        raise invalid(f"tools.{number}.name: it is missing", f"tools.{number}.name")
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=tool.parameters or {"type": "object", "properties": {}},
        strict=tool.strict,
    )
