"""Where a job stands: the fold of its own few events, and counts over those of its requests."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tracemill.errors import UsageError
from tracemill.events import (
    JobCancelled,
    JobEnded,
    JobFilesDeleted,
    JobRetried,
    JobSubmitted,
    Recorded,
)

if TYPE_CHECKING:
    from tracemill.log import EventLog

State = Literal["queued", "running", "finished", "failed", "cancelled"]

_COUNTS = """
    SELECT split_part(stream, ':', 2) AS job_id, split_part(stream, ':', 3) AS round, kind, count(*) AS n
    FROM events
    WHERE kind IN ('job.item.finished', 'job.item.failed', 'job.item.parked')
      AND starts_with(stream, ?) AND split_part(stream, ':', 2) IN (SELECT unnest(?))
    GROUP BY ALL
"""


class Counts(NamedTuple):
    """Requests of a job by where they stand."""

    total: int
    done: int = 0
    """Answered."""
    failed: int = 0
    """Refused for good."""
    parked: int = 0
    """Given up after many tries; `retry` begins them again."""

    @property
    def open(self) -> int:
        """Without an end yet; of a cancelled job they never get one."""
        return self.total - self.done - self.failed - self.parked


@dataclass(frozen=True)
class Job:
    """A job as the log knows it."""

    id: str
    state: State
    counts: Counts
    priority: int
    name: str | None
    key_id: str | None
    callback_url: str | None
    created_at: datetime
    round_at: datetime
    """When it was handed over, or last begun again."""
    ended_at: datetime | None = None
    round: int = 1
    """One more each time that requests were begun again."""
    sha256: str = ""
    """Of the requests, to know them again."""
    has_files: bool = True
    """False once what was asked and answered was deleted."""
    version: int = 0
    """Of its stream."""
    again: tuple[int, ...] | None = field(default=None, repr=False)
    """The requests of this round; None: all."""

    @property
    def stream(self) -> str:
        return f"job:{self.id}"

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it by itself."""
        return self.state in ("finished", "failed", "cancelled")

    @property
    def may_retry(self) -> bool:
        """Whether what was given up can be begun again."""
        return self.state in ("finished", "failed") and self.has_files

    @property
    def round_total(self) -> int:
        """How many requests this round has."""
        return self.counts.total if self.again is None else len(self.again)


def fold(history: Iterable[Recorded]) -> Job | None:
    """The job that its events lead to; None where there are none. An open one has counts as of the
    last end."""
    job: Job | None = None
    for recorded in history:
        match recorded.event:
            case JobSubmitted() as event:
                job = _submitted(event)
            case event:
                job = _after(job, event) if job else None
        if job is not None:
            job = replace(job, version=recorded.version)
    return job


def _submitted(event: JobSubmitted) -> Job:
    return Job(
        id=event.job_id,
        state="queued",
        counts=Counts(event.total),
        priority=event.priority,
        name=event.name,
        key_id=event.key_id,
        callback_url=event.callback_url,
        created_at=event.occurred_at,
        round_at=event.occurred_at,
        sha256=event.sha256,
    )


def _after(job: Job, event: object) -> Job:
    match event:
        case JobCancelled() if not job.ended:
            return replace(job, state="cancelled", ended_at=event.occurred_at)
        case JobEnded() if not job.ended and event.round == job.round:
            counts = Counts(job.counts.total, event.done, event.failed, event.parked)
            return replace(job, state=event.outcome, ended_at=event.occurred_at, counts=counts)
        case JobRetried() if event.round == job.round + 1:
            counts = job.counts._replace(
                failed=job.counts.failed - event.failed, parked=job.counts.parked - event.parked
            )
            return replace(
                job,
                state="running",
                round_at=event.occurred_at,
                ended_at=None,
                counts=counts,
                round=event.round,
                again=event.items,
            )
        case JobFilesDeleted():
            return replace(job, has_files=False)
        case _:
            return job


class Known:
    """The jobs of a log, each read again when its stream has moved. Threads may share it."""

    def __init__(self, log: "EventLog") -> None:
        self._log = log
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._lasting: dict[str, Job] = {}

    def job(self, job_id: str, version: int | None = None) -> Job | None:
        """A job without its counts, in microseconds; None where there is none.

        `version` is that of its stream, where that was asked for already.
        """
        version = self._log.version(f"job:{job_id}") if version is None else version
        known = self._jobs.get(job_id)
        if version == 0 or (known is not None and known.version == version):
            return known
        job = fold(self._log.read(stream=f"job:{job_id}"))
        if job is not None:
            if len(self._jobs) > _MOST_KNOWN:
                self._jobs.clear()
            self._jobs[job_id] = job
        return job

    def all(self) -> Iterator[Job]:
        """All, without their counts, one after the other in memory."""
        for stream, version in self._log.versions("job:").items():
            if job := self.job(stream.removeprefix("job:"), version):
                yield job

    def open(self) -> list[Job]:
        """Those that have no end, the oldest first."""
        jobs = (job for job in self._read_on() if not job.ended)
        return sorted(jobs, key=lambda job: (job.created_at, job.id))

    def parked(self) -> list[Job]:
        """Those that have ended and of which something can be begun again."""
        return [job for job in self._read_on() if job.may_retry and job.counts.parked]

    def _read_on(self) -> list[Job]:
        """The jobs that something is to be done with. Of all others, a million of them, no more is
        kept in mind than how long their streams are."""
        with self._lock:
            for stream, version in self._log.versions("job:").items():
                if self._seen.get(stream) == version:
                    continue
                job = self.job(stream.removeprefix("job:"), version)
                if job is not None and (not job.ended or (job.may_retry and job.counts.parked)):
                    self._lasting[stream] = job
                else:
                    self._lasting.pop(stream, None)
                self._seen[stream] = version
            return list(self._lasting.values())


_MOST_KNOWN = 20_000


def counted(log: "EventLog", jobs: Sequence[Job]) -> list[Job]:
    """Jobs with the counts of this moment, and whether they have begun: one question for them all."""
    # Those of an end are in its event.
    asked = [job.id for job in jobs if job.state not in ("finished", "failed")]
    rows: dict[str, list[dict[str, Any]]] = {job_id: [] for job_id in asked}
    if asked:
        begin = f"job-item:{asked[0]}:" if len(asked) == 1 else "job-item:"
        for row in log.arrow(_COUNTS, [begin, asked]).to_pylist():
            rows[row["job_id"]].append(row)
    return [_with(log, job, rows[job.id]) if job.id in rows else job for job in jobs]


def _with(log: "EventLog", job: Job, rows: list[dict[str, Any]]) -> Job:
    last = {row["kind"]: row["n"] for row in rows if int(row["round"]) == job.round}
    every = sum(row["n"] for row in rows if row["kind"] == "job.item.finished")
    before = job.counts
    counts = Counts(
        before.total,
        every,
        before.failed + last.get("job.item.failed", 0),
        before.parked + last.get("job.item.parked", 0),
    )
    begun = job.state == "queued" and (counts.open < counts.total or tried(log, job.id))
    return replace(job, counts=counts, state="running" if begun else job.state)


def tried(log: "EventLog", job_id: str) -> bool:
    """Whether any request of a job was tried in vain."""
    return bool(log.versions(f"job-tries:{job_id}:"))


def missing(job_id: str) -> UsageError:
    """What to raise where there is no such job."""
    return UsageError(f"there is no job {job_id!r}: `tracemill jobs ls` lists them")
