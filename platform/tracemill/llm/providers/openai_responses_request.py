"""Requests to OpenAI's Responses API: our values as its input items.

Nothing is stored there: every request carries the whole conversation, and reasoning travels with
it, encrypted by the provider.
"""

import hashlib
import re

from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Wire
from tracemill.llm.providers.attached import base64_of, kind_of
from tracemill.llm.providers.schemas import closed, is_strict
from tracemill.messages import (
    Attached,
    File,
    Image,
    Json,
    Message,
    Native,
    Part,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
)

LEAST_OUTPUT = 16
"""The API takes no smaller `max_output_tokens`."""

# Models that do not reason refuse to be asked for encrypted reasoning.
_WITHOUT_REASONING = re.compile(r"(^|[/:])(gpt-[34]|chatgpt-4)|gpt-5[^/]*-chat")
_LONGEST_USER = 64


def chat(request: Request, model: str, provider: Provider) -> Wire:
    """The request on the wire.

    Raises `CallFailed` (`invalid_request`) for what this API has not: stop texts, a seed, top_k.
    """
    _refuse(request)
    body: Json = {"model": model, "store": False, "input": _input(request)}
    if request.system:
        body["instructions"] = request.system
    if not _WITHOUT_REASONING.search(model):
        body["include"] = ["reasoning.encrypted_content"]
    if request.reasoning_effort:
        body["reasoning"] = {"effort": request.reasoning_effort}
    if request.response_schema is not None:
        body["text"] = {"format": _format(request.response_schema)}
    if request.user_id:
        body["safety_identifier"] = _user(request.user_id)
    if request.stream:
        body["stream"] = True
    given = {
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "service_tier": request.service_tier,
    }
    body |= {name: value for name, value in given.items() if value is not None}
    return Wire("/responses", body | _tools(request))


def _refuse(request: Request) -> None:
    if request.stop:
        raise _invalid(
            "stop: the Responses API has no stop texts: leave them out or use openai/..."
        )
    if request.seed is not None:
        raise _invalid("seed: the Responses API has none: leave it out or use openai/...")
    if request.top_k is not None:
        raise _invalid("top_k: the Responses API has none: leave it out")
    if request.logprobs is not None:
        raise _invalid("logprobs: the Responses API is not asked for them: use openai/...")
    if (request.max_output_tokens or LEAST_OUTPUT) < LEAST_OUTPUT:
        raise _invalid(
            f"max_output_tokens: the Responses API takes {LEAST_OUTPUT} or more, "
            f"not {request.max_output_tokens}: raise it or use openai/..."
        )


def _input(request: Request) -> list[Json]:
    made = [item for message in request.messages for item in _items(message)]
    if not made:
        raise _invalid("messages: there is no text in them; say something")
    return made


def _items(message: Message) -> list[Json]:
    """A message as items: words, images and files in succession are one, everything else one each."""
    items: list[Json] = []
    role = "user" if message.role == "tool" else message.role
    said: list[Part] = []
    for part in (*message.parts, None):
        if isinstance(part, Text | Attached):
            said.append(part)
            continue
        if said:
            items.append({"role": role, "content": _content(said, role)})
            said = []
        if part and (item := _item(part)):
            items.append(item)
    return items


def _item(part: Part) -> Json | None:
    """A part as an item; None for another provider's thoughts, which have no name here."""
    match part:
        case ToolCall():
            called = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
            return {"type": "function_call"} | called
        case ToolResult():
            return {"type": "function_call_output", "call_id": part.id, "output": part.response}
        case Reasoning(id=str(name), signature=str(secret)):
            summary = [{"type": "summary_text", "text": part.content}] if part.content else []
            head = {"type": "reasoning", "id": name}
            return head | {"summary": summary, "encrypted_content": secret}
        case Reasoning(signature=str(secret), provider="openai"):
            # Whoever keeps nothing there leaves the name out.
            summary = [{"type": "summary_text", "text": part.content}] if part.content else []
            return {"type": "reasoning", "summary": summary, "encrypted_content": secret}
        case Reasoning(id=str(name)) if part.content:
            # DeepSeek and vLLM give the thought in the clear and want it back so.
            content = [{"type": "reasoning_text", "text": part.content}]
            return {"type": "reasoning", "id": name, "summary": [], "content": content}
        case Native():
            return part.body
        case _:
            return None


def _content(said: list[Part], role: str) -> str | list[Json]:
    """Words alone are a text: the API wants no list of them from an assistant."""
    words = "".join(part.content for part in said if isinstance(part, Text))
    if not any(isinstance(part, Attached) for part in said):
        return words
    if role != "user":
        raise _invalid(
            f"messages: OpenAI takes images and files from users only, not from the {role}"
        )
    return [_piece(part) for part in said]


def _piece(part: Part) -> Json:
    match part:
        case Image():
            return _picture(part)
        case File():
            return _file(part)
        case _:
            return {"type": "input_text", "text": part.content if isinstance(part, Text) else ""}


def _picture(image: Image) -> Json:
    if not image.uri.startswith(("https:", "http:", "data:image/")):
        raise _invalid(
            f"messages: OpenAI cannot read the image {image.uri[:40]!r}: "
            "give an https: address or data:image/...;base64,"
        )
    return {"type": "input_image", "image_url": image.uri, "detail": "auto"}


def _file(file: File) -> Json:
    kind, data = kind_of(file), base64_of(file)
    if kind.startswith("audio/"):
        raise _invalid(f"messages: the Responses API hears no {kind[:80]}: use openai/...")
    if data is not None:
        named = {"filename": file.name or "file.pdf"}
        return {"type": "input_file", "file_data": f"data:{kind};base64,{data}"} | named
    if not file.uri.startswith("https:"):
        raise _invalid(
            f"messages: OpenAI cannot read the file {file.uri[:40]!r}: "
            "give an https: address or data:...;base64,"
        )
    return {"type": "input_file", "file_url": file.uri}


def _tools(request: Request) -> Json:
    made: Json = {}
    if request.tools:
        made["tools"] = [
            {"type": "function", "name": tool.name, "parameters": tool.parameters}
            | {"strict": bool(tool.strict)}
            | ({"description": tool.description} if tool.description else {})
            for tool in request.tools
        ]
    if request.tool_choice in ("auto", "none", "required"):
        made["tool_choice"] = request.tool_choice
    elif request.tool_choice:
        made["tool_choice"] = {"type": "function", "name": request.tool_choice}
    return made


def _format(schema: Json) -> Json:
    """Strict where the schema can be: a map with free keys cannot."""
    narrow = closed(schema, all_required=True)
    head = {"type": "json_schema", "name": "answer"}
    if is_strict(narrow):
        return head | {"schema": narrow, "strict": True}
    return head | {"schema": schema, "strict": False}


def _user(name: str) -> str:
    """The user's id, or a digest of it where it is longer than the API takes."""
    return name if len(name) <= _LONGEST_USER else hashlib.sha256(name.encode()).hexdigest()


def _invalid(message: str) -> CallFailed:
    return CallFailed("invalid_request", message)
