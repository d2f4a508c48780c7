"""The way to one model: its rate limit, its circuit breaker, the request and its retries.

What is kept between calls lives in `Lines`: a limiter for each key, a breaker for each model.
"""

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import SecretStr
from pydantic_core import from_json

from tracemill import prices
from tracemill.errors import CallFailed
from tracemill.events import BreakerChanged
from tracemill.llm import keys, providers, retry
from tracemill.llm.breaker import Breaker, Change
from tracemill.llm.call import Call, Labels, clean
from tracemill.llm.flow import Answer, Exchange, Flow, Open, Opened, Read, Send, Sleep
from tracemill.llm.limits import Limiter, Limits, Reservation
from tracemill.llm.providers import Adapter, Provider, Reply, Wire
from tracemill.llm.sse import Decoder
from tracemill.messages import (
    Asked,
    Delta,
    Part,
    Reasoning,
    Request,
    Text,
    ToolCall,
    Usage,
    text_of,
)

if TYPE_CHECKING:
    from tracemill.log import EventLog

T = TypeVar("T")

_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-debug-trace-id")
# Told by us before anything was sent: waiting within the call would only hide it.
_OURS = {"circuit_open", "limit_reached"}
# What an answer is reserved at where the request sets no limit.
_USUAL_OUTPUT_TOKENS = 1_000


class Line(NamedTuple):
    """One model, ready to be called."""

    provider: Provider
    model: str
    """Without the provider."""
    key: SecretStr | None
    limiter: Limiter
    breaker: Breaker
    timeout_s: float

    @property
    def adapter(self) -> Adapter:
        return providers.adapter(self.provider)


class Lines:
    """Limiters and breakers, made when they are first needed."""

    def __init__(
        self,
        log: "EventLog",
        limits: Mapping[str, Limits],
        timeout_s: float,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`limits` by the first part of a model's name up to a hyphen, such as `openai`."""
        self._log = log
        self._limits = limits
        self.timeout_s = timeout_s
        self._clock = clock
        self._limiters: dict[str, Limiter] = {}
        self._breakers: dict[str, Breaker] = {}

    def to(self, name: str, timeout_s: float | None = None) -> Line:
        """The way to a model, such as `openai/gpt-5.4-mini`.

        Raises `CallFailed`: `unknown_provider` or `missing_key`.
        """
        prefix, slash, model = name.partition("/")
        if not slash or not model:
            raise CallFailed(
                "unknown_provider",
                f"model {name[:80]!r} names no provider: a model is named as provider/model, such as "
                f"local/extract, and the providers are {', '.join(sorted(providers.PROVIDERS))}",
            )
        provider = providers.find(prefix)
        key = keys.needed(prefix, provider)
        return Line(
            provider,
            model,
            key,
            self._limiter(prefix, provider, key),
            self._breakers.setdefault(name, Breaker(name, clock=self._clock)),
            self.timeout_s if timeout_s is None else timeout_s,
        )

    def forget(self) -> None:
        """As if nothing had been called: what a forked child knows is its parent's."""
        self._limiters.clear()
        self._breakers.clear()

    def chat(self, call: Call, request: Request, line: Line) -> Flow[Reply]:
        """Send a request until it is answered, or until trying again makes no sense."""
        if line.provider.adapter == "local":
            return (yield from _local(call, request, line))
        send = _streamed if request.stream else _answered
        own = _without_foreign_thoughts(request, line.provider.name)
        tokens = _expected_tokens(request)
        reply = yield from self.repeated(call, line, tokens, lambda: send(call, own, line))
        return reply._replace(parts=_signed(reply.parts, line.provider.name))

    def repeated(self, call: Call, line: Line, tokens: int, send: Callable[[], Flow[T]]) -> Flow[T]:
        """Attempts, with waits between them. `tokens` is what one may use."""
        while True:
            try:
                return (yield from self._attempt(call, line, tokens, send))
            except CallFailed as error:
                wait_s = retry.wait_s(error, call.attempts)
                if wait_s is None or error.partial or error.error_type in _OURS:
                    raise
                call.retried(error, wait_s)
                yield Sleep(wait_s)

    def asked(self, line: Line, wire: Wire, *, retry_too: bool) -> Flow[Answer]:
        """One request that is no call: nothing is recorded."""
        attempt = 1
        while True:
            try:
                return (yield from ask(line, wire))
            except CallFailed as error:
                error.args = (clean(str(error), line.key),)
                wait_s = retry.wait_s(error, attempt) if retry_too else None
                if wait_s is None:
                    raise
                attempt += 1
                yield Sleep(wait_s)

    def _attempt(self, call: Call, line: Line, tokens: int, send: Callable[[], Flow[T]]) -> Flow[T]:
        reserved = line.limiter.reserve(tokens, self._expected_usd(line, tokens))
        before = call.attempts
        try:
            if reserved.wait_s:
                yield Sleep(reserved.wait_s)
            result = yield from self._watched(call, line, send)
        except BaseException:
            if call.attempts == before:
                line.limiter.release(reserved)
            elif call.first_chunk_ms is None:
                line.limiter.settle(reserved, 0, None)
            else:
                # Nobody tells what a cut answer used: what was expected stands.
                line.limiter.settle(reserved, reserved.tokens, reserved.usd)
            raise
        self._settle(line, reserved, result)
        return result

    def _watched(self, call: Call, line: Line, send: Callable[[], Flow[T]]) -> Flow[T]:
        """One attempt, under the eyes of the breaker."""
        ticket = line.breaker.enter()
        self._tell(line, ticket.change)
        call.attempt()
        try:
            result = yield from send()
        except CallFailed as error:
            self._tell(line, line.breaker.failed(ticket, error))
            raise
        except BaseException:
            line.breaker.left(ticket)
            raise
        self._tell(line, line.breaker.succeeded(ticket))
        return result

    def _settle(self, line: Line, reserved: Reservation, result: object) -> None:
        usage: Usage | None = getattr(result, "usage", None)
        if usage is None:
            line.limiter.settle(reserved, reserved.tokens, reserved.usd)
        else:
            usd = self._usd(line, usage) if line.limiter.limits.usd_per_day else None
            line.limiter.settle(reserved, usage.input_tokens + usage.output_tokens, usd)

    def _expected_usd(self, line: Line, tokens: int) -> Decimal:
        if not line.limiter.limits.usd_per_day:
            return Decimal(0)
        return self._usd(line, Usage(input_tokens=tokens, output_tokens=tokens // 2))

    def _usd(self, line: Line, usage: Usage) -> Decimal:
        now = datetime.now(UTC)
        price = prices.cost(line.provider.name, line.model, usage, now, table=self._log.prices)
        return price.usd or Decimal(0)

    def _limiter(self, prefix: str, provider: Provider, key: SecretStr | None) -> Limiter:
        text = key.get_secret_value() if key else ""
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        # One key is one account, whichever of a provider's languages is spoken.
        family = prefix.partition("-")[0]
        name = f"{family} {digest}"
        if name not in self._limiters:
            limits = self._limits.get(family, Limits())
            spent = self._spent(provider.name) if limits.usd_per_day else Decimal(0)
            return self._limiters.setdefault(
                name, Limiter(family, limits, spent_usd=spent, clock=self._clock)
            )
        return self._limiters[name]

    def _spent(self, provider: str) -> Decimal:
        """What the log knows of today."""
        today = self._log.arrow(
            "SELECT coalesce(sum(cost_usd), 0) AS usd FROM costs_by_day "
            "WHERE provider = ? AND day = CAST(? AS DATE)",
            [provider, datetime.now(UTC).date().isoformat()],
        )
        return Decimal(today.column("usd")[0].as_py())

    def _tell(self, line: Line, change: Change | None) -> None:
        if change:
            self._log.append(
                BreakerChanged(
                    provider=line.provider.name, request_model=line.model[:200], **change._asdict()
                )
            )


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
        return from_json(answer.body)
    except ValueError as error:
        # Cut only after it was cleaned: half a number or half a key would not be known as one.
        start = clean(answer.body[:2000].decode(errors="replace"), line.key)[:80]
        raise CallFailed(
            "malformed_response",
            f"{line.provider.name} answered with something that is not JSON ({error}): {start!r}",
            status=answer.status,
            request_id=_request_id(answer.headers),
        ) from None


def address(name: str) -> str:
    """Where a model would be asked; empty where that is not known."""
    with suppress(CallFailed):
        return providers.find(name.partition("/")[0]).base_url
    return ""


def labels(name: str) -> Labels:
    """By the name of a model."""
    prefix, slash, model = name.partition("/")
    if not slash:
        return Labels("unknown", name)
    known = providers.PROVIDERS.get(prefix)
    if known is None:
        return Labels(prefix, model)
    texts = "text_completion" in known.quirks
    return Labels(known.name, model, "text_completion" if texts else "chat")


def _local(call: Call, request: Request, line: Line) -> Flow[Reply]:
    """Models that run here: no network, no limits, nothing that could be tried again."""
    from tracemill.llm.providers import local

    call.attempt()
    reply = local.reply(line.model, request)
    if request.stream:
        for piece in local.pieces(reply.text):
            call.arrived()
            yield Delta(text=piece)
    return reply


def _answered(call: Call, request: Request, line: Line) -> Flow[Reply]:
    answer = yield from ask(line, line.adapter.chat(request, line.model, line.provider))
    reply = line.adapter.read(parsed(answer, line), line.provider)
    return reply._replace(request_id=_request_id(answer.headers))


def _streamed(call: Call, request: Request, line: Line) -> Flow[Reply]:
    """One request whose answer comes in pieces; `call.partial` is what has arrived so far."""
    wire = line.adapter.chat(request, line.model, line.provider)
    opened: Opened = yield Open(Exchange(line.provider, wire, line.timeout_s), line.key)
    line.limiter.observe(opened.headers)
    if opened.status >= 400 or not _is_stream(opened.headers):
        answer = Answer(opened.status, opened.headers, (yield from _rest()))
        if opened.status >= 400:
            raise line.adapter.error(*answer)
        # The server did not stream: an error with status 200, or an answer in one piece.
        reply = line.adapter.read(parsed(answer, line), line.provider)
        yield from _handed_on(_deltas(reply), call)
        return reply._replace(request_id=_request_id(opened.headers))
    fold, decoder = line.adapter.fold(line.provider), Decoder()
    call.partial = lambda: fold.reply()._replace(request_id=_request_id(opened.headers))
    try:
        while chunk := (yield Read()):
            for event in decoder.feed(chunk):
                yield from _handed_on(fold.feed(event), call)
        # What is left without an empty line after it may be whole, or the first half of an event.
        with suppress(CallFailed):
            for event in decoder.close():
                yield from _handed_on(fold.feed(event), call)
        if not fold.done:
            raise CallFailed(
                "connection",
                f"{line.provider.name} ended the stream before the answer was whole",
                retry=True,
            )
    except CallFailed as error:
        error.partial = call.first_chunk_ms is not None
        raise
    return call.partial()


def _deltas(reply: Reply) -> list[Delta]:
    """A whole answer as the pieces of a stream."""
    deltas: list[Delta] = []
    for part in reply.parts:
        match part:
            case Text(content=text):
                deltas.append(Delta(text=text))
            case Reasoning(content=thought):
                deltas.append(Delta(reasoning=thought))
            case ToolCall():
                deltas.append(Delta(tool_call=part))
            case _:
                pass
    return deltas


def _handed_on(deltas: Any, call: Call) -> Generator[Delta, None, None]:
    for delta in deltas:
        call.arrived()
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


def _without_foreign_thoughts(request: Request, provider: str) -> Request:
    """The request without what another provider's model thought: its signature would be refused."""
    if all(isinstance(message.content, str) for message in request.messages):
        return request
    messages = [
        message.model_copy(
            update={"content": tuple(part for part in message.parts if _fits(part, provider))}
        )
        for message in request.messages
    ]
    return request.model_copy(update={"messages": tuple(messages)})


def _fits(part: Part, provider: str) -> bool:
    return not isinstance(part, Reasoning) or part.provider in {None, provider}


def _signed(parts: tuple[Part, ...], provider: str) -> tuple[Part, ...]:
    return tuple(
        part.model_copy(update={"provider": provider}) if isinstance(part, Reasoning) else part
        for part in parts
    )


def _expected_tokens(asked: Asked) -> int:
    """About four characters a token: enough for a reservation, and a thousand times faster."""
    characters = sum(len(text_of(message.content)) for message in asked.messages)
    characters += len(asked.system or "")
    return characters // 4 + (asked.max_output_tokens or _USUAL_OUTPUT_TOKENS)
