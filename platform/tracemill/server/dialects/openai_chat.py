"""OpenAI's chat completions: answers whole and in pieces."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from starlette.responses import Response as HttpResponse

from tracemill.errors import TracemillError
from tracemill.messages import (
    Delta,
    FinishReason,
    Json,
    Reasoning,
    Request,
    Response,
    TokenLogprob,
    ToolCall,
    Usage,
)
from tracemill.server import trouble
from tracemill.server.dialects import openai_chat_body as body_of
from tracemill.server.dialects.openai import OPENAI, error, likely, tier
from tracemill.server.dialects.openai_chat_body import BODY, Body
from tracemill.server.events import Events, answer, event
from tracemill.server.gateway import Gateway, Going, Live
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route

_FINISH: Mapping[FinishReason, str] = {
    "length": "length",
    "context_window": "length",
    "tool_call": "tool_calls",
    "content_filter": "content_filter",
}


async def chat(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A chat completion."""
    body = await asked.read(BODY)
    going, request = prepared(gateway, asked, body)
    if body.stream:
        if (body.n or 1) > 1:
            raise trouble.invalid("n: a streamed answer is one: leave n out, or stream", "n")
        live = await gateway.begin(going, request)
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        return Events(_pieces(going, live, with_usage=with_usage), gateway.told(going), live)
    responses = await several(gateway, going, request, body.n or 1)
    return answer(completion(responses), headers=gateway.told(going, responses[0]))


def prepared(gateway: Gateway, asked: Incoming, body: Body) -> tuple[Going, Request]:
    """The call that a body asks for. Raises `Trouble`: it cannot be made, or not with this key."""
    user = body.safety_identifier or body.user
    going = gateway.going(asked, OPENAI, body.model, user=user, metadata=body.metadata)
    speaks = gateway.speaks(going, "openai_chat", "compatible")
    fields = body_of.asked(body, speaks=speaks)
    return going, Request(**fields, **gateway.about(going, body.metadata))


async def several(gateway: Gateway, going: Going, request: Request, n: int) -> list[Response]:
    """So many answers to the same, asked for at once. Raises as `Gateway.generate`."""
    if n == 1:
        return [await gateway.generate(going, request)]
    calls = [going, *(gateway.again(going) for _ in range(n - 1))]
    made = await asyncio.gather(
        *(gateway.generate(each, request) for each in calls), return_exceptions=True
    )
    for each in made:
        if isinstance(each, BaseException):
            raise each
    return [each for each in made if isinstance(each, Response)]


def completion(responses: Sequence[Response]) -> Json:
    """Answers to one question, each in one piece."""
    first = responses[0]
    return {
        **head(first.call_id, "chat.completion", first.response_model),
        "choices": [_choice(each, index) for index, each in enumerate(responses)],
        "usage": usage(*(each.usage for each in responses)),
        "service_tier": tier(first.service_tier),
        "system_fingerprint": None,
    }


def _choice(response: Response, index: int) -> Json:
    made: Json = {"role": "assistant", "content": response.text or None}
    if not response.text and not response.tool_calls and response.refusal is None:
        made["content"] = ""
    made["refusal"] = response.refusal
    if calls := response.tool_calls:
        made["tool_calls"] = [_call(call) for call in calls]
    if thoughts := _thoughts(response):
        made["reasoning_content"] = thoughts
    return {
        "index": index,
        "message": made,
        "logprobs": _logprobs(response.logprobs),
        "finish_reason": finish(response),
    }


def usage(*used: Usage) -> Json:
    """Tokens of one answer or several, by OpenAI's names."""

    def total(field: str) -> int:
        return sum(getattr(each, field) for each in used)

    read, written = total("input_tokens"), total("output_tokens")
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {
            "cached_tokens": total("cache_read_input_tokens"),
            "cache_write_tokens": total("cache_write_input_tokens"),
            "audio_tokens": total("input_audio_tokens"),
        },
        "completion_tokens_details": {
            "reasoning_tokens": total("reasoning_output_tokens"),
            "audio_tokens": total("output_audio_tokens"),
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


async def _pieces(going: Going, live: Live, *, with_usage: bool) -> AsyncGenerator[bytes]:
    """The events of a streamed answer."""
    top = head(going.call_id, "chat.completion.chunk", going.model.partition("/")[2])

    def chunk(delta: Json, finish: str | None = None, logprobs: Json | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return event({**top, "choices": [choice]})

    numbers: dict[str, int] = {}
    try:
        begins: Json | None = {"role": "assistant", "content": "", "refusal": None}
        async with aclosing(live.deltas()) as deltas:
            async for delta in deltas:
                if piece := _delta(delta, numbers):
                    if begins is not None:
                        # A message that only calls has no content, not an empty one.
                        yield chunk(begins | ({"content": None} if delta.tool_call else {}))
                        begins = None
                    yield chunk(piece)
        response = live.response
        if begins is not None:
            yield chunk(begins)
        refused = response.refusal is not None and not response.text
        yield b"".join(
            [
                chunk({"refusal": response.refusal}) if refused else b"",
                chunk({}, finish(response)),
                event({**top, "choices": [], "usage": usage(response.usage)})
                if with_usage
                else b"",
                b"data: [DONE]\n\n",
            ]
        )
    except TracemillError as failed:
        yield event(error(trouble.of(failed), going.asked.request_id))


def _delta(delta: Delta, numbers: dict[str, int]) -> Json:
    """A piece; `numbers` are the places of the calls, by their ids."""
    made: Json = {}
    if delta.text:
        made["content"] = delta.text
    if delta.reasoning:
        made["reasoning_content"] = delta.reasoning
    if (call := delta.tool_call) is not None:
        begins = call.id not in numbers
        number = numbers.setdefault(call.id, len(numbers))
        kind, field = ("custom", "input") if call.custom else ("function", "arguments")
        piece: Json = {"index": number, kind: {field: call.arguments}}
        if begins:
            piece |= {"id": call.id, "type": kind}
            piece[kind]["name"] = call.name
        made["tool_calls"] = [piece]
    return made


def head(call_id: str, kind: str, model: str) -> Json:
    return {
        "id": f"chatcmpl-{call_id}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _call(call: ToolCall) -> Json:
    if call.custom:
        given = {"name": call.name, "input": call.arguments}
        return {"id": call.id, "type": "custom", "custom": given}
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _thoughts(response: Response) -> str:
    return "".join(part.content for part in response.parts if isinstance(part, Reasoning))


def finish(response: Response) -> str:
    return _FINISH.get(response.finish_reasons[0] if response.finish_reasons else "stop", "stop")


def _logprobs(tokens: tuple[TokenLogprob, ...] | None) -> Json | None:
    if tokens is None:
        return None
    content = [{**likely(each), "top_logprobs": [*map(likely, each.top)]} for each in tokens]
    return {"content": content, "refusal": None}


ROUTES = (
    Route(
        "POST",
        "/v1/chat/completions",
        chat,
        OPENAI,
        "chat",
        "A model's answer to a conversation.",
        BODY,
        streams=True,
    ),
)

__all__ = ["ROUTES", "Body", "completion", "prepared", "several", "usage"]
