"""What the log kept of calls, as requests that can be sent again: to another model, by another prompt.

A call that cannot be asked again is left out with its reason; one that was erased is refused.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill import prices
from tracemill.analysis.called import placed
from tracemill.errors import UsageError
from tracemill.events import LlmCall, LlmCallAborted, LlmCallFailed, LlmCallFinished, LlmCallStarted
from tracemill.llm.providers import PROVIDERS
from tracemill.llm.redaction import is_digest
from tracemill.llm.trained import is_trained
from tracemill.log.rows import recorded
from tracemill.messages import Asked, Request, Usage, text_of
from tracemill.pii import KINDS

if TYPE_CHECKING:
    from datetime import datetime

    from tracemill.log import EventLog

_PLACEHOLDER = re.compile("|".join(rf"\[{kind}\]" for kind in KINDS))
_STAYS = frozenset(Asked.model_fields) - {"metadata", "conversation_id", "key_id"}
_QUESTION = """
SELECT * FROM events
WHERE stream IN (SELECT 'call:' || unnest($ids::VARCHAR[]))
  AND position BETWEEN $low AND $high AND kind IN (
  'llm.call.started', 'llm.call.finished', 'llm.call.failed', 'llm.call.aborted',
  'llm.call.crashed', 'llm.call.cached')
ORDER BY position
"""


class Before(NamedTuple):
    """What came of a call when it was made."""

    call_id: str
    started: LlmCallStarted
    status: str
    answer: str | None
    """The text; None where there was none, or no whole one."""
    error_type: str | None
    latency_ms: float | None
    usage: Usage | None
    cost_usd: Decimal | None
    """By the prices of now, so that a new price does not look like another model."""
    redacted: bool
    """Whether placeholders stand in what was asked."""


class Found(NamedTuple):
    """Calls that can be asked again, and why others cannot."""

    calls: list[Before]
    left_out: dict[str, str]
    """Call -> reason."""


def find(log: "EventLog", ids: Sequence[str], now: "datetime") -> Found:
    """The calls of these ids, in their order.

    Raises `UsageError` where one is not in the log, or was erased.
    """
    rows = log.arrow(_QUESTION, placed(log, ids)).to_pylist()
    events: dict[str, list[Any]] = {}
    for row in rows:
        events.setdefault(str(row["stream"])[5:], []).append(recorded(row).event)
    _refuse(log, ids, events)
    calls, left_out = list[Before](), dict[str, str]()
    for call_id in ids:
        if why := _why_not(events[call_id]):
            left_out[call_id] = why
        else:
            calls.append(_before(call_id, *events[call_id], table=log.prices, now=now))
    return Found(calls, left_out)


def model_of(started: LlmCall) -> str:
    """The name by which a request reaches the model that a call reached."""
    if is_trained(started.request_model):
        return started.request_model
    texts = started.operation == "text_completion"
    for prefix, provider in PROVIDERS.items():
        same = provider.name == started.provider
        if same and texts == ("text_completion" in provider.quirks):
            return f"{prefix}/{started.request_model}"
    return f"{started.provider}/{started.request_model}"


def request_of(before: Before, model: str, metadata: Mapping[str, str]) -> Request:
    """What was asked, of this model, with these tags.

    It is no turn of its conversation and has no tags of before, so that neither changes by being
    looked at; its user stays, so that forgetting them finds it too.
    """
    asked = {name: getattr(before.started, name) for name in _STAYS}
    return Request(model=model, metadata=dict(metadata), **asked)


def _refuse(log: "EventLog", ids: Sequence[str], events: Mapping[str, Sequence[Any]]) -> None:
    if not ids:
        raise UsageError("no call is to be replayed: give a table of calls, or their ids")
    erased = [one for one in ids if any(event.erased for event in events.get(one, ()))]
    if erased:
        raise UsageError(
            f"{_counted(erased)} erased and cannot be replayed: {', '.join(erased[:5])}"
            f"{' ...' * (len(erased) > 5)}; leave {'it' if len(erased) == 1 else 'them'} out"
        )
    unknown = [one for one in ids if one not in events]
    if unknown:
        raise UsageError(
            f"the log at {log.folder} has no call {', '.join(unknown[:5])}"
            f"{' ...' * (len(unknown) > 5)}: tm.calls() lists the newest"
        )


def _counted(ids: Sequence[str]) -> str:
    return f"{len(ids):,} of the calls {'was' if len(ids) == 1 else 'were'}"


def _why_not(events: Sequence[Any]) -> str | None:
    started = next((one for one in events if isinstance(one, LlmCallStarted)), None)
    if started is None:
        return "answered by the cache: replay the call whose answer it is"
    if len(events) < 2:
        return "still running"
    if started.operation not in ("chat", "text_completion"):
        return f"of the operation {started.operation}: answers alone are compared"
    if "replay_of" in started.metadata:
        return "a replay itself"
    if not started.messages:
        return "no messages in the log"
    parts = [part for message in started.messages for part in message.parts]
    if any(map(is_digest, parts)):
        return "it holds a picture or a file, of which the log keeps the digest alone"
    return None


def _before(
    call_id: str, started: LlmCallStarted, end: Any, *, table: prices.Table, now: "datetime"
) -> Before:
    answer = text_of(end.content) if isinstance(end, LlmCallFinished) else ""
    usage = end.usage if isinstance(end, LlmCallFinished | LlmCallAborted) else None
    failed = end.error_type if isinstance(end, LlmCallFailed | LlmCallAborted) else None
    usd = None
    if isinstance(end, LlmCallFinished | LlmCallAborted):
        names, tier = (end.response_model, started.request_model), end.service_tier
        cost = prices.cost(started.provider, names, end.usage, now, service_tier=tier, table=table)
        usd = cost.usd
    return Before(
        call_id,
        started,
        end.kind.rpartition(".")[2],
        answer or None,
        failed,
        getattr(end, "latency_ms", None),
        usage,
        usd,
        _has_placeholders(started),
    )


def _has_placeholders(started: LlmCallStarted) -> bool:
    texts = [started.system or "", *(message.text for message in started.messages)]
    return any(map(_PLACEHOLDER.search, texts))
