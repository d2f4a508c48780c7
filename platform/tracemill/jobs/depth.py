"""How much waits, is under way, or was given up: for whoever watches the queue.

The queue, the leases and the few events of each job say it; no table of the log is asked.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from tracemill.jobs.jobs import Jobs
from tracemill.jobs.leases import Leases
from tracemill.jobs.queued import Ticket
from tracemill.telemetry.metrics import Queued


class Depth(NamedTuple):
    """Requests by where they stand."""

    waiting: int
    """The next worker that is free takes them."""
    put_off: int
    """To be tried again later."""
    under_way: int
    """Some worker has taken them."""
    parked: int
    """Given up, of jobs that have ended; `retry` begins them again."""
    jobs: int
    """Jobs that something of waits or is put off."""
    since: datetime | None
    """When the oldest of these was handed over, or begun again."""


def depth(jobs: Jobs) -> Depth:
    """How deep the queue is at this moment. Raises `QueueUnreachable`, `LogError`."""
    running = {job.id: job for job in jobs.known.open()}

    def is_current(ticket: Ticket) -> bool:
        job = running.get(ticket.job_id)
        return job is not None and job.round == ticket.round

    ready = [each for each in jobs.queue.ready() if is_current(each)]
    later = [each for each in jobs.queue.put_off() if is_current(each)]
    queued = {each.job_id for each in (*ready, *later)}
    taken = Leases(jobs.settings.jobs / "leases").taken()
    return Depth(
        waiting=sum(each.size for each in ready),
        put_off=sum(each.size for each in later),
        under_way=sum(len(each.open) for each in taken if is_current(each.ticket)),
        parked=sum(job.counts.parked for job in jobs.known.parked()),
        jobs=len(queued),
        since=min((running[job_id].round_at for job_id in queued), default=None),
    )


def figures(jobs: Jobs) -> Queued:
    """The same as `/metrics` has it. Raises as `depth` does."""
    found = depth(jobs)
    states = ("waiting", "put_off", "under_way", "parked")
    age_s = (datetime.now(UTC) - found.since).total_seconds() if found.since else 0.0
    return Queued({state: getattr(found, state) for state in states}, found.jobs, max(0.0, age_s))
