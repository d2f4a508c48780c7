"""Anthropic's messages: its answers, streams and errors as our values.

`anthropic/` speaks API version 2026-10-21, which has no sampling parameters; `anthropic-2023/`
speaks 2023-06-01, for models up to Claude 4.6 and for servers that imitate the API.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from tracemill import tokenizer
from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Reply
from tracemill.llm.providers.anthropic_request import MAX_TOKENS, chat
from tracemill.llm.providers.fields import count, known, malformed, obj, objects, parsed, text
from tracemill.llm.sse import Event
from tracemill.llm.trouble import failed
from tracemill.messages import (
    Delta,
    FinishReason,
    Json,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

__all__ = ["MAX_TOKENS", "chat", "error", "fold", "read", "read_count"]

_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_call",
    "pause_turn": "pause",
    "compaction": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_window",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TOO_LONG = re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)", re.IGNORECASE)
_NO_MONEY = re.compile(r"credit balance is too low", re.IGNORECASE)
_BLOCKED = "blocked by content filtering policy"


def read(body: Any, provider: Provider) -> Reply:
    """The answer in a parsed JSON body."""
    said = known(body, "Anthropic's answer")
    if said.get("error"):
        raise _failed(None, {}, said)
    if not isinstance(said.get("content"), list):
        raise malformed("Anthropic's answer has no list `content`")
    parts = (_part(block) for block in objects(said["content"]))
    return _reply(said, parts, _usage(said.get("usage")))


def read_count(body: Any) -> int:
    """The tokens of a request, as `/messages/count_tokens` counts them."""
    said = known(body, "Anthropic's count")
    if not isinstance(said.get("input_tokens"), int):
        raise malformed("Anthropic's count has no `input_tokens`")
    return count(said["input_tokens"])


def _reply(said: Json, parts: Iterable[Part | None], usage: Usage | None) -> Reply:
    raw = text(said.get("stop_reason")) or None
    finish: FinishReason = _FINISH.get(raw or "", "other")
    why = text(obj(said.get("stop_details")).get("explanation")) or None
    return Reply(
        parts=tuple(part for part in parts if part),
        finish_reason=finish,
        raw_finish_reason=raw,
        response_model=text(said.get("model")),
        usage=usage,
        response_id=text(said.get("id")) or None,
        refusal=why if finish == "refusal" else None,
        service_tier=text(obj(said.get("usage")).get("service_tier")) or None,
    )


def _part(block: Json, arguments: str | None = None) -> Part | None:
    """A block as a part; None for one that says nothing."""
    match block.get("type"):
        case "text" if words := text(block.get("text")):
            return Text(content=words, citations=_citations(block))
        case "thinking" if block.get("thinking") or block.get("signature"):
            signature = text(block.get("signature")) or None
            return Reasoning(content=text(block.get("thinking")), signature=signature)
        case "redacted_thinking":
            return Reasoning(signature=text(block.get("data")), redacted=True)
        case "tool_use":
            return _called(block, _written(block) if arguments is None else arguments)
        case str(kind) if kind not in {"text", "thinking"}:
            return Native(body=block)
        case _:
            return None


def _citations(block: Json) -> tuple[Native, ...]:
    return tuple(Native(body=each) for each in objects(block.get("citations")))


def _called(block: Json, arguments: str) -> ToolCall:
    return ToolCall(id=text(block.get("id")), name=text(block.get("name")), arguments=arguments)


def _written(block: Json) -> str:
    """The arguments of a call as JSON text."""
    return text(json.dumps(block.get("input") or {}, ensure_ascii=False))


def _usage(told: Any) -> Usage | None:
    """Anthropic's `input_tokens` leave out what the cache read or wrote; ours count it."""
    if not isinstance(told, dict):
        return None
    said = obj(told)
    cached, written = (
        count(said.get("cache_read_input_tokens")),
        count(said.get("cache_creation_input_tokens")),
    )
    hour = count(obj(said.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    served = {name: float(count(n)) for name, n in obj(said.get("server_tool_use")).items()}
    return Usage(
        input_tokens=count(said.get("input_tokens")) + cached + written,
        output_tokens=count(said.get("output_tokens")),
        cache_read_input_tokens=cached,
        cache_write_input_tokens=written,
        cache_write_1h_input_tokens=min(hour, written),
        reasoning_output_tokens=count(
            obj(said.get("output_tokens_details")).get("thinking_tokens")
        ),
        billed={name: n for name, n in served.items() if n},
        raw=said,
    )


class Fold:
    """A stream that is being read. Counts are cumulative: the last one of each kind holds."""

    def __init__(self) -> None:
        self._message: Json = {}
        self._usage: Json = {}
        self._blocks: dict[int, Json] = {}
        self._pieces: dict[int, list[str]] = {}
        self._counted = False
        self.done = False

    def feed(self, event: Event) -> Iterator[Delta]:
        """What this event adds. Raises `CallFailed` for an error within the stream."""
        if not event.data.strip() or event.data == "[DONE]":
            return
        said = parsed(event.data, "an event of Anthropic's stream")
        index = count(said.get("index"))
        match said.get("type"):
            case "message_start":
                self._message = obj(said.get("message"))
                self._count(self._message.get("usage"))
            case "content_block_start":
                yield from self._open(index, obj(said.get("content_block")))
            case "content_block_delta":
                yield from self._grow(index, obj(said.get("delta")))
            case "content_block_stop":
                yield from self._close(index)
            case "message_delta":
                self._message |= obj(said.get("delta"))
                self._count(said.get("usage"))
                self._counted = True
            case "message_stop":
                self.done = True
            case _ if "error" in said:
                raise _failed(None, {}, said)
            case _:
                pass

    def reply(self) -> Reply:
        """What has arrived so far."""
        parts = (self._part(index) for index in sorted(self._blocks))
        reply = _reply(self._message | {"usage": self._usage}, parts, _usage(self._usage or None))
        return reply if self._counted else _estimated(reply)

    def _count(self, told: Any) -> None:
        self._usage |= {name: n for name, n in obj(told).items() if n is not None}

    def _open(self, index: int, block: Json) -> Iterator[Delta]:
        self._blocks[index], self._pieces[index] = dict(block), []
        match block.get("type"):
            case "text":
                before = self._blocks.get(index - 1, {})
                if before.get("type") == "text" and not before.get("citations"):
                    yield Delta(cited=())
                yield from self._add(index, text(block.get("text")))
            case "thinking":
                yield from self._add(index, text(block.get("thinking")))
            case "tool_use":
                yield Delta(tool_call=_called(block, ""))
            case _:
                pass

    def _grow(self, index: int, delta: Json) -> Iterator[Delta]:
        match delta.get("type"):
            case "text_delta":
                yield from self._add(index, text(delta.get("text")))
            case "thinking_delta":
                yield from self._add(index, text(delta.get("thinking")))
            case "input_json_delta":
                yield from self._add(index, text(delta.get("partial_json")))
            case "signature_delta" if index in self._blocks:
                self._blocks[index]["signature"] = delta.get("signature")
            case "citations_delta" if index in self._blocks:
                block = self._blocks[index]
                block["citations"] = [*objects(block.get("citations")), obj(delta.get("citation"))]
            case "compaction_delta" if index in self._blocks:
                block = self._blocks[index]
                block["content"] = text(block.get("content")) + text(delta.get("content"))
            case _:
                pass

    def _close(self, index: int) -> Iterator[Delta]:
        """A call without arguments has no pieces; some servers give them whole at its start."""
        block = self._blocks.get(index, {})
        if block.get("type") == "tool_use" and not self._pieces[index]:
            yield from self._add(index, _written(block))
        match self._part(index) if block else None:
            case Reasoning(signature=str()) as thought:
                yield Delta(thought=thought)
            case Native() as native:
                yield Delta(native=native)
            case Text(citations=cited) if cited:
                yield Delta(cited=cited)
            case _:
                pass

    def _add(self, index: int, piece: str) -> Iterator[Delta]:
        block = self._blocks.get(index, {})
        if not piece or not block:
            return
        self._pieces[index].append(piece)
        match block.get("type"):
            case "text":
                yield Delta(text=piece)
            case "thinking":
                yield Delta(reasoning=piece)
            case "tool_use":
                yield Delta(tool_call=_called(block, piece))
            case _:
                pass

    def _part(self, index: int) -> Part | None:
        block, whole = self._blocks[index], "".join(self._pieces[index])
        if (kind := block.get("type")) in {"text", "thinking"}:
            return _part(block | {text(kind): whole})
        if whole and kind != "tool_use":
            # The input of a tool that runs at the provider; one that was cut is as it began.
            with suppress(ValueError):
                block = block | {"input": json.loads(whole)}
        return _part(block, whole)


def fold(provider: Provider) -> Fold:
    """A new stream."""
    return Fold()


def _estimated(reply: Reply) -> Reply:
    """A cut stream: its first count of what was written is a placeholder, so ours stands in."""
    if reply.usage is None:
        return reply
    words = "".join(_words(part) for part in reply.parts)
    written = max(tokenizer.count(words), reply.usage.output_tokens)
    return reply._replace(
        usage=reply.usage.model_copy(update={"output_tokens": written, "estimated": True})
    )


def _words(part: Part) -> str:
    match part:
        case Text() | Reasoning():
            return part.content
        case ToolCall():
            return part.name + part.arguments
        case _:
            return ""


def error(status: int, headers: Mapping[str, str], body: bytes) -> CallFailed:
    """What an answer with an error status says. Header names are lower case."""
    try:
        said = parsed(body, "the error")
    except CallFailed:
        said = {"message": body[:300].decode(errors="replace")}
    return _failed(status, headers, said)


def _failed(status: int | None, headers: Mapping[str, str], said: Json) -> CallFailed:
    """The error in a body; one within a stream has no status but what its type stands for."""
    told = obj(said.get("error"))
    kind = text(told.get("type"))
    status = _STATUS.get(kind, 500) if status is None else status
    message = text(told.get("message")) or text(said.get("error")) or text(said.get("message"))
    code = text(obj(told.get("details")).get("error_code")) or kind or None
    return failed(
        status,
        headers,
        message.strip() or f"Anthropic answered with status {status} and no words",
        code=code,
        error_type=_class(code, kind, message),
        request_id=headers.get("request-id") or text(said.get("request_id")) or None,
    )


def _class(code: str | None, kind: str, message: str) -> str | None:
    """The class of an error, where its body tells more than the status."""
    if "enforced_spend_limit_reached" in (code, kind) or kind == "billing_error":
        return "billing"
    if kind == "invalid_request_error" and _NO_MONEY.search(message):
        return "billing"
    if _TOO_LONG.search(message):
        return "context_length_exceeded"
    if _BLOCKED in message:
        return "content_filter"
    if kind == "not_found_error" and message.startswith("model:"):
        return "unknown_model"
    return None
