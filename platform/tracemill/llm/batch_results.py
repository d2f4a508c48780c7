"""The end of a batch's calls: each gets exactly one, whatever came back and how often we try.

What has an end already is passed over, so that collecting may be cut anywhere and done again, and
by two processes at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic_core import from_json, to_json

from tracemill import prices
from tracemill.errors import CallFailed, VersionConflict
from tracemill.events import GuardDecided, LlmCallFailed, LlmCallFinished
from tracemill.files import write_text_atomically
from tracemill.llm import providers
from tracemill.llm.batch_state import BatchState
from tracemill.llm.guard import Decision, Output, check_output, redact_error
from tracemill.llm.providers import Reply
from tracemill.llm.providers.batch import Outcome, Progress, batch_adapter, label
from tracemill.llm.providers.fields import decoded, malformed
from tracemill.messages import Json, Request, Usage, content_of

if TYPE_CHECKING:
    from tracemill.llm.client import Client
    from tracemill.log import EventLog

CHUNK = 500
"""Calls that are appended together."""
GIVEN_UP = {
    "refused": ("invalid_request", "the provider refused the batch"),
    "never_created": ("interrupted", "the batch was cancelled before the provider had it"),
    "abandoned": ("interrupted", "the batch was abandoned"),
}
"""Our words for the state of a batch that ended without the provider: type and sentence."""

T = TypeVar("T")
About = dict[str, dict[str, Any]]
"""Call to what its events have in common."""


class End(NamedTuple):
    """The end of a call, and what the guard said of its answer."""

    event: LlmCallFinished | LlmCallFailed
    decided: tuple[GuardDecided, ...] = ()


class Odd(NamedTuple):
    """A result that belongs to no call of the batch."""

    source: str
    """What was downloaded."""
    reason: str
    raw: str
    """The provider's own words."""


def end_calls(client: "Client", known: BatchState) -> list[Odd]:
    """Fetch the results and append an end for every call that has none; returns what was left."""
    running = running_calls(client.log, known)
    odd: list[Odd] = []
    for chunk in chunks(_ends(client, known, running, odd)):
        _append(client.log, chunk)
    fail_calls(client, known, running)
    return odd


def fail_calls(
    client: "Client", known: BatchState, running: About, error: CallFailed | None = None
) -> None:
    """Append a failure for each of the calls."""
    why = error or _without_result(known)
    for chunk in chunks(_failed(known, about, why) for about in running.values()):
        _append(client.log, chunk)


def running_calls(log: "EventLog", known: BatchState) -> About:
    """The calls that have begun and not ended, in the order of the requests."""
    rows = log.arrow(_RUNNING, [known.position, _streams(known)]).to_pylist()
    found = {
        row["stream"]: {
            **{name: row[name] for name in _SHARED},
            "metadata": from_json(row["metadata"] or "{}"),
        }
        for row in rows
    }
    return {
        call_id: {**found[f"call:{call_id}"], "call_id": call_id}
        for call_id in known.calls.values()
        if f"call:{call_id}" in found
    }


def begun_calls(log: "EventLog", known: BatchState) -> set[str]:
    """The streams of calls that have begun."""
    rows = log.arrow(_BEGUN, [known.position, _streams(known)])
    return {str(stream) for stream in rows.column("stream").to_pylist()}


def totals(log: "EventLog", known: BatchState) -> tuple[int, int]:
    """How many calls were answered, and how many ended otherwise."""
    rows = log.arrow(_ENDED, [known.position, _streams(known)]).to_pylist()
    finished = sum(row["calls"] for row in rows if row["kind"] == "llm.call.finished")
    return finished, sum(row["calls"] for row in rows) - finished


def decisions(call_id: str, made: Iterable[Decision]) -> tuple[GuardDecided, ...]:
    """What the guard decided, as events."""
    return tuple(GuardDecided(call_id=call_id, **one._asdict()) for one in made)


def _append(log: "EventLog", ends: Sequence[End]) -> None:
    """Append the ends of calls that have none yet."""
    left = {end.event.stream: end for end in ends}
    while left:
        events = [event for end in left.values() for event in (end.event, *end.decided)]
        try:
            log.append(events, expected=dict.fromkeys(left, 1))
        except VersionConflict as conflict:
            # Another process collects the same batch and was first with this one.
            del left[conflict.stream]
        else:
            return


def has_calls_of(client: "Client", known: BatchState, progress: Progress) -> bool:
    """Whether the results of a remote batch are of this batch's calls."""
    results = _downloaded(client, known, progress)
    return any(outcome.custom_id in known.calls for _, outcome in results)


def keep_odd(client: "Client", known: BatchState, odd: Sequence[Odd]) -> None:
    """Put results that belong to no call where the other refused records are."""
    if odd and client.settings:
        folder = client.settings.quarantine / "batches"
        text = "".join(f"{to_json(one._asdict()).decode()}\n" for one in odd)
        write_text_atomically(folder / f"{known.batch_id}.jsonl", text)


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """The items in lists of `CHUNK`, the last of them shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _ends(client: "Client", known: BatchState, running: About, odd: list[Odd]) -> Iterator[End]:
    """The ends that the results say; takes their calls out of `running`."""
    seen: set[str] = set()
    for source, outcome in outcomes(client, known):
        call_id = known.calls.get(outcome.custom_id or "")
        if call_id is None or call_id in seen:
            odd.append(Odd(source, _oddity(outcome, call_id), outcome.raw.decode(errors="replace")))
            continue
        seen.add(call_id)
        if about := running.pop(call_id, None):
            yield _end(client, known, about, outcome.end)


def outcomes(client: "Client", known: BatchState) -> Iterator[tuple[str, Outcome]]:
    """Every result of the batch with where it comes from."""
    if known.remote_id is None:
        return
    batches = batch_adapter(known.prefix, providers.find(known.prefix))
    told = client.exchange(known.prefix, batches.get(known.remote_id)).body
    yield from _downloaded(client, known, batches.read(read_json(told)))


def _downloaded(
    client: "Client", known: BatchState, progress: Progress
) -> Iterator[tuple[str, Outcome]]:
    provider = providers.find(known.prefix)
    batches, adapter = batch_adapter(known.prefix, provider), providers.adapter(provider)
    for wire in progress.downloads:
        body = client.exchange(known.prefix, wire).body
        for outcome in batches.outcomes(body, adapter, provider, list(known.calls)):
            yield wire.path, outcome


def _end(
    client: "Client", known: BatchState, about: dict[str, Any], end: Reply | CallFailed
) -> End:
    if isinstance(end, Reply):
        return _finished(client, known, about, end)
    return _failed(known, about, end)


def _finished(client: "Client", known: BatchState, about: dict[str, Any], reply: Reply) -> End:
    when = known.ended_at or datetime.now(UTC)
    model = label(reply.response_model or known.model)
    usage = reply.usage or Usage(estimated=True)
    names = (model, known.model)
    price = prices.cost(
        known.provider, names, usage, when, service_tier="batch", table=client.log.prices
    )
    checked = _checked(client, known, reply)
    event = LlmCallFinished(
        **_about(known, about, when),
        response_model=model,
        response_id=_optional(reply.response_id),
        request_id=_optional(reply.request_id),
        service_tier="batch",
        content=content_of(checked.logged.parts),
        refusal=checked.logged.refusal,
        finish_reasons=(reply.finish_reason,),
        raw_finish_reason=_optional(reply.raw_finish_reason),
        usage=usage,
        # Without the provider's counts nobody knows what it will ask for.
        cost_usd=price.usd if reply.usage else None,
        price_snapshot=price.snapshot if reply.usage else None,
    )
    return End(event, decisions(event.call_id, checked.decisions))


def _checked(client: "Client", known: BatchState, reply: Reply) -> Output:
    if client.guard is None:
        return Output(reply, reply, (), None, ())
    return check_output(client.guard, Request.of("", model=known.model), reply)


def _failed(known: BatchState, about: dict[str, Any], error: CallFailed) -> End:
    event = LlmCallFailed(
        **_about(known, about, known.ended_at or datetime.now(UTC)),
        error_type=label(error.error_type),
        error_message=redact_error(str(error)),
        error_code=_optional(error.code),
        status=error.status,
        request_id=_optional(error.request_id),
    )
    return End(event)


def _about(known: BatchState, about: dict[str, Any], when: datetime) -> Json:
    waited_s = (when - known.submitted_at).total_seconds()
    return {
        **about,
        "provider": known.provider,
        "request_model": known.model,
        "occurred_at": when,
        "latency_ms": max(waited_s * 1000, 0.0),
    }


def _without_result(known: BatchState) -> CallFailed:
    """Why a call of a batch that has ended has no result."""
    word = known.raw_state.lower()
    why = f": {known.error_message}" if known.error_message else ""
    if word in GIVEN_UP:
        kind, what = GIVEN_UP[word]
        return CallFailed(kind, f"{what}{why}", code=word)
    where = f"{known.provider} ended batch {known.remote_id} ({known.raw_state})"
    what = f"{where} without a result for this call{why}"
    if "expire" in word:
        return CallFailed("timeout", what, code=known.raw_state)
    if "cancel" in word:
        return CallFailed("interrupted", what, code=known.raw_state)
    kind = "invalid_request" if known.state == "failed" else "no_answer"
    return CallFailed(kind, what, code=known.raw_state)


def _oddity(outcome: Outcome, call_id: str | None) -> str:
    if call_id:
        return f"a second result for call {call_id}"
    if outcome.custom_id is None:
        told = str(outcome.end) if isinstance(outcome.end, CallFailed) else "it has no custom_id"
        return f"belongs to no call: {told}"
    return f"belongs to no call of this batch: custom_id {outcome.custom_id[:100]!r}"


def read_json(body: bytes) -> Any:
    """A parsed answer. Raises `CallFailed` (`malformed_response`)."""
    try:
        return decoded(body)
    except ValueError:
        raise malformed(f"the answer is not JSON: it begins with {body[:80]!r}") from None


def _streams(known: BatchState) -> list[str]:
    return [f"call:{call_id}" for call_id in known.calls.values()]


def _optional(text: str | None) -> str | None:
    return None if text is None else label(text)


_OF_BATCH = "FROM events WHERE position > ? AND stream IN (SELECT unnest(?::VARCHAR[]))"
_BEGUN = f"SELECT DISTINCT stream {_OF_BATCH}"
_RUNNING = f"""
SELECT
  stream,
  any_value(event_id) AS causation_id,
  any_value(conversation_id) AS conversation_id,
  any_value(user_id) AS user_id,
  any_value(prompt_name) AS prompt_name,
  any_value(prompt_version) AS prompt_version,
  any_value(key_id) AS key_id,
  any_value(payload -> '$.metadata')::VARCHAR AS metadata
{_OF_BATCH}
GROUP BY stream HAVING max(version) = 1
"""
_ENDED = f"SELECT kind, count(*) AS calls {_OF_BATCH} AND version = 2 GROUP BY kind"
_SHARED = (
    *("causation_id", "conversation_id", "user_id", "prompt_name", "prompt_version"),
    "key_id",
)
