"""What a trainer's answer adds to what is known of a fine-tune: pure functions that give events.

What a trainer says is cleaned on the way: numbers that are none, words that are no labels, personal
data in its messages.
"""

import hashlib
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal

from tracemill.events import (
    FineTuneCancelled,
    FineTuneCheckpointed,
    FineTuneCreated,
    FineTuneFailed,
    FineTunePaused,
    FineTuneProgressed,
    FineTuneResumed,
    FineTuneSucceeded,
    FineTuneUploaded,
    ModelRegistered,
)
from tracemill.events.finetunes import FineTune
from tracemill.finetune.job import ENDED, JobState, after
from tracemill.finetune.providers import Checkpoint, Events, Part, Remote, RemoteFile
from tracemill.llm.guard import redact_error

Under = Literal["validating", "queued", "running", "paused", "cancelling", "unknown"]
LONGEST_TEXT = 4_000
"""Characters of what a trainer said that are kept."""


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
            total_steps=_count(each.total_steps) or remote.total_steps or known.total_steps,
            epoch=remote.epoch if step is not None and step == remote.step else None,
            loss=_finite(each.loss),
            metrics=_numbers(each.metrics),
            messages=tuple(map(_text, each.messages)),
            cursor=label(each.cursor) if each.cursor else known.cursor,
        )
        for each in told
    ]


def _moved(known: JobState, remote: Remote, events: Sequence[FineTune]) -> list[FineTuneProgressed]:
    """What the job itself tells beyond what was said of it."""
    state, word = _under(known, remote)
    seen = known
    for event in events:
        seen = after(seen, event)
    if (remote.step or 0) < (seen.step or 0):
        # It told of the state before it told of the steps.
        remote = remote._replace(step=None, epoch=None, loss=None, metrics={})
    step = remote.step if remote.step is not None else seen.step
    total = remote.total_steps if remote.total_steps is not None else seen.total_steps
    epoch = remote.epoch if remote.epoch is not None else seen.epoch
    loss = remote.loss if remote.loss is not None else seen.loss
    metrics = _numbers(remote.metrics) or dict(seen.metrics)
    now, was = (step, total, epoch, loss), (seen.step, seen.total_steps, seen.epoch, seen.loss)
    told = (state, word, metrics), (seen.state, seen.raw_state, dict(seen.metrics))
    # An end has its own event, with its own metrics.
    if now == was and (remote.state in ENDED or told[0] == told[1]):
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


def _kept(known: JobState, checkpoints: Sequence[Checkpoint]) -> list[FineTuneCheckpointed]:
    there = {each.checkpoint_id for each in known.checkpoints}
    new = {label(each.checkpoint_id): each for each in checkpoints}
    return [
        FineTuneCheckpointed(
            job_id=known.job_id,
            checkpoint_id=checkpoint_id,
            step=each.step,
            metrics=_numbers(each.metrics),
        )
        for checkpoint_id, each in new.items()
        if checkpoint_id not in there
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
        loss=_finite(remote.loss),
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
