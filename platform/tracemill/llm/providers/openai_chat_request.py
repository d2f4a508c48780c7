"""Requests to OpenAI's chat completions: our values as its messages.

`body` is what every server that speaks this language takes; `compatible.py` changes it by host.
"""

import hashlib
from collections.abc import Callable

from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Wire
from tracemill.llm.providers.attached import RECORDINGS, base64_of, kind_of
from tracemill.llm.providers.schemas import closed, is_strict
from tracemill.messages import (
    Attached,
    File,
    Json,
    Message,
    Part,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
    text_of,
)

MOST_STOPS = 4
"""The most stop texts that OpenAI takes."""

Think = Callable[[Json, tuple[Reasoning, ...]], None]
"""Puts an assistant's thoughts into its message, where the server wants them back."""

_LONGEST_USER = 64


def chat(request: Request, model: str, provider: Provider) -> Wire:
    """The request on the wire.

    Raises `CallFailed` (`invalid_request`) for what this API has not: top_k, a fifth stop text.
    """
    if request.top_k is not None:
        raise invalid("top_k: OpenAI has none: leave it out")
    if len(request.stop) > MOST_STOPS:
        raise invalid(f"stop: OpenAI takes {MOST_STOPS} texts, not {len(request.stop)}: drop some")
    return Wire("/chat/completions", body(request, model))


def body(request: Request, model: str, think: Think | None = None) -> Json:
    """The request as JSON, every field that was given in it and no other."""
    made: Json = {"model": model, "messages": _messages(request, think)}
    if request.response_schema is not None:
        made["response_format"] = _format(request.response_schema)
    if request.stop:
        made["stop"] = list(request.stop)
    if request.user_id:
        made["safety_identifier"] = _user(request.user_id)
    if request.logprobs is not None:
        made |= {"logprobs": True, "top_logprobs": request.logprobs}
    if request.stream:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    given = {
        "max_completion_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "seed": request.seed,
        "reasoning_effort": request.reasoning_effort,
        "service_tier": request.service_tier,
    }
    made |= {name: value for name, value in given.items() if value is not None}
    return made | _tools(request)


def invalid(message: str) -> CallFailed:
    """The error for what a provider cannot do; the message names the field and the mend."""
    return CallFailed("invalid_request", message)


def _messages(request: Request, think: Think | None) -> list[Json]:
    made: list[Json] = [{"role": "system", "content": request.system}] if request.system else []
    for message in request.messages:
        made.extend(_turns(message, think))
    return made


def _turns(message: Message, think: Think | None) -> list[Json]:
    """A message as theirs: each tool result is one of its own."""
    if isinstance(message.content, str) and message.role in ("user", "system"):
        return [{"role": message.role, "content": message.content}]
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
    if message.role == "tool" and not results:
        raise invalid("messages: a message of the role tool needs a ToolResult: add it")
    turns: list[Json] = [
        {"role": "tool", "tool_call_id": result.id, "content": result.response}
        for result in results
    ]
    if results and not rest:
        return turns
    if message.role == "assistant":
        return [*turns, _assistant(rest, think)]
    role = "user" if message.role == "tool" else message.role
    return [*turns, {"role": role, "content": _content(rest, role)}]


def _assistant(parts: tuple[Part, ...], think: Think | None) -> Json:
    if any(isinstance(part, Attached) for part in parts):
        raise invalid(
            "messages: an assistant's message cannot hold an image or a file: move it to the user"
        )
    calls = [_call(part) for part in parts if isinstance(part, ToolCall)]
    words = text_of(parts)
    made: Json = {"role": "assistant"}
    if words or not calls:
        made["content"] = words
    if calls:
        made["tool_calls"] = calls
    if think:
        think(made, tuple(part for part in parts if isinstance(part, Reasoning)))
    return made


def _call(call: ToolCall) -> Json:
    if call.custom:
        given = {"name": call.name, "input": call.arguments}
        return {"type": "custom", "id": call.id, "custom": given}
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"type": "function", "id": call.id, "function": function}


def _content(parts: tuple[Part, ...], role: str) -> str | list[Json]:
    if any(isinstance(part, ToolCall) for part in parts):
        raise invalid(f"messages: the role {role} cannot call a tool: give it to the assistant")
    if not any(isinstance(part, Attached) for part in parts):
        return text_of(parts)
    if role == "system":
        raise invalid(
            "messages: a system message cannot hold an image or a file: move it to the user"
        )
    return [_piece(part) for part in parts if isinstance(part, Text | Attached)]


def _piece(part: Text | Attached) -> Json:
    if isinstance(part, Text):
        return {"type": "text", "text": part.content}
    if isinstance(part, File):
        return _file(part)
    if not part.uri.startswith(("https:", "http:", "data:image/")):
        raise invalid(
            f"messages: this provider cannot read the image {part.uri[:40]!r}: "
            "give an https: address or data:image/...;base64,"
        )
    return {"type": "image_url", "image_url": {"url": part.uri}}


def _file(file: File) -> Json:
    kind, data = kind_of(file), base64_of(file)
    if data is None:
        raise invalid(
            f"messages: this provider fetches no files, such as {file.uri[:40]!r}: "
            "give data:...;base64,"
        )
    if not kind.startswith("audio/"):
        # It wants a name of every file.
        told = {"filename": file.name or "file.pdf", "file_data": f"data:{kind};base64,{data}"}
        return {"type": "file", "file": told}
    if kind not in RECORDINGS:
        raise invalid(f"messages: this provider hears WAV and MP3, not {kind[:80]}")
    return {"type": "input_audio", "input_audio": {"data": data, "format": RECORDINGS[kind]}}


def _tools(request: Request) -> Json:
    if not request.tools:
        return {}  # a choice among none is refused
    tools = [
        {
            "type": "function",
            "function": {"name": tool.name, "parameters": tool.parameters}
            | ({"description": tool.description} if tool.description else {})
            | ({"strict": tool.strict} if tool.strict is not None else {}),
        }
        for tool in request.tools
    ]
    made: Json = {"tools": tools}
    if request.tool_choice in ("auto", "none", "required"):
        made["tool_choice"] = request.tool_choice
    elif request.tool_choice:
        made["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice}}
    return made


def _format(schema: Json) -> Json:
    """Strict where the schema can be: a map with free keys cannot."""
    narrow = closed(schema, all_required=True)
    strict = is_strict(narrow)
    inner = {"name": "answer", "schema": narrow if strict else schema, "strict": strict}
    return {"type": "json_schema", "json_schema": inner}


def _user(name: str) -> str:
    """The user's id, or a digest of it where it is longer than the API takes."""
    return name if len(name) <= _LONGEST_USER else hashlib.sha256(name.encode()).hexdigest()
