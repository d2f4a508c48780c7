"""A call on behalf of somebody: whose it is, whether it may be made, made, settled, counted.

Everything that a handler needs hangs here. Dialects read requests and write answers; what happens in
between is the same for all of them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, partial
from typing import Any, TypeVar, cast

from pydantic import SecretStr

from tracemill.access.budgets import Budgets, Reservation
from tracemill.access.keys import Keys
from tracemill.access.limits import Subject
from tracemill.errors import CallFailed
from tracemill.events import new_id
from tracemill.jobs.depth import figures
from tracemill.jobs.jobs import Jobs
from tracemill.llm.client import Client
from tracemill.llm.embedding import Embedded, InputKind, Ranking
from tracemill.llm.flow import AsyncStream
from tracemill.llm.line import labels
from tracemill.llm.options import Options
from tracemill.llm.providers import PROVIDERS
from tracemill.llm.trained import is_trained
from tracemill.log import EventLog
from tracemill.messages import Asked, Delta, Request, Response, Usage
from tracemill.server import attached, local_vectors
from tracemill.server.estimate import estimate
from tracemill.server.following import Following
from tracemill.server.incoming import Incoming
from tracemill.server.names import Names
from tracemill.server.routes import Dialect
from tracemill.server.trouble import Trouble, invalid
from tracemill.settings import Settings
from tracemill.telemetry.metrics import Metrics

_POLICIES = ("off", "read", "write", "both")
T = TypeVar("T")


@dataclass(frozen=True)
class Going:
    """One call that is about to be made."""

    asked: Incoming
    model: str
    """Provider and model."""
    options: Options
    call_id: str
    subject: Subject
    operation: str

    @property
    def is_local(self) -> bool:
        """Whether a model is among those asked that is worked out here: that takes the processor,
        so it goes to a thread."""
        models = (self.model, *self.options.get("fallback", ()))
        return any(is_trained(name) or name.startswith("local/") for name in models)


class Live:
    """A streamed answer that has begun: its first piece is here, so an error after this is one
    within the stream."""

    def __init__(
        self,
        first: Delta | None,
        rest: "AsyncStream | _Threaded",
        response: Callable[[], Response],
        end: Callable[[Response | None], None],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._first, self._rest, self._response = first, rest, response
        self._end, self._close = end, close
        self._over = False

    async def deltas(self) -> AsyncGenerator[Delta]:
        """The pieces. Whoever stops reading closes this: then the call ends as cut."""
        ended: Response | None = None
        try:
            if self._first is not None:
                yield self._first
                async for delta in self._rest:
                    yield delta
            ended = self._response()
        finally:
            await self._finish(ended)

    async def aclose(self) -> None:
        """End the call as cut, unless it is over: also where nobody began to read."""
        await self._finish(None)

    async def _finish(self, ended: Response | None) -> None:
        if self._over:
            return
        self._over = True
        try:
            with suppress(CallFailed):
                await self._close()
        finally:
            self._end(ended)

    @property
    def response(self) -> Response:
        """The whole answer, once it has been read."""
        return self._response()

    def more(self) -> bool:
        """Whether the next piece is here already."""
        return self._rest.more


class Gateway:
    """What the server holds while it runs."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        client: Client,
        *,
        admin: SecretStr | None = None,
    ) -> None:
        """`admin` is a key that may do anything, besides those of the log.

        Raises `InputError` where `raw/gateway.yaml` cannot be read, `UsageError` for a weak key.
        """
        self.settings, self.log, self.client = settings, log, client
        self.keys = Keys(log, admin=admin)
        self.budgets = Budgets(log)
        self.jobs = Jobs(log, settings)
        self.names = Names(settings.raw_gateway)
        self.metrics = Metrics(log_position=log.position, queue=partial(figures, self.jobs))

    @cached_property
    def following(self) -> Following:
        """The fine-tunes that the server is with; made when the first is."""
        return Following(self.log, self.settings, self.client)

    def going(
        self,
        asked: Incoming,
        dialect: Dialect,
        name: str,
        *,
        operation: str = "chat",
        user: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Going:
        """A call to the model that a request names. Raises `Trouble`: the key may not use it."""
        target = self.names.target(name, dialect.provider)
        key = asked.key
        if key and not (key.may(model=target.model) or key.may(model=name)):
            raise Trouble(
                403, "permission_denied", f"this key may not use the model {name}", param="model"
            )
        options = _with_headers(target.options, asked)
        call_id = new_id()
        options |= {"call_id": call_id, "correlation_id": asked.request_id}
        if asked.trace_id:
            options["trace_id"] = asked.trace_id
        subject = Subject(
            key_id=key.key_id if key else None,
            user_id=user or asked.label("x-tracemill-user") or (key.user if key else None),
            team=key.team if key else None,
            tags={**(metadata or {}), **asked.tags},
        )
        return Going(asked, target.model, options, call_id, subject, operation)

    def again(self, going: Going) -> Going:
        """Another call of the same kind."""
        call_id = new_id()
        return replace(going, call_id=call_id, options={**going.options, "call_id": call_id})

    def about(self, going: Going, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The fields of a `Request` that say whose call it is."""
        asked = going.asked
        prompt, _, version = (asked.label("x-tracemill-prompt") or "").partition("@")
        return {
            "model": going.model,
            "key_id": going.subject.key_id,
            "user_id": going.subject.user_id,
            "metadata": {**(metadata or {}), **going.subject.tags},
            "conversation_id": asked.label("x-tracemill-conversation"),
            "prompt_name": prompt or None,
            "prompt_version": version or None,
        }

    def speaks(self, going: Going, *adapters: str) -> bool:
        """Whether the provider of the model, and of those in its place, speaks one of these
        languages: modules of `llm/providers`."""
        models = (going.model, *going.options.get("fallback", ()))
        found = (PROVIDERS.get(name.partition("/")[0]) for name in models)
        return all(provider is not None and provider.adapter in adapters for provider in found)

    def told(self, going: Going, response: Response | None = None) -> dict[str, str]:
        """Headers of ours on an answer."""
        made = {"x-tracemill-call-id": going.call_id}
        if response is not None:
            if response.cost_usd is not None:
                made["x-tracemill-cost-usd"] = f"{response.cost_usd:f}"
            if response.from_cache:
                made["x-tracemill-cache"] = "hit"
        return made

    async def generate(self, going: Going, request: Request) -> Response:
        """Make the call. Raises `CallFailed`, `Trouble`: 429 where a budget is used up, 404 for a
        file that is not there."""
        request = await self._whole(going, request)

        def here() -> Response:
            return self.client.generate(request, **going.options)

        if going.is_local:
            return await self._accounted(going, request, lambda: asyncio.to_thread(here))
        return await self._accounted(
            going, request, lambda: self.client.agenerate(request, **going.options)
        )

    async def begin(self, going: Going, request: Request) -> Live:
        """Begin a streamed call; returns when its first piece is here. Raises as `generate`."""
        request = await self._whole(going, request)
        reserved = self._reserve(going, request)
        begun = time.perf_counter()
        under_way = ExitStack()
        under_way.enter_context(self.metrics.in_flight())

        def end(response: Response | None, error: CallFailed | None = None) -> None:
            under_way.close()
            self._settle(
                going, reserved, response.usage if response else None, response, begun, error
            )

        stream: AsyncStream | _Threaded
        if going.is_local:
            stream = _Threaded(self.client, request, going.options)
        else:
            stream = self.client.astream(request, together=True, **going.options)
        try:
            first = await anext(stream, None)
        except BaseException as error:
            end(None, error if isinstance(error, CallFailed) else None)
            raise
        return Live(first, stream, lambda: stream.response, end, stream.aclose)

    async def _whole(self, going: Going, request: Request) -> Request:
        if not attached.named(request):
            return request
        return await asyncio.to_thread(
            attached.filled, self.log, self.settings, going.asked.key, request
        )

    async def embed(
        self,
        going: Going,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        input_kind: InputKind | None = None,
    ) -> Embedded:
        """Vectors of texts. Raises as `generate`."""
        if going.model.startswith("local/"):

            def here() -> Embedded:
                return local_vectors.embed(
                    self.log, self.about(going), texts, dimensions, input_kind, going.options
                )

            return await self._accounted(going, texts, lambda: asyncio.to_thread(here))
        return await self._accounted(
            going,
            texts,
            lambda: self.client.aembed(
                texts,
                model=going.model,
                dimensions=dimensions,
                input_kind=input_kind,
                whose=self._whose(going),
                **_of_vectors(going),
            ),
        )

    async def rerank(
        self, going: Going, query: str, documents: Sequence[str], top_n: int | None
    ) -> Ranking:
        """Documents by relevance. Raises as `generate`."""

        def here() -> Ranking:
            return self.client.rerank(
                query,
                documents,
                model=going.model,
                top_n=top_n,
                whose=self._whose(going),
                **_of_vectors(going),
            )

        return await self._accounted(going, documents, lambda: asyncio.to_thread(here))

    async def within(
        self,
        going: Going,
        texts: Sequence[str],
        call: Callable[[], Awaitable[T]],
        call_of: Callable[[T], str | None],
    ) -> T:
        """What makes a call of its own, if any, within the budgets; `call_of` tells its id. Raises
        `BudgetExceeded`."""
        reserved = self._reserve(going, texts)
        call_id = None
        try:
            result = await call()
            call_id = call_of(result)
            return result
        finally:
            if reserved is not None:
                self.budgets.settle(reserved, call_id=call_id)

    async def _accounted(
        self, going: Going, what: Request | Sequence[str], call: Callable[[], Awaitable[T]]
    ) -> T:
        reserved = self._reserve(going, what)
        begun = time.perf_counter()
        result: Any = None
        error: CallFailed | None = None
        try:
            with self.metrics.in_flight():
                result = await call()
        except CallFailed as failed:
            error = failed
            raise
        finally:
            usage = result.usage if result is not None else None
            self._settle(going, reserved, usage, result, begun, error)
        return cast(T, result)

    def _whose(self, going: Going) -> Asked:
        fields = self.about(going)
        del fields["model"]
        return Asked(**fields)

    def _reserve(self, going: Going, what: Request | Sequence[str]) -> Reservation | None:
        if not self.budgets.any:
            return None
        expected = estimate(self.log, what, going.model)
        return self.budgets.reserve(going.subject, expected, going.call_id)

    def _settle(
        self,
        going: Going,
        reserved: Reservation | None,
        usage: Usage | None,
        result: Any,
        begun: float,
        error: CallFailed | None,
    ) -> None:
        usd: Decimal | None = getattr(result, "cost_usd", None)
        if reserved is not None:
            if result is None:
                self.budgets.release(reserved)
            else:
                self.budgets.settle(reserved, call_id=result.call_id)
        known = labels(going.model)
        first_ms: float | None = getattr(result, "time_to_first_chunk_ms", None)
        self.metrics.record(
            known.provider,
            known.model,
            going.operation,
            error_type=error.error_type if error else None,
            duration_s=time.perf_counter() - begun,
            usage=usage,
            usd=usd,
            first_chunk_s=None if first_ms is None else first_ms / 1000,
        )


class _Threaded:
    """A stream of a model that is worked out here, each piece in a thread."""

    def __init__(self, client: Client, request: Request, options: Options) -> None:
        self._stream = client.stream(request, **options)

    def __aiter__(self) -> "_Threaded":
        return self

    async def __anext__(self) -> Delta:
        piece = await asyncio.to_thread(next, self._stream, None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        await asyncio.to_thread(self._stream.close)

    @property
    def more(self) -> bool:
        return False

    @property
    def response(self) -> Response:
        return self._stream.response


def _with_headers(options: Options, asked: Incoming) -> Options:
    """What the file says of a name, and what the request says of itself, which goes before."""
    made = options.copy()
    if cache := asked.label("x-tracemill-cache"):
        if cache not in _POLICIES:
            raise invalid(f"x-tracemill-cache is one of {', '.join(_POLICIES)}")
        made["cache"] = cache
    if fallback := asked.label("x-tracemill-fallback"):
        made["fallback"] = tuple(filter(None, map(str.strip, fallback.split(","))))
    return made


def _of_vectors(going: Going) -> Any:
    """Vectors and rankings know neither the response cache nor another model."""
    return {
        name: value
        for name, value in going.options.items()
        if name not in {"cache", "cache_ttl_s", "fallback"}
    }
