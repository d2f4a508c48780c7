"""Calls as they end, from the events themselves: what `tracemill tail` shows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tracemill.events import (
    LlmCall,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
)
from tracemill.messages import Message, text_of

if TYPE_CHECKING:
    from tracemill.events import Recorded
    from tracemill.log import EventLog

_MOST_OPEN = 10_000
_KINDS = [
    cls.model_fields["kind"].default
    for cls in (
        LlmCallStarted,
        LlmCallRetried,
        LlmCallFinished,
        LlmCallFailed,
        LlmCallAborted,
        LlmCallCrashed,
        LlmCallCached,
    )
]


def rows(log: "EventLog", after: int) -> Iterator[dict[str, Any]]:
    """A row for each end of a call and each failed attempt behind `after`, for ever.

    The names are those of the view `calls`, and `status` may also be `retried`.
    """
    begun: dict[str, LlmCallStarted] = {}
    for recorded in log.subscribe(after, kinds=_KINDS):
        event = recorded.event
        assert isinstance(event, LlmCall)
        if isinstance(event, LlmCallStarted):
            begun[event.call_id] = event
            if len(begun) > _MOST_OPEN:
                del begun[next(iter(begun))]
            continue
        start = begun.get(event.call_id)
        if not isinstance(event, LlmCallRetried):
            begun.pop(event.call_id, None)
        yield _row(recorded, event, start)


def _row(recorded: "Recorded", event: LlmCall, start: LlmCallStarted | None) -> dict[str, Any]:
    asked = event.messages if isinstance(event, LlmCallCached) else start.messages if start else ()
    content = getattr(event, "content", None)
    crashed = isinstance(event, LlmCallCrashed)
    return {
        "call_id": event.call_id,
        "started_at": start.occurred_at if start else event.occurred_at,
        "ended_at": event.occurred_at,
        "status": getattr(event, "kind").rsplit(".", 1)[1],  # noqa: B009
        "provider": event.provider,
        "request_model": event.request_model,
        "latency_ms": getattr(event, "latency_ms", None),
        "cost_usd": getattr(event, "cost_usd", None),
        "error_type": "crashed" if crashed else getattr(event, "error_type", None),
        "error_message": getattr(event, "error_message", None),
        "user_id": event.user_id,
        "conversation_id": event.conversation_id,
        "prompt": _last_user_text(asked),
        "answer": None if content is None else text_of(content),
        "position": recorded.position,
    }


def _last_user_text(messages: tuple[Message, ...]) -> str | None:
    return next((m.text for m in reversed(messages) if m.role == "user"), None)
