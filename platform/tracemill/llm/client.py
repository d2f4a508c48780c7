"""Call models: one small interface for all of them, and every call is in the log.

A call is one stream of events: `llm.call.started` before the request leaves, then exactly one end.
What a call does, in order: guard, response cache, rate limit, circuit breaker, the request with its
retries, price, append, guard again.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Self, Unpack
from weakref import WeakSet

from tracemill.errors import CallFailed, UsageError
from tracemill.events import GuardDecided
from tracemill.llm import cache as responses
from tracemill.llm import embedding, keys
from tracemill.llm import guard as guards
from tracemill.llm.call import Call, Ids
from tracemill.llm.embedding import Embedded, InputKind, Ranking
from tracemill.llm.exchange import deltas_of
from tracemill.llm.flow import Answer, AsyncStream, Do, Flow, Sleep, Stream, arun, run
from tracemill.llm.guard import Guard
from tracemill.llm.limits import Limits
from tracemill.llm.line import Lines, labels
from tracemill.llm.options import Options, check, not_json
from tracemill.llm.providers import Wire
from tracemill.log import EventLog
from tracemill.messages import Asked, Request, Response
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.llm.network import Network

_POLL_S = 0.05
_LEASE_S = 120
_GUARD = Guard()
# Another model would be asked the same, and the caller has gone or is refused in any case.
_FINAL = {"guard", "interrupted"}


class _Asking(NamedTuple):
    """One call with everything that was said of it."""

    request: Request
    options: Options
    ids: Ids
    fallback_of: str | None = None
    repairing: bool = False


class Client:
    """Calls to models. One object may be shared by threads, event loops and, after a fork, children.

    Keys come from the environment (`OPENAI_API_KEY` ...), addresses too where they are not the
    usual ones (`OPENAI_BASE_URL` ...). `Options` lists what each call may be given besides.

    All calls raise `CallFailed` when there is no answer; what happened is in the log either way.
    """

    def __init__(
        self,
        log: EventLog,
        settings: Settings | None = None,
        *,
        guard: Guard | None = _GUARD,
        limits: Mapping[str, Limits] | None = None,
        cache: "responses.Cache | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Calls that `log` knows of.

        Args:
            guard: rules for what is sent and what comes back; None for none.
            limits: by the first part of a model's name, such as `openai`.
            cache: where answers are kept for calls that ask for it; a file in the warehouse by
                default.
            clock: seconds that never go backwards, for breakers and limits.
        """
        self.log = log
        self.settings = settings
        self.guard = guard
        self._cache = cache
        self._network: Network | None = None
        self._lock = threading.Lock()
        _clients.add(self)
        self._lines = Lines(
            log,
            limits or {},
            settings.llm_timeout_s if settings else 600,
            models=settings.models if settings else log.folder.parent / "models",
            clock=clock,
            trace_context=settings.llm_trace_context if settings else False,
        )

    @classmethod
    def open(cls, settings: Settings | None = None, **more: Any) -> Self:
        """A client for a warehouse; without settings, for the nearest one."""
        settings = settings or Settings.find()
        return cls(EventLog.open(settings), settings, **more)

    # Calls

    def generate(self, request: Request, **options: Unpack[Options]) -> Response:
        """Call the request's model and return its answer."""
        return run(self._fallen_back(request, options, stream=False), self._reach)

    async def agenerate(self, request: Request, **options: Unpack[Options]) -> Response:
        """As `generate`."""
        return await arun(self._fallen_back(request, options, stream=False), self._reach)

    def stream(self, request: Request, **options: Unpack[Options]) -> Stream:
        """Call the request's model; iterate over the pieces of its answer as they arrive."""
        return Stream(self._fallen_back(request, options, stream=True), self._reach)

    def astream(
        self, request: Request, *, together: bool = False, **options: Unpack[Options]
    ) -> AsyncStream:
        """As `stream`, for `async for`.

        Args:
            together: read as far as pieces have arrived before the first of them is handed on, so
                that what is written for them can leave together; `AsyncStream.more` tells. Who
                stops early may then have seen less than the log has.
        """
        flow = self._fallen_back(request, options, stream=True)
        return AsyncStream(flow, self._reach, together=together)

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        input_kind: InputKind | None = None,
        whose: Asked | None = None,
        **options: Unpack[Options],
    ) -> Embedded:
        """Vectors of texts, in their order.

        Args:
            dimensions: of a vector; None for the model's own.
            input_kind: `query` or `document`, for models that tell them apart.
            whose: on whose behalf: its user, key, tags and conversation are recorded.
        """
        flow = embedding.embed(
            self._begun(model, options, whose), texts, dimensions=dimensions, input_kind=input_kind
        )
        return run(flow, self._reach)

    async def aembed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        input_kind: InputKind | None = None,
        whose: Asked | None = None,
        **options: Unpack[Options],
    ) -> Embedded:
        """As `embed`."""
        flow = embedding.embed(
            self._begun(model, options, whose), texts, dimensions=dimensions, input_kind=input_kind
        )
        return await arun(flow, self._reach)

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str,
        top_n: int | None = None,
        whose: Asked | None = None,
        **options: Unpack[Options],
    ) -> Ranking:
        """Documents by how well they answer the query, best first; at most `top_n`. `whose` as for
        `embed`."""
        flow = embedding.rerank(self._begun(model, options, whose), query, documents, top_n=top_n)
        return run(flow, self._reach)

    def exchange(self, prefix: str, wire: Wire, *, retry: bool = True) -> Answer:
        """One request to a provider that is not a call to a model, such as that of a batch.

        Nothing is recorded. Raises `CallFailed`.
        """
        line = self._lines.to(f"{prefix}/-")
        return run(self._lines.asked(line, wire, retry_too=retry), self._reach)

    def prepare(self) -> None:
        """Load what coroutines need to reach a provider: else the first call takes 0.2 s longer."""
        self._reach().prepare()

    def close(self) -> None:
        """Close the connections; the log stays open."""
        if self._network:
            self._network.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of the blocking calls."""
        if self._network:
            await self._network.aclose()

    # Flows

    def _fallen_back(self, request: Request, options: Options, *, stream: bool) -> Flow[Response]:
        """The request's model, then the others, until one answers."""
        asking = self._asking(request, options, stream=stream)
        models = [asking.request.model, *options.get("fallback", ())]
        for model in models[:-1]:
            try:
                return (yield from self._answered(_to(asking, model)))
            except CallFailed as error:
                if error.partial or error.error_type in _FINAL:
                    raise
                asking = asking._replace(
                    ids=asking.ids._replace(call_id=None), fallback_of=error.call_id
                )
        return (yield from self._answered(_to(asking, models[-1])))

    def _answered(self, asking: _Asking) -> Flow[Response]:
        """One model: the cache's answer, or its own."""
        checked = guards.check_input(self._rules(asking), asking.request)
        policy = asking.options.get("cache", "off")
        if policy == "off" or checked.blocked:
            return (yield from self._called(asking, checked))
        key, lead = responses.key(checked.sent, self._lines.address(checked.sent.model)), None
        if policy in {"read", "both"}:
            found = yield from self._looked_up(asking, checked, key)
            if isinstance(found, Response):
                return found
            lead = found
        here = os.getpid()
        try:
            response = yield from self._called(asking, checked)
            if policy in {"write", "both"} and responses.storable(response):
                ttl_s = asking.options.get("cache_ttl_s", 86_400)
                yield Do(lambda: self.cache.put(key, response, ttl_s))
            return response
        finally:
            if lead and os.getpid() == here:
                # At once, also where the caller has gone: others are waiting.
                self.cache.release(key, lead)

    def _looked_up(
        self, asking: _Asking, checked: guards.Input, key: str
    ) -> Flow[Response | str | None]:
        """The cache's answer, or the right to make this call: a token, none where only reading is
        allowed. While somebody else is making the same one, it is waited for."""
        begun = time.perf_counter()
        # Should who leads die, nobody waits longer; should it only be slow, another call is made.
        lease_s = min(asking.options.get("timeout_s", self._lines.timeout_s) * 3 + 30, _LEASE_S)
        while (stored := (yield Do(lambda: self.cache.get(key)))) is None:
            if asking.options.get("cache") == "read":
                return None
            if token := (yield Do(lambda: self.cache.lead(key, lease_s))):
                return token
            yield Sleep(_POLL_S)
        response = self._hit(asking, checked, stored, (time.perf_counter() - begun) * 1000)
        if checked.sent.stream:
            yield from deltas_of(response.parts)
        return response

    def _hit(
        self, asking: _Asking, checked: guards.Input, stored: Response, latency_ms: float
    ) -> Response:
        call = self._call(checked.logged, asking.ids, model=checked.sent.model)
        call.answered_from_cache(stored, latency_ms)
        return stored.model_copy(
            update={
                "call_id": call.id,
                "from_cache": True,
                "attempts": 0,
                "latency_ms": latency_ms,
                "time_to_first_chunk_ms": None,
                "cost_usd": Decimal(0),
            }
        )

    def _called(self, asking: _Asking, checked: guards.Input) -> Flow[Response]:
        """Started, sent, ended: what the log sees of a call."""
        sent = checked.sent
        call = self._call(checked.logged, asking.ids, model=checked.sent.model)
        try:
            yield from call.begin(streamed=sent.stream, fallback_of=asking.fallback_of)
            self._decided(call, checked.decisions)
            if checked.blocked:
                raise CallFailed("guard", checked.blocked)
            line = self._lines.to(sent.model, asking.options.get("timeout_s"))
            call.kept = lambda reply: guards.check_output(self._rules(asking), sent, reply).logged
            reply = yield from self._lines.chat(call, sent, line)
            output = guards.check_output(self._rules(asking), sent, reply)
            response = yield from call.end(output.reply, output.logged)
        except BaseException as error:
            failure = call.fail(error)
            if failure is error:
                raise
            raise failure from error
        return (yield from self._delivered(asking, sent, call, output, response))

    def _delivered(
        self, asking: _Asking, sent: Request, call: Call, checked: guards.Output, response: Response
    ) -> Flow[Response]:
        """What came back, past the guard; an answer that breaks the schema is asked for once more."""
        self._decided(call, checked.decisions)
        if checked.blocked:
            raise _about(call, CallFailed("guard", checked.blocked))
        if not checked.problems:
            return response
        if asking.repairing or sent.stream:
            wrong = "; ".join(checked.problems)
            raise _about(
                call,
                CallFailed("guard", f"the answer does not keep to response_schema: {wrong}"),
            )
        again = asking._replace(
            request=guards.repair(sent, checked.reply, checked.problems),
            ids=asking.ids._replace(call_id=None, causation_id=call.last_event_id),
            repairing=True,
        )
        repaired = yield from self._called(
            again, guards.check_input(self._rules(again), again.request)
        )
        self._decided(call, [guards.repaired(checked.problems)])
        return repaired

    # Parts of a call

    @property
    def cache(self) -> responses.Cache:
        """Where answers are kept."""
        if self._cache is None:
            folder = self.settings.cache if self.settings else self.log.folder.parent / "cache"
            self._cache = responses.FileCache(folder / "responses.db")
        return self._cache

    def _asking(self, request: Request, options: Options, *, stream: bool) -> _Asking:
        check(options)
        ids = Ids(**{name: options[name] for name in Ids._fields if name in options})
        if not isinstance(request, Request):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise self._refused(
                f"a call takes a Request, not {type(request).__name__}: "
                "write Request.of('...', model='provider/model')",
                ids,
            )
        if wrong := not_json(request):
            raise self._refused(wrong, ids, request.model)
        if request.stream != stream:
            request = request.model_copy(update={"stream": stream})
        return _Asking(request, options, ids)

    def _refused(self, why: str, ids: Ids, model: str = "unknown") -> CallFailed:
        """What cannot be sent, nor written down; but somebody meant to make a call."""
        failure = CallFailed("invalid_request", why)
        call = self._call(Asked(), ids, model=model)
        call.start()
        call.fail(failure)
        return failure

    def _call(self, logged: Asked, ids: Ids, *, model: str) -> Call:
        call = Call(self.log, logged, ids, labels(model))
        call.secret = keys.of(model)
        return call

    def _begun(self, model: str, options: Options, whose: Asked | None = None) -> embedding.Begun:
        check(options)
        if not isinstance(model, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"model is a name such as provider/model, not {repr(model)[:60]}")
        ids = Ids(**{name: options[name] for name in Ids._fields if name in options})
        return embedding.Begun(
            self.log, self._lines, model, ids, options.get("timeout_s"), whose or Asked()
        )

    def _rules(self, asking: _Asking) -> Guard | None:
        return asking.options.get("guard", self.guard)

    def _decided(self, call: Call, decisions: Iterable[guards.Decision]) -> None:
        events = [GuardDecided(call_id=call.id, **each._asdict()) for each in decisions]
        if events:
            self.log.append(events)

    def after_fork(self) -> None:
        """A forked child shares no connection with its parent, and waits for no lock of it."""
        self._lock = threading.Lock()
        self._lines.forget()
        if self._network:
            # Kept, for to close them would need locks that threads of the parent may hold.
            _left_to_the_parent.append(self._network)
            self._network = None

    def _reach(self) -> "Network":
        if self._network is None:
            from tracemill.llm.network import Network

            with self._lock:
                self._network = self._network or Network(self.settings)
        return self._network


_clients: WeakSet[Client] = WeakSet()
_left_to_the_parent: list[object] = []


def _after_fork() -> None:
    for client in list(_clients):
        client.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _to(asking: _Asking, model: str) -> _Asking:
    if asking.request.model == model:
        return asking
    return asking._replace(request=asking.request.model_copy(update={"model": model}))


def _about(call: Call, failure: CallFailed) -> CallFailed:
    failure.call_id = call.id
    return failure
