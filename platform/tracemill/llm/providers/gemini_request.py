"""Our request as Gemini's: contents, tools, and the generation config."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from mimetypes import guess_type
from typing import Any, cast
from urllib.parse import quote

from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Wire
from tracemill.llm.providers.attached import base64_of, kind_of
from tracemill.messages import (
    Attached,
    File,
    Image,
    Json,
    Message,
    Native,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
)

NATIVE = frozenset({"executableCode", "codeExecutionResult", "toolCall", "toolResponse"})
"""Parts that only Gemini has."""

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_TIERS = ("standard", "flex", "priority")
_LEVELS = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
}
# Tokens for Gemini 2.5, as Google's OpenAI-compatible endpoint sets them.
_BUDGETS = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
}
# Gemini 3 refuses a call without a signature; this one Google accepts for calls of other models.
_UNSIGNED = base64.b64encode(b"skip_thought_signature_validator").decode()


def chat(request: Request, model: str, provider: Provider) -> Wire:
    """The request on the wire. Raises `CallFailed` for what Gemini cannot do."""
    if request.service_tier not in (None, *_TIERS):
        raise invalid(f"service_tier: Gemini has {', '.join(_TIERS)}, not {request.service_tier}")
    if request.logprobs is not None:
        raise invalid("logprobs: they are not read from Gemini: leave it out")
    system = [request.system or "", *(m.text for m in request.messages if m.role == "system")]
    body = {
        "systemInstruction": _texts(text for text in system if text),
        "contents": _contents(request.messages, model),
        "tools": _tools(request),
        "toolConfig": _tool_config(request),
        "generationConfig": _generation_config(request, model),
        "serviceTier": request.service_tier,
    }
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    return Wire(f"/{path(model)}:{method}", {key: value for key, value in body.items() if value})


def _contents(messages: Iterable[Message], model: str) -> list[Json]:
    names: dict[str, str] = {}
    contents: list[Json] = []
    before = ""
    for message in messages:
        names |= {part.id: part.name for part in message.parts if isinstance(part, ToolCall)}
        parts = [] if message.role == "system" else _parts(message, names, model)
        # Gemini wants the results of one turn's calls in one piece.
        if parts and message.role == before == "tool":
            contents[-1]["parts"] += parts
        elif parts:
            contents.append(
                {"role": "model" if message.role == "assistant" else "user", "parts": parts}
            )
            before = message.role
    if not contents:
        raise invalid("messages: Gemini needs a message that is not empty and not the system's")
    return contents


def _parts(message: Message, names: Mapping[str, str], model: str) -> list[Json]:
    parts: list[Json] = []
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    version = re.search(r"gemini-(\d+)", model)
    strict = version and int(version[1]) >= 3 and not any(call.signature for call in calls)
    for part in message.parts:
        match part:
            case Text():
                parts += [{"text": part.content}] if part.content else []
            case Reasoning():
                _add_thought(parts, part)
            case ToolCall():
                signature = part.signature or (_UNSIGNED if strict and part is calls[0] else None)
                call = {"id": part.id, "name": part.name, "args": _arguments(part)}
                parts.append({"functionCall": call} | _signed(signature))
            case ToolResult():
                parts.append({"functionResponse": _result(part, names)})
            case Image() | File():
                parts.append(_media(part))
            case Native():
                parts += [part.body] if part.body.keys() & NATIVE else []
    return parts


def _add_thought(parts: list[Json], thought: Reasoning) -> None:
    if thought.redacted or thought.id:
        return  # another provider's: Gemini gives its thoughts no names
    if thought.content:
        parts.append({"text": thought.content, "thought": True} | _signed(thought.signature))
    elif thought.signature and parts and parts[-1].keys() == {"text"}:
        parts[-1] |= _signed(thought.signature)
    elif thought.signature:
        parts.append({"text": ""} | _signed(thought.signature))


def _signed(signature: str | None) -> Json:
    return {"thoughtSignature": signature} if signature else {}


def _arguments(call: ToolCall) -> Json:
    arguments = _json(call.arguments or "{}")
    if not isinstance(arguments, dict):
        raise invalid(
            f"messages: the arguments of the call {call.id} to {call.name} are no JSON object; "
            "Gemini takes nothing else"
        )
    return cast(Json, arguments)


def _result(result: ToolResult, names: Mapping[str, str]) -> Json:
    name = result.name or names.get(result.id)
    if not name:
        raise invalid(
            f"messages: the tool result {result.id} has no name and no call before it; "
            "Gemini needs the name of the function"
        )
    told = _json(result.response)
    told = result.response if told is None else told
    if result.is_error or not isinstance(told, dict):
        told = {"error" if result.is_error else "output": told}
    return {"id": result.id, "name": name, "response": told}


def _media(part: Attached) -> Json:
    data = base64_of(part)
    if data is not None:
        return {"inlineData": {"mimeType": kind_of(part), "data": data}}
    if not part.uri.startswith(("https:", "gs:", "http:")):
        raise invalid(
            f"messages: Gemini cannot read {part.uri[:40]!r}: give an https: or gs: address or "
            "data:...;base64,"
        )
    mime = part.mime_type or guess_type(part.uri.partition("?")[0])[0]
    return {"fileData": {"fileUri": part.uri} | ({"mimeType": mime} if mime else {})}


def _texts(texts: Iterable[str]) -> Json:
    parts = [{"text": text} for text in texts]
    return {"parts": parts} if parts else {}


def _tools(request: Request) -> list[Json]:
    declarations = [
        {
            "name": tool.name,
            "description": tool.description,
            "parametersJsonSchema": tool.parameters,
        }
        for tool in request.tools
    ]
    return [{"functionDeclarations": declarations}] if declarations else []


def _tool_config(request: Request) -> Json:
    choice, names = request.tool_choice, [tool.name for tool in request.tools]
    if choice in names:
        return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [choice]}}
    if choice in (None, "auto") and any(tool.strict for tool in request.tools):
        return {"functionCallingConfig": {"mode": "VALIDATED"}}
    return {"functionCallingConfig": {"mode": _MODES[choice]}} if choice and names else {}


def _generation_config(request: Request, model: str) -> Json:
    if len(request.stop) > 5:
        raise invalid(f"stop: Gemini takes 5 texts at most, not {len(request.stop)}")
    schema = request.response_schema
    config = {
        "maxOutputTokens": request.max_output_tokens,
        "stopSequences": list(request.stop) or None,
        "seed": request.seed,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "responseMimeType": None if schema is None else "application/json",
        "responseJsonSchema": schema,
        "thinkingConfig": _thinking(request.reasoning_effort, model),
    }
    return {key: value for key, value in config.items() if value is not None}


def _thinking(effort: str | None, model: str) -> Json | None:
    if effort is None:
        return None
    shown = {"includeThoughts": True} if effort != "none" else {}
    if "gemini-2.5" not in model:
        return shown | {"thinkingLevel": _LEVELS[effort]}
    if effort == "none" and "pro" in model:
        raise invalid(f"reasoning_effort: {model} always thinks; `minimal` is the least")
    return shown | {"thinkingBudget": _BUDGETS[effort]}


def path(model: str) -> str:
    """A model's resource name: `models/x` where `x` alone is given, or `tunedModels/y`."""
    return quote(model if "/" in model else f"models/{model}", safe="/:")


def invalid(message: str) -> CallFailed:
    """The error for what Gemini cannot do."""
    return CallFailed("invalid_request", message)


def _json(text: str) -> Any:
    """None where it is not JSON, which knows neither NaN nor infinity."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value
