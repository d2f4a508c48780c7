"""Putting back what was lost: what the log says is not done, and that nobody has and no queue holds.

A worker that dies takes with it what it had popped from the queue. The log and the leases of the
living say what that was. Everything here may be cut anywhere and be done again.
"""

import uuid
from typing import NamedTuple

from tracemill.errors import VersionConflict
from tracemill.events import JobItemParked, JobItemRetried
from tracemill.events.jobs import item_stream, tries_stream
from tracemill.jobs.job import Job
from tracemill.jobs.jobs import Jobs, tickets
from tracemill.jobs.leases import Leases, Lost

MOST_DEATHS = 2
"""A request that was being done when so many workers died is parked."""
_NAMESPACE = uuid.UUID("0c9d0f2e-2f0e-5a52-8f7b-53b7a1b1c9d4")


class Mended(NamedTuple):
    """What was put back."""

    lost: int = 0
    """Requests that processes which are gone had taken."""
    parked: int = 0
    """Of those, such as have now cost too many workers."""
    missing: int = 0
    """Requests that were in no queue."""
    closed: tuple[Job, ...] = ()
    """Jobs whose end nobody had recorded."""


def bury(jobs: Jobs, leases: Leases) -> Mended:
    """Put back what processes that are gone had taken, and count their deaths."""
    put_back = parked = 0
    with jobs.queue.locked(), leases.lost() as lost:
        for each in lost:
            job = jobs.known.job(each.ticket.job_id)
            if job is None or job.ended or each.ticket.round != job.round:
                continue
            again, gone = _sorted(jobs, job, each)
            parked += gone
            suspects = [index for index in again if index in each.begun or each.ticket.alone]
            others = [index for index in again if index not in suspects]
            jobs.queue.put(tickets(job, others), job.priority)
            jobs.queue.put(tickets(job, suspects, alone=True), job.priority)
            put_back += len(again)
    return Mended(lost=put_back, parked=parked)


def mend(jobs: Jobs, leases: Leases) -> Mended:
    """`bury`, and put back what neither a queue nor a worker has: a queue that was deleted is made
    anew, and what a submitter did not come to queue is queued."""
    buried = bury(jobs, leases)
    with jobs.queue.locked():
        queued = {ticket.job_id for ticket in jobs.queue.tickets()}
        # A job that anybody is at will be looked at when it comes to a halt.
        halted = [j for j in jobs.known.open() if j.id not in queued and not leases.any(j.id)]
        missing = sum(_mended(jobs, job) for job in halted)
    closed = (jobs.close_if_done(job.id) for job in halted)
    return buried._replace(missing=missing, closed=tuple(job for job in closed if job))


def promote(jobs: Jobs) -> None:
    """Queue what was put off until now."""
    with jobs.queue.locked():
        for ticket in jobs.queue.due():
            job = jobs.known.job(ticket.job_id)
            if job is not None and not job.ended:
                jobs.queue.put([ticket], job.priority)


def _mended(jobs: Jobs, job: Job) -> int:
    """Queue all of a job that has no end; nothing of it is queued or being done."""
    done = jobs.log.versions(f"job-item:{job.id}:{job.round}:")
    if len(done) >= job.round_total:
        return 0
    ended = {int(stream.rpartition(":")[2]) for stream in done}
    wanted = range(job.counts.total) if job.again is None else sorted(job.again)
    lacking = [index for index in wanted if index not in ended]
    deadly = _deadly(jobs, job)
    rest = [index for index in lacking if index not in deadly]
    suspects = [index for index in lacking if index in deadly]
    jobs.queue.put(tickets(job, rest), job.priority)
    jobs.queue.put(tickets(job, suspects, alone=True), job.priority)
    return len(lacking)


def _sorted(jobs: Jobs, job: Job, each: Lost) -> tuple[list[int], int]:
    """What is to be done again of what a process had taken, and how much was parked instead."""
    again: list[int] = []
    parked = 0
    for index in each.open:
        if jobs.log.version(item_stream(job.id, job.round, index)):
            continue
        if index in each.begun and _died(jobs, job, index, each.process):
            parked += 1
        else:
            again.append(index)
    return again, parked


def _died(jobs: Jobs, job: Job, index: int, process: str) -> bool:
    """Record that a process died while it was at a request; True where that was once too often."""
    stream = tries_stream(job.id, job.round, index)
    tries = jobs.log.version(stream)
    deaths = {process, *(_deaths(jobs, stream) if tries else ())}
    # The id follows from what it tells: whoever is cut off here and begins again counts it once.
    event_id = str(uuid.uuid5(_NAMESPACE, f"{process}.{job.id}.{job.round}.{index}"))
    if len(deaths) >= MOST_DEATHS:
        event = JobItemParked(
            event_id=event_id,
            job_id=job.id,
            round=job.round,
            index=index,
            attempts=tries + 1,
            error_type="lost",
            error_message=f"{len(deaths)} workers died while they were at it",
        )
    else:
        event = JobItemRetried(
            event_id=event_id,
            job_id=job.id,
            round=job.round,
            index=index,
            actor=process,
            reason="lost",
            attempts=tries + 1,
            error_type="lost",
            error_message="its worker died while it was at it",
            wait_s=0,
        )
    try:
        # A death that is known already stays what it is.
        expected = {event.stream: 0} if isinstance(event, JobItemParked) else None
        jobs.log.append(event, expected=expected)
    except VersionConflict:
        return False
    return isinstance(event, JobItemParked)


def _deaths(jobs: Jobs, stream: str) -> set[str]:
    """The processes that died at a request."""
    events = [recorded.event for recorded in jobs.log.read(stream=stream)]
    tried = [event for event in events if isinstance(event, JobItemRetried)]
    return {event.actor or event.event_id for event in tried if event.reason == "lost"}


def _deadly(jobs: Jobs, job: Job) -> set[int]:
    """Requests of this round that a worker has died with."""
    prefix = f"job-tries:{job.id}:{job.round}:"
    if not jobs.log.versions(prefix):
        return set()
    query = """
        SELECT DISTINCT CAST(split_part(stream, ':', 4) AS INTEGER) AS index FROM events
        WHERE kind = 'job.item.retried' AND error_type = 'lost' AND starts_with(stream, ?)
    """
    return {row["index"] for row in jobs.log.arrow(query, [prefix]).to_pylist()}
