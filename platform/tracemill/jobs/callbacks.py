"""Telling an address that a job has ended: signed, at least once, within bounded time.

Only what the log has as ended is told, and what was told is in the log too. A message that is sent
again bears the same id, so that its receiver can let the second go.
"""

import ipaddress
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic_core import to_json

from tracemill.errors import NotDelivered, UsageError
from tracemill.events import JobCallbackTold
from tracemill.jobs.job import Job, Known, counted
from tracemill.log.turn import only_one
from tracemill.settings import Settings
from tracemill.webhooks import post, signature

if TYPE_CHECKING:
    from tracemill.log import EventLog

TIMEOUT_S = 10.0
"""For all of one attempt."""
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 4 * 3_600.0
MOST_ATTEMPTS = 12
"""They take about a day."""
_AT_ONCE = 8
_GROWTH = 3


class Allowed(NamedTuple):
    """What an address may be."""

    insecure: bool
    allow_private: bool
    timeout_s: float = TIMEOUT_S


def check(url: str, settings: Settings) -> None:
    """Refuse an address that nothing could be sent to; names are looked up when something is sent.

    Raises `UsageError`.
    """
    if settings.callback_secret is None:
        raise UsageError("callbacks are signed: set TRACEMILL_CALLBACK_SECRET first")
    signature.signed("", 0, b"", settings.callback_secret.get_secret_value())
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UsageError("callback_url cannot be read: write it as https://host/path") from None
    if parts.scheme not in ("http", "https") or not host or len(url) > 2_000:
        raise UsageError("callback_url is https://host/path, with at most 2,000 characters")
    if parts.username is not None or any(ord(each) < 33 or ord(each) > 126 for each in url):
        raise UsageError("callback_url holds a name and password, or characters that none has")
    if not settings.callback_private:
        _refuse_private(host, parts.scheme)


def _refuse_private(host: str, scheme: str) -> None:
    mend = "TRACEMILL_CALLBACK_PRIVATE=1 allows it"
    if scheme == "http":
        raise UsageError(f"callback_url is http://: take https://, or {mend}")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost" or host.endswith(".localhost"):
            raise UsageError(f"callback_url is this machine's own: {mend}") from None
        return
    if not address.is_global:
        raise UsageError(f"callback_url is an address of a private network: {mend}")


class Callbacks:
    """The callbacks of one log, remembered as far as they were read."""

    def __init__(self, log: "EventLog", settings: Settings, known: Known) -> None:
        self._log, self._settings, self._known = log, settings, known
        self._done: set[tuple[str, int]] = set()

    def tell(self, *, now: float | None = None) -> float | None:
        """Tell whom it is time to tell; seconds until the next, None where nothing is open.

        One process at a time: while another one tells, this one leaves it to that.
        """
        with only_one(self._settings.jobs / "callbacks.lock", wait=False) as alone:
            if not alone:
                return FIRST_WAIT_S
            now = time.time() if now is None else now
            due: list[tuple[Job, int]] = []
            waits: list[float] = []
            for job in self._untold():
                wait_s, attempt = self._next(job, now)
                if wait_s is None:
                    self._done.add((job.id, job.round))
                elif wait_s <= 0:
                    due.append((job, attempt))
                else:
                    waits.append(wait_s)
            if due:
                with ThreadPoolExecutor(_AT_ONCE, "tracemill callbacks") as pool:
                    list(pool.map(self._told, *zip(*due, strict=True)))
                waits.append(FIRST_WAIT_S)
        return min(waits, default=None)

    def _untold(self) -> list[Job]:
        return [
            job
            for job in self._known.all()
            if job.ended and job.callback_url and (job.id, job.round) not in self._done
        ]

    def _next(self, job: Job, now: float) -> tuple[float | None, int]:
        """Seconds until the next attempt, and which it is; None: there is none any more."""
        told = [
            recorded.event
            for recorded in self._log.read(stream=f"job-callback:{job.id}")
            if isinstance(recorded.event, JobCallbackTold) and recorded.event.round == job.round
        ]
        if any(event.delivered for event in told) or len(told) >= MOST_ATTEMPTS:
            return None, 0
        if not told:
            return 0.0, 1
        wait_s = min(FIRST_WAIT_S * _GROWTH ** (len(told) - 1), LONGEST_WAIT_S)
        return told[-1].occurred_at.timestamp() + wait_s - now, len(told) + 1

    def _told(self, job: Job, attempt: int) -> None:
        error: str | None = None
        try:
            self._post(job)
        except (NotDelivered, UsageError) as problem:
            error = str(problem)
        event = JobCallbackTold(
            job_id=job.id,
            round=job.round,
            about=_about(job),
            delivered=error is None,
            attempt=attempt,
            error_message=error,
        )
        self._log.append(event)

    def _post(self, job: Job) -> None:
        secret = self._settings.callback_secret
        if secret is None or job.callback_url is None:
            raise NotDelivered("TRACEMILL_CALLBACK_SECRET is not set where the worker runs")
        body = to_json(message(counted(self._log, [job])[0]))
        allowed = Allowed(self._settings.callback_private, self._settings.callback_private)
        # The time of this attempt: a receiver refuses what is old, and knows repeats by the id.
        headers = signature.signed(
            message_id(job), int(time.time()), body, secret.get_secret_value()
        )
        post.post(job.callback_url, body, allowed, headers)


def message_id(job: Job) -> str:
    """The same for each attempt; a round that is begun again has one of its own."""
    return f"{job.id}:{job.round}"


def message(job: Job) -> dict[str, object]:
    """What is told: how the job ended, not what was answered."""
    ended = job.ended_at or datetime.now(UTC)
    return {
        "type": f"job.{_about(job)}",
        "timestamp": ended.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {
            "job_id": job.id,
            "name": job.name,
            "state": job.state,
            "round": job.round,
            **job.counts._asdict(),
        },
    }


def _about(job: Job) -> Literal["finished", "failed", "cancelled"]:
    assert job.state in ("finished", "failed", "cancelled")
    return job.state
