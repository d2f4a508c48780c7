"""The batch routes of OpenAI, Anthropic and Gemini on loopback, as the recordings show them.

A batch waits until the test calls `finish`; what each call becomes is the test's choice.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEYS = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-ant", "GEMINI_API_KEY": "sk-gem"}
USAGE = (20, 5)
"""Tokens read and written by every call."""

Json = dict[str, Any]


@dataclass
class Batch:
    """One remote batch."""

    id: str
    provider: str
    calls: list[tuple[str, Json]]
    """The custom id and the request of each."""
    given: Json
    created_at: datetime
    state: str = "running"
    results: list[Json] = field(default_factory=list)
    errors: list[Json] = field(default_factory=list)
    failure: str | None = None


class Refused(Exception):
    """Answer with this status and body."""

    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body


class BatchServer:
    """What the three providers hold, and what they were asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.seen: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        """Runs before a request is served; may raise `Refused`."""
        self.answering: Callable[[str, str], bool] = lambda method, path: True
        """Whether a request that has been served gets its answer, or the connection closes."""
        self.url = ""
        self._lock = threading.RLock()

    def serve(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        with self._lock:
            self.seen.append((method, path))
            self.before(method, path)
            parts = urlsplit(path)
            _, provider, _, *route = parts.path.split("/")
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            _check_key(provider, headers)
            match provider:
                case "openai":
                    return self._openai(method, route, query, headers, body)
                case "anthropic":
                    return self._anthropic(method, route, query, headers, body)
                case "gemini":
                    return self._gemini(method, route, query, body)
        raise Refused(404, {"error": {"message": f"no {path}"}})

    def finish(
        self,
        fates: Sequence[str] = (),
        *,
        extra: Sequence[str] = (),
        word: str | None = None,
    ) -> None:
        """End every batch that runs. `fates` by call: ok, error, expired, cancelled or missing.

        `extra` are custom ids of results that nobody asked for; results come in reverse order.
        """
        with self._lock:
            for batch in self.batches:
                if batch.state in ("running", "cancelling"):
                    self._finish(batch, list(fates), extra)
                    batch.state = word or "ended"

    def fail(self, why: str) -> None:
        """Fail every batch as a whole."""
        with self._lock:
            for batch in self.batches:
                batch.state, batch.failure = "failed", why

    def _finish(self, batch: Batch, fates: list[str], extra: Sequence[str]) -> None:
        fates += ["ok"] * (len(batch.calls) - len(fates))
        results = zip(batch.calls, fates, strict=True)
        made = [(fate, RESULT[batch.provider](*call, fate)) for call, fate in results]
        made += [("ok", RESULT[batch.provider](one, batch.calls[0][1], "ok")) for one in extra]
        made = [(fate, result) for fate, result in reversed(made) if fate != "missing"]
        apart = batch.provider == "openai"
        batch.results = [result for fate, result in made if fate == "ok" or not apart]
        batch.errors = [result for fate, result in made if fate != "ok" and apart]

    def _new(self, provider: str, calls: list[tuple[str, Json]], given: Json) -> Batch:
        number = len(self.batches) + 1
        name = {"openai": "batch_", "anthropic": "msgbatch_", "gemini": "batches/"}[provider]
        batch = Batch(f"{name}{number:04}", provider, calls, given, datetime.now(UTC))
        self.batches.append(batch)
        return batch

    def _of(self, provider: str, batch_id: str) -> Batch:
        for batch in self.batches:
            if (batch.provider, batch.id) == (provider, batch_id):
                return batch
        raise Refused(404, {"error": {"type": "not_found_error", "message": "no such batch"}})

    def _page(self, provider: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        newest = [batch for batch in reversed(self.batches) if batch.provider == provider]
        ids = [batch.id for batch in newest]
        start = ids.index(after) + 1 if after else 0
        return newest[start : start + limit], len(newest) > start + limit

    # OpenAI

    def _openai(
        self,
        method: str,
        route: list[str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Any:
        match method, route:
            case "POST", ["files"]:
                return self._upload(headers, body)
            case "GET", ["files", file_id, "content"]:
                return self._content(file_id)
            case "POST", ["batches"]:
                return _openai_batch(self._openai_new(json.loads(body)))
            case "GET", ["batches"]:
                page, more = self._page("openai", query.get("after"), int(query["limit"]))
                shown = [_openai_batch(batch) for batch in page]
                return {"object": "list", "data": shown, "has_more": more}
            case "GET", ["batches", batch_id]:
                return _openai_batch(self._of("openai", batch_id))
            case "POST", ["batches", batch_id, "cancel"]:
                batch = self._of("openai", batch_id)
                if batch.state != "running":
                    raise Refused(409, {"error": {"message": "cannot cancel", "code": None}})
                batch.state = "cancelling"
                return _openai_batch(batch)
        raise Refused(404, {"error": {"message": f"no {method} {route}"}})

    def _upload(self, headers: Mapping[str, str], body: bytes) -> Json:
        head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
        parts: Any = message_from_bytes(head + body, policy=HTTP).get_payload()
        form = {part["content-disposition"].params["name"]: part for part in parts}
        assert form["purpose"].get_payload() == "batch"
        file_id = f"file-{len(self.files):04}"
        self.files[file_id] = form["file"].get_payload(decode=True)
        name = form["file"]["content-disposition"].params["filename"]
        size = len(self.files[file_id])
        return {
            "id": file_id,
            "object": "file",
            "purpose": "batch",
            "filename": name,
            "bytes": size,
        }

    def _openai_new(self, given: Json) -> Batch:
        assert given["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[given["input_file_id"]].splitlines()]
        assert all(line["url"] == given["endpoint"] for line in lines)
        assert all(line["method"] == "POST" for line in lines)
        return self._new("openai", [(line["custom_id"], line["body"]) for line in lines], given)

    def _content(self, file_id: str) -> bytes:
        kind, _, batch_id = file_id.partition("-of-")
        batch = self._of("openai", batch_id)
        return _jsonl(batch.results if kind == "out" else batch.errors)

    # Anthropic

    def _anthropic(
        self,
        method: str,
        route: list[str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Any:
        if "anthropic-version" not in headers:
            raise Refused(400, {"error": {"type": "invalid_request_error", "message": "version"}})
        match method, route[2:]:
            case "POST", []:
                given = json.loads(body)
                calls = [(one["custom_id"], one["params"]) for one in given["requests"]]
                return self._anthropic_batch(self._new("anthropic", calls, given))
            case "GET", []:
                page, more = self._page("anthropic", query.get("after_id"), int(query["limit"]))
                return {"data": [self._anthropic_batch(b) for b in page], "has_more": more}
            case "GET", [batch_id]:
                return self._anthropic_batch(self._of("anthropic", batch_id))
            case "POST", [batch_id, "cancel"]:
                batch = self._of("anthropic", batch_id)
                batch.state = "cancelling"
                return self._anthropic_batch(batch)
            case "GET", [batch_id, "results"]:
                batch = self._of("anthropic", batch_id)
                if batch.state != "ended":
                    message = f"Message Batch {batch_id} has no available results."
                    raise Refused(404, {"error": {"type": "not_found_error", "message": message}})
                return _jsonl(batch.results)
        raise Refused(404, {"error": {"type": "not_found_error", "message": f"no {route}"}})

    def _anthropic_batch(self, batch: Batch) -> Json:
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        for result in batch.results:
            counts[result["result"]["type"]] += 1
        counts["processing"] = len(batch.calls) - sum(counts.values())
        if batch.state == "ended":
            counts["errored"] += counts.pop("processing")
        word = {"running": "in_progress", "cancelling": "canceling"}.get(batch.state, batch.state)
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": word,
            "request_counts": counts,
            "created_at": batch.created_at.isoformat(),
            # Where the key must never go.
            "results_url": "http://elsewhere.invalid/results" if word == "ended" else None,
        }

    # Gemini

    def _gemini(self, method: str, route: list[str], query: Mapping[str, str], body: bytes) -> Any:
        match method, route:
            case "POST", ["models", model] if model.endswith(":batchGenerateContent"):
                given = json.loads(body)["batch"]
                requests = given["inputConfig"]["requests"]["requests"]
                assert {one["request"]["model"] for one in requests} == {
                    f"models/{model.partition(':')[0]}"
                }
                calls = [(one["metadata"]["key"], one["request"]) for one in requests]
                return _gemini_batch(self._new("gemini", calls, given))
            case "GET", ["batches"]:
                page, more = self._page("gemini", query.get("pageToken"), int(query["pageSize"]))
                shown: Json = {"operations": [_gemini_batch(batch) for batch in page]}
                return shown | ({"nextPageToken": page[-1].id} if more else {})
            case "GET", ["batches", batch_id]:
                return _gemini_batch(self._of("gemini", f"batches/{batch_id}"))
            case "POST", ["batches", batch_id] if batch_id.endswith(":cancel"):
                batch = self._of("gemini", f"batches/{batch_id.removesuffix(':cancel')}")
                batch.state = "CANCELLED"
                return {}
        raise Refused(
            404, {"error": {"code": 404, "message": f"no {route}", "status": "NOT_FOUND"}}
        )


# What a batch looks like


def _openai_batch(batch: Batch) -> Json:
    words = {"running": "in_progress", "ended": "completed"}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.given["endpoint"],
        "status": words.get(batch.state, batch.state),
        "input_file_id": batch.given["input_file_id"],
        "output_file_id": f"out-of-{batch.id}" if batch.results else None,
        # An empty text has been seen where there is no file.
        "error_file_id": f"errors-of-{batch.id}" if batch.errors else "",
        "errors": {"object": "list", "data": [{"line": 2, "message": batch.failure}]}
        if batch.failure
        else None,
        "created_at": int(batch.created_at.timestamp()),
        "request_counts": {
            "total": len(batch.calls),
            "completed": len(batch.results),
            "failed": len(batch.errors),
        },
        "metadata": batch.given.get("metadata"),
    }


def _gemini_batch(batch: Batch) -> Json:
    words = {"running": "RUNNING", "ended": "SUCCEEDED", "failed": "FAILED"}
    operation: Json = {
        "name": batch.id,
        "metadata": {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "displayName": batch.given["displayName"],
            "createTime": batch.created_at.isoformat(),
            "batchStats": {"requestCount": str(len(batch.calls))},
            "state": f"BATCH_STATE_{words.get(batch.state, batch.state)}",
            "name": batch.id,
        },
    }
    if batch.failure:
        return operation | {"done": True, "error": {"code": 13, "message": batch.failure}}
    if batch.state == "ended":
        inlined = {"inlinedResponses": {"inlinedResponses": batch.results}}
        return operation | {"done": True, "response": inlined}
    return operation


# What a call becomes


def _openai_result(custom_id: str, request: Json, fate: str) -> Json:
    result: Json = {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "error": None}
    if fate in ("expired", "cancelled"):
        error = {"code": f"batch_{fate}", "message": f"This request {fate}."}
        return result | {"response": None, "error": error}
    body = _chat_body(request) if "messages" in request else _responses_body(request)
    if fate == "error":
        body = {"error": {"message": "too long", "type": "x", "code": "context_length_exceeded"}}
    status = 400 if fate == "error" else 200
    request_id = f"req-{custom_id}"
    response = {"status_code": status, "request_id": request_id, "body": body}
    return result | {"response": response}


def _chat_body(request: Json) -> Json:
    asked = request["messages"][-1]["content"]
    asked = asked if isinstance(asked, str) else asked[-1]["text"]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"re: {asked}"},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": USAGE[0],
            "completion_tokens": USAGE[1],
            "total_tokens": sum(USAGE),
        },
    }


def _responses_body(request: Json) -> Json:
    asked = request["input"][-1]["content"]
    asked = asked if isinstance(asked, str) else asked[-1]["text"]
    text = {"type": "output_text", "text": f"re: {asked}", "annotations": []}
    message = {"type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage = {"input_tokens": USAGE[0], "output_tokens": USAGE[1], "total_tokens": sum(USAGE)}
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": request["model"],
        "output": [{"id": "msg_1", **message}],
        "usage": usage,
    }


def _anthropic_result(custom_id: str, request: Json, fate: str) -> Json:
    match fate:
        case "expired":
            result: Json = {"type": "expired"}
        case "cancelled":
            result = {"type": "canceled"}
        case "error":
            error = {"type": "invalid_request_error", "message": "prompt is too long"}
            result = {"type": "errored", "error": {"type": "error", "error": error}}
        case _:
            asked = request["messages"][-1]["content"]
            asked = asked if isinstance(asked, str) else asked[-1]["text"]
            message = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": request["model"],
                "content": [{"type": "text", "text": f"re: {asked}"}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": USAGE[0], "output_tokens": USAGE[1]},
            }
            result = {"type": "succeeded", "message": message}
    return {"custom_id": custom_id, "result": result}


def _gemini_result(custom_id: str, request: Json, fate: str) -> Json:
    codes = {"error": 3, "expired": 4, "cancelled": 1}
    metadata = {"metadata": {"key": custom_id}}
    if fate in codes:
        return {"error": {"code": codes[fate], "message": f"it is {fate}"}, **metadata}
    asked = request["contents"][-1]["parts"][-1]["text"]
    content = {"role": "model", "parts": [{"text": f"re: {asked}"}]}
    response = {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": USAGE[0],
            "candidatesTokenCount": USAGE[1],
            "totalTokenCount": sum(USAGE),
        },
        "modelVersion": request["model"].removeprefix("models/"),
    }
    return {"response": response, **metadata}


RESULT = {"openai": _openai_result, "anthropic": _anthropic_result, "gemini": _gemini_result}


def _jsonl(rows: Sequence[Json]) -> bytes:
    # A line separator of Unicode within a line is no end of it.
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _check_key(provider: str, headers: Mapping[str, str]) -> None:
    given = {
        "openai": headers.get("authorization"),
        "anthropic": headers.get("x-api-key"),
        "gemini": headers.get("x-goog-api-key"),
    }[provider]
    if given not in ("Bearer sk-openai", "sk-ant", "sk-gem"):
        raise Refused(
            401, {"error": {"type": "authentication_error", "message": "wrong key", "code": 401}}
        )


@contextmanager
def serving() -> Iterator[BatchServer]:
    """A server on a free port of loopback, for as long as the context lasts."""
    state = BatchServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            try:
                status, answer = 200, state.serve(self.command, self.path, headers, body)
            except Refused as refused:
                status, answer = refused.status, refused.body
            if not state.answering(self.command, self.path):
                self.close_connection = True
                return
            sent = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
