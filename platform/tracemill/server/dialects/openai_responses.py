"""OpenAI's responses: answers whole and in pieces, gone on with, looked up again, counted."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any

from starlette.responses import Response as HttpResponse

from tracemill.errors import TracemillError
from tracemill.events import LlmCallFinished
from tracemill.llm.providers import PROVIDERS
from tracemill.messages import (
    Attached,
    File,
    Image,
    Json,
    Message,
    Native,
    Reasoning,
    Request,
    Response,
    Text,
    ToolResult,
)
from tracemill.messages import ToolCall as Call
from tracemill.server import trouble
from tracemill.server.dialects import answers_in_log as kept_in
from tracemill.server.dialects import openai_responses_body as body_of
from tracemill.server.dialects import thoughts
from tracemill.server.dialects.answers_in_log import Kept
from tracemill.server.dialects.counting import counted, texts_in
from tracemill.server.dialects.openai import OPENAI, tier
from tracemill.server.dialects.openai_pages import ordered, page
from tracemill.server.dialects.openai_responses_body import BODY, COUNTED, OWN, Asked, Body
from tracemill.server.dialects.openai_responses_items import (
    Building,
    ending,
    items,
    response,
    usage,
)
from tracemill.server.events import Events, answer, event
from tracemill.server.gateway import Gateway, Going, Live
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import Trouble, invalid

_IMAGE_TOKENS = 765
"""What OpenAI counts for a picture of 1024 x 1024."""
_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt"}


async def create(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A response."""
    body = await asked.read(BODY)
    if body.previous_response_id:
        going, request = await asyncio.to_thread(prepared, gateway, asked, body)
    else:
        going, request = prepared(gateway, asked, body)
    if body.stream:
        live = await gateway.begin(going, request)
        return Events(_events(going, body, request, live), gateway.told(going), live)
    made = await gateway.generate(going, request)
    told = whole(made, request) | _echo(body)
    return answer(told, headers=gateway.told(going, made))


def prepared(gateway: Gateway, asked: Incoming, body: Body) -> tuple[Going, Request]:
    """The call that a body asks for. Raises `Trouble`: it cannot be made, or not with this key."""
    user = _user(body)
    going = gateway.going(asked, OPENAI, body.model, user=user, metadata=body.metadata)
    going = _native(going, body)
    before: tuple[Message, ...] = ()
    if body.previous_response_id:
        before, cause = kept_in.before(gateway.log, body.previous_response_id, asked.key)
        going = replace(going, options={**going.options, "causation_id": cause})
    fields = body_of.asked(body, before, speaks=gateway.speaks(going, "openai_responses"))
    return going, Request(**fields, **gateway.about(going, body.metadata))


def _user(body: Body) -> str | None:
    return body.safety_identifier or body.user


def _native(going: Going, body: Body) -> Going:
    """The model by its provider's own responses, where it has these: what is asked in this language
    loses nothing there. Probabilities of tokens are asked of chat completions alone."""
    provider, _, model = going.model.partition("/")
    native = f"{provider}-responses"
    if native not in PROVIDERS or body.logprobs is not None:
        return going
    return replace(going, model=f"{native}/{model}")


def whole(made: Response, request: Request) -> Json:
    """An answer in one piece."""
    finish = made.finish_reasons[0] if made.finish_reasons else "stop"
    output = items(made.call_id, made.parts, made.refusal, finish, made.logprobs)
    return {
        **response(made.call_id, made.response_model, request),
        **ending(finish),
        "output": output,
        "usage": usage(made.usage),
        "service_tier": tier(made.service_tier),
    }


def _echo(body: Body) -> Json:
    """What was asked, in its own words."""
    told: Json = {
        "previous_response_id": body.previous_response_id,
        "metadata": body.metadata or {},
        "user": body.user,
        "store": body.store is not False,
    }
    if body.text is not None and body.text.format is not None:
        told["text"] = body.text.model_dump(by_alias=True, exclude_unset=True)
    if body.tools:
        told["tools"] = [
            {"strict": None, "parameters": None, **tool.model_dump(exclude_unset=True)}
            for tool in body.tools
        ]
    if body.reasoning is not None:
        told["reasoning"] = {"summary": None, **body.reasoning.model_dump()}
    return told


async def _events(going: Going, body: Body, request: Request, live: Live) -> AsyncGenerator[bytes]:
    """The events of a streamed answer."""
    numbers = count()

    def told(data: Json) -> bytes:
        return event({**data, "sequence_number": next(numbers)}, data["type"])

    model = going.model.partition("/")[2]
    head = response(going.call_id, model, request) | _echo(body)
    building = Building(going.call_id)
    try:
        for kind in ("created", "in_progress"):
            yield told({"type": f"response.{kind}", "response": head})
        async with aclosing(live.deltas()) as deltas:
            async for delta in deltas:
                for each in building.add(delta):
                    yield told(each)
        made = live.response
        finish = made.finish_reasons[0] if made.finish_reasons else "stop"
        for each in building.close(made.refusal, finish, made.logprobs):
            yield told(each)
        end = ending(finish)
        whole = head | end | {"output": building.items, "usage": usage(made.usage)}
        whole["service_tier"] = tier(made.service_tier)
        yield told({"type": f"response.{end['status']}", "response": whole})
    except TracemillError as failed:
        why = _error(trouble.of(failed))
        whole = head | {"status": "failed", "error": why, "output": building.items}
        yield told({"type": "response.failed", "response": whole})


def _error(told: Trouble) -> Json:
    return {"code": _CODES.get(told.status, "server_error"), "message": told.message}


async def retrieve(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A response that was given before, from the log."""
    if asked.query.get("stream") == "true":
        raise invalid("stream: a response that was given is told whole: leave it out", "stream")
    kept = await _kept(gateway, asked)
    previous = await asyncio.to_thread(kept_in.previous, gateway.log, kept)
    return answer(_from_log(asked.path["response_id"], kept, previous))


async def _kept(gateway: Gateway, asked: Incoming) -> Kept:
    return await asyncio.to_thread(kept_in.find, gateway.log, asked.path["response_id"], asked.key)


def _from_log(name: str, kept: Kept, previous: str | None) -> Json:
    call_id = name.removeprefix(kept_in.PREFIX)
    told = response(call_id, kept.call.request_model, kept.asked, previous)
    told["created_at"] = int(kept.begun_at.timestamp())
    if kept.redacted:
        told["tracemill_redacted"] = True
    match kept.end:
        case None:
            return told
        case LlmCallFinished() as end:
            finish = end.finish_reasons[0] if end.finish_reasons else "stop"
            parts = Message(role="assistant", content=end.content).parts
            told |= ending(finish) | {"output": items(call_id, parts, end.refusal, finish)}
            told |= {"usage": usage(end.usage), "model": end.response_model}
            if told["completed_at"] is not None:
                told["completed_at"] = int(end.occurred_at.timestamp())
            return told
        case end:
            why = getattr(end, "error_message", "the process that made the call is gone")
            return told | {"status": "failed", "error": {"code": "server_error", "message": why}}


async def input_items(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """What a response answered, from the log."""
    kept = await _kept(gateway, asked)
    call_id = asked.path["response_id"].removeprefix(kept_in.PREFIX)
    made = [item for message in kept.messages for item in _items(message)]
    for number, item in enumerate(made):
        item["id"] = f"{_PREFIXES[item['type']]}_{call_id}_in{number}"
    found = ordered(reversed(made), asked)
    return answer(page(found, asked, lambda item: item["id"], lambda item: item))


_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
}


def _items(message: Message) -> list[Json]:
    """A message as items of an input."""
    made: list[Json] = []
    said: list[Json] = []
    for part in message.parts:
        match part:
            case Text() | Image() | File():
                said.append(_block(part, message.role))
            case Call():
                made.append(
                    {
                        "type": "function_call",
                        "call_id": part.id,
                        "name": part.name,
                        "arguments": part.arguments,
                        "status": "completed",
                    }
                )
            case ToolResult():
                made.append(
                    {
                        "type": "function_call_output",
                        "call_id": part.id,
                        "output": part.response,
                        "status": "completed",
                    }
                )
            case Reasoning():
                words = [{"type": "summary_text", "text": part.content}] if part.content else []
                secret = thoughts.seal(part, OWN) or None
                made.append({"type": "reasoning", "summary": words, "encrypted_content": secret})
            case Native():
                made += [part.body] if part.provider == OWN else []
    if said:
        role = "user" if message.role == "tool" else message.role
        spoken = {"type": "message", "role": role, "status": "completed", "content": said}
        made.insert(
            next((n for n, i in enumerate(made) if i["type"] != "reasoning"), len(made)), spoken
        )
    return made


def _block(part: Text | Attached, role: str) -> Json:
    if isinstance(part, Image):
        return {"type": "input_image", "image_url": part.uri, "detail": "auto"}
    if isinstance(part, File):
        field = "file_url" if part.uri.startswith("https:") else "file_data"
        return {"type": "input_file", field: part.uri, "filename": part.name}
    if role == "assistant":
        return {"type": "output_text", "text": part.content, "annotations": []}
    return {"type": "input_text", "text": part.content}


async def delete(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Give a response to nobody again. In the log it stays, until retention or `forget` takes it out."""
    name = asked.path["response_id"]
    await asyncio.to_thread(kept_in.withdraw, gateway.log, name, asked.key)
    return answer({"id": name, "object": "response", "deleted": True})


async def cancel(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Say that nothing is made in the background."""
    await _kept(gateway, asked)
    raise invalid("only responses that are made in the background can be cancelled; none is")


async def input_tokens(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """How many tokens a request has."""
    body = await asked.read(COUNTED)
    gateway.going(asked, OPENAI, body.model)  # may this key use it?
    before: tuple[Message, ...] = ()
    if body.previous_response_id:
        before, _ = await asyncio.to_thread(
            kept_in.before, gateway.log, body.previous_response_id, asked.key
        )
    told = await asyncio.to_thread(_counted, body, before)
    return answer({"object": "response.input_tokens", "input_tokens": told})


def _counted(body: Asked, before: tuple[Message, ...]) -> int:
    beside: list[Any] = [body.instructions or ""]
    beside += [text for tool in body.tools or () for text in texts_in(tool.model_dump())]
    if body.text is not None and body.text.format is not None:
        beside += texts_in(body.text.format.json_schema)
    return counted(body_of.conversation(body, before, speaks=True), beside, _IMAGE_TOKENS)


_ONE = "/v1/responses/{response_id}"
ROUTES = (
    Route(
        "POST",
        "/v1/responses",
        create,
        OPENAI,
        "chat",
        "A model's answer to a conversation, as a list of items.",
        BODY,
        streams=True,
    ),
    Route(
        "POST",
        "/v1/responses/input_tokens",
        input_tokens,
        OPENAI,
        "chat",
        "How many tokens a request has, as an estimate.",
        COUNTED,
    ),
    Route("GET", _ONE, retrieve, OPENAI, "chat", "A response that was given, from the log."),
    Route("DELETE", _ONE, delete, OPENAI, "chat", "Says that responses stay in the log."),
    Route(
        "POST", f"{_ONE}/cancel", cancel, OPENAI, "chat", "Says that there is nothing to cancel."
    ),
    Route("GET", f"{_ONE}/input_items", input_items, OPENAI, "chat", "What a response answered."),
)
