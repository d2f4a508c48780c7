"""How far a fine-tune is, and what is to be done next: the fold of its events decides both.

Nothing here sends anything: after a crash at any point the log alone says where to go on.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracemill.errors import UsageError
from tracemill.events import (
    FineTuneCancelled,
    FineTuneCheckpointed,
    FineTuneCreated,
    FineTuneFailed,
    FineTunePaused,
    FineTuneProgressed,
    FineTuneRequested,
    FineTuneResumed,
    FineTuneSucceeded,
    FineTuneUploaded,
    FineTuneValidated,
    Recorded,
    TrainingData,
)
from tracemill.events.finetunes import FineTune, Setting
from tracemill.finetune.providers import Checkpoint, Part, RemoteState

if TYPE_CHECKING:
    from tracemill.log import EventLog

State = Literal["requested", "validated", "created"] | RemoteState
Under = Literal["validating", "queued", "running", "paused", "cancelling", "unknown"]
ENDED = ("succeeded", "failed", "cancelled")
LONGEST_TEXT = 4_000
"""Characters of what a trainer said that are kept."""


class JobState(NamedTuple):
    """A fine-tune as the log knows it."""

    job_id: str
    name: str
    """Of the model."""
    provider: str
    base_model: str
    method: Literal["classify", "lm", "supervised", "dpo"]
    hyperparameters: Mapping[str, Setting]
    seed: int
    suffix: str | None
    command: tuple[str, ...]
    dataset: str
    dataset_digest: str
    training: TrainingData
    validation: TrainingData | None
    idempotency_key: str
    deadline_at: datetime
    requested_at: datetime
    actor: str | None
    position: int
    """Of its first event in the log."""
    version: int
    """Of its stream."""
    key_id: str | None = None
    """The key that it was asked for with."""
    metadata: Mapping[str, str] = {}
    """Tags of whoever asked."""
    state: State = "requested"
    """`requested`, `validated` and `created` are ours; the others are what the trainer told."""
    raw_state: str = ""
    """The trainer's word."""
    estimated_cost_usd: Decimal | None = None
    estimated_tokens: int | None = None
    warnings: Mapping[str, int] = {}
    """Codes of `tracemill validate`, and how often."""
    files: Mapping[Part, str] = {}
    """Which files the trainer has, by its ids."""
    remote_id: str | None = None
    """The trainer's id of the job; None until it is known to have it."""
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    metrics: Mapping[str, float] = {}
    messages: tuple[str, ...] = ()
    """What the trainer said last."""
    cursor: str | None = None
    """Where its list of events was read to."""
    checkpoints: tuple[Checkpoint, ...] = ()
    model: str | None = None
    """Its name for `Request.model`."""
    model_digest: str | None = None
    trained_tokens: int | None = None
    cost_usd: Decimal | None = None
    size_bytes: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_code: str | None = None
    reason: str | None = None
    """Why it is being cancelled, or was."""
    updated_at: datetime | None = None
    """When it was last heard of."""
    ended_at: datetime | None = None
    trouble: str | None = None
    """Why the last attempt to go on came to nothing; it may be repeated. Not in the log."""

    @property
    def stream(self) -> str:
        return f"finetune:{self.job_id}"

    @property
    def ended(self) -> bool:
        """Nothing more will happen."""
        return self.state in ENDED


class Action(NamedTuple):
    """What is to be done next."""

    kind: Literal["validate", "upload", "create", "poll", "expire", "none"]
    part: Part | None = None
    """What to upload."""


def state(log: "EventLog", job_id: str) -> JobState:
    """How far a job is, as of the log. Raises `UsageError` where there is no such job."""
    if known := fold(log.read(stream=f"finetune:{job_id}")):
        return known
    raise UsageError(
        f"there is no fine-tune {job_id} in the log: `tracemill finetune ls` lists them"
    )


def states(log: "EventLog") -> list[JobState]:
    """Every job, oldest first."""
    query = "SELECT stream FROM events WHERE kind = 'finetune.requested' ORDER BY position"
    streams = log.arrow(query).column("stream").to_pylist()
    return [state(log, str(stream).removeprefix("finetune:")) for stream in streams]


# What is to be done


def next_action(known: JobState, now: datetime) -> Action:
    """What takes a job further. One whose state is `unknown` is asked after, and never begun anew."""
    if known.ended:
        return Action("none")
    if now >= known.deadline_at:
        return Action("expire")
    if known.remote_id is not None:
        return Action("poll")
    if known.state == "requested":
        return Action("validate")
    if "training" not in known.files:
        return Action("upload", "training")
    if known.validation is not None and "validation" not in known.files:
        return Action("upload", "validation")
    return Action("create")


# The fold


def fold(history: Iterable[Recorded]) -> JobState | None:
    """The state that a job's events lead to; None where there are none."""
    known: JobState | None = None
    for recorded in history:
        if isinstance(recorded.event, FineTuneRequested):
            known = _requested(recorded, recorded.event)
        elif known is not None and isinstance(recorded.event, FineTune):
            known = after(known, recorded.event)._replace(version=recorded.version)
    return known


def _requested(recorded: Recorded, event: FineTuneRequested) -> JobState:
    return JobState(
        **{name: getattr(event, name) for name in _ASKED},
        requested_at=event.occurred_at,
        updated_at=event.occurred_at,
        position=recorded.position,
        version=recorded.version,
    )


_ASKED = (
    *("job_id", "name", "provider", "base_model", "method", "hyperparameters", "seed", "suffix"),
    *("command", "dataset", "dataset_digest", "training", "validation", "idempotency_key"),
    *("deadline_at", "actor", "key_id", "metadata"),
)


def after(known: JobState, event: FineTune) -> JobState:
    """The state after one more event. What ended does not begin again: pollers may be late."""
    if known.ended:
        return known
    known = known._replace(updated_at=event.occurred_at)
    match event:
        case FineTuneValidated():
            return known._replace(
                state="validated",
                warnings=event.issues,
                estimated_tokens=event.trained_tokens,
                estimated_cost_usd=event.estimated_cost_usd,
            )
        case FineTuneUploaded():
            return known._replace(files={**known.files, event.part: event.remote_file_id})
        case FineTuneCreated():
            return known._replace(
                state="created", remote_id=event.remote_id, raw_state=event.raw_state
            )
        case FineTunePaused():
            return known._replace(state="paused", raw_state=event.raw_state)
        case FineTuneResumed():
            return known._replace(state="running", raw_state=event.raw_state)
        case FineTuneCheckpointed():
            kept = Checkpoint(event.checkpoint_id, event.step, event.metrics)
            return known._replace(checkpoints=(*known.checkpoints, kept))
        case FineTuneProgressed():
            return _progressed(known, event)
        case _:
            return _ended(known, event)


def _progressed(known: JobState, event: FineTuneProgressed) -> JobState:
    told = {
        name: value
        for name in ("step", "total_steps", "epoch", "loss", "cursor")
        if (value := getattr(event, name)) is not None
    }
    stopping = event.state == "cancelling" and known.state != "cancelling" and event.messages
    return known._replace(
        state=event.state,
        raw_state=event.raw_state,
        metrics=event.metrics or known.metrics,
        messages=event.messages or known.messages,
        reason=event.messages[-1] if stopping else known.reason,
        **told,
    )


def _ended(known: JobState, event: FineTune) -> JobState:
    known = known._replace(raw_state="")
    match event:
        case FineTuneSucceeded():
            return known._replace(
                state="succeeded",
                model=event.model,
                model_digest=event.model_digest,
                trained_tokens=event.trained_tokens,
                cost_usd=event.cost_usd,
                metrics=event.metrics or known.metrics,
                size_bytes=event.size_bytes,
                ended_at=event.occurred_at,
            )
        case FineTuneFailed():
            return known._replace(
                state="failed",
                error_type=event.error_type,
                error_message=event.error_message,
                error_code=event.error_code,
                ended_at=event.occurred_at,
            )
        case FineTuneCancelled():
            return known._replace(
                state="cancelled", reason=event.reason, ended_at=event.occurred_at
            )
        case _:
            return known
