"""Anthropic's message batches, over jobs: many requests handed over at once, their results as lines.

The name that a request has in its batch is a tag of its call. A batch ends when workers have answered
it (`tracemill worker`), or when it is cancelled; it does not expire.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic_core import to_json
from starlette.responses import Response as HttpResponse

from tracemill.errors import CallFailed, UsageError
from tracemill.jobs.files import Item, Requests
from tracemill.jobs.jobs import Job, Result
from tracemill.messages import Json
from tracemill.server import trouble
from tracemill.server.dialects.anthropic import ANTHROPIC, error
from tracemill.server.dialects.anthropic_body import Body
from tracemill.server.dialects.anthropic_messages import message, prepared
from tracemill.server.dialects.forms import Loose
from tracemill.server.events import Events, answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.items import item_of
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid, missing

NAME = "anthropic-batch"
"""Of the jobs that are batches of this kind."""
_TAG = "custom_id"
_PREFIX = "msgbatch_"
_LINES = 50  # results that are read at once


class One(Loose):
    """A request of a batch."""

    custom_id: Annotated[str, Field(min_length=1, max_length=64)]
    params: Body


class Batch(Loose):
    """Requests that are handed over together."""

    requests: Annotated[list[One], Field(min_length=1, max_length=100_000)]


BATCH: TypeAdapter[Batch] = TypeAdapter(Batch)


async def create(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A new batch."""
    batch = await asked.read(BATCH)
    names = {one.custom_id for one in batch.requests}
    if len(names) < len(batch.requests):
        raise invalid("requests: each custom_id may occur once", "requests")
    key = asked.key

    def submit() -> Job:
        # All are made before the first is written: one that is wrong refuses the batch.
        items = [_item(gateway, asked, one, number) for number, one in enumerate(batch.requests)]
        return gateway.jobs.submit(items, key_id=key.key_id if key else None, name=NAME)

    return answer(_told(await asyncio.to_thread(submit), asked))


def _item(gateway: Gateway, asked: Incoming, one: One, number: int) -> Item:
    try:
        return item_of(*prepared(gateway, asked, one.params), {_TAG: one.custom_id})
    except trouble.Trouble as wrong:
        wrong.args = (f"requests.{number}.params.{wrong.message}",)
        wrong.message = wrong.args[0]
        raise


async def retrieve(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A batch."""
    return answer(_told(await _found(gateway, asked), asked))


async def listed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Batches, the latest first."""
    given = asked.query.get("limit") or "20"
    if not given.isdecimal() or not 1 <= int(given[:9]) <= 1000:
        raise invalid("limit: it is a number from 1 to 1000", "limit")
    limit = int(given)
    after, before = asked.query.get("after_id"), asked.query.get("before_id")
    found = await asyncio.to_thread(lambda: list(_page(gateway, asked, after, before, limit + 1)))
    page = found[-limit:] if before else found[:limit]
    data = [_told(job, asked) for job in page]
    return answer(
        {
            "data": data,
            "has_more": len(found) > limit,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }
    )


async def cancel(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Give a batch up: what has not begun will not."""
    job = await _found(gateway, asked)
    return answer(_told(await asyncio.to_thread(gateway.jobs.cancel, job.id), asked))


async def delete(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Delete what a batch asked and was answered."""
    job = await _found(gateway, asked)
    await asyncio.to_thread(gateway.jobs.delete_files, job.id)
    return answer({"id": _PREFIX + job.id, "type": "message_batch_deleted"})


async def results(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The results of a batch that has ended, one a line."""
    job = await _found(gateway, asked)
    if not job.ended:
        raise missing(f"batch {_PREFIX}{job.id} goes on: its results come when it has ended")
    lines = _lines(gateway, job, asked.request_id)
    return Events(lines, {"content-type": "application/x-jsonl"})


async def _lines(gateway: Gateway, job: Job, request_id: str) -> AsyncGenerator[bytes]:
    told = await asyncio.to_thread(lambda: iter(_results(gateway, job, request_id)))

    def some() -> bytes:
        return b"".join(line for _, line in zip(range(_LINES), told, strict=False))

    while piece := await asyncio.to_thread(some):
        yield piece


def _results(gateway: Gateway, job: Job, request_id: str) -> Iterator[bytes]:
    requests = Requests(gateway.settings.jobs / job.id)
    for result in gateway.jobs.results(job.id):
        item = requests.item(result.index)
        name = item.request.metadata.get(_TAG, "") if item else ""
        yield to_json({"custom_id": name, "result": _result(result, item, request_id)}) + b"\n"


def _result(result: Result, item: Item | None, request_id: str) -> Json:
    if result.response is not None and item is not None:
        return {"type": "succeeded", "message": message(result.response, item.request)}
    if result.state in {"open", "cancelled"}:
        return {"type": "canceled"}
    why = result.error
    kind, words = (why.error_type, why.message) if why else ("erased", "somebody was forgotten")
    failed = trouble.of(CallFailed(kind, words))
    return {"type": "errored", "error": error(failed, request_id)}


async def _found(gateway: Gateway, asked: Incoming) -> Job:
    """The batch that a path names. Raises `Trouble` (404): there is none, or it is another key's."""
    name = asked.path["batch_id"]
    try:
        job = await asyncio.to_thread(gateway.jobs.get, name.removeprefix(_PREFIX))
    except UsageError:
        job = None
    if job is None or not _is_theirs(job, asked):
        raise missing(f"there is no batch {name[:100]}")
    return job


def _is_theirs(job: Job, asked: Incoming) -> bool:
    """Whether it is a batch that is there, and of whoever asks."""
    key = asked.key
    theirs = key is None or key.admin or job.key_id == key.key_id
    return theirs and job.name == NAME and job.has_files


def _page(
    gateway: Gateway, asked: Incoming, after: str | None, before: str | None, most: int
) -> Iterable[Job]:
    """So many batches behind one, or those next to it in front of it, the latest first."""
    last = after.removeprefix(_PREFIX) if after else None
    until = before.removeprefix(_PREFIX) if before else None
    found: list[Job] = []
    while page := gateway.jobs.list(after=last, limit=100):
        for job in page:
            if job.id == until:
                return found[-most:]
            if _is_theirs(job, asked):
                found.append(job)
            if until is None and len(found) == most:
                return found
        last = page[-1].id
    return found


def _told(job: Job, asked: Incoming) -> Json:
    counts = job.counts
    ended = job.ended
    name = _PREFIX + job.id
    place = f"{str(asked.http.base_url).rstrip('/')}/v1/messages/batches/{name}/results"
    return {
        "id": name,
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        # As Anthropic does: they move when all has ended.
        "request_counts": {
            "processing": 0 if ended else counts.total,
            "succeeded": counts.done if ended else 0,
            "errored": counts.failed + counts.parked if ended else 0,
            "canceled": counts.open if ended else 0,
            "expired": 0,
        },
        "created_at": _moment(job.created_at),
        "expires_at": _moment(job.created_at + timedelta(days=1)),
        "ended_at": _moment(job.ended_at),
        "cancel_initiated_at": _moment(job.ended_at) if job.state == "cancelled" else None,
        "archived_at": None,
        "results_url": place if ended else None,
    }


def _moment(when: datetime | None) -> str | None:
    return when.isoformat().replace("+00:00", "Z") if when else None


_PATH = "/v1/messages/batches"
ROUTES = (
    Route("POST", _PATH, create, ANTHROPIC, "batches", "Hand many requests over.", BATCH),
    Route("GET", _PATH, listed, ANTHROPIC, "batches", "Batches, the latest first."),
    Route("GET", _PATH + "/{batch_id}", retrieve, ANTHROPIC, "batches", "A batch."),
    Route("DELETE", _PATH + "/{batch_id}", delete, ANTHROPIC, "batches", "Delete a batch."),
    Route("POST", _PATH + "/{batch_id}/cancel", cancel, ANTHROPIC, "batches", "Give it up."),
    Route("GET", _PATH + "/{batch_id}/results", results, ANTHROPIC, "batches", "Its results."),
)
