"""The lines of OpenAI's batches: requests to one path, read from a file; answers, written to files."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from tracemill.errors import CallFailed, TracemillError
from tracemill.events import WrongLine
from tracemill.jobs.files import Item
from tracemill.jobs.jobs import Result
from tracemill.llm.providers.fields import obj
from tracemill.messages import Json, Request, Response
from tracemill.server import trouble
from tracemill.server.dialects import openai_chat, openai_completions, openai_responses
from tracemill.server.dialects.openai import error
from tracemill.server.gateway import Gateway, Going
from tracemill.server.incoming import Incoming
from tracemill.server.items import item_of
from tracemill.server.trouble import Trouble, invalid

MOST_LINES = 50_000
MOST_ERRORS = 100
"""Of wrong lines that are told."""
TAG = "custom_id"
"""The tag of a call that says which line it answers."""


class Endpoint(NamedTuple):
    """What a path reads and writes."""

    form: TypeAdapter[Any]
    prepared: Callable[[Gateway, Incoming, Any], tuple[Going, Request]]
    written: Callable[[Response, Request], Json]


def _completion(made: Response, _: Request) -> Json:
    return openai_chat.completion([made])


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(openai_chat.BODY, openai_chat.prepared, _completion),
    "/v1/responses": Endpoint(
        openai_responses.BODY, openai_responses.prepared, openai_responses.whole
    ),
    "/v1/completions": Endpoint(
        openai_completions.BODY, openai_completions.prepared, openai_completions.whole
    ),
}


def wrong(gateway: Gateway, asked: Incoming, path: Path, url: str) -> tuple[list[WrongLine], int]:
    """The first lines of a file that no call can be made of, and how many lines it has."""
    found: list[WrongLine] = []
    names: set[str] = set()
    total = 0
    for number, line in _lines(path):
        total += 1
        if total > MOST_LINES:
            message = f"the file has more than {MOST_LINES:,} lines: make several batches"
            return [WrongLine(line=number, code="too_many_tasks", message=message)], total
        try:
            name, _ = _read(gateway, asked, line, url)
            if name in names:
                raise invalid(f"custom_id: {name} came before", "custom_id")
            names.add(name)
        except (Trouble, TracemillError, ValidationError) as error:
            found.append(_wrong(number, trouble.of(error)))
            if len(found) == MOST_ERRORS:
                break
    if not total:
        found.append(WrongLine(line=1, code="empty_file", message="the file has no lines"))
    return found, total


def items(gateway: Gateway, asked: Incoming, path: Path, url: str) -> Iterator[Item]:
    """The requests of a file in which nothing is wrong, for a job."""
    for _, line in _lines(path):
        yield _read(gateway, asked, line, url)[1]


def written(result: Result, item: Item | None, url: str) -> Json:
    """The line that says what became of a request."""
    told: Json = {
        "id": f"batch_req_{result.call_id or result.index}",
        "custom_id": item.request.metadata.get(TAG, "") if item else "",
        "response": None,
        "error": None,
    }
    if result.response is not None and item is not None:
        tags = {name: value for name, value in item.request.metadata.items() if name != TAG}
        request = item.request.model_copy(update={"metadata": tags})
        body = ENDPOINTS[url].written(result.response, request)
        return told | {"response": _response(200, body, result)}
    if result.state in {"open", "cancelled"}:
        cancelled = "the batch was cancelled before this was answered"
        return told | {"error": {"code": "batch_cancelled", "message": cancelled}}
    why = result.error
    kind, words = (why.error_type, why.message) if why else ("erased", "somebody was forgotten")
    failed = trouble.of(CallFailed(kind, words))
    return told | {
        "response": _response(failed.status, error(failed, ""), result),
        "error": {"code": kind, "message": words},
    }


def _response(status: int, body: Any, result: Result) -> Json:
    return {"status_code": status, "request_id": result.call_id or "", "body": body}


def line_of(told: Json) -> bytes:
    """JSON, and the end of the line."""
    return to_json(told) + b"\n"


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _read(gateway: Gateway, asked: Incoming, line: bytes, url: str) -> tuple[str, Item]:
    try:
        given = from_json(line)
    except ValueError as error:
        raise invalid(f"the line is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise invalid("the line is not a JSON object")
    fields = obj(given)  # pyright: ignore[reportUnknownArgumentType]
    name = fields.get("custom_id")
    if not isinstance(name, str) or not 0 < len(name) <= 64:
        raise invalid("custom_id: it is a text of 1 to 64 letters", "custom_id")
    if fields.get("method") != "POST":
        raise invalid("method: it is POST", "method")
    if fields.get("url") != url:
        raise invalid(f"url: it is the batch's endpoint, {url}", "url")
    endpoint = ENDPOINTS[url]
    body: BaseModel = endpoint.form.validate_python(fields.get("body"))
    if getattr(body, "stream", False):
        raise invalid("body.stream: answers of batches do not stream", "body.stream")
    if (getattr(body, "n", None) or 1) > 1:
        raise invalid("body.n: a line has one answer: write another line", "body.n")
    return name, item_of(*endpoint.prepared(gateway, asked, body), {TAG: name})


def _wrong(number: int, told: Trouble) -> WrongLine:
    code = told.code or told.error_type
    param = told.param[:200] if told.param else None
    return WrongLine(line=number, code=code, message=told.message, param=param)
