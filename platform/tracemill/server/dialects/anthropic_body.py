"""Requests to Anthropic's messages, as our values: the reverse of `llm/providers/anthropic_request`.

What has a name of ours goes by it, to any provider. Fields and tools that only this API has go along
as they are where the model speaks it.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tracemill.llm.providers.anthropic_request import VERSION
from tracemill.llm.providers.fields import objects
from tracemill.messages import (
    File,
    Image,
    Json,
    Message,
    Native,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from tracemill.server.dialects import thoughts
from tracemill.server.dialects.forms import Form, Loose, attached, content_of, extra
from tracemill.server.trouble import invalid

OWN = "anthropic"
"""Whose thoughts go as they are."""
_CHANGES_NOTHING = frozenset(
    {
        *("inference_geo", "diagnostics", "speed", "context_management"),
        *("user_profile_id", "workspace_id"),
    }
)
_KNOWN = frozenset(
    {
        *("text", "image", "document", "search_result", "thinking", "redacted_thinking"),
        *("tool_use", "tool_result"),
    }
)
_SAMPLING = ("temperature", "top_p", "top_k")
# As `anthropic_request` spends them: the effort whose budget is the next below.
_EFFORTS = ((32_000, "xhigh"), (16_384, "high"), (8_192, "medium"), (2_048, "low"), (0, "minimal"))


class Kept(Form):
    """That the provider is to keep the prompt up to here."""

    ttl: Literal["5m", "1h"] | None = None


class Source(Form):
    """Where a picture or a document is."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: "str | list[Block] | None" = None


class Block(Form):
    """A part of a message."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Json | None = None
    tool_use_id: str | None = None
    content: "str | list[Block] | Json | None" = None
    is_error: bool | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    citations: Any = None
    cache_control: Kept | None = None


class Turn(Loose):
    """A message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Words(Loose):
    """A part of the system's text."""

    type: Literal["text"]
    text: str
    cache_control: Kept | None = None


class GivenTool(Form):
    """A function, or a tool of Anthropic's own."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Json | None = None
    strict: bool | None = None
    cache_control: Kept | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is a function, and nothing is said of it that has no name of ours."""
        return self.type in {None, "custom"} and not self.model_extra


class Choice(Form):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class Format(Loose):
    type: Literal["json_schema"]
    json_schema: Annotated[Json, Field(alias="schema")]


class Output(Form):
    """How to answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Thinking(Form):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Field(ge=0)] | None = None


class Thread(Loose):
    """A conversation that the server holds, so that only what is new is sent."""

    type: Literal["create", "continue"]
    previous_message_id: Annotated[str, Field(max_length=200)] | None = None

    @property
    def follows(self) -> str | None:
        """The answer that it goes on from."""
        return self.previous_message_id if self.type == "continue" else None


class About(Loose):
    user_id: Annotated[str, Field(max_length=512)] | None = None


class Asked(Form):
    """What is read of a request before it is answered."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Turn], Field(min_length=1)]
    system: str | list[Words] | None = None
    tools: list[GivenTool] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: Output | None = None
    cache_control: Kept | None = None


class Body(Asked):
    """A request for a message."""

    max_tokens: Annotated[int, Field(ge=1, le=10**9)]
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    metadata: About | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    stream: bool | None = None
    thread: Thread | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)
COUNTED: TypeAdapter[Asked] = TypeAdapter(Asked)


def asked(
    body: Body, version: str, before: tuple[Message, ...] = (), *, speaks: bool
) -> dict[str, Any]:
    """The fields of a `Request`, but for the model and whose call it is.

    Args:
        before: what was said before these messages.
        version: of the API; the newer one refuses sampling parameters.
        speaks: whether the model's provider speaks this language, so that fields without a name of
            ours can go along.

    Raises `Trouble` (400), which names the field.
    """
    if version == VERSION:
        _check_new(body)
    unnamed = {name: value for name, value in (body.model_extra or {}).items() if name != "betas"}
    given = extra(unnamed, _CHANGES_NOTHING, speaks=speaks)
    output, thought = _output(body, speaks=speaks), _thinking(body, speaks=speaks)
    tools = _tools(body, speaks=speaks)
    more = [fields.pop("extra", {}) for fields in (output, thought, tools)]
    return {
        "system": _system(body.system),
        "messages": (*before, *messages(body.messages, speaks=speaks)),
        "max_output_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": tuple(body.stop_sequences or ()),
        "service_tier": "standard_only"
        if speaks and body.service_tier == "standard_only"
        else None,
        "prompt_cache": _kept(body),
        **output,
        **thought,
        **tools,
        "extra": {**given, **more[0], **more[1], **more[2]},
    }


def _check_new(body: Body) -> None:
    for name in _SAMPLING:
        if getattr(body, name) is not None:
            raise invalid(f"{name}: version {VERSION} of the API has no such field", name)
    for number, turn in enumerate(body.messages):
        blocks = turn.content if isinstance(turn.content, list) else []
        if turn.role == "user" and any(block.citations for block in blocks):
            where = f"messages.{number}.content"
            raise invalid(f"{where}: version {VERSION} takes no citations from users", where)


def _system(given: str | list[Words] | None) -> str | None:
    if isinstance(given, list):
        return "\n\n".join(words.text for words in given) or None
    return given or None


def messages(turns: Iterable[Turn], *, speaks: bool) -> tuple[Message, ...]:
    """The conversation; `speaks` as of `asked`. Raises `Trouble` (400) for a part that cannot be
    sent."""
    return tuple(message for n, turn in enumerate(turns) for message in _messages(turn, n, speaks))


def _messages(turn: Turn, number: int, speaks: bool) -> Iterator[Message]:
    """A turn; results of tools are a message of their own."""
    if isinstance(turn.content, str):
        yield Message(role=turn.role, content=turn.content)
        return
    where = f"messages.{number}"
    parts: list[Part] = []
    for block in turn.content:
        # What an assistant did that another provider cannot, that one is not told.
        if block.type in _KNOWN or not (speaks or turn.role == "assistant"):
            parts += _parts(block, where)
        else:
            body = block.model_dump(by_alias=True, exclude_unset=True)
            parts.append(Native(body=body, provider=OWN))
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    rest = tuple(part for part in parts if not isinstance(part, ToolResult))
    if results:
        yield Message(role="tool", content=results)
    if rest or not results:
        yield Message(role=turn.role, content=content_of(rest))


def _parts(block: Block, where: str) -> Iterator[Part]:
    match block.type:
        case "text" if block.text is not None:
            cited = tuple(Native(body=each, provider=OWN) for each in objects(block.citations))
            yield Text(content=block.text, citations=cited)
        case "image" | "document" if isinstance(block.source, Source):
            yield from _attached(block, block.source, where)
        case "search_result" if isinstance(block.content, list):
            about = filter(None, (block.title, block.source))
            found = (each.text for each in block.content if each.text)
            yield Text(content="\n\n".join((*map(str, about), *found)))
        case "thinking" if block.thinking is not None:
            yield thoughts.opened(block.thinking, block.signature, OWN)
        case "redacted_thinking" if block.data is not None:
            yield Reasoning(signature=block.data, redacted=True, provider=OWN)
        case "tool_use" if block.id and block.name:
            words = json.dumps(block.input or {}, ensure_ascii=False)
            yield ToolCall(id=block.id, name=block.name, arguments=words)
        case "tool_result" if block.tool_use_id and not isinstance(block.content, dict):
            yield from _result(block, where)
        case _:
            raise invalid(
                f"{where}.content: a block of the type {block.type[:40]!r} that can be sent was "
                "expected: text, image, document, search_result, thinking, tool_use and tool_result "
                "with their fields are",
                f"{where}.content",
            )


def _result(block: Block, where: str) -> Iterator[Part]:
    """What a tool gave back; its pictures and documents stand beside it, since only this API
    has them within."""
    inner = block.content if isinstance(block.content, list) else [str(block.content or "")]
    words: list[str] = []
    beside: list[Part] = []
    for each in inner:
        if isinstance(each, str):
            words.append(each)
        elif each.type == "tool_reference":
            words.append("")
        else:
            for part in _parts(each, where):
                if isinstance(part, Text):
                    words.append(part.content)
                else:
                    beside.append(part)
    yield ToolResult(
        id=block.tool_use_id or "", response="\n".join(words), is_error=bool(block.is_error)
    )
    yield from beside


def _attached(block: Block, source: Source, where: str) -> Iterator[Part]:
    """A picture or a document; what is said of it stands before it."""
    if block.context:
        yield Text(content=block.context)
    match source.type:
        case "text" if source.data is not None:
            yield Text(content=f"{block.title}\n\n{source.data}" if block.title else source.data)
        case "content" if source.content is not None:
            inner = source.content
            blocks = [Block(type="text", text=inner)] if isinstance(inner, str) else inner
            for each in blocks:
                yield from _parts(each, where)
        case "url" | "file" if told := source.url or source.file_id:
            yield Image(uri=told) if block.type == "image" else File(uri=told, name=block.title)
        case "base64" if source.data and (kind := source.media_type):
            yield attached(f"data:{kind};base64,{source.data}", kind, block.title)
        case _:
            raise invalid(
                f"{where}.content: {block.type} needs a source of the type base64, url or file with "
                f"its fields, a document also text or content; not {source.type[:40]!r}",
                f"{where}.content",
            )


def _kept(body: Body) -> str | None:
    """For how long the provider is to keep the prompt: the longest that is said anywhere."""
    marks: list[Kept | None] = [body.cache_control]
    marks += [tool.cache_control for tool in body.tools or ()]
    marks += [words.cache_control for words in body.system or () if isinstance(words, Words)]
    for turn in body.messages:
        marks += [block.cache_control for block in turn.content if isinstance(block, Block)]
    found = [mark for mark in marks if mark is not None]
    if not found:
        return None
    return "1h" if any(mark.ttl == "1h" for mark in found) else "5m"


def _output(body: Body, *, speaks: bool) -> Json:
    output = body.output_config
    if output is None:
        return {}
    made: Json = {}
    if output.format is not None:
        made["response_schema"] = output.format.json_schema
    if output.effort is not None:
        if speaks:
            made["extra"] = {"output_config": {"effort": output.effort}}
        else:
            made["reasoning_effort"] = "xhigh" if output.effort == "max" else output.effort
    return made


def _thinking(body: Body, *, speaks: bool) -> Json:
    """How long to think; to this provider in its own words, which tell it more exactly."""
    thinking = body.thinking
    if thinking is None:
        return {}
    if speaks:
        return {"extra": {"thinking": thinking.model_dump(exclude_unset=True)}}
    if thinking.type == "disabled":
        return {"reasoning_effort": "none"}
    if thinking.type != "enabled":
        return {}
    most = thinking.budget_tokens or 0
    return {"reasoning_effort": next(name for least, name in _EFFORTS if most >= least)}


def _tools(body: Body, *, speaks: bool) -> Json:
    given, choice = body.tools or [], body.tool_choice
    if speaks and not all(tool.is_plain for tool in given):
        # In one list, which cannot be half ours.
        kept = {"cache_control"}
        told: Json = {
            "tools": [tool.model_dump(exclude_unset=True, exclude=kept) for tool in given]
        }
        if choice is not None:
            told["tool_choice"] = choice.model_dump(exclude_unset=True)
        return {"extra": told}
    made: Json = {"tools": tuple(_tool(tool, number) for number, tool in enumerate(given))}
    if choice is not None and given:
        made["tool_choice"] = {"any": "required", "tool": choice.name}.get(choice.type, choice.type)
        if speaks and choice.model_extra:
            made["extra"] = {"tool_choice": choice.model_extra}
    return made


def _tool(tool: GivenTool, number: int) -> Tool:
    if tool.type not in {None, "custom"}:
        raise invalid(
            f"tools.{number}: this model's provider has no {tool.type!r}: only functions can be "
            "offered",
            f"tools.{number}.type",
        )
    if not tool.name or tool.input_schema is None:
        lacks = "input_schema" if tool.name else "name"
        raise invalid(f"tools.{number}.{lacks}: it is missing", f"tools.{number}.{lacks}")
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=tool.input_schema,
        strict=tool.strict,
    )
