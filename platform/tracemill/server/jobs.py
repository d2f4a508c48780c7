"""Jobs over HTTP: hand over a request or a hundred thousand, ask where they stand, fetch the answers.

Requests have the form of OpenAI's chat completions, and so have the answers, one a line.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import to_json
from starlette.responses import Response as HttpResponse
from starlette.responses import StreamingResponse

from tracemill.errors import UsageError
from tracemill.jobs.files import MOST_REQUESTS, Item
from tracemill.jobs.job import Job, State
from tracemill.jobs.jobs import Result
from tracemill.messages import Json
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.dialects.openai_chat import completion, prepared
from tracemill.server.dialects.openai_chat_body import Body
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import MAX_FILE_BYTES, Incoming
from tracemill.server.items import item_of
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid, missing

_AT_ONCE = 200
T = TypeVar("T")


class Submitted(BaseModel):
    """What is handed over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: Body | None = None
    requests: Annotated[list[Body], Field(min_length=1, max_length=MOST_REQUESTS)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    callback_url: Annotated[str, Field(max_length=2_000)] | None = None
    name: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Submitted":
        if (self.request is None) == (self.requests is None):
            raise ValueError("give either `request` or `requests`")
        return self


SUBMITTED: TypeAdapter[Submitted] = TypeAdapter(Submitted)


async def submit(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A new job; with an `idempotency-key` that came before, the same one."""
    raw = await asked.body(MAX_FILE_BYTES)

    def make() -> Job:
        body = SUBMITTED.validate_json(raw or b"null")
        given = body.requests or ([body.request] if body.request else [])
        return gateway.jobs.submit(
            _items(gateway, asked, given),
            priority=body.priority,
            callback_url=body.callback_url,
            idempotency_key=asked.label("idempotency-key"),
            key_id=asked.key.key_id if asked.key else None,
            name=body.name,
        )

    return answer(_told(await asyncio.to_thread(make)), 202)


def _items(gateway: Gateway, asked: Incoming, given: list[Body]) -> Iterator[Item]:
    for number, body in enumerate(given):
        if body.stream:
            raise invalid("a job's answers do not stream: leave `stream` out", f"{number}.stream")
        yield item_of(*prepared(gateway, asked, body))


async def show(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Where a job stands."""
    return answer(_told(await asyncio.to_thread(_own, gateway, asked)))


async def cancel(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Begin no more of its requests."""

    def stop() -> Job:
        return gateway.jobs.cancel(_own(gateway, asked).id)

    return answer(_told(await asyncio.to_thread(stop)))


async def retry(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Begin those again that were given up."""

    def again() -> Job:
        return gateway.jobs.retry(_own(gateway, asked).id)

    return answer(_told(await asyncio.to_thread(again)))


async def results(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """What became of each request, in their order, one a line."""
    job = await asyncio.to_thread(_own, gateway, asked)
    found = gateway.jobs.results(job.id)

    async def lines() -> AsyncGenerator[bytes]:
        while some := await asyncio.to_thread(_some, found, _AT_ONCE):
            yield b"".join(to_json(_result(each)) + b"\n" for each in some)

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _some(found: Iterator[T], most: int) -> list[T]:
    return [each for each, _ in zip(found, range(most), strict=False)]


async def listed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Jobs, the latest first."""
    size = asked.query.get("limit", "20")
    if not size.isdecimal() or not 1 <= int(size) <= 100:
        raise invalid("limit: it is a number from 1 to 100", "limit")
    state: Any = asked.query.get("state")
    if state not in (None, *get_args(State)):
        raise invalid(f"state: it is one of {', '.join(get_args(State))}", "state")

    def find() -> list[Job]:
        found: list[Job] = []
        after = asked.query.get("after")
        while some := gateway.jobs.list(after=after, limit=100, state=state):
            found += [job for job in some if _may_see(asked, job)]
            after = some[-1].id
            if len(found) > int(size):
                break
        return found

    jobs = await asyncio.to_thread(find)
    here = jobs[: int(size)]
    return answer(
        {"object": "list", "data": [_told(job) for job in here], "has_more": len(jobs) > len(here)}
    )


def _own(gateway: Gateway, asked: Incoming) -> Job:
    """The job of the path; what is another key's is not there."""
    job_id = asked.path["job_id"]
    try:
        job = gateway.jobs.get(job_id)
    except UsageError:
        job = None
    if job is None or not _may_see(asked, job):
        raise missing(f"there is no job {job_id}")
    return job


def _may_see(asked: Incoming, job: Job) -> bool:
    return asked.key is None or asked.key.admin or job.key_id == asked.key.key_id


def _told(job: Job) -> Json:
    return {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "name": job.name,
        "priority": job.priority,
        "callback_url": job.callback_url,
        "counts": job.counts._asdict(),
        "created_at": job.created_at,
        "ended_at": job.ended_at,
    }


def _result(result: Result) -> Json:
    return {
        "index": result.index,
        "state": result.state,
        "call_id": result.call_id,
        "response": completion([result.response]) if result.response else None,
        "error": result.error._asdict() if result.error else None,
    }


_Method = Literal["GET", "POST"]
_ROUTES: tuple[tuple[_Method, str, Any, str], ...] = (
    ("GET", "/v1/jobs", listed, "Jobs, the latest first."),
    ("GET", "/v1/jobs/{job_id}", show, "Where a job stands."),
    ("GET", "/v1/jobs/{job_id}/result", results, "What became of each request, one a line."),
    ("POST", "/v1/jobs/{job_id}/cancel", cancel, "Begin no more of a job's requests."),
    ("POST", "/v1/jobs/{job_id}/retry", retry, "Begin again what was given up."),
)
ROUTES = (
    Route("POST", "/v1/jobs", submit, OPENAI, "jobs", "Hand over requests.", SUBMITTED),
    *(Route(method, path, ask, OPENAI, "jobs", what) for method, path, ask, what in _ROUTES),
)
