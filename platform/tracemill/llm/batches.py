"""Batches of calls that are answered within a day at half the price: submit, poll, collect.

Every step is an event, so that each function here may be cut anywhere and be called again: it goes
on from what the log and the provider know. One process at a time should submit one batch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from tracemill.errors import CallFailed, UsageError, VersionConflict
from tracemill.events import (
    BatchCollected,
    BatchProgressed,
    new_id,
)
from tracemill.llm import batch_find, batch_results, providers
from tracemill.llm.batch_requests import Work, begin, digest_of, encoded, prepared, record
from tracemill.llm.batch_results import read_json
from tracemill.llm.batch_state import BatchState, begun, news, state, states
from tracemill.llm.guard import redact_error
from tracemill.llm.providers import Reply, Wire
from tracemill.llm.providers.batch import BatchAdapter, Progress, batch_adapter
from tracemill.messages import Request

if TYPE_CHECKING:
    from tracemill.llm.client import Client

__all__ = [
    "BatchState",
    "Collected",
    "abandon",
    "answers",
    "cancel",
    "collect",
    "poll",
    "state",
    "states",
    "submit",
    "wait",
]

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 300.0
"""Between two questions for the state; the wait grows by half each time."""

_REFUSALS = {
    "authentication",
    "billing",
    "content_filter",
    "context_length_exceeded",
    "invalid_request",
    "missing_key",
    "not_found",
    "permission_denied",
    "request_too_large",
    "unknown_provider",
}
"""Errors after which there certainly is no batch, and sending the same again would not help."""


class Collected(NamedTuple):
    """What came of a batch."""

    finished: int
    """Calls that were answered."""
    failed: int
    """Calls that were not."""
    unknown: tuple[str, ...] = ()
    """Results that belong to no call, with the reason; they lie in the quarantine."""


def submit(client: "Client", requests: Sequence[Request], *, batch_id: str | None = None) -> str:
    """Hand requests to their provider as one batch; returns our id of it.

    The log knows of the batch and of each call before anything is sent. If this is cut, or the
    provider cannot be reached, call it again with the same requests and the `batch_id`: a batch
    that the provider has already is found and not made twice.

    Args:
        requests: to one model of a provider with batches, at least one; they are not streamed.
        batch_id: a UUID; a new one by default.

    Raises `UsageError` for requests that make no batch, and `CallFailed`: `invalid_request`,
    `request_too_large` or `guard` before anything is recorded; what the provider says, when every
    call of a refused batch is recorded as failed; `conflict` where it cannot be told yet whether
    the provider has the batch (Anthropic keeps no name of ours).
    """
    batch_id = _uuid(batch_id) if batch_id else new_id()
    work = prepared(client, requests)
    digest = digest_of(requests)
    before = begun(client.log, batch_id)
    if before and before.requests_sha256 != digest:
        raise UsageError(
            f"batch {batch_id} was submitted with other requests: leave out batch_id for a new one"
        )
    if before and before.remote_id:
        return batch_id
    if before and before.ended:
        raise UsageError(
            f"batch {batch_id} ended before {before.prefix} had it ({before.raw_state}): "
            "leave out batch_id for a new one"
        )
    calls = list(before.calls) if before else [new_id() for _ in requests]
    sample, items = encoded(work, calls)
    known = before or begin(client, batch_id, work, calls, digest)
    record(client, known, work, again=before is not None)
    if before is None or _adopted(client, before).remote_id is None:
        _create(client, known, work, sample, items)
    return batch_id


def poll(client: "Client", batch_id: str) -> BatchState:
    """Ask the provider how far a batch is; what is new goes to the log.

    A batch that is not known to be there is looked for. Raises `CallFailed`; a batch that the
    provider does not know (`not_found`) stays as it is until `abandon` ends it.
    """
    known = state(client.log, batch_id)
    if known.ended:
        return known
    if known.remote_id is None:
        return _adopted(client, known)
    wire = _batches(known).get(known.remote_id)
    return _noted(client, known, _progress(client, known, wire))


def wait(
    client: "Client",
    batch_id: str,
    *,
    timeout_s: float = 86_400.0,
    pause: Callable[[float], object] = time.sleep,
) -> BatchState:
    """Poll until a batch has ended, its state is not known, or time is up; returns its state.

    A provider that cannot be reached for a while is asked again; other errors are raised.
    """
    until = time.monotonic() + timeout_s
    wait_s = FIRST_WAIT_S
    while True:
        try:
            known = poll(client, batch_id)
        except CallFailed as error:
            known = state(client.log, batch_id)
            if not error.retry:
                raise
        left_s = until - time.monotonic()
        if known.ended or known.state == "unknown" or left_s <= 0:
            return known
        pause(min(wait_s, left_s))
        wait_s = min(wait_s * 1.5, LONGEST_WAIT_S)


def cancel(client: "Client", batch_id: str) -> BatchState:
    """Ask the provider to stop a batch; what it has answered by then can be collected.

    A batch that never reached the provider ends here.
    """
    known = poll(client, batch_id)
    if known.ended:
        return known
    if known.remote_id is None:
        return _given_up(client, known, "never_created")
    try:
        client.exchange(known.prefix, _batches(known).cancel(known.remote_id))
    except CallFailed:
        # Providers refuse to stop what has just ended.
        if (known := poll(client, batch_id)).ended:
            return known
        raise
    return poll(client, batch_id)


def collect(client: "Client", batch_id: str) -> Collected:
    """Fetch the results of a batch that has ended, and end each of its calls in the log, once.

    May be cut and called again; a batch that is collected already is not fetched again. Calls
    without a result are failed. Raises `UsageError` while the batch runs.
    """
    known = poll(client, batch_id)
    if known.finished is not None and known.failed is not None:
        return Collected(known.finished, known.failed)
    odd = batch_results.end_calls(client, _ended(known))
    batch_results.keep_odd(client, known, odd)
    return _closed(client, known, tuple(f"{one.source}: {one.reason}" for one in odd))


def answers(client: "Client", batch_id: str) -> Iterator[tuple[str, Reply | CallFailed]]:
    """The results of a batch that has ended, call by call, as the provider gives them.

    The log keeps of them what the guard lets it keep; this is for who needs them whole. Providers
    give them for some weeks, in any order; calls without a result are left out.
    """
    known = _ended(poll(client, batch_id))
    for _, outcome in batch_results.outcomes(client, known):
        if call_id := known.calls.get(outcome.custom_id or ""):
            yield call_id, outcome.end


def abandon(client: "Client", batch_id: str) -> Collected:
    """End a batch and its calls in the log without asking the provider, such as one that it lost."""
    known = state(client.log, batch_id)
    if not known.ended:
        known = _given_up(client, known, "abandoned")
    batch_results.fail_calls(client, known, batch_results.running_calls(client.log, known))
    return _closed(client, known)


# Submitting


def _uuid(batch_id: str) -> str:
    try:
        return str(UUID(batch_id))
    except ValueError:
        raise UsageError(f"batch_id {batch_id!r} is no UUID: leave it out for a new one") from None


def _create(
    client: "Client", known: BatchState, work: Work, sample: Wire, items: list[bytes]
) -> None:
    """Make the remote batch. The last request is sent once only: a second would be a second batch."""
    file_id = None
    try:
        if hasattr(work.batches, "upload"):
            wire = work.batches.upload(known.batch_id, items)
            file_id = work.batches.read_upload(read_json(client.exchange(work.prefix, wire).body))
        wire = work.batches.create(known.batch_id, items, sample, file_id)
        _noted(client, known, _progress(client, known, wire, retry=False))
    except CallFailed as error:
        raise _not_created(client, known, error) from error


def _not_created(client: "Client", known: BatchState, error: CallFailed) -> CallFailed:
    """What to raise after a failure; where it is final, every call ends here."""
    if error.error_type in _REFUSALS and not error.retry:
        known = _given_up(client, known, "refused", str(error))
        running = batch_results.running_calls(client.log, known)
        batch_results.fail_calls(client, known, running, error)
        _closed(client, known)
        return error
    return CallFailed(
        error.error_type,
        f"it is not known whether {known.prefix} has batch {known.batch_id}: {error}; submit the "
        f"same requests again with batch_id={known.batch_id!r} to go on",
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        retry=True,
        retry_after_s=error.retry_after_s,
    )


# Finding again


def _adopted(client: "Client", known: BatchState) -> BatchState:
    """The state, with the remote batch if the provider has one of ours that the log missed."""
    found = batch_find.found(client, known)
    return _noted(client, known, found) if found else known


# Noting


def _progress(client: "Client", known: BatchState, wire: Wire, *, retry: bool = True) -> Progress:
    answer = client.exchange(known.prefix, wire, retry=retry)
    return _batches(known).read(read_json(answer.body))


def _noted(client: "Client", known: BatchState, progress: Progress) -> BatchState:
    event = news(known, progress)
    return known if event is None else _appended(client, known, event)


def _given_up(client: "Client", known: BatchState, word: str, why: str | None = None) -> BatchState:
    event = BatchProgressed(
        batch_id=known.batch_id,
        remote_id=known.remote_id,
        state="failed",
        raw_state=word,
        error_message=why,
    )
    return _appended(client, known, event)


def _appended(client: "Client", known: BatchState, event: BatchProgressed) -> BatchState:
    if event.error_message:
        clean = redact_error(event.error_message)
        event = event.model_copy(update={"error_message": clean})
    client.log.append(event)
    return state(client.log, known.batch_id)


def _closed(client: "Client", known: BatchState, unknown: tuple[str, ...] = ()) -> Collected:
    """Record that every call has its end."""
    finished, failed = batch_results.totals(client.log, known)
    event = BatchCollected(batch_id=known.batch_id, finished=finished, failed=failed)
    while not (now := state(client.log, known.batch_id)).collected:
        with suppress(VersionConflict):
            client.log.append(event, expected={event.stream: now.version})
    return Collected(finished, failed, unknown)


def _ended(known: BatchState) -> BatchState:
    if known.ended:
        return known
    raise UsageError(
        f"batch {known.batch_id} is {known.state}: "
        f"`tracemill batches wait {known.batch_id}` waits for it"
    )


def _batches(known: BatchState) -> BatchAdapter:
    return batch_adapter(known.prefix, providers.find(known.prefix))
