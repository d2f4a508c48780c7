"""Calls of the log to a collector of OpenTelemetry: `tracemill export otlp`.

Where it has come to is a position in a small file, written after each batch that was taken. Without the
file it begins anew; killed between a batch and the file it sends that batch again, with the same ids.
"""

import fcntl
import gzip
import hashlib
import os
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

from pydantic_core import from_json, to_json

from tracemill.errors import InputError, TracemillError, UsageError
from tracemill.events import LlmCallStarted, Recorded
from tracemill.files import write_text_atomically
from tracemill.log import EventLog
from tracemill.telemetry import outgoing
from tracemill.telemetry.otlp import NEEDED, PROTOBUF

if TYPE_CHECKING:
    import httpx

BATCH = 512
"""Spans of one request."""
BATCH_BYTES = 4 * 2**20
"""Of spans in one request: a larger one is sent earlier."""
STARTS_KEPT = 10_000
"""Calls in flight whose start is kept in memory; the start of another is looked up."""
_ENDS = ("finished", "failed", "aborted", "crashed", "cached")
_KINDS = ("llm.call.started", *(f"llm.call.{end}" for end in _ENDS))
_RETRYABLE = {408, 429, 502, 503, 504}
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
TRIES = 8


class Batch(NamedTuple):
    """Spans that are sent together."""

    position: int
    """Everything up to here is in this batch or an earlier one."""
    spans: list[Any]


class Exported(NamedTuple):
    """What was sent."""

    spans: int
    position: int
    rejected: int = 0
    """Spans that the collector took the request of, but not them."""
    why: str = ""
    """What it said of those."""


class Refused(TracemillError):
    """The collector does not take what is sent, and would not later."""


Starts = OrderedDict[str, LlmCallStarted]
"""Calls in flight, by their stream."""


def spans(
    log: EventLog,
    since: int = 0,
    *,
    content: bool = False,
    until: int | None = None,
    begun: Starts | None = None,
) -> Iterator[Batch]:
    """The calls that ended behind position `since`, as spans, a batch at a time in memory.

    Args:
        content: also what was asked and answered.
        until: the last position to look at.
        begun: the calls in flight that an earlier reading found; this one adds to it.

    Raises `UsageError`: opentelemetry-proto is not installed.
    """
    begun = OrderedDict() if begun is None else begun
    batch: list[Any] = []
    size = position = 0
    for one in log.read(since, kinds=_KINDS, until=until):
        position = one.position
        if isinstance(one.event, LlmCallStarted):
            begun[one.stream] = one.event
            if len(begun) > STARTS_KEPT:
                begun.popitem(last=False)
            continue
        start = begun.pop(one.stream, None) or _start(log, one)
        try:
            made = outgoing.span(start, cast(outgoing.Ended, one.event), content=content)
        except ImportError:
            raise UsageError(NEEDED) from None
        batch.append(made)
        size += made.ByteSize()
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield Batch(position, batch)
            batch, size = [], 0
    if position:
        yield Batch(position, batch)


def _start(log: EventLog, end: Recorded) -> LlmCallStarted | None:
    """The start of a call that was read before this run."""
    if end.version == 1:
        return None
    found = (each.event for each in log.read(stream=end.stream))
    return next((each for each in found if isinstance(each, LlmCallStarted)), None)


def export(
    log: EventLog,
    endpoint: str,
    headers: Mapping[str, str] | None = None,
    *,
    state: Path,
    content: bool = False,
    service: str = "tracemill",
    progress: Callable[[int], object] | None = None,
    wait: Callable[[float], object] | None = None,
    begun: Starts | None = None,
) -> Exported:
    """Send what was not sent yet, then return.

    Args:
        endpoint: the collector's address; without a path, `/v1/traces` is added.
        headers: for every request, such as the collector's key. They are kept nowhere.
        state: the folder of the files that say how far each endpoint is.
        content: also what was asked and answered.
        progress: told the number of spans after each request.
        wait: called with the seconds until the next try, instead of sleeping.
        begun: kept from one call of this to the next by who follows the log.

    Raises `Refused`: the collector does not take it. `TracemillError`: it did not answer for long.
    `UsageError`: it is no address, or another process exports to it.
    """
    address = address_of(endpoint)
    with _exporting(state, address) as remembered, _client(headers or {}) as client:
        send = _Sending(client, address, service, wait or threading.Event().wait)
        count = rejected = 0
        why = ""
        position = remembered.position()
        for batch in spans(log, position, content=content, until=log.position(), begun=begun):
            if batch.spans:
                said = send(batch.spans)
                rejected, why = rejected + said.rejected, said.why or why
                count += len(batch.spans)
            position = batch.position
            remembered.write(position)
            if progress:
                progress(len(batch.spans))
        return Exported(count, position, rejected, why)


def address_of(endpoint: str) -> str:
    """Where requests go. Raises `UsageError`: this is no address."""
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
        parts = urlsplit("")
    if not sound:
        raise UsageError(f"{endpoint[:80]!r} is no address: write it as http://localhost:4318")
    if parts.username is not None:
        raise UsageError("the address holds a name and password: send them as a header instead")
    return endpoint if parts.path.strip("/") else parts._replace(path="/v1/traces").geturl()


class _Said(NamedTuple):
    rejected: int
    why: str


class _Sending:
    """Requests to one collector, each tried until it is taken or cannot be."""

    def __init__(
        self,
        client: "httpx.Client",
        address: str,
        service: str,
        wait: Callable[[float], object],
    ) -> None:
        self._client, self._address, self._service, self._wait = client, address, service, wait

    def __call__(self, batch: list[Any]) -> _Said:
        import httpx

        body = gzip.compress(outgoing.request(batch, self._service), 1)
        why = ""
        for tried in range(TRIES):
            pause_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**tried) * random.uniform(0.5, 1.0)
            try:
                answer = self._client.post(self._address, content=body)
            except httpx.TransportError as error:
                why = f"no connection ({type(error).__name__})"
            else:
                if 200 <= answer.status_code < 300:
                    return _said(answer)
                why = f"it answered {answer.status_code}: {answer.text[:200].strip()}"
                if answer.status_code not in _RETRYABLE:
                    raise Refused(f"{_shown(self._address)} does not take spans: {why}")
                pause_s = _told_to_wait(answer.headers.get("retry-after")) or pause_s
            if tried < TRIES - 1:
                self._wait(pause_s)
        raise TracemillError(
            f"{_shown(self._address)} took no spans in {TRIES} tries: {why}; what is not sent yet "
            "goes with the next run"
        )


def _said(answer: "httpx.Response") -> _Said:
    """What the collector says of single spans."""
    if "json" in answer.headers.get("content-type", ""):
        try:
            partial: dict[str, Any] = from_json(answer.content).get("partialSuccess") or {}
        except (ValueError, AttributeError):
            return _Said(0, "")
        return _Said(int(partial.get("rejectedSpans") or 0), str(partial.get("errorMessage") or ""))
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

    try:
        told = trace_service_pb2.ExportTraceServiceResponse.FromString(answer.content)
    except DecodeError:
        return _Said(0, "")
    return _Said(told.partial_success.rejected_spans, told.partial_success.error_message)


def _told_to_wait(header: str | None) -> float | None:
    """The seconds that `retry-after` says, as a number or as a date."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.1), 600.0)


def _client(headers: Mapping[str, str]) -> "httpx.Client":
    import httpx

    fixed = {"content-type": PROTOBUF, "content-encoding": "gzip", "user-agent": "tracemill"}
    return httpx.Client(headers={**headers, **fixed}, timeout=30.0)


def _shown(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


# How far it is


class _Remembered:
    """The file that says how far the export to one address is."""

    def __init__(self, path: Path, address: str) -> None:
        self._path, self._address = path, address

    def position(self) -> int:
        try:
            told = from_json(self._path.read_bytes())
            return int(told["position"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{self._path} is damaged: delete it, and all is sent again") from None

    def write(self, position: int) -> None:
        told = {"endpoint": _shown(self._address), "position": position}
        write_text_atomically(self._path, to_json(told).decode() + "\n")


@contextmanager
def _exporting(folder: Path, address: str) -> Generator[_Remembered]:
    """Be the only process that exports to this address."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(address.encode()).hexdigest()[:12]
    lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another process exports to {_shown(address)} already") from None
        yield _Remembered(folder / f"{name}.json", address)
    finally:
        os.close(lock)
