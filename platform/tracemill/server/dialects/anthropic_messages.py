"""Anthropic's messages: answers whole and in pieces, and how many tokens a request has."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from starlette.responses import Response as HttpResponse

from tracemill.errors import TracemillError
from tracemill.llm.providers.anthropic_request import OLD_VERSION
from tracemill.messages import (
    Delta,
    FinishReason,
    Json,
    Message,
    Native,
    Part,
    Reasoning,
    Request,
    Response,
    Text,
    ToolCall,
    Usage,
)
from tracemill.server import trouble
from tracemill.server.dialects import anthropic_body as body_of
from tracemill.server.dialects import thoughts
from tracemill.server.dialects.answers_in_log import MESSAGE_PREFIX, before
from tracemill.server.dialects.anthropic import ANTHROPIC, error, version
from tracemill.server.dialects.anthropic_body import BODY, COUNTED, OWN, Asked, Body
from tracemill.server.dialects.counting import counted, texts_in
from tracemill.server.events import Events, answer, event
from tracemill.server.gateway import Gateway, Going, Live
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import Trouble

_STOPS: Mapping[FinishReason, str] = {
    "length": "max_tokens",
    "tool_call": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_window": "model_context_window_exceeded",
}
_THREADS = "message-threads-"
"""What a client asks for with it is done here."""
_BETA = re.compile(r"[A-Za-z0-9._-]{1,100}")
_TIERS = ("standard", "priority", "batch")
_IMAGE_TOKENS = 1_600
"""Of a picture of usual size, as Anthropic's documents tell."""


async def create(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A message."""
    body = await asked.read(BODY)
    if body.thread and body.thread.follows:
        going, request = await asyncio.to_thread(prepared, gateway, asked, body)
    else:
        going, request = prepared(gateway, asked, body)
    if body.stream:
        live = await gateway.begin(going, request)
        return Events(_events(going, request, live), gateway.told(going), live)
    response = await gateway.generate(going, request)
    return answer(message(response, request), headers=gateway.told(going, response))


def prepared(gateway: Gateway, asked: Incoming, body: Body) -> tuple[Going, Request]:
    """The call that a body asks for. Raises `Trouble`."""
    spoken = version(asked)
    user = body.metadata.user_id if body.metadata else None
    going = gateway.going(asked, ANTHROPIC, body.model, user=user[:200] if user else None)
    if spoken == OLD_VERSION:
        going = _as_of_2023(going)
    said: tuple[Message, ...] = ()
    if body.thread and body.thread.follows:
        said, cause = _held(gateway, body.thread.follows, asked)
        going = replace(going, options={**going.options, "causation_id": cause})
    speaks = gateway.speaks(going, "anthropic")
    fields = body_of.asked(body, spoken, said, speaks=speaks)
    betas = _BETA.findall(asked.headers.get("anthropic-beta", ""))
    if speaks and (betas := [each for each in betas if not each.startswith(_THREADS)]):
        fields["extra"]["betas"] = betas
    return going, Request(**fields, **gateway.about(going))


def _held(gateway: Gateway, name: str, asked: Incoming) -> tuple[tuple[Message, ...], str]:
    """A conversation that the log has, up to this answer. The provider is sent all of it: it knows
    its own answers by other ids."""
    try:
        return before(gateway.log, name, asked.key, MESSAGE_PREFIX)
    except Trouble as why:
        # By this code Anthropic's SDKs send the whole conversation instead.
        raise Trouble(
            404, "not_found", f"thread: {why.message}", param="thread", code="thread_not_found"
        ) from None


def _as_of_2023(going: Going) -> Going:
    """The same models, by the version that the client speaks: it alone takes sampling parameters."""
    provider, _, model = going.model.partition("/")
    return replace(going, model=f"anthropic-2023/{model}") if provider == "anthropic" else going


async def count_tokens(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """How many tokens a request has, by the bundled tokenizer: an estimate, for the vocabulary of
    most models is not known."""
    body = await asked.read(COUNTED)
    gateway.going(asked, ANTHROPIC, body.model)  # may this key use it?
    version(asked)
    return answer({"input_tokens": await asyncio.to_thread(_counted, body)})


def _counted(body: Asked) -> int:
    above = [body.system] if isinstance(body.system, str) else [w.text for w in body.system or ()]
    tools = [text for tool in body.tools or () for text in texts_in(tool.model_dump())]
    return counted(body_of.messages(body.messages, speaks=True), [*above, *tools], _IMAGE_TOKENS)


def message(response: Response, request: Request) -> Json:
    """An answer in one piece."""
    return {
        **_head(response.call_id, response.response_model),
        "content": [block for part in response.parts if (block := _block(part))],
        **_ending(response, request),
        "usage": usage(response.usage)
        | {"service_tier": _tier(response), "server_tool_use": None, "inference_geo": None},
    }


def usage(used: Usage) -> Json:
    """Tokens, by Anthropic's names: what the cache read or wrote is counted beside the input."""
    parts = used.parts
    return {
        "input_tokens": parts.input_uncached,
        "cache_creation_input_tokens": parts.cache_write_5m + parts.cache_write_1h,
        "cache_read_input_tokens": parts.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": parts.cache_write_5m,
            "ephemeral_1h_input_tokens": parts.cache_write_1h,
        },
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"thinking_tokens": parts.reasoning},
    }


def _head(call_id: str, model: str) -> Json:
    return {"id": f"msg_{call_id}", "type": "message", "role": "assistant", "model": model}


def _tier(response: Response) -> str:
    return response.service_tier if response.service_tier in _TIERS else "standard"


def _ending(response: Response, request: Request) -> Json:
    """Why it stopped."""
    finish = response.finish_reasons[0] if response.finish_reasons else "stop"
    made: Json = {"stop_reason": _STOPS.get(finish, "end_turn"), "stop_sequence": None}
    if (response.raw_finish_reason or "").lower() == "stop_sequence":
        # Which one it was is not told, but where there is only one.
        only = request.stop[0] if len(request.stop) == 1 else None
        made = {"stop_reason": "stop_sequence", "stop_sequence": only}
    if made["stop_reason"] == "refusal":
        why = {"type": "refusal", "category": None, "explanation": response.refusal}
        made["stop_details"] = why
    return made


def _block(part: Part) -> Json | None:
    match part:
        case Text():
            cited = [each.body for each in part.citations if each.provider == OWN]
            return {"type": "text", "text": part.content, "citations": cited or None}
        case Native(provider=provider) if provider == OWN:
            return part.body
        case Reasoning(redacted=True, provider="anthropic" | None):
            return {"type": "redacted_thinking", "data": part.signature or ""}
        case Reasoning():
            signature = thoughts.seal(part, OWN)
            return {"type": "thinking", "thinking": part.content, "signature": signature}
        case ToolCall():
            return {**_called(part), "input": _input(part)}
        case _:
            return None


def _called(call: ToolCall) -> Json:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def _input(call: ToolCall) -> Any:
    """An object; what was cut in the middle is none, and goes as the text that it is."""
    try:
        return json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return {"arguments": call.arguments}


async def _events(going: Going, request: Request, live: Live) -> AsyncGenerator[bytes]:
    """The events of a streamed answer. What was read is known at the end only."""
    nothing = usage(Usage())
    empty: Json = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": nothing}
    start: Json = _head(going.call_id, going.model.partition("/")[2]) | empty
    try:
        yield _event({"type": "message_start", "message": start})
        yield _event({"type": "ping"})
        blocks = _Blocks()
        async with aclosing(live.deltas()) as deltas:
            async for delta in deltas:
                for each in blocks.add(delta):
                    yield _event(each)
        for each in blocks.close():
            yield _event(each)
        response = live.response
        ending = _ending(response, request)
        yield _event({"type": "message_delta", "delta": ending, "usage": usage(response.usage)})
        yield _event({"type": "message_stop"})
    except TracemillError as failed:
        yield _event(error(trouble.of(failed), going.asked.request_id))


def _event(data: Mapping[str, Any]) -> bytes:
    return event(data, data["type"])


class _Blocks:
    """The content of an answer as it comes: one block is open at a time."""

    def __init__(self) -> None:
        self._made = 0
        self._open: str | None = None
        self._calls: dict[str, int] = {}

    def add(self, delta: Delta) -> Iterator[Json]:
        """The events of a piece."""
        if delta.reasoning:
            yield from self._begin(
                "thinking", {"type": "thinking", "thinking": "", "signature": ""}
            )
            yield self._delta({"type": "thinking_delta", "thinking": delta.reasoning})
        if delta.thought is not None:
            yield from self._signed(delta.thought)
        if delta.text:
            yield from self._begin("text", {"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": delta.text})
        for each in delta.cited or ():
            if each.provider == OWN:
                yield from self._begin("text", {"type": "text", "text": ""})
                yield self._delta({"type": "citations_delta", "citation": each.body})
        if delta.cited is not None and self._open == "text":
            yield from self.close()
        if delta.native is not None and delta.native.provider == OWN:
            yield from self._whole(delta.native.body)
        if (call := delta.tool_call) is not None:
            if call.id not in self._calls:
                yield from self._begin(f"call {call.id}", _called(call))
                self._calls[call.id] = self._made - 1
            if call.arguments:
                piece = {"type": "input_json_delta", "partial_json": call.arguments}
                yield self._delta(piece, self._calls[call.id])

    def close(self) -> Iterator[Json]:
        """The end of the block that is open."""
        if self._open is not None:
            yield {"type": "content_block_stop", "index": self._made - 1}
            self._open = None

    def _whole(self, block: Json) -> Iterator[Json]:
        """A block that only Anthropic has; the input of a tool comes in pieces, as it does there."""
        told = block.get("input")
        yield from self._begin("whole", block if told is None else block | {"input": {}})
        if told:
            words = json.dumps(told, ensure_ascii=False)
            yield self._delta({"type": "input_json_delta", "partial_json": words})
        yield from self.close()

    def _signed(self, thought: Reasoning) -> Iterator[Json]:
        """A signature ends the thought that has come; without one it stands for a hidden thought."""
        block = _block(thought) or {}
        if block["type"] == "redacted_thinking":
            yield from self._begin("hidden", block)
        else:
            yield from self._begin("thinking", block | {"thinking": "", "signature": ""})
            yield self._delta({"type": "signature_delta", "signature": block["signature"]})
        yield from self.close()

    def _begin(self, what: str, block: Json) -> Iterator[Json]:
        if self._open == what:
            return
        yield from self.close()
        yield {"type": "content_block_start", "index": self._made, "content_block": block}
        self._made, self._open = self._made + 1, what

    def _delta(self, piece: Json, number: int | None = None) -> Json:
        index = self._made - 1 if number is None else number
        return {"type": "content_block_delta", "index": index, "delta": piece}


ROUTES = (
    Route(
        "POST",
        "/v1/messages",
        create,
        ANTHROPIC,
        "chat",
        "A model's answer to a conversation.",
        BODY,
        streams=True,
    ),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        count_tokens,
        ANTHROPIC,
        "chat",
        "How many tokens a request has, as an estimate.",
        COUNTED,
    ),
)

__all__ = ["ROUTES", "message", "prepared", "usage"]
