"""How far a batch is: the fold of its events, and what a provider's answer adds to them.

Nothing here sends anything: after a crash at any point the log alone says where to go on.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracemill.errors import UsageError
from tracemill.events import BatchCollected, BatchProgressed, BatchSubmitted, Recorded
from tracemill.llm.providers.batch import Progress, State, label

if TYPE_CHECKING:
    from tracemill.log import EventLog


class BatchState(NamedTuple):
    """A batch as the log knows it."""

    batch_id: str
    """Ours."""
    prefix: str
    """The first part of its model's name, such as `openai-responses`."""
    provider: str
    model: str
    calls: Mapping[str, str]
    """`custom_id` to call, in the order of the requests."""
    requests_sha256: str
    """Of the requests, to know them again."""
    submitted_at: datetime
    position: int
    """Of its first event in the log."""
    event_id: str
    """Of its first event."""
    version: int
    """Of its stream."""
    state: State | Literal["submitted"] = "submitted"
    """`submitted` until the provider is known to have it."""
    raw_state: str = ""
    """The provider's word."""
    remote_id: str | None = None
    """The provider's id."""
    counts: Mapping[str, int] = {}
    """Calls by what became of them, in the provider's words."""
    error_message: str | None = None
    """Why it failed."""
    ended_at: datetime | None = None
    """When it was seen to have ended."""
    finished: int | None = None
    """Calls that were answered; None until all are collected."""
    failed: int | None = None
    """Calls that were not; None until all are collected."""

    @property
    def stream(self) -> str:
        return f"batch:{self.batch_id}"

    @property
    def ended(self) -> bool:
        """Nothing more will happen at the provider."""
        return self.state in ("ended", "failed")

    @property
    def collected(self) -> bool:
        """Every call has its end in the log."""
        return self.finished is not None


def state(log: "EventLog", batch_id: str) -> BatchState:
    """How far a batch is, as of the log. Raises `UsageError` where there is no such batch."""
    if known := begun(log, batch_id):
        return known
    raise UsageError(f"there is no batch {batch_id} in the log: `tracemill batches ls` lists them")


def begun(log: "EventLog", batch_id: str) -> BatchState | None:
    """As `state`, but None where there is no such batch."""
    return fold(log.read(stream=f"batch:{batch_id}"))


def states(log: "EventLog") -> list[BatchState]:
    """Every batch, oldest first."""
    query = "SELECT stream FROM events WHERE kind = 'llm.batch.submitted' ORDER BY position"
    streams = log.arrow(query).column("stream").to_pylist()
    return [state(log, str(stream).removeprefix("batch:")) for stream in streams]


def fold(history: Iterable[Recorded]) -> BatchState | None:
    """The state that a batch's events lead to; None where there are none."""
    known: BatchState | None = None
    for recorded in history:
        if isinstance(recorded.event, BatchSubmitted):
            known = _submitted(recorded, recorded.event)
        elif known is not None:
            known = after(known, recorded)
    return known


def after(known: BatchState, recorded: Recorded) -> BatchState:
    """The state after one more event. What ended does not begin again: pollers may be late."""
    known = known._replace(version=recorded.version)
    match recorded.event:
        case BatchProgressed() as event if not known.ended:
            return known._replace(
                state=event.state,
                raw_state=event.raw_state,
                remote_id=event.remote_id or known.remote_id,
                counts=event.counts or known.counts,
                error_message=event.error_message,
                ended_at=event.occurred_at if event.state in ("ended", "failed") else None,
            )
        case BatchCollected() as event:
            return known._replace(finished=event.finished, failed=event.failed)
        case _:
            return known


def news(known: BatchState, progress: Progress) -> BatchProgressed | None:
    """The event that a provider's answer is worth; None where it says nothing new."""
    word = label(progress.raw_state)
    told = (progress.remote_id, progress.state, word, progress.counts)
    if known.ended or told == (known.remote_id, known.state, known.raw_state, known.counts):
        return None
    return BatchProgressed(
        batch_id=known.batch_id,
        remote_id=progress.remote_id,
        state=progress.state,
        raw_state=word,
        counts=progress.counts,
        error_message=progress.error_message,
    )


def _submitted(recorded: Recorded, event: BatchSubmitted) -> BatchState:
    return BatchState(
        batch_id=event.batch_id,
        prefix=event.inputs.get("prefix", event.provider),
        provider=event.provider,
        model=event.request_model,
        calls=event.calls,
        requests_sha256=event.inputs.get("requests_sha256", ""),
        submitted_at=event.occurred_at,
        position=recorded.position,
        event_id=event.event_id,
        version=recorded.version,
    )
