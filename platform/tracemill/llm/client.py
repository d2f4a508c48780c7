"""Call a model; the log knows of the call before the request leaves and when it ends.

A call is one stream: `llm.call.started`, then exactly one of finished and failed. That is not a
habit but a rule of the log: the end is appended only where the stream is still at version 1.
"""

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import CallFailed
from tracemill.events import LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.llm import prices, providers
from tracemill.llm.providers import Reply
from tracemill.messages import Request, Response

if TYPE_CHECKING:
    from tracemill.log import EventLog


class Model(NamedTuple):
    """A model's name in its two parts."""

    provider: str
    name: str


def generate(
    request: Request,
    *,
    log: "EventLog",
    call_id: str | None = None,
    actor: str | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
) -> Response:
    """Call the request's model and return its answer; what happened is in the log either way.

    Args:
        call_id: the call's id, a new UUIDv7 when None; an id can be used once.
        actor, correlation_id, causation_id: as on every event.

    Raises `CallFailed` when there is no answer: unknown provider or model, or what the provider
    says. An interrupt is recorded as `interrupted` and goes on.
    """
    model = parse_model(request.model)
    about = _about(request, model, call_id=call_id, actor=actor, correlation_id=correlation_id)
    started = LlmCallStarted(
        **about,
        messages=request.messages,
        max_output_tokens=request.max_output_tokens,
        causation_id=causation_id,
    )
    log.append([started], expected={started.stream: 0})
    about["causation_id"] = started.event_id
    clock = time.perf_counter()
    try:
        reply = providers.find(model.provider)(model.name, request)
    except BaseException as error:
        failed = _failed(error, about, _since(clock))
        log.append([failed], expected={failed.stream: 1})
        if isinstance(error, CallFailed) or not isinstance(error, Exception):
            raise
        raise CallFailed(failed.error_type, failed.error_message) from error
    finished = _finished(reply, about, model, _since(clock))
    log.append([finished], expected={finished.stream: 1})
    return _response(finished)


def parse_model(name: str) -> Model:
    """`local/extract` to its parts; a name without a slash has the provider `unknown`.

    What does not fit into a label of the log is cut, so that the failed call can be recorded.
    """
    printable = "".join(letter for letter in name if letter.isprintable())[:200]
    provider, slash, model = printable.partition("/")
    return Model(provider, model) if slash else Model("unknown", printable)


def _about(
    request: Request,
    model: Model,
    *,
    call_id: str | None,
    actor: str | None,
    correlation_id: str | None,
) -> dict[str, Any]:
    """What all events of the call say."""
    return {
        "call_id": call_id or new_id(),
        "provider": model.provider,
        "request_model": model.name,
        "conversation_id": request.conversation_id,
        "user_id": request.user_id,
        "actor": actor,
        "correlation_id": correlation_id,
    }


def _failed(error: BaseException, about: dict[str, Any], latency_ms: float) -> LlmCallFailed:
    if isinstance(error, CallFailed):
        kind, message = error.error_type, str(error)
    elif isinstance(error, Exception):
        kind = "internal_error"
        message = f"{about['provider']} broke on this request: {type(error).__name__}: {error}"
    else:
        kind, message = "interrupted", f"the caller was stopped by {type(error).__name__}"
    return LlmCallFailed(**about, error_type=kind, error_message=message, latency_ms=latency_ms)


def _finished(
    reply: Reply, about: dict[str, Any], model: Model, latency_ms: float
) -> LlmCallFinished:
    event = LlmCallFinished(
        **about,
        response_model=reply.response_model,
        text=reply.text,
        finish_reasons=reply.finish_reasons,
        usage=reply.usage,
        latency_ms=latency_ms,
        cost_usd=None,
    )
    cost = prices.cost(model.provider, model.name, reply.usage, event.occurred_at)
    return event.model_copy(update={"cost_usd": cost})


def _response(finished: LlmCallFinished) -> Response:
    return Response(
        call_id=finished.call_id,
        text=finished.text,
        finish_reasons=finished.finish_reasons,
        response_model=finished.response_model,
        usage=finished.usage,
        latency_ms=finished.latency_ms,
        cost_usd=finished.cost_usd,
    )


def _since(clock: float) -> float:
    return (time.perf_counter() - clock) * 1000
