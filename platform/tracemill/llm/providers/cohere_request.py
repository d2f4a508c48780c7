"""Our requests as Cohere's (API v2): chat, embed and rerank."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Wire
from tracemill.messages import (
    Attached,
    File,
    Image,
    Json,
    Message,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    text_of,
)

EMBED_BATCH = 96
PLAN = "tool_plan"
"""The id of the thought that Cohere keeps apart from the others: what it will do with tools."""

_KINDS = {None: "search_document", "query": "search_query", "document": "search_document"}
# Tokens to think with; None is as many as the model wants.
_BUDGETS = {"minimal": 512, "low": 2048, "medium": 8192, "high": None, "xhigh": None}


def chat(request: Request, model: str, provider: Provider) -> Wire:
    """The request on the wire. Raises `CallFailed` for what Cohere cannot do."""
    if request.service_tier is not None:
        raise _invalid("service_tier: Cohere has no tiers; leave it out")
    if request.logprobs is not None:
        raise _invalid("logprobs: they are not read from Cohere: leave it out")
    if len(request.stop) > 5:
        raise _invalid(f"stop: Cohere takes 5 texts at most, not {len(request.stop)}")
    schema = request.response_schema
    body = {
        "model": model,
        "messages": _messages(request),
        "stream": request.stream,
        **_tools(request),
        "response_format": None if schema is None else _json_format(schema),
        "max_tokens": request.max_output_tokens,
        "stop_sequences": list(request.stop) or None,
        "temperature": request.temperature,
        "p": request.top_p,
        "k": request.top_k,
        "seed": request.seed,
        "thinking": _thinking(request.reasoning_effort),
    }
    return Wire("/v2/chat", {key: value for key, value in body.items() if value is not None})


def _messages(request: Request) -> list[Json]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    turns = [turn for message in request.messages for turn in _turns(message)]
    if not any(turn["role"] != "system" for turn in turns):
        raise _invalid("messages: Cohere needs a message that is not empty and not the system's")
    return system + turns


def _turns(message: Message) -> Iterable[Json]:
    """A message as Cohere's: each tool result is one of its own."""
    for part in message.parts:
        if isinstance(part, ToolResult):
            # There is no field that says that a function failed.
            told = json.dumps({"error": part.response}) if part.is_error else part.response
            yield {"role": "tool", "tool_call_id": part.id, "content": told}
    parts = tuple(part for part in message.parts if not isinstance(part, ToolResult))
    if message.role in ("assistant", "system") and any(isinstance(p, Attached) for p in parts):
        raise _invalid(f"messages: Cohere takes images from the user, not the {message.role}")
    turn = _assistant(parts) if message.role == "assistant" else {"content": _content(parts)}
    if any(turn.values()):
        yield {"role": "user" if message.role == "tool" else message.role} | turn


def _assistant(parts: tuple[Part, ...]) -> Json:
    calls = [_call(part) for part in parts if isinstance(part, ToolCall)]
    plans = [part.content for part in parts if isinstance(part, Reasoning) and part.id == PLAN]
    turn = {
        "tool_plan": "".join(plans) if calls else "",  # a plan for calls that never came: no field
        "tool_calls": calls,
        "content": _content(parts),
    }
    return {key: value for key, value in turn.items() if value}


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _content(parts: tuple[Part, ...]) -> Any:
    """A text where there is nothing else, which older models want; blocks otherwise."""
    blocks = [block for part in parts if (block := _block(part))]
    if all(block["type"] == "text" for block in blocks):
        return text_of(parts)
    return blocks


def _block(part: Part) -> Json | None:
    match part:
        case Text() if part.content:
            return {"type": "text", "text": part.content}
        case Reasoning() if part.content and part.id != PLAN:
            return {"type": "thinking", "thinking": part.content}
        case Image() if part.uri.startswith(("data:", "https:", "http:")):
            return {"type": "image_url", "image_url": {"url": part.uri}}
        case Image():
            raise _invalid(f"messages: Cohere reads images at https: or data:, not {part.uri[:40]}")
        case File():
            raise _invalid("messages: Cohere reads no files: give their words as Text")
        case _:
            return None


def _tools(request: Request) -> Json:
    """Cohere cannot be told to call one tool of many: it is given that one alone."""
    choice, tools = request.tool_choice, request.tools
    named = [tool for tool in tools if tool.name == choice]
    told: Json = {}
    if tools:
        told["tools"] = [{"type": "function", "function": _function(t)} for t in named or tools]
    if any(tool.strict for tool in named or tools):
        told["strict_tools"] = True
    if choice not in (None, "auto") and tools:
        told["tool_choice"] = "NONE" if choice == "none" else "REQUIRED"
    return told


def _function(tool: Tool) -> Json:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _json_format(schema: Json) -> Json:
    return {"type": "json_object", "json_schema": schema}


def _thinking(effort: str | None) -> Json | None:
    if effort in (None, "none"):
        return {"type": "disabled"} if effort else None
    budget = _BUDGETS[effort]
    return {"type": "enabled"} | ({"token_budget": budget} if budget else {})


def embed(
    texts: Sequence[str],
    model: str,
    provider: Provider,
    *,
    dimensions: int | None,
    input_kind: str | None,
) -> Wire:
    """The request for vectors; Cohere must know what they are for, and documents are the default.

    Raises `CallFailed` (`invalid_request`) for another `input_kind`.
    """
    if input_kind not in _KINDS:
        raise _invalid(f"input_kind: Cohere knows query and document here, not {input_kind!r}")
    body: Json = {
        "model": model,
        "texts": list(texts),
        "input_type": _KINDS[input_kind],
        "embedding_types": ["float"],
    }
    return Wire("/v2/embed", body | ({"output_dimension": dimensions} if dimensions else {}))


def rerank(
    query: str, documents: Sequence[str], model: str, provider: Provider, *, top_n: int
) -> Wire:
    """The request for a ranking. Raises `CallFailed` where there is nothing to rank."""
    if not query.strip() or not documents:
        raise _invalid(f"{'documents' if query.strip() else 'query'}: there is nothing to rank")
    if top_n < 1:
        raise _invalid(f"top_n: at least one document is wanted, not {top_n}")
    body = {
        "model": model,
        "query": query,
        "documents": list(documents),
        "top_n": min(top_n, len(documents)),
    }
    return Wire("/v2/rerank", body)


def _invalid(message: str) -> CallFailed:
    return CallFailed("invalid_request", message)
