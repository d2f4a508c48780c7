"""The doctor's checks of jobs: whether the queue can be read, whether somebody works, what was given up."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.operations.seen import Fault, Seen, several
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.jobs.jobs import Jobs

PATIENCE_S = 60.0
"""A worker may take so long to start."""
_NONE = Seen("no job yet")


def queue(settings: Settings) -> Seen:
    """It can be read, and how much it holds."""
    from tracemill.jobs.depth import depth

    def look(jobs: "Jobs") -> Seen:
        found = depth(jobs)
        told = f"{found.jobs:,} jobs wait, with {found.waiting:,} requests"
        more = [(found.put_off, "put off until later"), (found.under_way, "under way")]
        return Seen(", ".join([told, *(f"{number:,} {what}" for number, what in more if number)]))

    return _looked(settings, look)


def workers(settings: Settings) -> Seen:
    """Somebody does what waits: a worker, or a server that has started one."""
    from tracemill.jobs.leases import Leases

    def look(jobs: "Jobs") -> Seen:
        works = Leases(settings.jobs / "leases").is_anybody_there()
        going = jobs.known.open()
        if works or not going:
            return Seen("working" if works else "nobody works, and nothing waits")
        waited_s = (datetime.now(UTC) - min(job.round_at for job in going)).total_seconds()
        detail = f"nobody works, and {len(going):,} jobs are open, the oldest for {_span(waited_s)}"
        if waited_s < PATIENCE_S:
            return Seen(detail)
        return Seen(detail, odd=True, mend="`tracemill worker`, or `tracemill serve`, does them")

    return _looked(settings, look)


def parked(settings: Settings) -> Seen:
    """Requests that were given up after many tries, and can be begun again."""

    def look(jobs: "Jobs") -> Seen:
        found = jobs.known.parked()
        if not found:
            return Seen("no request was given up")
        given_up = sum(job.counts.parked for job in found)
        detail = f"{given_up:,} requests were given up, of {several([job.id for job in found])}"
        return Seen(
            detail, odd=True, mend=f"`tracemill jobs retry {found[0].id}` begins them again"
        )

    return _looked(settings, look)


def _looked(settings: Settings, look: "Callable[[Jobs], Seen]") -> Seen:
    from tracemill.jobs.jobs import Jobs
    from tracemill.jobs.queued import FILE
    from tracemill.log import EventLog

    if not settings.log.is_dir() or not settings.jobs.is_dir():
        return _NONE
    if not settings.queue:
        # Before it is opened: who opens one that is damaged puts an empty one in its place.
        _readable(settings.jobs / FILE)
    with EventLog.open(settings) as log, closing(Jobs(log, settings)) as jobs:
        return look(jobs)


def _readable(path: Path) -> None:
    import sqlite3

    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            problem = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        problem = str(error)
    if problem != "ok":
        raise Fault(
            f"{path} cannot be read: {problem}",
            f"rm {path}*: the next worker makes it anew from the log",
        )


def _span(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 7_200 else f"{seconds / 3_600:,.0f} h"
