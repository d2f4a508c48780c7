"""Gemini's batches: the calls go up in one request, the answers come with the batch itself.

A batch is a long-running operation: what is known of it is in its `metadata`.
"""

from collections.abc import Iterator, Mapping, Sequence
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
    moment,
    name_of,
    no_outcome,
    read_reply,
)
from tracemill.llm.providers.fields import decoded, malformed, obj, objects, text
from tracemill.messages import Json

# No number of calls is documented; this many ids fit into one event.
LIMITS = Limits(calls=100_000, size_bytes=20_000_000)
KEEPS_OUR_ID = True

_NAME = "tracemill-"
_STATES: Mapping[str, State] = {
    "PENDING": "created",
    "QUEUED": "created",
    "RUNNING": "running",
    "CANCELLING": "cancelling",
    "SUCCEEDED": "ended",
    "PARTIALLY_SUCCEEDED": "ended",
    "CANCELLED": "ended",
    "EXPIRED": "ended",
    "FAILED": "failed",
}
_COUNTS = {
    "requestCount": "total",
    "successfulRequestCount": "succeeded",
    "failedRequestCount": "failed",
    "pendingRequestCount": "pending",
}
_STATUS: Mapping[int, tuple[int, str]] = {
    1: (499, "CANCELLED"),
    2: (500, "UNKNOWN"),
    3: (400, "INVALID_ARGUMENT"),
    4: (504, "DEADLINE_EXCEEDED"),
    5: (404, "NOT_FOUND"),
    6: (409, "ALREADY_EXISTS"),
    7: (403, "PERMISSION_DENIED"),
    8: (429, "RESOURCE_EXHAUSTED"),
    9: (400, "FAILED_PRECONDITION"),
    10: (409, "ABORTED"),
    11: (400, "OUT_OF_RANGE"),
    12: (501, "UNIMPLEMENTED"),
    13: (500, "INTERNAL"),
    14: (503, "UNAVAILABLE"),
    15: (500, "DATA_LOSS"),
    16: (401, "UNAUTHENTICATED"),
}
"""google.rpc.Code to the status and the word that an answer of its own would have (code.proto)."""


def item(custom_id: str, wire: Wire) -> bytes:
    """One inlined request."""
    request = {**obj(wire.body), "model": _model(wire)}
    return to_json({"request": request, "metadata": {"key": custom_id}})


def create(batch_id: str, items: Sequence[bytes], sample: Wire, file_id: str | None) -> Wire:
    """The batch with all its calls."""
    name = to_json(_NAME + batch_id)
    head = b'{"batch":{"displayName":' + name + b',"inputConfig":{"requests":{"requests":['
    body = b"".join((head, b",".join(items), b"]}}}}"))
    path = f"/{_model(sample)}:batchGenerateContent"
    return Wire(path, body, {**sample.headers, "content-type": "application/json"})


def read(body: Any) -> Progress:
    """An operation, or the batch that is its metadata."""
    operation = obj(body)
    batch = obj(operation.get("metadata")) or operation
    remote_id = name_of(operation.get("name")) or name_of(batch.get("name"))
    if not remote_id:
        raise malformed("the answer is not a batch: it has no name")
    raw_state = text(batch.get("state"))
    state = _STATES.get(raw_state.partition("_STATE_")[2], "unknown")
    error = obj(operation.get("error"))
    if state == "unknown" and operation.get("done") is True:
        state = "ended"
    if error:
        state = "ended" if error.get("code") == 1 else "failed"
    return Progress(
        remote_id,
        state,
        raw_state,
        counts(batch.get("batchStats"), _COUNTS),
        error_message=text(error.get("message")) or None,
        downloads=(get(remote_id),) if state == "ended" else (),
        batch_id=_our_id(batch),
        created_at=moment(batch.get("createTime")),
    )


def get(remote_id: str) -> Wire:
    """Ask how far it is; once it has ended, the results come along."""
    return Wire(f"/{quote(remote_id)}", method="GET")


def cancel(remote_id: str) -> Wire:
    """Ask to stop it."""
    return Wire(f"/{quote(remote_id)}:cancel")


def listing(after: str | None) -> Wire:
    """Ask for the batches that there are."""
    query = {"pageSize": 100} | ({"pageToken": after} if after else {})
    return Wire("/batches?" + urlencode(query), method="GET")


def read_listing(body: Any) -> Page:
    """A page of them."""
    page = obj(body)
    batches = tuple(read(operation) for operation in objects(page.get("operations")))
    return Page(batches, text(page.get("nextPageToken")) or None)


def outcomes(
    body: bytes, adapter: Adapter, provider: Provider, custom_ids: Sequence[str]
) -> Iterator[Outcome]:
    """The inlined responses; where no key comes back, they are in the order of the calls."""
    try:
        operation = obj(decoded(body))
    except ValueError:
        yield no_outcome(body)
        return
    responses = _responses(operation)
    keys = [_key(response) for response in responses]
    if len(keys) == len(custom_ids) and not any(keys):
        keys = list(custom_ids)
    for key, response in zip(keys, responses, strict=True):
        yield Outcome(key, _end(response, adapter, provider), to_json(response))


def _responses(operation: Json) -> list[Json]:
    output = obj(operation.get("response")) or obj(obj(operation.get("metadata")).get("output"))
    inlined = output.get("inlinedResponses")
    # A list within an object of the same name, as of protocol buffers.
    return [obj(one) for one in objects(obj(inlined).get("inlinedResponses", inlined))]


def _key(response: Json) -> str | None:
    return text(obj(response.get("metadata")).get("key")) or None


def _end(response: Json, adapter: Adapter, provider: Provider) -> Reply | CallFailed:
    if error := obj(response.get("error")):
        return _errored(error, adapter)
    return read_reply(response.get("response"), adapter, provider)


def _errored(error: Json, adapter: Adapter) -> CallFailed:
    """The error as it would have come alone; its status is none that was sent."""
    code = error.get("code")
    known = _STATUS.get(code, (500, "UNKNOWN")) if isinstance(code, int) else (500, "UNKNOWN")
    status, word = known
    if isinstance(code, int) and 400 <= code < 600:
        status, word = code, text(error.get("status")) or "UNKNOWN"
    body = {"error": {"status": word, **error, "code": status}}
    failed = adapter.error(status, {}, to_json(body))
    failed.status = None
    return failed


def _model(wire: Wire) -> str:
    """`models/gemini-3-flash`, from the path of a call."""
    return wire.path.removeprefix("/").partition(":")[0]


def _our_id(batch: Json) -> str | None:
    name = text(batch.get("displayName"))
    return name.removeprefix(_NAME) if name.startswith(_NAME) else None
