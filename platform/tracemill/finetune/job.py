"""How far a fine-tune is: the fold of its events, what is to be done next, and what is news.

Nothing here sends, reads or writes anything: after a crash at any point the log alone says where to
go on.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from math import isfinite
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
    ModelRegistered,
    Recorded,
    TrainingData,
)
from tracemill.events.finetunes import FineTune, Setting
from tracemill.finetune.providers import Checkpoint, Events, Part, Remote, RemoteFile, RemoteState
from tracemill.llm.guard import redact_error

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


# What is news


def uploaded(known: JobState, part: Part, file: RemoteFile) -> FineTuneUploaded:
    """The trainer has a file."""
    return FineTuneUploaded(
        job_id=known.job_id,
        part=part,
        remote_file_id=file.remote_file_id,
        sha256=file.sha256,
        rows=file.rows,
        size_bytes=file.size_bytes,
    )


def news(
    known: JobState,
    remote: Remote,
    said: Sequence[Events] = (),
    checkpoints: Sequence[Checkpoint] = (),
) -> list[FineTune]:
    """The events that a trainer's answer is worth, in order; empty where it says nothing new.

    Args:
        known: the job; what has ended stays as it is.
        remote: how far the trainer says it is.
        said: what it said since the cursor, oldest first.
        checkpoints: all that it has kept so far.
    """
    if known.ended:
        return []
    remote = _sound(remote)
    events: list[FineTune] = []
    if known.remote_id is None:
        events.append(
            FineTuneCreated(
                job_id=known.job_id,
                remote_id=label(remote.remote_id),
                raw_state=label(remote.raw_state),
            )
        )
    events += _stood(known, remote)
    events += _said(known, remote, said)
    events += _moved(known, remote, events)
    events += _kept(known, checkpoints)
    return events + _end(known, remote, checkpoints)


def stopping(known: JobState, remote: Remote, reason: str) -> list[FineTune]:
    """The news of a job that somebody stops: the reason is kept for its end."""
    if remote.state == "cancelling" and known.state != "cancelling":
        return [
            FineTuneProgressed(
                job_id=known.job_id,
                state="cancelling",
                raw_state=label(remote.raw_state),
                messages=(_text(reason),),
                cursor=known.cursor,
            )
        ]
    return news(known._replace(reason=_text(reason)), remote)


def failed(
    known: JobState, error_type: str, message: str, code: str | None = None
) -> FineTuneFailed:
    """The end of a job without a model."""
    return FineTuneFailed(
        job_id=known.job_id,
        error_type=label(error_type),
        error_message=_text(message),
        error_code=label(code) if code else None,
    )


def cancelled(known: JobState, reason: str) -> FineTuneCancelled:
    """The end of a job that somebody stopped."""
    return FineTuneCancelled(job_id=known.job_id, reason=_text(reason))


def registered(known: JobState, end: FineTuneSucceeded) -> ModelRegistered:
    """The version of a model that a job gave, with all that it was made of."""
    return ModelRegistered(
        name=known.name,
        digest=end.model_digest,
        model=end.model,
        provider=known.provider,
        base_model=known.base_model,
        method=known.method,
        job_id=known.job_id,
        dataset=known.dataset,
        dataset_digest=known.dataset_digest,
        split=known.training.split,
        training_sha256=known.training.sha256,
        rows=known.training.rows,
        metrics=end.metrics,
        size_bytes=end.size_bytes,
        training_cost_usd=end.cost_usd,
        actor=known.actor,
        causation_id=end.event_id,
    )


def _stood(known: JobState, remote: Remote) -> list[FineTune]:
    """Whether it stands still since, or goes on."""
    word = label(remote.raw_state)
    if remote.state == "paused" and known.state != "paused":
        return [FineTunePaused(job_id=known.job_id, raw_state=word)]
    if known.state == "paused" and remote.state in ("queued", "running", "validating"):
        return [FineTuneResumed(job_id=known.job_id, raw_state=word)]
    return []


def _said(known: JobState, remote: Remote, said: Sequence[Events]) -> list[FineTune]:
    told = [each for each in said if each.messages or each.step is not None or each.metrics]
    state, word = _under(known, remote)
    return [
        FineTuneProgressed(
            job_id=known.job_id,
            state=state,
            raw_state=word,
            step=known.step if (step := _count(each.step)) is None else step,
            total_steps=remote.total_steps or known.total_steps,
            loss=_finite(each.loss),
            metrics=_numbers(each.metrics),
            messages=tuple(map(_text, each.messages)),
            cursor=each.cursor or known.cursor,
        )
        for each in told
    ]


def _moved(known: JobState, remote: Remote, events: Sequence[FineTune]) -> list[FineTune]:
    """What the job itself tells beyond what was said of it."""
    state, word = _under(known, remote)
    seen = known
    for event in events:
        seen = _after(seen, event)
    step = remote.step if remote.step is not None else seen.step
    total = remote.total_steps if remote.total_steps is not None else seen.total_steps
    epoch = remote.epoch if remote.epoch is not None else seen.epoch
    loss = _finite(remote.loss) if remote.loss is not None else seen.loss
    metrics = _numbers(remote.metrics) or seen.metrics
    now = (step, total, epoch, loss, dict(metrics))
    if remote.state not in ENDED:
        now = (state, word, *now)
    was = (seen.step, seen.total_steps, seen.epoch, seen.loss, dict(seen.metrics))
    if remote.state not in ENDED:
        was = (seen.state, seen.raw_state, *was)
    if now == was:
        return []
    return [
        FineTuneProgressed(
            job_id=known.job_id,
            state=state,
            raw_state=word,
            step=step,
            total_steps=total,
            epoch=epoch,
            loss=loss,
            metrics=metrics,
            cursor=seen.cursor,
        )
    ]


def _kept(known: JobState, checkpoints: Sequence[Checkpoint]) -> list[FineTune]:
    there = {each.checkpoint_id for each in known.checkpoints}
    return [
        FineTuneCheckpointed(
            job_id=known.job_id,
            checkpoint_id=label(each.checkpoint_id),
            step=each.step,
            metrics=_numbers(each.metrics),
        )
        for each in checkpoints
        if label(each.checkpoint_id) not in there
    ]


def _end(known: JobState, remote: Remote, checkpoints: Sequence[Checkpoint]) -> list[FineTune]:
    match remote.state:
        case "succeeded" if remote.model:
            return [_succeeded(known, remote, remote.model)]
        case "succeeded":
            why = f"{known.provider} calls job {remote.remote_id} {remote.raw_state}, but no model"
            return [failed(known, "no_model", why)]
        case "failed":
            why = remote.error_message or f"{known.provider} says {remote.raw_state}, and not why"
            return [failed(known, "training_failed", why, remote.error_code)]
        case "cancelled":
            why = known.reason or f"{known.provider} says {remote.raw_state}"
            return [cancelled(known, why)]
        case _:
            return []


def _succeeded(known: JobState, remote: Remote, model: str) -> FineTuneSucceeded:
    """A provider's name stands for one version for ever, so its digest can stand in."""
    digest = remote.model_digest or hashlib.sha256(model.encode()).hexdigest()
    return FineTuneSucceeded(
        job_id=known.job_id,
        model=label(model),
        model_digest=label(digest),
        trained_tokens=remote.trained_tokens,
        cost_usd=remote.cost_usd,
        metrics=_numbers(remote.metrics),
        size_bytes=remote.size_bytes,
    )


def _under(known: JobState, remote: Remote) -> tuple[Under, str]:
    """The state and the word for what happened on the way; an end has an event of its own."""
    match remote.state:
        case "succeeded" | "failed" | "cancelled":
            return "running", known.raw_state or "running"
        case state:
            return state, label(remote.raw_state)


def label(text: str) -> str:
    """What of a trainer's word fits into a label of the log."""
    return "".join(letter for letter in text if letter.isprintable())[:200]


def _sound(remote: Remote) -> Remote:
    """An answer whose numbers the log can take."""
    cost = remote.cost_usd
    return remote._replace(
        step=_count(remote.step),
        total_steps=_count(remote.total_steps),
        trained_tokens=_count(remote.trained_tokens),
        size_bytes=_count(remote.size_bytes),
        epoch=None if (remote.epoch or 0) < 0 else _finite(remote.epoch),
        cost_usd=cost if cost is None or cost >= 0 else None,
    )


def _count(number: int | None) -> int | None:
    return number if number is not None and number >= 0 else None


def _text(text: str) -> str:
    return redact_error(text[:LONGEST_TEXT])


def _finite(number: float | None) -> float | None:
    return number if number is not None and isfinite(number) else None


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """A loss that has run away is no number, and the log takes none that is not."""
    return {label(name): value for name, value in metrics.items() if isfinite(value)}


# The fold


def fold(history: Iterable[Recorded]) -> JobState | None:
    """The state that a job's events lead to; None where there are none."""
    known: JobState | None = None
    for recorded in history:
        if isinstance(recorded.event, FineTuneRequested):
            known = _requested(recorded, recorded.event)
        elif known is not None and isinstance(recorded.event, FineTune):
            known = _after(known, recorded.event)._replace(version=recorded.version)
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
    *("deadline_at", "actor"),
)


def _after(known: JobState, event: FineTune) -> JobState:
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
