"""Events of jobs: many requests handed over at once, answered by workers, one result for each.

A job is a short stream that is kept; each of its requests has a stream for its one result, and one
for the tries before. What was asked and answered lies in files: events say where.
"""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label

Outcome = Literal["finished", "failed"]


class _OfJob(Happened):
    """What the events of one job share."""

    keep: ClassVar[bool] = True
    job_id: Id
    """The job."""

    @property
    def stream(self) -> str:
        return f"job:{self.job_id}"


class JobSubmitted(_OfJob):
    """Requests were handed over; they are on the disk."""

    kind: Literal["job.submitted"] = "job.submitted"
    name: Label | None = None
    """What people call it."""
    total: int = Field(ge=1)
    """How many requests."""
    size_bytes: int = Field(ge=1)
    """Of the file with the requests."""
    sha256: Label
    """Of that file as it was handed over, before anybody was forgotten."""
    priority: int = 0
    """Higher goes first."""
    callback_url: str | None = Field(default=None, max_length=2_000)
    """Told once when the job has ended."""
    key_id: Label | None = None
    """The key that it was handed over with."""
    idempotent: bool = False
    """Whether its id follows from a key of the caller's: the same again is the same job."""


class JobCancelled(_OfJob):
    """A job was given up: what had not begun will not."""

    kind: Literal["job.cancelled"] = "job.cancelled"


class JobEnded(_OfJob):
    """Each request of a job has its end. For one round this is said once."""

    kind: Literal["job.ended"] = "job.ended"
    outcome: Outcome
    """`failed`: no request was answered."""
    round: int = Field(ge=1)
    """1, and one more each time that requests were begun again."""
    done: int = Field(ge=0)
    """Requests that were answered."""
    failed: int = Field(ge=0)
    """Requests that were refused for good."""
    parked: int = Field(ge=0)
    """Requests that were given up after many tries."""


class JobRetried(_OfJob):
    """Requests of a job that had ended without an answer were begun again."""

    kind: Literal["job.retried"] = "job.retried"
    round: int = Field(ge=2)
    """The round that begins."""
    items: tuple[int, ...] = Field(min_length=1)
    """Which requests, counted from 0."""
    failed: int = Field(ge=0)
    """So many of them had been refused for good."""
    parked: int = Field(ge=0)
    """So many of them had been parked."""


class JobFilesDeleted(_OfJob):
    """What was asked and answered is gone; that it was stays in the log."""

    kind: Literal["job.files_deleted"] = "job.files_deleted"
    reason: Literal["asked", "retention"]
    """Why."""


class JobCallbackTold(Happened):
    """The address of a job was told of its end, or could not be."""

    kind: Literal["job.callback_told"] = "job.callback_told"
    keep: ClassVar[bool] = True
    job_id: Id
    """The job."""
    round: int = Field(ge=1)
    """The round that had ended."""
    about: Literal["finished", "failed", "cancelled"]
    """What was said. Of one round never two things are."""
    delivered: bool
    """Whether it was taken."""
    attempt: int = Field(ge=1)
    """Counted from 1."""
    error_message: str | None = None
    """Why it was not taken."""

    @property
    def stream(self) -> str:
        return f"job-callback:{self.job_id}"


class _OfItem(Happened):
    """What the events of one request share."""

    job_id: Id
    """The job."""
    round: int = Field(default=1, ge=1)
    """The round of the job."""
    index: int = Field(ge=0)
    """Which request, counted from 0."""
    call_id: Id | None = None
    """The last call that was made for it."""

    @property
    def stream(self) -> str:
        return item_stream(self.job_id, self.round, self.index)


class JobItemFinished(_OfItem):
    """A request has its answer."""

    kind: Literal["job.item.finished"] = "job.item.finished"
    attempts: int = Field(ge=1)
    """The try that brought it, counted from 1."""
    file: Label
    """Where the answer is, in the job's folder."""
    offset: int = Field(ge=0)
    """From this byte on."""
    size_bytes: int = Field(ge=1)
    """So many bytes."""


class _Unanswered(_OfItem):
    """What the ends without an answer share."""

    attempts: int = Field(ge=0)
    """How many tries there were."""
    error_type: Label
    """As of the call, or `erased`, `lost` ..."""
    error_message: str
    """In a sentence."""


class JobItemFailed(_Unanswered):
    """A request was refused for good: the same again would fail again."""

    kind: Literal["job.item.failed"] = "job.item.failed"


class JobItemParked(_Unanswered):
    """A request was given up: it failed too often, or its worker died with it again and again."""

    kind: Literal["job.item.parked"] = "job.item.parked"


class JobItemRetried(_OfItem):
    """A try brought no answer; there will be another one."""

    kind: Literal["job.item.retried"] = "job.item.retried"
    reason: Literal["failed", "lost"]
    """`lost`: the worker died while it was at it."""
    attempts: int = Field(ge=1)
    """How many tries there were, this one included."""
    error_type: Label
    """As of the call, or `lost`."""
    error_message: str
    """In a sentence."""
    wait_s: float = Field(ge=0)
    """Until the next try."""

    @property
    def stream(self) -> str:
        return tries_stream(self.job_id, self.round, self.index)


def item_stream(job_id: str, round_: int, index: int) -> str:
    """The stream of the one result of a request: at version 0 it has none yet."""
    return f"job-item:{job_id}:{round_}:{index}"


def tries_stream(job_id: str, round_: int, index: int) -> str:
    """The stream of the tries of a request that brought nothing: its version is their number."""
    return f"job-tries:{job_id}:{round_}:{index}"
