"""One request to one model, and its answer: whole, in pieces, or made here.

Everything between a `Request` and the `Reply` that has come; whether to try again is not decided
here.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import SecretStr

from tracemill.errors import CallFailed
from tracemill.llm import providers
from tracemill.llm.breaker import Breaker
from tracemill.llm.call import Call, clean
from tracemill.llm.flow import Answer, Exchange, Flow, Open, Opened, Read, Send
from tracemill.llm.limits import Limiter
from tracemill.llm.providers import Adapter, Provider, Reply, Wire
from tracemill.llm.providers.fields import decoded
from tracemill.llm.sse import Decoder
from tracemill.messages import Delta, Json, Native, Part, Reasoning, Request, Text, ToolCall

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-debug-trace-id")


class Line(NamedTuple):
    """One model, ready to be called."""

    provider: Provider
    model: str
    """Without the provider."""
    key: SecretStr | None
    limiter: Limiter
    breaker: Breaker
    timeout_s: float
    models: Path = Path()
    """Where models lie that were trained here."""
    trace_context: bool = False
    """Whether requests say which trace and call they are part of."""

    @property
    def adapter(self) -> Adapter:
        return providers.adapter(self.provider)


def chat(call: Call, request: Request, line: Line) -> Flow[Reply]:
    """One request for an answer; `request.stream` hands its pieces on as they come.

    `call.partial` is what has arrived so far.
    """
    send = _streamed if request.stream else _answered
    return (yield from send(call, _without_foreign(request, line.provider.name), line))


def ask(line: Line, wire: Wire) -> Flow[Answer]:
    """One request, answered; the limiter hears what the headers say of the limits.

    Raises what the provider says, as `CallFailed`.
    """
    answer: Answer = yield Send(Exchange(line.provider, wire, line.timeout_s), line.key)
    line.limiter.observe(answer.headers)
    if answer.status >= 400:
        raise line.adapter.error(*answer)
    return answer


def parsed(answer: Answer, line: Line) -> Any:
    """The JSON of a body. Raises `CallFailed` with `malformed_response`."""
    try:
        return decoded(answer.body)
    except ValueError as error:
        # Cut only after it was cleaned: half a number or half a key would not be known as one.
        start = clean(answer.body[:2000].decode(errors="replace"), line.key)[:80]
        raise CallFailed(
            "malformed_response",
            f"{line.provider.name} answered with something that is not JSON ({error}): {start!r}",
            status=answer.status,
            request_id=_request_id(answer.headers),
        ) from None


def local(call: Call, request: Request, line: Line) -> Flow[Reply]:
    """Models that run here: no network, no limits, nothing that could be tried again."""
    from tracemill.llm.providers import local
    from tracemill.llm.trained import is_trained, served

    call.attempt()
    if is_trained(line.model):
        pieces = served.answer(request, line.model, line.models)
    else:
        pieces = local.answer(line.model, request)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value
        if request.stream:
            call.arrived()
            yield Delta(text=piece)


def traced(call: Call, line: Line, wire: Wire) -> Wire:
    """The request with W3C's `traceparent`, where that is wanted: its span is the one that an export
    of the call gets, which follows from the call's id."""
    if not line.trace_context:
        return wire
    own = call.id.replace("-", "")
    told = call.about["trace_id"] or ""
    trace_id = told if _TRACE_ID.fullmatch(told) else own
    return wire._replace(headers={**wire.headers, "traceparent": f"00-{trace_id}-{own[16:]}-01"})


def _wire(call: Call, request: Request, line: Line) -> Wire:
    wire = traced(call, line, line.adapter.chat(request, line.model, line.provider))
    if request.extra and isinstance(wire.body, dict):
        # Anthropic's SDKs call so what goes into a header; the adapter has put it there.
        extra = {name: value for name, value in request.extra.items() if name != "betas"}
        return wire._replace(body=merged(extra, wire.body))
    return wire


def merged(extra: Json, body: Json) -> Json:
    """Both, object by object; what has a name of ours goes by that."""
    both = {
        name: merged(cast(Json, extra[name]), cast(Json, body[name]))
        for name in extra.keys() & body.keys()
        if isinstance(extra[name], dict) and isinstance(body[name], dict)
    }
    return {**extra, **body, **both}


def _answered(call: Call, request: Request, line: Line) -> Flow[Reply]:
    answer = yield from ask(line, _wire(call, request, line))
    return _whole(answer, line)


def _whole(answer: Answer, line: Line) -> Reply:
    """An answer in one piece."""
    reply = line.adapter.read(parsed(answer, line), line.provider)
    parts = _signed(reply.parts, line.provider.name)
    return reply._replace(parts=parts, request_id=_request_id(answer.headers))


def _streamed(call: Call, request: Request, line: Line) -> Flow[Reply]:
    """One request whose answer comes in pieces; `call.partial` is what has arrived so far."""
    wire = _wire(call, request, line)
    opened: Opened = yield Open(Exchange(line.provider, wire, line.timeout_s), line.key)
    line.limiter.observe(opened.headers)
    if opened.status >= 400 or not _is_stream(opened.headers):
        answer = Answer(opened.status, opened.headers, (yield from _rest()))
        if opened.status >= 400:
            raise line.adapter.error(*answer)
        # The server did not stream: an error with status 200, or an answer in one piece.
        reply = _whole(answer, line)
        call.partial = lambda: reply
        yield from _handed_on(deltas_of(reply.parts), call, line)
        return reply
    fold, decoder = line.adapter.fold(line.provider), Decoder()

    def arrived() -> Reply:
        reply = fold.reply()
        parts = _signed(reply.parts, line.provider.name)
        return reply._replace(parts=parts, request_id=_request_id(opened.headers))

    call.partial = arrived
    try:
        while chunk := (yield Read()):
            for event in decoder.feed(chunk):
                yield from _handed_on(fold.feed(event), call, line)
        for event in decoder.close():
            yield from _handed_on(fold.feed(event), call, line)
        if not fold.done:
            raise CallFailed(
                "connection",
                f"{line.provider.name} ended the stream before the answer was whole",
                retry=True,
            )
    except CallFailed as error:
        error.partial = call.first_chunk_ms is not None
        raise
    return arrived()


def deltas_of(parts: Iterable[Part]) -> Iterator[Delta]:
    """A whole answer as the pieces of a stream."""
    for part in parts:
        match part:
            case Text(content=text, citations=cited):
                yield Delta(text=text, cited=cited or None)
            case Reasoning(content=words, signature=signature):
                yield Delta(reasoning=words, thought=part if signature else None)
            case ToolCall():
                yield Delta(tool_call=part)
            case Native():
                yield Delta(native=part)
            case _:
                pass


def _handed_on(deltas: Iterable[Delta], call: Call, line: Line) -> Generator[Delta, None, None]:
    for delta in deltas:
        call.arrived()
        whose = {"provider": line.provider.name}
        if (thought := delta.thought) is not None:
            delta = delta._replace(thought=thought.model_copy(update=whose))
        if (native := delta.native) is not None:
            delta = delta._replace(native=native.model_copy(update=whose))
        if delta.cited:
            cited = tuple(each.model_copy(update=whose) for each in delta.cited)
            delta = delta._replace(cited=cited)
        yield delta


def _rest() -> Flow[bytes]:
    chunks: list[bytes] = []
    while chunk := (yield Read()):
        chunks.append(chunk)
    return b"".join(chunks)


def _is_stream(headers: Mapping[str, str]) -> bool:
    return "json" not in headers.get("content-type", "") or "ndjson" in headers["content-type"]


def _request_id(headers: Mapping[str, str]) -> str | None:
    return next((headers[name] for name in _REQUEST_IDS if name in headers), None)


def _without_foreign(request: Request, provider: str) -> Request:
    """The request without what only another provider has, such as what its model thought: this one
    would refuse it."""
    if all(isinstance(message.content, str) for message in request.messages):
        return request
    messages = [
        message.model_copy(
            update={
                "content": tuple(
                    _cited(part, provider) for part in message.parts if _fits(part, provider)
                )
            }
        )
        for message in request.messages
    ]
    return request.model_copy(update={"messages": tuple(messages)})


def _fits(part: Part, provider: str) -> bool:
    return not isinstance(part, Reasoning | Native) or part.provider in {None, provider}


def _cited(part: Part, provider: str) -> Part:
    if not isinstance(part, Text) or all(_fits(each, provider) for each in part.citations):
        return part
    kept = tuple(each for each in part.citations if _fits(each, provider))
    return part.model_copy(update={"citations": kept})


def _signed(parts: tuple[Part, ...], provider: str) -> tuple[Part, ...]:
    """The parts with whose they are, where that matters."""
    return tuple(_of(part, provider) for part in parts)


def _of(part: Part, provider: str) -> Part:
    match part:
        case Reasoning() | Native():
            return part.model_copy(update={"provider": provider})
        case Text() if part.citations:
            cited = tuple(each.model_copy(update={"provider": provider}) for each in part.citations)
            return part.model_copy(update={"citations": cited})
        case _:
            return part
