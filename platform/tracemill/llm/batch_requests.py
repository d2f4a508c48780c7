"""The requests of a batch: held against the guard and the provider's limits, encoded, recorded.

All of it happens before anything is sent.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tracemill.errors import CallFailed, UsageError
from tracemill.events import BatchSubmitted, LlmCallStarted
from tracemill.llm import batch_results, providers
from tracemill.llm.batch_results import decisions
from tracemill.llm.batch_state import BatchState, state
from tracemill.llm.guard import Input, check_input, data_uris_by_digest
from tracemill.llm.providers import Adapter, Provider, Wire
from tracemill.llm.providers.batch import BatchAdapter, batch_adapter, label
from tracemill.messages import Asked, Request

if TYPE_CHECKING:
    from tracemill.llm.client import Client


class Work(NamedTuple):
    """Requests on their way to one model."""

    prefix: str
    model: str
    provider: Provider
    adapter: Adapter
    batches: BatchAdapter
    inputs: Sequence[Input]
    """The requests past the guard."""


def prepared(client: "Client", requests: Sequence[Request]) -> Work:
    """The requests, held against the guard, with the one model that all of them are for."""
    if not requests:
        raise UsageError("a batch needs at least one request")
    models = list(dict.fromkeys(request.model for request in requests))
    if len(models) > 1:
        raise UsageError(
            f"a batch is for one model, and these requests are for {len(models)}: "
            f"{', '.join(models[:5])}; submit a batch for each"
        )
    prefix, _, model = models[0].partition("/")
    provider = providers.find(prefix)
    if not model:
        raise CallFailed(
            "unknown_model", f"model {models[0]!r} names no model: write {prefix}/model"
        )
    batches = batch_adapter(prefix, provider)
    if len(requests) > batches.LIMITS.calls:
        raise _too_large(prefix, f"{batches.LIMITS.calls:,} calls, not {len(requests):,}")
    inputs = [_checked(client, number, one) for number, one in enumerate(requests, start=1)]
    return Work(prefix, model, provider, providers.adapter(provider), batches, inputs)


def _checked(client: "Client", number: int, request: Request) -> Input:
    """A request past the guard; what it blocks makes no batch."""
    if client.guard is None:
        return Input(request, data_uris_by_digest(request), (), None)
    checked = check_input(client.guard, request)
    if checked.blocked:
        raise CallFailed("guard", f"request {number:,}: {checked.blocked}")
    return checked


def encoded(work: Work, calls: Sequence[str]) -> tuple[Wire, list[bytes]]:
    """The calls as the provider wants them, and the request that the first would be alone."""
    items: list[bytes] = []
    size, limit = 0, work.batches.LIMITS.size_bytes
    for number, call_id in enumerate(calls):
        items.append(work.batches.item(call_id, _wire(work, number)))
        size += len(items[-1]) + 1
        if size > limit:
            raise _too_large(work.prefix, f"{limit:,} bytes, and request {number + 1:,} is beyond")
    return _wire(work, 0), items


def _wire(work: Work, number: int) -> Wire:
    alone = work.inputs[number].sent.model_copy(update={"stream": False})
    try:
        return work.adapter.chat(alone, work.model, work.provider)
    except CallFailed as error:
        raise CallFailed(error.error_type, f"request {number + 1:,}: {error}") from error


def _too_large(prefix: str, limit: str) -> CallFailed:
    return CallFailed(
        "request_too_large", f"a batch of {prefix} takes up to {limit}: submit several batches"
    )


def digest_of(requests: Sequence[Request]) -> str:
    """By which the same requests are known again."""
    digest = hashlib.sha256()
    for request in requests:
        # As ASCII: halves of characters, which the guard removes later, have no UTF-8.
        digest.update(json.dumps(request.model_dump(exclude_defaults=True)).encode() + b"\n")
    return digest.hexdigest()


def begin(
    client: "Client", batch_id: str, work: Work, calls: Sequence[str], digest: str
) -> BatchState:
    """Append the batch's first event."""
    event = BatchSubmitted(
        batch_id=batch_id,
        provider=work.provider.name,
        request_model=label(work.model),
        calls={call_id: call_id for call_id in calls},
        inputs={"prefix": work.prefix, "requests_sha256": digest},
    )
    client.log.append(event, expected={event.stream: 0})
    return state(client.log, batch_id)


def record(client: "Client", known: BatchState, work: Work, *, again: bool) -> None:
    """Append the start of every call that has none."""
    there = batch_results.begun_calls(client.log, known) if again else set[str]()
    pairs = zip(known.calls.values(), work.inputs, strict=True)
    new = ((call_id, one) for call_id, one in pairs if f"call:{call_id}" not in there)
    for chunk in batch_results.chunks(new):
        starts = [_started(known, call_id, one.logged) for call_id, one in chunk]
        decided = [event for call_id, one in chunk for event in decisions(call_id, one.decisions)]
        client.log.append([*starts, *decided], expected={event.stream: 0 for event in starts})


def _started(known: BatchState, call_id: str, request: Request) -> LlmCallStarted:
    asked = {name: getattr(request, name) for name in Asked.model_fields}
    return LlmCallStarted(
        **asked,
        call_id=call_id,
        provider=known.provider,
        request_model=known.model,
        batch_id=known.batch_id,
        causation_id=known.event_id,
    )
