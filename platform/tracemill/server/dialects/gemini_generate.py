"""Gemini's generateContent and countTokens: answers whole, as events, and as an array in pieces."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic_core import to_json
from starlette.responses import Response as HttpResponse

from tracemill.errors import TracemillError
from tracemill.llm.providers.gemini import BESIDE
from tracemill.messages import (
    Delta,
    FinishReason,
    Json,
    Logprob,
    Native,
    Reasoning,
    Request,
    Response,
    TokenLogprob,
    ToolCall,
    Usage,
)
from tracemill.server import trouble
from tracemill.server.dialects import gemini_body as body_of
from tracemill.server.dialects.counting import counted, texts_in
from tracemill.server.dialects.forms import Camel
from tracemill.server.dialects.gemini import GEMINI, error
from tracemill.server.dialects.gemini_body import BODY, Body
from tracemill.server.dialects.gemini_parts import (
    OWN,
    Content,
    conversation,
    signed,
    words,
    written,
)
from tracemill.server.events import Events, answer, event
from tracemill.server.gateway import Gateway, Going, Live
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid

_FINISH: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "tool_call": "STOP",
    "length": "MAX_TOKENS",
    "context_window": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
}
_RAW = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL", "NO_IMAGE"),
        *("TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"),
        *("IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "IMAGE_RECITATION", "MODEL_ARMOR"),
    }
)
"""Words that this API has and ours lack: they go as they came."""
_BLOCKED = frozenset(
    {*("SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "MODEL_ARMOR"), "JAILBREAK"}
)
_IMAGE_TOKENS = 258


class Counted(Camel):
    """A conversation, or a whole request."""

    contents: list[Content] | None = None
    system_instruction: Content | None = None
    tools: list[Json] | None = None
    generate_content_request: Annotated[Body | None, Field()] = None


COUNTED: TypeAdapter[Counted] = TypeAdapter(Counted)


async def generate(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """An answer in one piece."""
    going, request = await _prepared(gateway, asked)
    response = await gateway.generate(going, request)
    return answer(content(response), headers=gateway.told(going, response))


async def stream(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """An answer in pieces: events, or without `alt=sse` the members of an array."""
    going, request = await _prepared(gateway, asked)
    live = await gateway.begin(going, request)
    told = gateway.told(going)
    if asked.query.get("alt") == "sse":
        return Events(_events(going, live), told, live)
    return Events(_array(going, live), {**told, "content-type": "application/json"}, live)


async def count_tokens(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """How many tokens a request has, by the bundled tokenizer: an estimate, for the vocabulary of
    most models is not known."""
    body = await asked.read(COUNTED)
    gateway.going(asked, GEMINI, model_of(asked))  # may this key use it?
    told = await asyncio.to_thread(_counted, body)
    details = [{"modality": "TEXT", "tokenCount": told}]
    return answer({"totalTokens": told, "promptTokensDetails": details})


def _counted(body: Counted) -> int:
    whole = body.generate_content_request
    contents = whole.contents if whole else body.contents
    if not contents:
        raise invalid("contents: it is missing", "contents")
    system = words(whole.system_instruction if whole else body.system_instruction)
    tools: Any = [tool.model_dump() for tool in whole.tools or ()] if whole else body.tools
    return counted(conversation(contents), [system, *texts_in(tools)], _IMAGE_TOKENS)


def model_of(asked: Incoming) -> str:
    """The model that a path names."""
    return asked.path["model"]


async def _prepared(gateway: Gateway, asked: Incoming) -> tuple[Going, Request]:
    body = await asked.read(BODY)
    going = gateway.going(asked, GEMINI, model_of(asked))
    fields = body_of.asked(body, speaks=gateway.speaks(going, "gemini"))
    return going, Request(**fields, **gateway.about(going))


def content(response: Response) -> Json:
    """An answer in one piece."""
    head = {"modelVersion": response.response_model, "responseId": response.call_id}
    parts: list[Json] = []
    for part in response.parts:
        # A signature without words belongs to the text before it.
        bare = isinstance(part, Reasoning) and not part.content
        if bare and parts and parts[-1].keys() == {"text"}:
            parts[-1] = {**written(part)[0], **parts[-1]}
        else:
            parts += written(part)
    return {**_told(response, parts), "usageMetadata": usage(response.usage), **head}


def _told(response: Response, parts: list[Json]) -> Json:
    """The candidate, or why the prompt has none."""
    finish = response.finish_reasons[0] if response.finish_reasons else "stop"
    raw = response.raw_finish_reason or ""
    nothing = not response.parts and not response.usage.output_tokens
    if finish == "content_filter" and nothing and raw in _BLOCKED:
        why = {"blockReasonMessage": response.refusal} if response.refusal else {}
        return {"promptFeedback": {"blockReason": raw, **why}}
    candidate: Json = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": raw if raw in _RAW else _FINISH.get(finish, "OTHER"),
        "index": 0,
    }
    for part in response.parts:
        if isinstance(part, Native) and part.provider == OWN:
            candidate |= {name: each for name, each in part.body.items() if name in BESIDE}
    if response.refusal:
        candidate["finishMessage"] = response.refusal
    if response.logprobs is not None:
        candidate["logprobsResult"] = _logprobs(response.logprobs)
    return {"candidates": [candidate]}


def _logprobs(tokens: Iterable[TokenLogprob]) -> Json:
    def one(token: Logprob) -> Json:
        return {"token": token.token, "logProbability": token.logprob}

    listed = list(tokens)
    return {
        "chosenCandidates": [one(token) for token in listed],
        "topCandidates": [{"candidates": [one(each) for each in token.top]} for token in listed],
    }


def usage(used: Usage) -> Json:
    """Tokens, by Gemini's names: thoughts are counted beside the candidates."""
    parts = used.parts
    made = {
        "promptTokenCount": used.input_tokens,
        "candidatesTokenCount": parts.output,
        "totalTokenCount": used.input_tokens + used.output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": used.input_tokens}],
    }
    if parts.reasoning:
        made["thoughtsTokenCount"] = parts.reasoning
    if parts.cache_read:
        made["cachedContentTokenCount"] = parts.cache_read
    return made


async def _chunks(going: Going, live: Live) -> AsyncGenerator[Json]:
    """The pieces of a streamed answer, each a response; an error is the last of them."""
    head = {"modelVersion": going.model.partition("/")[2], "responseId": going.call_id}
    calls: dict[str, ToolCall] = {}
    try:
        async with aclosing(live.deltas()) as deltas:
            async for delta in deltas:
                if parts := list(_pieces(delta, calls)):
                    yield {"candidates": [{"content": _content(parts), "index": 0}], **head}
        response = live.response
        told = _told(response, [part for call in calls.values() for part in written(call)])
        yield {**told, "usageMetadata": usage(response.usage), **head}
    except TracemillError as failed:
        yield dict(error(trouble.of(failed), going.asked.request_id))


def _content(parts: list[Json]) -> Json:
    return {"parts": parts, "role": "model"}


def _pieces(delta: Delta, calls: dict[str, ToolCall]) -> Iterator[Json]:
    """The parts of a piece. `calls` are kept until they are whole: here a call comes in one part."""
    if delta.reasoning:
        yield {"text": delta.reasoning, "thought": True}
    if delta.thought is not None:
        yield signed(delta.thought)
    if delta.text:
        yield {"text": delta.text}
    if delta.native is not None:
        yield from written(delta.native)
    if (call := delta.tool_call) is not None:
        before = calls.get(call.id)
        whole = call.arguments if before is None else before.arguments + call.arguments
        calls[call.id] = call.model_copy(update={"arguments": whole})


async def _events(going: Going, live: Live) -> AsyncGenerator[bytes]:
    async with aclosing(_chunks(going, live)) as chunks:
        async for chunk in chunks:
            yield event(chunk)


async def _array(going: Going, live: Live) -> AsyncGenerator[bytes]:
    before = b"["
    async with aclosing(_chunks(going, live)) as chunks:
        async for chunk in chunks:
            yield before + to_json(chunk)
            before = b",\r\n"
    yield b"]"


ROUTES = tuple(
    route
    for version in ("/v1beta", "/v1")
    for route in (
        Route(
            "POST",
            version + "/models/{model:path}:generateContent",
            generate,
            GEMINI,
            "chat",
            "A model's answer to a conversation.",
            BODY,
        ),
        Route(
            "POST",
            version + "/models/{model:path}:streamGenerateContent",
            stream,
            GEMINI,
            "chat",
            "A model's answer to a conversation, in pieces.",
            BODY,
            streams=True,
        ),
        Route(
            "POST",
            version + "/models/{model:path}:countTokens",
            count_tokens,
            GEMINI,
            "chat",
            "How many tokens a request has, as an estimate.",
            COUNTED,
        ),
    )
)
