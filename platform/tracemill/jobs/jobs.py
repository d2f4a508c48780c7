"""Jobs as everybody sees them: hand requests over, look, read the answers, give up, begin again.

What is acknowledged is on the disk: the requests in a file, that they are there in the log. The queue
is told last and may forget.
"""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError

from tracemill.errors import InputError, KeyReused, QueueUnreachable, UsageError, VersionConflict
from tracemill.events import (
    Happened,
    JobCancelled,
    JobEnded,
    JobFilesDeleted,
    JobRetried,
    JobSubmitted,
    new_id,
)
from tracemill.files import sync
from tracemill.jobs import callbacks, files
from tracemill.jobs.files import Item, Place
from tracemill.jobs.job import Counts, Job, Known, State, counted, missing
from tracemill.jobs.queued import LEAST_PRIORITY, MOST_PRIORITY, Queue, Ticket
from tracemill.messages import Request, Response
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

__all__ = ["Counts", "Failure", "Item", "Job", "Jobs", "Result", "State"]

MOST_IN_TICKET = 20
"""Requests that one process takes at once: whoever has a higher priority waits for so many."""
_TICKETS = 200  # of a job of middling size, so that all processes have something of it
_NAMESPACE = uuid.UUID("a6f4c0de-6d0b-5f0e-9a53-2f6c6f1f3f10")
_ENDS = """
    SELECT CAST(split_part(stream, ':', 4) AS INTEGER) AS index, kind, error_type, error_message,
      attempts, payload ->> '$.call_id' AS call_id, payload ->> '$.file' AS file,
      CAST(payload ->> '$.offset' AS BIGINT) AS offset,
      CAST(payload ->> '$.size_bytes' AS BIGINT) AS size_bytes
    FROM events
    WHERE kind IN ('job.item.finished', 'job.item.failed', 'job.item.parked')
      AND starts_with(stream, ?)
    QUALIFY row_number() OVER (PARTITION BY stream_index ORDER BY position DESC) = 1
    ORDER BY index
""".replace("stream_index", "split_part(stream, ':', 4)")
_LISTED = """
    SELECT job_id FROM queued_jobs
    WHERE ($state IS NULL OR state = $state) AND (
      $after IS NULL OR position < (SELECT position FROM queued_jobs WHERE job_id = $after))
    ORDER BY position DESC LIMIT $limit
"""


class Failure(NamedTuple):
    """Why a request has no answer."""

    error_type: str
    """As of `CallFailed`, or `erased`, `lost`, `budget_exceeded`, `internal_error`."""
    message: str
    attempts: int


@dataclass(frozen=True)
class Result:
    """What became of one request."""

    index: int
    """Counted from 0."""
    state: Literal["done", "failed", "parked", "open", "cancelled"]
    response: Response | None = None
    """The answer; None unless it is `done`, or where somebody was forgotten."""
    error: Failure | None = None
    call_id: str | None = None
    """The last call for it, in the log."""


class Jobs:
    """The jobs of one warehouse. Threads and processes may share it."""

    def __init__(self, log: "EventLog", settings: Settings) -> None:
        """Raises `UsageError`: `settings.queue` is no address."""
        self.log, self.settings = log, settings
        self.queue = Queue(settings)
        self.known = Known(log)

    def close(self) -> None:
        """Let go of the queue; the log stays open."""
        self.queue.close()

    def submit(
        self,
        requests: Iterable[Request | Item],
        *,
        priority: int = 0,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        key_id: str | None = None,
        name: str | None = None,
    ) -> Job:
        """Hand requests over; when it returns they survive any crash.

        Args:
            requests: 1 to 100,000; they are read one by one and never all in memory.
            priority: -100 to 100; higher goes first.
            callback_url: told once when the job has ended, signed.
            idempotency_key: a word of the caller's (per `key_id`): the same again with the same
                requests is the same job.
            name: what people call it.

        Raises `KeyReused`: the key came before with something else; `UsageError` for what cannot
        be; `LogError` where it cannot be written.
        """
        if not LEAST_PRIORITY <= priority <= MOST_PRIORITY:
            raise UsageError(
                f"priority is between {LEAST_PRIORITY} and {MOST_PRIORITY}, not {priority}"
            )
        if callback_url is not None:
            callbacks.check(callback_url, self.settings)
        job_id = _id_for(idempotency_key, key_id) if idempotency_key else new_id()
        aside = self.settings.jobs / f".{new_id()}.tmp"
        aside.mkdir(parents=True)
        try:
            written = files.write(aside / files.REQUESTS, requests)
            event = _submitted(
                job_id=job_id,
                name=name,
                priority=priority,
                callback_url=callback_url,
                key_id=key_id,
                idempotent=idempotency_key is not None,
                **written._asdict(),
            )
            with self._one_at_a_time(job_id, only=idempotency_key is not None):
                if before := self.known.job(job_id):
                    return self._same(before, event)
                self._keep(aside, job_id)
                self.log.append(event, expected={event.stream: 0}, durability="power")
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        job = self._read(job_id)
        self._queue(job, tickets(job))
        return job

    def get(self, job_id: str) -> Job:
        """A job, with the counts of this moment. Raises `UsageError`: there is none."""
        return counted(self.log, [self._read(job_id)])[0]

    def list(
        self, *, after: str | None = None, limit: int = 20, state: State | None = None
    ) -> list[Job]:
        """Jobs, the latest first; those behind the job `after`."""
        asked = {"after": after, "limit": max(1, min(limit, 1_000)), "state": state}
        found = self.log.arrow(_LISTED, asked).column("job_id").to_pylist()
        return counted(self.log, [self._read(str(job_id)) for job_id in found])

    def cancel(self, job_id: str) -> Job:
        """What has not begun will not; what runs is finished and recorded. One that has ended stays
        as it is. Raises `UsageError`: there is none."""
        while not (job := self._read(job_id)).ended:
            if self._appended(job, JobCancelled(job_id=job.id)):
                break
        return self.get(job_id)

    def retry(self, job_id: str, *, failed: bool = False) -> Job:
        """Begin again what was parked, and with `failed` also what was refused for good.

        Raises `UsageError`: there is no such job, it goes on, it was cancelled or its files are gone,
        or nothing is to be done.
        """
        job = self.get(job_id)
        _refuse_retry(job)
        kinds = ("job.item.parked", "job.item.failed") if failed else ("job.item.parked",)
        ends = self.log.arrow(_ENDS, [f"job-item:{job.id}:"]).to_pylist()
        chosen = [row for row in ends if row["kind"] in kinds]
        if not chosen:
            raise UsageError(f"job {job.id} has nothing that is parked; --failed takes the others")
        of = {kind: sum(row["kind"] == kind for row in chosen) for kind in kinds}
        event = JobRetried(
            job_id=job.id,
            round=job.round + 1,
            items=tuple(row["index"] for row in chosen),
            failed=of.get("job.item.failed", 0),
            parked=of["job.item.parked"],
        )
        if not self._appended(job, event):
            raise UsageError(f"job {job.id} was changed by somebody else: look at it again")
        job = self._read(job_id)
        self._queue(job, tickets(job))
        return self.get(job_id)

    def results(self, job_id: str) -> Iterator[Result]:
        """What became of each request, in their order; one answer is in memory at a time.

        Raises `UsageError`: there is no such job, or its files were deleted.
        """
        job = self._read(job_id)
        if not job.has_files:
            raise UsageError(f"the answers of job {job.id} were deleted")
        return self._results(job)

    def delete_files(self, job_id: str, *, reason: Literal["asked", "retention"] = "asked") -> Job:
        """Delete what was asked and answered. Raises `UsageError`: there is none, or it goes on."""
        job = self._read(job_id)
        if not job.ended:
            raise UsageError(f"job {job.id} goes on: cancel it first")
        if job.has_files and self._appended(job, JobFilesDeleted(job_id=job.id, reason=reason)):
            shutil.rmtree(self.settings.jobs / job.id, ignore_errors=True)
        return self.get(job_id)

    def delete_old(self, days: int, *, now: datetime | None = None, dry_run: bool = False) -> int:
        """Delete the files of jobs that ended `days` ago or earlier; returns how many jobs."""
        before = (now or datetime.now(UTC)) - timedelta(days=days)
        deleted = 0
        for job in self.known.all():
            if job.ended_at and job.has_files and job.ended_at <= before:
                deleted += 1
                if not dry_run:
                    self.delete_files(job.id, reason="retention")
        return deleted

    def close_if_done(self, job_id: str) -> Job | None:
        """Record the end of a job, where each of its requests has one; the job then, else None."""
        job = self.known.job(job_id)
        if job is None or job.ended:
            return None
        ended = self.log.versions(f"job-item:{job.id}:{job.round}:")
        if len(ended) < job.round_total:
            return None
        files.sync_answers(self.settings.jobs / job.id)
        counts = counted(self.log, [job])[0].counts
        event = JobEnded(
            job_id=job.id,
            outcome="finished" if counts.done else "failed",
            round=job.round,
            done=counts.done,
            failed=counts.failed,
            parked=counts.parked,
        )
        return self._read(job.id) if self._appended(job, event) else None

    # Parts

    def _read(self, job_id: str) -> Job:
        try:
            job = self.known.job(str(uuid.UUID(job_id)))
        except ValueError:
            job = None
        if job is None:
            raise missing(job_id)
        return job

    def _appended(self, job: Job, event: Happened) -> bool:
        try:
            self.log.append(event, expected={job.stream: job.version}, durability="power")
        except VersionConflict:
            return False
        return True

    def _one_at_a_time(self, job_id: str, *, only: bool) -> Any:
        """Two that come at once with one key must not write into one folder."""
        from contextlib import nullcontext

        from tracemill.log.turn import only_one

        if not only:
            return nullcontext()
        return only_one(self.settings.jobs / f"submit-{job_id[-2:]}.lock", wait=True)

    def _same(self, before: Job, event: JobSubmitted) -> Job:
        """The job that came before with this key, if it is the same."""
        asked = (event.sha256, event.priority, event.callback_url, event.name)
        if asked != (before.sha256, before.priority, before.callback_url, before.name):
            raise KeyReused(
                f"this idempotency key came before, for job {before.id}, with something else: "
                "take a new key for a new job"
            )
        return counted(self.log, [before])[0]

    def _keep(self, aside: Any, job_id: str) -> None:
        """Give the folder its name; one that a killed submitter left with this name goes."""
        folder = self.settings.jobs / job_id
        if folder.exists():
            shutil.rmtree(folder)
        sync(aside)
        os.rename(aside, folder)
        sync(self.settings.jobs)

    def _queue(self, job: Job, wanted: Iterable[Ticket]) -> None:
        """A queue that cannot be reached is mended later; what was said to the log holds."""
        try:
            self.queue.put(wanted, job.priority)
        except QueueUnreachable:
            return

    def _results(self, job: Job) -> Iterator[Result]:
        table = self.log.arrow(_ENDS, [f"job-item:{job.id}:"])
        again = frozenset(job.again or ()) if not job.ended else frozenset[int]()
        index = 0
        for batch in table.to_batches(max_chunksize=1_000):
            for row in batch.to_pylist():
                while index < row["index"]:
                    yield _unended(job, index)
                    index += 1
                index += 1
                reopened = row["index"] in again and row["kind"] != "job.item.finished"
                yield _unended(job, row["index"]) if reopened else self._result(job, row)
        for rest in range(index, job.counts.total):
            yield _unended(job, rest)

    def _result(self, job: Job, row: dict[str, Any]) -> Result:
        if row["kind"] != "job.item.finished":
            failure = Failure(row["error_type"], row["error_message"] or "", row["attempts"] or 0)
            state: Any = row["kind"].removeprefix("job.item.")
            return Result(row["index"], state, None, failure, row["call_id"])
        place = Place(row["file"], row["offset"], row["size_bytes"])
        try:
            response = files.answer(self.settings.jobs / job.id, place)
            failure = None if response else Failure("erased", "somebody was forgotten", 0)
        except InputError as error:
            response, failure = None, Failure("lost", str(error), 0)
        return Result(row["index"], "done", response, failure, row["call_id"])


def tickets(job: Job, wanted: Iterable[int] | None = None, *, alone: bool = False) -> list[Ticket]:
    """Requests as what the queue carries; all of the round, or those that are wanted, in order."""
    indices = wanted
    if indices is None:
        indices = range(job.counts.total) if job.again is None else sorted(job.again)
    most = 1 if alone else max(1, min(MOST_IN_TICKET, job.counts.total // _TICKETS))
    made: list[Ticket] = []
    for index in indices:
        last = made[-1] if made else None
        if last and index == last.first + last.size and last.size < most:
            made[-1] = last._replace(size=last.size + 1)
        else:
            made.append(Ticket(job.id, job.round, index, 1, alone))
    return made


def _unended(job: Job, index: int) -> Result:
    return Result(index, "cancelled" if job.state == "cancelled" else "open")


def _id_for(idempotency_key: str, key_id: str | None) -> str:
    """The same for the same, so that the log itself refuses a second job."""
    return str(uuid.uuid5(_NAMESPACE, f"{key_id or ''}\x1f{idempotency_key}"))


def _submitted(**fields: Any) -> JobSubmitted:
    try:
        return JobSubmitted(**fields)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise UsageError(f"a job's {first['loc'][0]}: {first['msg']}") from None


def _refuse_retry(job: Job) -> None:
    if job.state == "cancelled":
        raise UsageError(f"job {job.id} was cancelled: submit its requests anew")
    if not job.ended:
        raise UsageError(f"job {job.id} goes on: wait until it has ended, or cancel it")
    if not job.has_files:
        raise UsageError(f"the requests of job {job.id} were deleted")
