"""Small logs for what notebooks ask: calls with every field that a question may be about."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tracemill.analysis.opened import Opened
from tracemill.events import Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.log import EventLog
from tracemill.messages import Message, Usage
from tracemill.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def opened(folder: Path, events: Sequence[Happened] = ()) -> Opened:
    """A warehouse with these events."""
    settings = Settings(warehouse=folder / "warehouse").create()
    log = EventLog.open(settings)
    log.append(events)
    return Opened(settings, log)


def call(
    prompt: str = "is it?",
    answer: str | None = "yes",
    *,
    error: str = "timeout",
    day: int = 0,
    model: str = "openai/gpt-5.4-mini",
    tokens: int = 1000,
    latency_ms: float = 100,
    call_id: str | None = None,
    asked: dict[str, Any] | None = None,
    **more: Any,
) -> list[Happened]:
    """A call and its end; without an answer it failed. `asked` goes to its start alone."""
    provider, _, name = model.rpartition("/")
    same: dict[str, Any] = {
        "call_id": call_id or new_id(),
        "provider": provider or "local",
        "request_model": name,
        "occurred_at": NOON + timedelta(days=day),
        **more,
    }
    started = LlmCallStarted(
        **{"messages": (Message(role="user", content=prompt),)} | (asked or {}), **same
    )
    if answer is None:
        end: Happened = LlmCallFailed(
            error_type=error, error_message="late", latency_ms=latency_ms, attempts=3, **same
        )
    else:
        end = LlmCallFinished(
            response_model=name,
            content=answer,
            finish_reasons=("stop",),
            usage=Usage(input_tokens=tokens, output_tokens=100),
            latency_ms=latency_ms,
            **same,
        )
    return [started, end]


def id_of(events: Sequence[Happened]) -> str:
    """Of the call that these events are of."""
    return str(getattr(events[0], "call_id"))  # noqa: B009
