"""The way to one model: its rate limit, its circuit breaker, the request and its retries.

What is kept between calls lives in `Lines`: a limiter for each key, a breaker for each model.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import SecretStr

from tracemill import prices
from tracemill.errors import CallFailed
from tracemill.events import BreakerChanged
from tracemill.llm import exchange, keys, providers, retry
from tracemill.llm.breaker import Breaker, Change
from tracemill.llm.call import Call, Labels, clean
from tracemill.llm.exchange import Line
from tracemill.llm.flow import Answer, Flow, Sleep
from tracemill.llm.limits import Limiter, Limits, Reservation
from tracemill.llm.providers import Provider, Reply, Wire
from tracemill.llm.trained import is_trained
from tracemill.messages import Asked, Request, Usage, text_of

if TYPE_CHECKING:
    from tracemill.log import EventLog


class Answered(Protocol):
    """What every kind of answer says of itself."""

    @property
    def response_model(self) -> str: ...
    @property
    def usage(self) -> Usage | None: ...


T = TypeVar("T", bound=Answered)

# Told by us before anything was sent: waiting within the call would only hide it.
_OURS = {"circuit_open", "limit_reached"}
# A key that is wrong, may not do this, or has no more to spend.
_BY_KEY = {401, 402, 403, 429}
# What an answer is reserved at where the request sets no limit.
_USUAL_OUTPUT_TOKENS = 1_000


class Lines:
    """Limiters and breakers, made when they are first needed."""

    def __init__(
        self,
        log: "EventLog",
        limits: Mapping[str, Limits],
        timeout_s: float,
        *,
        models: Path,
        clock: Callable[[], float],
        trace_context: bool = False,
    ) -> None:
        """`limits` by the first part of a model's name up to a hyphen, such as `openai`; `models` is
        the folder of those that were trained here."""
        self._log = log
        self._limits = limits
        self._models = models
        self.timeout_s = timeout_s
        self._clock = clock
        self._trace_context = trace_context
        self._limiters: dict[str, Limiter] = {}
        self._breakers: dict[str, Breaker] = {}
        self._usual_usd: dict[tuple[str, str, int], Decimal] = {}

    def to(self, name: str, timeout_s: float | None = None) -> Line:
        """The way to a model, such as `openai/gpt-5.4-mini`.

        Raises `CallFailed`: `unknown_provider`, `missing_key`, `unknown_model`.
        """
        prefix, slash, model = name.partition("/")
        if is_trained(name):
            from tracemill.llm.trained import served

            prefix, slash, model = "local", "/", served.version(self._log, name)
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
            self._breakers.get(name)
            or self._breakers.setdefault(name, Breaker(name, clock=self._clock)),
            self.timeout_s if timeout_s is None else timeout_s,
            self._models,
            self._trace_context,
        )

    def address(self, name: str) -> str:
        """Where a model would be asked, or which version of it; empty where that is not known."""
        with suppress(CallFailed):
            if is_trained(name):
                return self.to(name).model
            return providers.find(name.partition("/")[0]).base_url
        return ""

    def forget(self) -> None:
        """As if nothing had been called: what a forked child knows is its parent's."""
        self._limiters.clear()
        self._breakers.clear()

    def chat(self, call: Call, request: Request, line: Line) -> Flow[Reply]:
        """Send a request until it is answered, or until trying again makes no sense."""
        if line.provider.adapter == "local":
            return (yield from exchange.local(call, request, line))
        tokens = _expected_tokens(request)
        return (
            yield from self.repeated(
                call, line, tokens, lambda way: exchange.chat(call, request, way)
            )
        )

    def repeated(
        self, call: Call, line: Line, tokens: int, send: Callable[[Line], Flow[T]]
    ) -> Flow[T]:
        """Attempts, with waits between them. `tokens` is what one may use.

        Where a key is why one failed, the next goes out at once with another key, if there is one.
        """
        tried = [line.key] if line.key else []
        while True:
            try:
                return (yield from self._attempt(call, line, tokens, send))
            except CallFailed as error:
                if error.partial or error.error_type in _OURS:
                    raise
                other = keys.another(line.provider, tried) if error.status in _BY_KEY else None
                if other is not None:
                    tried.append(other)
                    limiter = self._limiter(line.limiter.name, line.provider, other)
                    line = line._replace(key=other, limiter=limiter)
                    call.retried(error, 0.0)
                    continue
                wait_s = retry.wait_s(error, call.attempts - max(len(tried) - 1, 0))
                if wait_s is None:
                    raise
                call.retried(error, wait_s)
                yield Sleep(wait_s)

    def asked(self, line: Line, wire: Wire, *, retry_too: bool) -> Flow[Answer]:
        """One request that is no call: nothing is recorded."""
        attempt = 1
        while True:
            try:
                return (yield from exchange.ask(line, wire))
            except CallFailed as error:
                error.args = (clean(str(error), line.key),)
                wait_s = retry.wait_s(error, attempt) if retry_too else None
                if wait_s is None:
                    raise
                attempt += 1
                yield Sleep(wait_s)

    def _attempt(
        self, call: Call, line: Line, tokens: int, send: Callable[[Line], Flow[T]]
    ) -> Flow[T]:
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
        self._settle(call, line, reserved, result)
        return result

    def _watched(self, call: Call, line: Line, send: Callable[[Line], Flow[T]]) -> Flow[T]:
        """One attempt, under the eyes of the breaker."""
        ticket = line.breaker.enter()
        self._tell(line, ticket.change)
        call.heard = partial(line.breaker.heard, ticket)
        call.attempt()
        try:
            result = yield from send(line)
        except CallFailed as error:
            keys.refused(line.key, error)
            self._tell(line, line.breaker.failed(ticket, error))
            raise
        except BaseException:
            line.breaker.left(ticket)
            raise
        self._tell(line, line.breaker.succeeded(ticket))
        return result

    def _settle(self, call: Call, line: Line, reserved: Reservation, result: Answered) -> None:
        usage = result.usage
        if usage is None:
            line.limiter.settle(reserved, reserved.tokens, reserved.usd)
        else:
            usd = call.priced(
                result.response_model, usage, getattr(result, "service_tier", None)
            ).usd
            line.limiter.settle(reserved, usage.input_tokens + usage.output_tokens, usd)

    def _expected_usd(self, line: Line, tokens: int) -> Decimal:
        if not line.limiter.limits.usd_per_day:
            return Decimal(0)
        # Up to a sixteenth more: few enough different amounts to be worked out once.
        step = 1 << max(tokens.bit_length() - 5, 0)
        rounded = -(-tokens // step) * step
        known = line.provider.name, line.model, rounded
        if known not in self._usual_usd:
            usage = Usage(input_tokens=rounded, output_tokens=rounded // 2)
            now = datetime.now(UTC)
            price = prices.cost(*known[:2], usage, now, table=self._log.prices)
            self._usual_usd[known] = price.usd or Decimal(0)
        return self._usual_usd[known]

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


def labels(name: str) -> Labels:
    """By the name of a model."""
    if is_trained(name):
        return Labels("local", name)
    prefix, slash, model = name.partition("/")
    if not slash:
        return Labels("unknown", name)
    known = providers.PROVIDERS.get(prefix)
    if known is None:
        return Labels(prefix, model)
    texts = "text_completion" in known.quirks
    return Labels(known.name, model, "text_completion" if texts else "chat")


def _expected_tokens(asked: Asked) -> int:
    """About four characters a token: enough for a reservation, and a thousand times faster."""
    characters = sum(len(text_of(message.content)) for message in asked.messages)
    characters += len(asked.system or "")
    return characters // 4 + (asked.max_output_tokens or _USUAL_OUTPUT_TOKENS)
