"""OpenAI's text completions, for models that go on with a text: servers that have this route, and
models that run here.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.errors import TracemillError
from tracemill.llm.providers import PROVIDERS
from tracemill.llm.trained import is_trained
from tracemill.messages import Json, Request, Response, TokenLogprob
from tracemill.server import trouble
from tracemill.server.dialects.forms import Form, extra
from tracemill.server.dialects.openai import OPENAI, error
from tracemill.server.dialects.openai_chat import finish, head, several, usage
from tracemill.server.dialects.openai_chat_body import StreamOptions
from tracemill.server.events import Events, answer, event
from tracemill.server.gateway import Gateway, Going, Live
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid

_MOST_ANSWERS = 16
_USUAL: Json = {"best_of": 1, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}}


class Body(Form):
    """A text to go on with."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=1, le=10**9)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=_MOST_ANSWERS)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    user: Annotated[str, Field(max_length=200)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


async def complete(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """How a text goes on."""
    body = await asked.read(BODY)
    prompts = _prompts(body.prompt)
    n = body.n or 1
    going = _going(gateway, asked, body)
    requests = [_request(gateway, going, body, prompt) for prompt in prompts]
    if body.stream:
        if len(prompts) * n > 1:
            raise invalid("stream: a streamed answer is one: send one prompt, and no n", "stream")
        live = await gateway.begin(going, requests[0])
        return Events(_pieces(going, live, body, prompts[0]), gateway.told(going), live)
    if len(prompts) * n > _MOST_ANSWERS:
        raise invalid(f"prompt: {_MOST_ANSWERS} answers at a time: send fewer", "prompt")
    goings = [going, *(gateway.again(going) for _ in prompts[1:])]
    made = await asyncio.gather(
        *(several(gateway, *pair, n) for pair in zip(goings, requests, strict=True)),
        return_exceptions=True,
    )
    if failed := [each for each in made if isinstance(each, BaseException)]:
        raise failed[0]
    found = list(chain.from_iterable(each for each in made if isinstance(each, list)))
    shown = [prompt if body.echo else "" for prompt in prompts for _ in range(n)]
    return answer(_whole(found, shown), headers=gateway.told(going, found[0]))


def prepared(gateway: Gateway, asked: Incoming, body: Body) -> tuple[Going, Request]:
    """The one call that a body asks for. Raises `Trouble`: it cannot be made, or asks for several."""
    prompts = _prompts(body.prompt)
    if len(prompts) > 1 or body.echo:
        raise invalid("prompt: one is answered at a time, without echo", "prompt")
    going = _going(gateway, asked, body)
    return going, _request(gateway, going, body, prompts[0])


def whole(made: Response, _: Request) -> Json:
    """An answer in one piece."""
    return _whole([made], [""])


def _going(gateway: Gateway, asked: Incoming, body: Body) -> Going:
    going = gateway.going(asked, OPENAI, body.model, user=body.user, metadata=body.metadata)
    return replace(_able(going, body.model), operation="text_completion")


def _prompts(given: str | list[Any]) -> list[str]:
    prompts: list[Any] = [given] if isinstance(given, str) else given
    if not prompts or not all(isinstance(each, str) for each in prompts):
        raise invalid("prompt: send text: tokens are those of one model's vocabulary", "prompt")
    if empty := [number for number, each in enumerate(prompts) if not each]:
        raise invalid(f"prompt.{empty[0]}: it is empty", "prompt")
    return prompts


def _able(going: Going, name: str) -> Going:
    """The model where it completes texts. Raises `Trouble` (400) where it does not."""
    provider, _, model = going.model.partition("/")
    known = PROVIDERS.get(provider)
    if is_trained(going.model) or provider == "local":
        return going
    if known is not None and "text_completion" in known.quirks:
        return going
    if f"{provider}-completions" in PROVIDERS:
        return replace(going, model=f"{provider}-completions/{model}")
    raise invalid(
        f"model: {name[:100]} answers conversations alone: ask it by /v1/chat/completions", "model"
    )


def _request(gateway: Gateway, going: Going, body: Body, prompt: str) -> Request:
    speaks = gateway.speaks(going, "compatible")
    unusual = {n: v for n, v in (body.model_extra or {}).items() if v != _USUAL.get(n, v is None)}
    return Request(
        messages=[{"role": "user", "content": prompt}],  # pyright: ignore[reportArgumentType]
        max_output_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        seed=body.seed,
        logprobs=body.logprobs,
        extra=extra(unusual, frozenset(), speaks=speaks),
        **gateway.about(going, body.metadata),
    )


def _whole(found: list[Response], shown: list[str]) -> Json:
    first = found[0]
    return {
        **head(first.call_id, "text_completion", first.response_model),
        "id": f"cmpl-{first.call_id}",
        "choices": [
            {
                "index": index,
                "text": before + each.text,
                "logprobs": _logprobs(each.logprobs, len(before)),
                "finish_reason": _finish(each),
            }
            for index, (each, before) in enumerate(zip(found, shown, strict=True))
        ],
        "usage": usage(*(each.usage for each in found)),
    }


async def _pieces(going: Going, live: Live, body: Body, prompt: str) -> AsyncGenerator[bytes]:
    """The events of a streamed answer."""
    top = head(going.call_id, "text_completion", going.model.partition("/")[2])
    top["id"] = f"cmpl-{going.call_id}"

    def chunk(text: str, why: str | None = None, logprobs: Json | None = None) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": why}
        return event({**top, "choices": [choice]})

    try:
        if body.echo:
            yield chunk(prompt)
        async with aclosing(live.deltas()) as deltas:
            async for delta in deltas:
                if delta.text:
                    yield chunk(delta.text)
        made = live.response
        before = len(prompt) if body.echo else 0
        yield chunk("", _finish(made), _logprobs(made.logprobs, before))
        if body.stream_options and body.stream_options.include_usage:
            yield event({**top, "choices": [], "usage": usage(made.usage)})
        yield b"data: [DONE]\n\n"
    except TracemillError as failed:
        yield event(error(trouble.of(failed), going.asked.request_id))


def _finish(made: Response) -> str:
    told = finish(made)
    return told if told in {"length", "content_filter"} else "stop"


def _logprobs(tokens: tuple[TokenLogprob, ...] | None, start: int) -> Json | None:
    if tokens is None:
        return None
    offsets: list[int] = []
    for each in tokens:
        offsets.append(start)
        start += len(each.token)
    return {
        "tokens": [each.token for each in tokens],
        "token_logprobs": [each.logprob for each in tokens],
        "top_logprobs": [{one.token: one.logprob for one in each.top} for each in tokens],
        "text_offset": offsets,
    }


ROUTES = (
    Route(
        "POST",
        "/v1/completions",
        complete,
        OPENAI,
        "chat",
        "How a text goes on.",
        BODY,
        streams=True,
    ),
)
