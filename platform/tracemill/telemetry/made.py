"""A call that another program made, as it tells of it, and the two events that the log gets of that.

Ids follow from what the call is called elsewhere, so that telling of it twice changes nothing.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, NamedTuple

from tracemill import prices
from tracemill.errors import InputError
from tracemill.events import (
    FeedbackGiven,
    Happened,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
)
from tracemill.messages import (
    FinishReason,
    Part,
    ToolCall,
    Usage,
    content_of,
)
from tracemill.prices import Table
from tracemill.telemetry import redacted

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_USD = Decimal(1_000_000_000)
_NONE: Mapping[str, Any] = MappingProxyType({})


class Failure(NamedTuple):
    """Why a call has no whole answer."""

    kind: str
    """The class of the error, as `names.error` says it."""
    message: str
    code: str | None = None
    status: int | None = None


class Made(NamedTuple):
    """A call as another program tells of it."""

    call_id: str
    source: str
    """Who told: `otlp`, `langfuse` ...; names the price where the tool recorded one."""
    started_at: datetime
    ended_at: datetime
    operation: str
    provider: str
    request_model: str
    response_model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    key_id: str | None = None
    actor: str | None = None
    tags: Mapping[str, str] = _NONE
    asked: Mapping[str, Any] = _NONE
    """Fields of `Asked`: messages, system, tools and parameters."""
    streamed: bool = False
    inputs: int | None = None
    """How many texts were embedded or ranked."""
    parts: tuple[Part, ...] = ()
    """The answer."""
    refusal: str | None = None
    finish_reasons: tuple[FinishReason, ...] = ()
    raw_finish_reason: str | None = None
    usage: Usage | None = None
    """None where nobody counted."""
    service_tier: str | None = None
    attempts: int = 1
    latency_ms: float | None = None
    """Where it was measured apart from the times."""
    first_chunk_ms: float | None = None
    failure: Failure | None = None
    cost_usd: Decimal | None = None
    """As the other tool recorded it; None lets our prices tell."""
    price_snapshot: str | None = None
    crashed: str | None = None
    """The process that died with the call."""
    cached_call_id: str | None = None
    """The call whose answer a cache gave again."""


class Judged(NamedTuple):
    """A judgement of a call, as another tool has it."""

    feedback_id: str
    call_id: str | None
    """None where only the trace is known: then its last call is meant."""
    score: float
    given_at: datetime
    trace_id: str | None = None
    comment: str | None = None
    user_id: str | None = None


def id_of(*words: str) -> str:
    """An id that always follows from the same words (a UUID of version 8, RFC 9562)."""
    return _uuid(_digest(words), 8)


def _timed_id(when: datetime, *words: str) -> str:
    """The same, ordered by time as all ids of events are (version 7)."""
    raw = _digest(words)
    milliseconds = max(0, (when - _EPOCH) // timedelta(milliseconds=1))
    raw[:6] = milliseconds.to_bytes(6, "big")
    return _uuid(raw, 7)


def _digest(words: tuple[str, ...]) -> bytearray:
    joined = "\x1f".join(words).encode(errors="replace")
    return bytearray(hashlib.blake2b(joined, digest_size=16).digest())


def _uuid(raw: bytearray, version: int) -> str:
    raw[6] = version << 4 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def span_call_id(trace_id: str, span_id: str) -> str:
    """The call that a span of OpenTelemetry is, whoever tells of it."""
    return id_of("span", trace_id, span_id)


def moment(nanoseconds: int) -> datetime:
    """Nanoseconds since 1970 as a time. Raises `InputError`: no call was made then."""
    if not 0 < nanoseconds < 253_402_300_800_000_000_000:
        raise InputError(f"its time cannot be {nanoseconds} ns after 1970")
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def usd(value: Any) -> Decimal | None:
    """An amount of money that a tool recorded.

    None where there is none, and where it is 0: several tools write 0 for a model that they have no
    price for. Raises `InputError`.
    """
    if value is None or value == "":
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise InputError(f"its cost is no number: {str(value)[:60]!r}") from None
    if not amount.is_finite() or not 0 <= amount < _MOST_USD:
        raise InputError(f"its cost cannot be {amount}")
    return amount or None


def events(made: Made, table: Table, *, redact: bool = True) -> tuple[Happened, ...]:
    """The start and the one end of a call; of a call that a cache answered, that alone.

    Args:
        table: the prices, for calls whose cost nobody recorded.
        redact: personal data and keys in texts become placeholders, as in calls of our own.

    Raises `pydantic.ValidationError`, `InputError`.
    """
    about = _about(made)
    asked = dict(made.asked)
    parts = made.parts
    if redact:
        asked, parts = redacted.asked(asked), tuple(map(redacted.part, parts))
        about |= {n: redacted.identity(about[n]) for n in ("user_id", "conversation_id")}
        about["metadata"] = {n: redacted.tag(value) for n, value in made.tags.items()}
    if made.cached_call_id is not None:
        return (_cached(made, about, asked),)
    began = LlmCallStarted(
        **asked,
        **about,
        event_id=_timed_id(made.started_at, "started", made.call_id),
        occurred_at=made.started_at,
        span_id=made.span_id,
        parent_span_id=made.parent_span_id,
        streamed=made.streamed,
        inputs=made.inputs,
        service_tier=made.service_tier,
    )
    about |= {
        "event_id": _timed_id(made.ended_at, "ended", made.call_id),
        "occurred_at": max(made.ended_at, made.started_at),
        "causation_id": began.event_id,
    }
    return began, _end(made, about, parts, table, redact=redact)


def feedback(judged: Judged, call_id: str) -> FeedbackGiven:
    """A judgement as an event."""
    return FeedbackGiven(
        event_id=_timed_id(judged.given_at, "feedback", judged.feedback_id),
        occurred_at=judged.given_at,
        call_id=call_id,
        score=judged.score,
        comment=judged.comment,
        user_id=judged.user_id,
    )


def _about(made: Made) -> dict[str, Any]:
    return {
        "call_id": made.call_id,
        "operation": made.operation,
        "provider": made.provider,
        "request_model": made.request_model,
        "conversation_id": made.conversation_id,
        "user_id": made.user_id,
        "prompt_name": made.prompt_name,
        "prompt_version": made.prompt_version,
        "key_id": made.key_id,
        "metadata": dict(made.tags),
        "trace_id": made.trace_id,
        "actor": made.actor,
    }


def _end(
    made: Made, about: dict[str, Any], parts: tuple[Part, ...], table: Table, *, redact: bool
) -> Happened:
    if made.crashed is not None:
        return LlmCallCrashed(**about, process=made.crashed)
    latency_ms = made.latency_ms
    if latency_ms is None:
        latency_ms = max(0.0, (made.ended_at - made.started_at) / timedelta(milliseconds=1))
    failure = made.failure
    if failure is not None and not parts and made.usage is None:
        return LlmCallFailed(
            **about,
            **_why(failure, redact=redact),
            error_code=failure.code,
            status=failure.status,
            request_id=made.request_id,
            attempts=made.attempts,
            latency_ms=latency_ms,
        )
    about |= _answered(made, parts, table) | {"latency_ms": latency_ms}
    if failure is not None:
        return LlmCallAborted(**about, **_why(failure, redact=redact))
    return LlmCallFinished(
        **about,
        refusal=made.refusal,
        finish_reasons=made.finish_reasons or (_reason_of(made.operation, parts),),
        raw_finish_reason=made.raw_finish_reason,
    )


def _reason_of(operation: str, parts: tuple[Part, ...]) -> FinishReason:
    """Why a model stopped, where nobody tells."""
    if any(isinstance(part, ToolCall) for part in parts):
        return "tool_call"
    return "stop" if parts or operation in {"embeddings", "rerank"} else "other"


def _why(failure: Failure, *, redact: bool) -> dict[str, Any]:
    text = failure.message[:10_000]
    return {
        "error_type": failure.kind,
        "error_message": redacted.text(text) if redact else text,
    }


def _answered(made: Made, parts: tuple[Part, ...], table: Table) -> dict[str, Any]:
    """What finished and aborted calls have in common."""
    usage = made.usage or Usage(estimated=True)
    cost, snapshot = made.cost_usd, made.price_snapshot or made.source
    if cost is None and made.usage is not None:
        names = [name for name in (made.response_model, made.request_model) if name]
        when = made.ended_at
        priced = prices.cost(
            made.provider, names, usage, when, service_tier=made.service_tier, table=table
        )
        cost, snapshot = priced.usd, priced.snapshot
    return {
        "response_model": made.response_model or made.request_model,
        "response_id": made.response_id,
        "request_id": made.request_id,
        "service_tier": made.service_tier,
        "content": content_of(parts),
        "usage": usage,
        "attempts": max(1, made.attempts),
        "time_to_first_chunk_ms": made.first_chunk_ms,
        "cost_usd": cost,
        "price_snapshot": snapshot if cost is not None else None,
    }


def _cached(made: Made, about: dict[str, Any], asked: dict[str, Any]) -> Happened:
    return LlmCallCached(
        **about,
        event_id=_timed_id(made.ended_at, "ended", made.call_id),
        occurred_at=made.ended_at,
        messages=asked.get("messages", ()),
        cached_call_id=made.cached_call_id or made.call_id,
        saved_usd=made.cost_usd,
        latency_ms=made.latency_ms
        if made.latency_ms is not None
        else max(0.0, (made.ended_at - made.started_at) / timedelta(milliseconds=1)),
    )
