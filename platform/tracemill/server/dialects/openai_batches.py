"""OpenAI's batches, over jobs: every line of a file is answered by workers (`tracemill worker`).

The answers are written to files when somebody first looks after the end. A batch does not expire.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple
from uuid import UUID

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.errors import VersionConflict
from tracemill.events import FileBatchRequested, FileBatchWritten, new_id
from tracemill.jobs.files import Requests
from tracemill.jobs.job import counted
from tracemill.jobs.jobs import Job, Result
from tracemill.messages import Json
from tracemill.server import files
from tracemill.server.dialects import openai_batches_lines as lines_of
from tracemill.server.dialects.forms import Loose
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.dialects.openai_pages import page
from tracemill.server.events import answer
from tracemill.server.files import Stored
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import Trouble, invalid

NAME = "openai-batch"
"""Of the jobs that are batches of this kind."""
_PREFIX = "batch_"
_SAME = timedelta(minutes=10)
_STREAM = "file_batch:"


class Body(Loose):
    """A file whose lines are to be answered."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=100)]
    endpoint: Annotated[str, Field(min_length=1, max_length=100)]
    completion_window: Literal["24h"]
    metadata: (
        Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None
    ) = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


class Known(NamedTuple):
    """A batch as the log has it."""

    asked: FileBatchRequested
    written: FileBatchWritten | None
    job: Job | None
    """None where lines were wrong, and where the job is gone."""

    @property
    def name(self) -> str:
        return _PREFIX + self.asked.batch_id


async def create(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Begin a batch; wrong lines fail it at once, and nothing is sent."""
    body = await asked.read(BODY)
    if body.endpoint not in lines_of.ENDPOINTS:
        known = " and ".join(lines_of.ENDPOINTS)
        raise invalid(f"endpoint: batches are of {known}, not {body.endpoint[:60]!r}", "endpoint")
    return answer(_told(await asyncio.to_thread(_begun, gateway, asked, body)))


def _begun(gateway: Gateway, asked: Incoming, body: Body) -> Known:
    key_id = asked.key.key_id if asked.key else None
    try:
        stored = files.find(gateway.log, gateway.settings, body.input_file_id, asked.key)
        path = files.bytes_of(gateway.settings, stored)
    except Trouble as none:
        raise invalid(f"input_file_id: {none.message}", "input_file_id") from None
    if stored.purpose != "batch":
        raise invalid(f"input_file_id: its purpose is {stored.purpose}", "input_file_id")
    if asked.headers.get("x-stainless-retry-count", "0") != "0":
        # An SDK that did not hear our answer sends the same again.
        for known in _all(gateway, asked):
            if _is_same(known.asked, stored, body):
                return _counted(gateway, [known])[0]
    errors, total = lines_of.wrong(gateway, asked, path, body.endpoint)
    job = None
    if not errors:
        found = lines_of.items(gateway, asked, path, body.endpoint)
        job = gateway.jobs.submit(found, key_id=key_id, name=NAME)
    event = FileBatchRequested(
        batch_id=job.id if job else new_id(),
        input_file_id=stored.file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        total=total,
        job_id=job.id if job else None,
        errors=tuple(errors),
        metadata=body.metadata or {},
        key_id=key_id,
        correlation_id=asked.request_id,
    )
    gateway.log.append(event, expected={event.stream: 0})
    return Known(event, None, job)


def _is_same(event: FileBatchRequested, stored: Stored, body: Body) -> bool:
    same = (event.input_file_id, event.endpoint) == (stored.file_id, body.endpoint)
    return (
        same
        and event.metadata == (body.metadata or {})
        and event.occurred_at > datetime.now(UTC) - _SAME
    )


async def retrieve(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """How far a batch is."""

    def look() -> Known:
        return _settled(gateway, *_counted(gateway, [_find(gateway, asked)]))

    return answer(_told(await asyncio.to_thread(look)))


async def listed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The batches of the key, newest first."""

    def look() -> Json:
        found = page(_all(gateway, asked), asked, lambda each: each.name, lambda each: each)
        here = _counted(gateway, found["data"])
        return {**found, "data": [_told(_settled(gateway, each)) for each in here]}

    return answer(await asyncio.to_thread(look))


async def cancel(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Give a batch up: what has not begun will not."""

    def stop() -> Known:
        known = _find(gateway, asked)
        if known.job is None or known.job.ended:
            raise invalid(f"{known.name} has ended: there is nothing to cancel")
        return known._replace(job=gateway.jobs.cancel(known.job.id))

    return answer(_told(await asyncio.to_thread(stop)))


def _find(gateway: Gateway, asked: Incoming) -> Known:
    name = asked.path["batch_id"]
    try:
        batch_id = str(UUID(name.removeprefix(_PREFIX))) if name.startswith(_PREFIX) else None
    except ValueError:
        batch_id = None
    known = _known(gateway, batch_id) if batch_id else None
    if known is None or not _sees(asked, known):
        raise Trouble(404, "not_found", f"there is no batch {name[:100]}", param="batch_id")
    return known


def _all(gateway: Gateway, asked: Incoming) -> list[Known]:
    ids = (stream.removeprefix(_STREAM) for stream in gateway.log.versions(_STREAM))
    known = (_known(gateway, batch_id) for batch_id in ids)
    seen = [each for each in known if each is not None and _sees(asked, each)]
    return sorted(seen, key=lambda each: each.asked.occurred_at, reverse=True)


def _sees(asked: Incoming, known: Known) -> bool:
    key = asked.key
    return key is None or key.admin or known.asked.key_id == key.key_id


def _known(gateway: Gateway, batch_id: str) -> Known | None:
    begun: FileBatchRequested | None = None
    written: FileBatchWritten | None = None
    for recorded in gateway.log.read(stream=_STREAM + batch_id):
        match recorded.event:
            case FileBatchRequested() as event:
                begun = event
            case FileBatchWritten() as event:
                written = event
            case _:
                pass
    if begun is None:
        return None
    job = gateway.jobs.known.job(begun.job_id) if begun.job_id else None
    return Known(begun, written, job)


def _counted(gateway: Gateway, batches: Sequence[Known]) -> list[Known]:
    """Batches with the counts of their jobs."""
    jobs = {job.id: job for job in counted(gateway.log, [b.job for b in batches if b.job])}
    return [each._replace(job=jobs[each.job.id]) if each.job else each for each in batches]


# The answers as files


class _Sums:
    """What the answers of a batch come to."""

    def __init__(self) -> None:
        self.done = self.failed = self.read = self.written = 0


def _settled(gateway: Gateway, known: Known) -> Known:
    """The batch with its answers in files, once its job has ended."""
    job = known.job
    if known.written is not None or job is None or not job.ended or not job.has_files:
        return known
    sums = _Sums()
    output = _file(gateway, known, job, "output", lambda each: each.state == "done", sums)
    failed = _file(gateway, known, job, "error", lambda each: each.state != "done", sums)
    event = FileBatchWritten(
        batch_id=known.asked.batch_id,
        output_file_id=output.file_id if output else None,
        error_file_id=failed.file_id if failed else None,
        done=sums.done,
        failed=sums.failed,
        input_tokens=sums.read,
        output_tokens=sums.written,
    )
    try:
        gateway.log.append(event, expected={event.stream: 1})
    except VersionConflict:
        # Somebody else looked at the same moment, and was first.
        for stored in (output, failed):
            if stored:
                files.delete(gateway.log, gateway.settings, stored)
        there = _known(gateway, known.asked.batch_id)
        return there._replace(job=job) if there else known
    return known._replace(written=event)


def _file(
    gateway: Gateway,
    known: Known,
    job: Job,
    kind: str,
    wanted: Callable[[Result], bool],
    sums: _Sums,
) -> Stored | None:
    """The lines that are wanted as a file; None where there is none."""
    counts = job.counts
    if not (counts.done if kind == "output" else counts.total - counts.done):
        return None

    def write(path: Path) -> None:
        requests = Requests(gateway.settings.jobs / job.id)
        with path.open("wb") as file:
            for result in gateway.jobs.results(job.id):
                if wanted(result):
                    _write(file, result, requests, known.asked.endpoint, sums)

    name = f"{known.name}_{kind}.jsonl"
    return files.made(
        gateway.log, gateway.settings, name, "batch_output", write, known.asked.key_id
    )


def _write(file: BinaryIO, result: Result, requests: Requests, url: str, sums: _Sums) -> None:
    file.write(lines_of.line_of(lines_of.written(result, requests.item(result.index), url)))
    if result.state == "done":
        sums.done += 1
    else:
        sums.failed += 1
    if result.response is not None:
        sums.read += result.response.usage.input_tokens
        sums.written += result.response.usage.output_tokens


# As clients have it


def _told(known: Known) -> Json:
    asked, job, written = known.asked, known.job, known.written
    status = _status(known)
    ended = _seconds(job.ended_at) if job else None
    errors = [each.model_dump() for each in asked.errors]
    return {
        "id": known.name,
        "object": "batch",
        "endpoint": asked.endpoint,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": files.PREFIX + asked.input_file_id,
        "completion_window": asked.completion_window,
        "status": status,
        "output_file_id": _file_id(written and written.output_file_id),
        "error_file_id": _file_id(written and written.error_file_id),
        "created_at": _seconds(asked.occurred_at),
        "in_progress_at": _seconds(asked.occurred_at) if job else None,
        "expires_at": None,
        "finalizing_at": ended if status in {"finalizing", "completed"} else None,
        "completed_at": ended if status == "completed" else None,
        "failed_at": _seconds(asked.occurred_at) if status == "failed" else None,
        "expired_at": None,
        "cancelling_at": ended if status == "cancelled" else None,
        "cancelled_at": ended if status == "cancelled" else None,
        "request_counts": {
            "total": asked.total if job else 0,
            "completed": job.counts.done if job else 0,
            "failed": job.counts.failed + job.counts.parked if job else 0,
        },
        "usage": _usage(written),
        "metadata": asked.metadata,
    }


def _status(known: Known) -> str:
    job = known.job
    if job is None:
        return "failed"
    if not job.ended:
        return "in_progress"
    if job.state == "cancelled":
        return "cancelled"
    return "completed" if known.written or not job.has_files else "finalizing"


def _usage(written: FileBatchWritten | None) -> Json | None:
    if written is None:
        return None
    return {
        "input_tokens": written.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": written.input_tokens + written.output_tokens,
    }


def _file_id(file_id: str | None) -> str | None:
    return files.PREFIX + file_id if file_id else None


def _seconds(at: datetime | None) -> int | None:
    return int(at.timestamp()) if at else None


_PATH = "/v1/batches"
ROUTES = (
    Route("POST", _PATH, create, OPENAI, "batches", "Have every line of a file answered.", BODY),
    Route("GET", _PATH, listed, OPENAI, "batches", "The batches of the key."),
    Route("GET", _PATH + "/{batch_id}", retrieve, OPENAI, "batches", "How far a batch is."),
    Route("POST", _PATH + "/{batch_id}/cancel", cancel, OPENAI, "batches", "Give a batch up."),
)
