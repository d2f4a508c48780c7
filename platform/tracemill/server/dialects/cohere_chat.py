"""Cohere's chat (v2): answers whole and in pieces."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response as HttpResponse

from tracemill.errors import TracemillError
from tracemill.llm.providers.cohere_request import PLAN
from tracemill.messages import (
    Delta,
    FinishReason,
    Json,
    Native,
    Reasoning,
    Request,
    Response,
    Text,
    ToolCall,
    Usage,
)
from tracemill.server import trouble
from tracemill.server.dialects import cohere_body as body_of
from tracemill.server.dialects.cohere import COHERE
from tracemill.server.dialects.cohere_body import BODY
from tracemill.server.events import Events, answer, event
from tracemill.server.gateway import Gateway, Going, Live
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route

_FINISH: Mapping[FinishReason, str] = {
    "length": "MAX_TOKENS",
    "context_window": "MAX_TOKENS",
    "tool_call": "TOOL_CALL",
    "content_filter": "ERROR",
    "error": "ERROR",
}
_RAW = ("STOP_SEQUENCE", "TIMEOUT")


async def chat(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A chat."""
    body = await asked.read(BODY)
    going = gateway.going(asked, COHERE, body.model)
    speaks = gateway.speaks(going, "cohere")
    request = Request(**body_of.asked(body, speaks=speaks), **gateway.about(going))
    if body.stream:
        live = await gateway.begin(going, request)
        plans = speaks and bool(request.tools) and "reasoning" not in going.model
        return Events(_events(going, live, plans=plans), gateway.told(going), live)
    response = await gateway.generate(going, request)
    return answer(told(response), headers=gateway.told(going, response))


def told(response: Response) -> Json:
    """An answer in one piece."""
    message: Json = {"role": "assistant"}
    thoughts = [part for part in response.parts if isinstance(part, Reasoning)]
    if plan := "".join(part.content for part in thoughts if part.id == PLAN):
        message["tool_plan"] = plan
    if calls := response.tool_calls:
        message["tool_calls"] = [_call(call) for call in calls]
    if blocks := [block for part in response.parts if (block := _block(part))]:
        message["content"] = blocks
    elif response.refusal:
        message["content"] = [{"type": "text", "text": response.refusal}]
    texts = (part for part in response.parts if isinstance(part, Text))
    if cited := [body for part in texts for body in _own(part.citations)]:
        message["citations"] = cited
    made: Json = {
        "id": response.call_id,
        "finish_reason": finish(response),
        "message": message,
        "usage": usage(response.usage),
    }
    if response.logprobs is not None:
        made["logprobs"] = [
            {"text": token.token, "token_ids": [], "logprobs": [token.logprob]}
            for token in response.logprobs
        ]
    return made


def _own(citations: Iterable[Native]) -> list[Json]:
    return [each.body for each in citations if each.provider == COHERE.provider]


def _block(part: Any) -> Json | None:
    match part:
        case Text():
            return {"type": "text", "text": part.content}
        case Reasoning() if part.content and part.id != PLAN:
            return {"type": "thinking", "thinking": part.content}
        case _:
            return None


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def finish(response: Response) -> str:
    """Why it stopped, by Cohere's word."""
    raw = (response.raw_finish_reason or "").upper()
    reason = response.finish_reasons[0] if response.finish_reasons else "stop"
    return raw if raw in _RAW else _FINISH.get(reason, "COMPLETE")


def usage(used: Usage) -> Json:
    """Tokens; what is billed is the same where the provider does not tell it apart."""
    tokens = {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens}
    return {
        "billed_units": used.billed or tokens,
        "tokens": tokens,
        "cached_tokens": used.cache_read_input_tokens,
    }


async def _events(going: Going, live: Live, *, plans: bool) -> AsyncGenerator[bytes]:
    """The events of a streamed answer; `plans`: its thoughts are what it will do with tools."""
    message: Json = {
        "role": "assistant",
        "content": [],
        "tool_plan": "",
        "tool_calls": [],
        "citations": [],
    }
    try:
        yield _event("message-start", id=going.call_id, delta={"message": message})
        blocks = _Blocks(plans=plans)
        async with aclosing(live.deltas()) as deltas:
            async for delta in deltas:
                for piece in blocks.add(delta):
                    yield piece
        for piece in blocks.close():
            yield piece
        response = live.response
        ending: Json = {"finish_reason": finish(response), "usage": usage(response.usage)}
    except TracemillError as failed:
        # This API has no event for an error: the message ends with it.
        ending = {"finish_reason": "ERROR", "error": trouble.of(failed).message}
    yield _event("message-end", id=going.call_id, delta=ending)
    yield b"data: [DONE]\n\n"


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)


class _Blocks:
    """The content and the calls of an answer as they come; one is open at a time."""

    def __init__(self, *, plans: bool) -> None:
        self._plans = plans
        self._contents = 0
        self._open: str | None = None
        self._calls: dict[str, int] = {}

    def add(self, delta: Delta) -> Iterator[bytes]:
        """The events of a piece."""
        if delta.reasoning and self._plans:
            message = {"message": {"tool_plan": delta.reasoning}}
            yield _event("tool-plan-delta", delta=message)
        elif delta.reasoning:
            yield from self._content("thinking", delta.reasoning)
        if delta.text:
            yield from self._content("text", delta.text)
        for number, each in enumerate(_own(delta.cited or ())):
            yield _event("citation-start", index=number, delta={"message": {"citations": each}})
            yield _event("citation-end", index=number)
        if (call := delta.tool_call) is not None:
            yield from self._call(call)

    def close(self) -> Iterator[bytes]:
        """The end of what is open."""
        if self._open in {"text", "thinking"}:
            yield _event("content-end", index=self._contents - 1)
        elif self._open is not None:
            yield _event("tool-call-end", index=self._calls[self._open])
        self._open = None

    def _content(self, kind: str, words: str) -> Iterator[bytes]:
        if self._open != kind:
            yield from self.close()
            self._open, self._contents = kind, self._contents + 1
            yield self._piece("content-start", {"type": kind, kind: ""})
        yield self._piece("content-delta", {kind: words})

    def _piece(self, kind: str, content: Json) -> bytes:
        message = {"message": {"content": content}}
        return _event(kind, index=self._contents - 1, delta=message)

    def _call(self, call: ToolCall) -> Iterator[bytes]:
        if call.id not in self._calls:
            yield from self.close()
            self._open, self._calls[call.id] = call.id, len(self._calls)
            begun = call.model_copy(update={"arguments": ""})
            whole = _call(begun) | {"function": {"name": call.name, "arguments": ""}}
            yield self._called("tool-call-start", call.id, whole)
        if call.arguments:
            piece = {"function": {"arguments": call.arguments}}
            yield self._called("tool-call-delta", call.id, piece)

    def _called(self, kind: str, call_id: str, told: Json) -> bytes:
        return _event(kind, index=self._calls[call_id], delta={"message": {"tool_calls": told}})


ROUTES = (
    Route(
        "POST",
        "/v2/chat",
        chat,
        COHERE,
        "chat",
        "A model's answer to a conversation.",
        BODY,
        streams=True,
    ),
)
