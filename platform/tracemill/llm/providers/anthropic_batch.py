"""Anthropic's batches: the calls go up in one request, the answers come down as JSON lines.

A batch here has no name of ours: after a crash it is known again by the ids of its calls, which
are told only with the results.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import to_json

from tracemill.errors import CallFailed
from tracemill.llm.providers import Adapter, Provider, Reply, Wire
from tracemill.llm.providers.anthropic_request import OLD_VERSION
from tracemill.llm.providers.batch import (
    Limits,
    Outcome,
    Page,
    Progress,
    State,
    counts,
    lines,
    moment,
    name_of,
    no_outcome,
    page_of,
    parsed,
    read_reply,
)
from tracemill.llm.providers.fields import malformed, obj, text
from tracemill.messages import Json

LIMITS = Limits(calls=100_000, size_bytes=256_000_000)
KEEPS_OUR_ID = False

_VERSION = {"anthropic-version": OLD_VERSION}
"""Batches are the same in both versions; this one is also spoken by servers that imitate the API."""
_STATES: Mapping[str, State] = {
    "in_progress": "running",
    "canceling": "cancelling",
    "ended": "ended",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that goes with a type of error when it comes alone."""
_NOT_RUN = {
    "expired": ("timeout", "the batch expired before this call was made"),
    "canceled": ("interrupted", "the batch was cancelled before this call was made"),
}


def item(custom_id: str, wire: Wire) -> bytes:
    """One of the `requests`."""
    return to_json({"custom_id": custom_id, "params": wire.body})


def create(batch_id: str, items: Sequence[bytes], sample: Wire, file_id: str | None) -> Wire:
    """The batch with all its calls; it takes the headers (version, betas) of one."""
    body = b'{"requests":[' + b",".join(items) + b"]}"
    headers = {**_VERSION, **sample.headers, "content-type": "application/json"}
    return Wire("/messages/batches", body, headers)


def read(body: Any) -> Progress:
    """A message batch."""
    batch = obj(body)
    remote_id, status = name_of(batch.get("id")), text(batch.get("processing_status"))
    if not remote_id or not status:
        raise malformed("the answer is not a batch: it has no id or no processing_status")
    state = _STATES.get(status, "unknown")
    return Progress(
        remote_id,
        state,
        status,
        counts(batch.get("request_counts")),
        # Not `results_url`: the key goes to no address that an answer names.
        downloads=(_get(f"{_path(remote_id)}/results"),) if state == "ended" else (),
        created_at=moment(batch.get("created_at")),
    )


def get(remote_id: str) -> Wire:
    """Ask how far it is."""
    return _get(_path(remote_id))


def cancel(remote_id: str) -> Wire:
    """Ask to stop it."""
    return Wire(f"{_path(remote_id)}/cancel", headers=_VERSION)


def listing(after: str | None) -> Wire:
    """Ask for the batches that there are, newest first."""
    query = {"limit": 100} | ({"after_id": after} if after else {})
    return _get("/messages/batches?" + urlencode(query))


def read_listing(body: Any) -> Page:
    """A page of them."""
    return page_of(body, read)


def outcomes(
    body: bytes, adapter: Adapter, provider: Provider, custom_ids: Sequence[str]
) -> Iterator[Outcome]:
    """The lines of the results."""
    for line in lines(body):
        entry = parsed(line)
        if entry is None:
            yield no_outcome(line)
            continue
        end = _end(obj(entry.get("result")), adapter, provider)
        yield Outcome(text(entry.get("custom_id")) or None, end, line)


def _end(result: Json, adapter: Adapter, provider: Provider) -> Reply | CallFailed:
    match result.get("type"):
        case "succeeded":
            return read_reply(result.get("message"), adapter, provider)
        case "errored":
            return _errored(obj(result.get("error")), adapter)
        case "expired" | "canceled" as how:
            kind, message = _NOT_RUN[how]
            return CallFailed(kind, message, code=how)
        case other:
            return malformed(f"a result is of a type that is not known: {str(other)[:100]!r}")


def _errored(error: Json, adapter: Adapter) -> CallFailed:
    """The error as it would have come alone; its status is none that was sent."""
    whole = error if "error" in error else {"type": "error", "error": error}
    status = _STATUS.get(str(obj(whole.get("error")).get("type")), 500)
    failed = adapter.error(status, {}, to_json(whole))
    failed.status = None
    return failed


def _path(remote_id: str) -> str:
    return f"/messages/batches/{quote(remote_id, safe='')}"


def _get(path: str) -> Wire:
    return Wire(path, headers=_VERSION, method="GET")
