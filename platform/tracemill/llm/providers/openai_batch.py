"""OpenAI's batches: the calls go up as a file of JSON lines, the answers come down as two.

Serves chat completions and Responses alike: a line names the path that its call would take.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import to_json

from tracemill.errors import CallFailed
from tracemill.llm.providers import Adapter, Provider, Reply, Wire
from tracemill.llm.providers.batch import (
    Limits,
    Outcome,
    Page,
    Progress,
    State,
    counts,
    lines,
    name_of,
    no_outcome,
    page_of,
    parsed,
    read_reply,
)
from tracemill.llm.providers.fields import malformed, obj, objects, text
from tracemill.messages import Json

LIMITS = Limits(calls=50_000, size_bytes=200_000_000)
KEEPS_OUR_ID = True

_OUR_ID = "tracemill_batch_id"
_STATES: Mapping[str, State] = {
    "validating": "created",
    "in_progress": "running",
    "finalizing": "running",
    "cancelling": "cancelling",
    "completed": "ended",
    "expired": "ended",
    "cancelled": "ended",
    "failed": "failed",
}
_NOT_RUN = {
    "batch_expired": ("timeout", "the batch expired before this call was made"),
    "batch_cancelled": ("interrupted", "the batch was cancelled before this call was made"),
    "request_timeout": ("timeout", "the model did not answer this call in time"),
}


def item(custom_id: str, wire: Wire) -> bytes:
    """One line of the file."""
    line = {"custom_id": custom_id, "method": "POST", "url": _endpoint(wire), "body": wire.body}
    return to_json(line) + b"\n"


def upload(batch_id: str, items: Sequence[bytes]) -> Wire:
    """The file of calls, as a form with two fields (RFC 7578)."""
    # Each line of the content begins with a brace, so that none of them can be the boundary.
    boundary = f"tracemill-{batch_id}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
        f'filename="{boundary}.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
    )
    body = b"".join((head.encode(), *items, f"\r\n--{boundary}--\r\n".encode()))
    return Wire("/files", body, {"content-type": f"multipart/form-data; boundary={boundary}"})


def read_upload(body: Any) -> str:
    """The file's id."""
    if file_id := text(obj(body).get("id")):
        return file_id
    raise malformed("the answer to the uploaded file of calls has no id")


def create(batch_id: str, items: Sequence[bytes], sample: Wire, file_id: str | None) -> Wire:
    """The batch of an uploaded file."""
    body: Json = {
        "input_file_id": file_id,
        "endpoint": _endpoint(sample),
        "completion_window": "24h",
        "metadata": {_OUR_ID: batch_id},
    }
    return Wire("/batches", body)


def read(body: Any) -> Progress:
    """A batch object."""
    batch = obj(body)
    remote_id, status = name_of(batch.get("id")), text(batch.get("status"))
    if not remote_id or not status:
        raise malformed("the answer is not a batch: it has no id or no status")
    files = (text(batch.get(name)) for name in ("output_file_id", "error_file_id"))
    return Progress(
        remote_id,
        _STATES.get(status, "unknown"),
        status,
        counts(batch.get("request_counts")),
        error_message=_errors(batch),
        downloads=tuple(_get(f"/files/{quote(file, safe='')}/content") for file in files if file),
        batch_id=text(obj(batch.get("metadata")).get(_OUR_ID)) or None,
        created_at=_moment(batch.get("created_at")),
        endpoint=text(batch.get("endpoint")) or None,
    )


def get(remote_id: str) -> Wire:
    """Ask how far it is."""
    return _get(f"/batches/{quote(remote_id, safe='')}")


def cancel(remote_id: str) -> Wire:
    """Ask to stop it."""
    return Wire(f"/batches/{quote(remote_id, safe='')}/cancel")


def listing(after: str | None) -> Wire:
    """Ask for the batches that there are, newest first."""
    return _get("/batches?" + urlencode({"limit": 100} | ({"after": after} if after else {})))


def read_listing(body: Any) -> Page:
    """A page of them."""
    return page_of(body, read)


def outcomes(
    body: bytes, adapter: Adapter, provider: Provider, custom_ids: Sequence[str]
) -> Iterator[Outcome]:
    """The lines of the file of answers, or of the file of errors."""
    for line in lines(body):
        result = parsed(line)
        if result is None:
            yield no_outcome(line)
            continue
        end = _end(result, adapter, provider)
        yield Outcome(text(result.get("custom_id")) or None, end, line)


def _end(result: Json, adapter: Adapter, provider: Provider) -> Reply | CallFailed:
    response, error = obj(result.get("response")), obj(result.get("error"))
    status = response.get("status_code")
    if error or not isinstance(status, int):
        return _not_run(error)
    request_id = text(response.get("request_id")) or None
    if status >= 400:
        headers = {"x-request-id": request_id} if request_id else {}
        return adapter.error(status, headers, to_json(response.get("body")))
    reply = read_reply(response.get("body"), adapter, provider)
    if isinstance(reply, CallFailed):
        reply.request_id = reply.request_id or request_id
        return reply
    return reply._replace(request_id=request_id)


def _not_run(error: Json) -> CallFailed:
    code = text(error.get("code")) or None
    kind, message = _NOT_RUN.get(code or "", ("server_error", "the call was not made"))
    return CallFailed(kind, text(error.get("message")) or message, code=code)


def _errors(batch: Json) -> str | None:
    """The reasons of a batch that failed as a whole, each with its line."""
    found: list[str] = []
    for error in map(obj, objects(obj(batch.get("errors")).get("data"))):
        line = error.get("line")
        where = f"line {line}: " if isinstance(line, int) else ""
        found.append(where + (text(error.get("message")) or text(error.get("code")) or "no reason"))
    more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
    return "; ".join(found[:5]) + more if found else None


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _endpoint(wire: Wire) -> str:
    return f"/v1{wire.path}"


def _get(path: str) -> Wire:
    return Wire(path, method="GET")
