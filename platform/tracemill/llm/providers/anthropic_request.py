"""Requests to Anthropic's messages API: our values as its blocks.

Two versions of the API are spoken; the newer one knows no sampling parameters.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import cast

from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Wire
from tracemill.llm.providers.attached import base64_of, kind_of
from tracemill.llm.providers.fields import obj
from tracemill.llm.providers.schemas import closed, in_words
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

VERSION = "2026-10-21"
OLD_VERSION = "2023-06-01"
"""The version of the API, and the quirk of a provider that speaks it."""

MAX_TOKENS = 16_000
"""Sent where `max_output_tokens` is None, since the API demands a number: every model that is
served writes at least twice that, and an answer of this length takes less than ten minutes."""

# Models before 4.6 think within a budget of tokens that the request names; later ones by effort.
_BY_BUDGET = re.compile(r"claude-(3-|(opus|sonnet|haiku)-4(-[0-5])?(-\d{8}|-latest)?$)")
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_000}
_LEAST_BUDGET = 1_024
_NAMES = {"uri": "image", "file": "file"}
_TIERS = ("auto", "standard_only")
# What output_config.format refuses, as the SDK of Anthropic knows it.
_NOT_ENFORCED = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
}


def chat(request: Request, model: str, provider: Provider) -> Wire:
    """The request on the wire.

    Raises `CallFailed` (`invalid_request`) for sampling parameters on the version that has none,
    for a seed, and for parts that cannot be sent.
    """
    old = OLD_VERSION in provider.quirks
    head, rest = _system(request)
    body: Json = {"model": model, "messages": _messages(rest), "max_tokens": MAX_TOKENS}
    if request.max_output_tokens is not None:
        body["max_tokens"] = request.max_output_tokens
    kept = {"type": "ephemeral", "ttl": request.prompt_cache}
    if head:
        # Marked by itself, instructions and tools are also found again in front of other words.
        block = {"type": "text", "text": head, "cache_control": kept}
        body["system"] = [block] if request.prompt_cache else head
    body |= _sampling(request) if old else _no_sampling(request)
    body |= _tools(request) | _thinking(request, model)
    if request.response_schema is not None:
        schema = in_words(closed(request.response_schema), _NOT_ENFORCED)
        shape = {"type": "json_schema", "schema": schema}
        body["output_config"] = obj(body.get("output_config")) | {"format": shape}
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.prompt_cache:
        body["cache_control"] = kept
    if request.service_tier:
        body["service_tier"] = _tier(request.service_tier)
    if request.user_id:
        body["metadata"] = {"user_id": request.user_id}
    if request.stream:
        body["stream"] = True
    headers = {"anthropic-version": OLD_VERSION if old else VERSION}
    betas = request.extra.get("betas")
    if isinstance(betas, list | tuple):
        headers["anthropic-beta"] = ",".join(map(str, cast("Sequence[object]", betas)))
    return Wire("/messages", body, headers)


def _system(request: Request) -> tuple[str, tuple[Message, ...]]:
    """What stands above the conversation, and the conversation."""
    messages = request.messages
    first = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    above = [request.system or "", *(message.text for message in messages[:first])]
    return "\n\n".join(one for one in above if one.strip()), messages[first:]


def _messages(messages: Iterable[Message]) -> list[Json]:
    """Turns that alternate: what comes from one side in succession is one turn, and of that the
    results come first, without which the calls before it count as unanswered."""
    turns: list[Json] = []
    for message in messages:
        role = "user" if message.role == "tool" else message.role
        blocks = [block for part in message.parts if (block := _block(part))]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise _invalid("messages: there is no text in them; say something")
    for turn in turns:
        turn["content"].sort(key=_after_results)
    return turns


def _after_results(block: Json) -> bool:
    return block["type"] != "tool_result"


def _block(part: Part) -> Json | None:
    """A part as a block; None for what the API refuses: blank text, another provider's thoughts."""
    match part:
        case Text():
            return _text(part) if part.content.strip() else None
        case ToolCall():
            called = {"id": part.id, "name": part.name, "input": _input(part)}
            return {"type": "tool_use"} | called
        case ToolResult():
            said = {"tool_use_id": part.id, "content": part.response}
            return {"type": "tool_result"} | said | ({"is_error": True} if part.is_error else {})
        case Image():
            return {"type": "image", "source": _source(part)}
        case File():
            if (kind := kind_of(part)) != "application/pdf":
                raise _invalid(f"messages: Anthropic reads files of the type PDF, not {kind[:80]}")
            named = {"title": part.name} if part.name else {}
            return {"type": "document", "source": _source(part)} | named
        case Reasoning(redacted=True):
            return {"type": "redacted_thinking", "data": part.signature or ""}
        case Reasoning(id=None, signature=str(signature)):
            return {"type": "thinking", "thinking": part.content, "signature": signature}
        case Reasoning():
            return None
        case Native():
            return part.body


def _text(part: Text) -> Json:
    cited = {"citations": [each.body for each in part.citations]} if part.citations else {}
    return {"type": "text", "text": part.content} | cited


def _input(call: ToolCall) -> Json:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise _invalid(
            f"messages: the arguments of tool call {call.id} ({call.name}) are no JSON object, "
            "and Anthropic takes nothing else: leave the call and its result out"
        )
    return obj(arguments)


def _source(part: Attached) -> Json:
    if part.uri.startswith("https:"):
        return {"type": "url", "url": part.uri}
    data = base64_of(part)
    if data is None:
        raise _invalid(
            f"messages: Anthropic cannot read the {_NAMES[part.type]} {part.uri[:40]!r}: "
            "give an https: address or data:...;base64,"
        )
    return {"type": "base64", "media_type": kind_of(part), "data": data}


def _sampling(request: Request) -> Json:
    _no_seed(request)
    if (request.temperature or 0) > 1:
        raise _invalid(f"temperature: Anthropic takes 0 to 1, not {request.temperature}: lower it")
    given = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    return {name: value for name, value in given.items() if value is not None}


def _no_sampling(request: Request) -> Json:
    _no_seed(request)
    for name in ("temperature", "top_p", "top_k"):
        if getattr(request, name) is not None:
            raise _invalid(
                f"{name}: Anthropic's API version {VERSION} has no sampling parameters: leave out "
                f"{name}, or use anthropic-2023/... with a model that still takes it"
            )
    return {}


def _tier(tier: str) -> str:
    if tier not in _TIERS:
        raise _invalid(f"service_tier: Anthropic takes {' or '.join(_TIERS)}, not {tier!r}")
    return tier


def _no_seed(request: Request) -> None:
    for name in ("seed", "logprobs"):
        if getattr(request, name) is not None:
            raise _invalid(f"{name}: Anthropic has none: leave it out")


def _tools(request: Request) -> Json:
    made: Json = {}
    if request.tools:
        made["tools"] = [
            {"name": tool.name, "input_schema": tool.parameters}
            | ({"description": tool.description} if tool.description else {})
            | ({} if tool.strict is None else {"strict": tool.strict})
            for tool in request.tools
        ]
    match request.tool_choice:
        case _ if not request.tools:
            pass  # refused without tools, and nothing is chosen then
        case None:
            pass
        case "auto" | "none" as choice:
            made["tool_choice"] = {"type": choice}
        case "required":
            made["tool_choice"] = {"type": "any"}
        case name:
            made["tool_choice"] = {"type": "tool", "name": name}
    return made


def _thinking(request: Request, model: str) -> Json:
    effort = request.reasoning_effort
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    if _BY_BUDGET.search(model):
        return _budget(_BUDGETS[effort], request.max_output_tokens)
    asked = "low" if effort == "minimal" else effort
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": asked}}


def _budget(budget: int, most: int | None) -> Json:
    """A budget for thoughts that leaves at least as much of what may be written to the answer."""
    if most is None:
        return {
            "thinking": {"type": "enabled", "budget_tokens": budget},
            "max_tokens": budget + MAX_TOKENS,
        }
    if most < 2 * _LEAST_BUDGET:
        raise _invalid(
            f"max_output_tokens: this model thinks with at least {_LEAST_BUDGET:,} tokens, and "
            f"{most:,} leave no room for an answer: raise it to {2 * _LEAST_BUDGET:,}, or leave "
            "out reasoning_effort"
        )
    return {"thinking": {"type": "enabled", "budget_tokens": min(budget, most // 2)}}


def _invalid(message: str) -> CallFailed:
    return CallFailed("invalid_request", message)
