"""The fine-tuning routes of OpenAI, Together and Fireworks on loopback, as their SDKs know them.

What the server holds outlives its clients, who may be killed; it counts what was done. A job moves
one state on whenever somebody asks how far it is.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "sk-test-0123456789abcdefghij"
KEYS = {f"{name}_API_KEY": KEY for name in ("OPENAI", "AZURE_OPENAI", "TOGETHER", "FIREWORKS")}
BEGAN = 1_900_000_000
"""When the first thing was made; later than any job of a test was asked for."""
OPENAI_WAY = ("validating_files", "queued", "running", "running", "succeeded")
TOGETHER_WAY = ("pending", "queued", "running", "compressing", "uploading", "completed")
FIREWORKS_WAY = ("CREATING", "PENDING", "RUNNING", "WRITING_RESULTS", "COMPLETED")

Json = dict[str, Any]


@dataclass
class File:
    """A file that was handed over."""

    id: str
    name: str
    content: bytes
    made: int
    status: str = "processed"


@dataclass
class Job:
    """A job that was taken."""

    id: str
    given: Json
    made: int
    way: list[str]
    """States that are still to come, the present one first."""
    error: Json = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    checkpoints: list[Json] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.way[0]


class Refused(Exception):
    """Answer with this status and body."""

    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body


class FineTuneServer:
    """What the providers hold, and what they were asked."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.jobs: list[Job] = []
        self.models: set[str] = set()
        self.done: Counter[str] = Counter()
        """What changed something, by its name."""
        self.seen: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        """Runs before a request is served; may raise `Refused`."""
        self.answering: Callable[[str, str], bool] = lambda method, path: True
        """Whether a request that has been served gets its answer, or the connection closes."""
        self.way: Sequence[str] = ()
        """Of the next jobs; empty for the usual."""
        self.error: Json = {}
        """Why the next jobs fail, if they do."""
        self.file_status = "processed"
        self.page_size = 100
        self.accounts = ["accounts/acme"]
        self.metadata = True
        """Whether jobs keep their metadata."""
        self.url = ""
        self._made = BEGAN
        self._lock = threading.RLock()

    @property
    def environment(self) -> dict[str, str]:
        """What moves the providers here."""
        urls = {
            "OPENAI_BASE_URL": f"{self.url}/openai/v1",
            "AZURE_BASE_URL": f"{self.url}/azure/v1",
            "TOGETHER_BASE_URL": f"{self.url}/together/v1",
            "FIREWORKS_BASE_URL": f"{self.url}/fireworks/inference/v1",
        }
        return KEYS | urls

    def serve(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        with self._lock:
            self.seen.append((method, path))
            if KEY not in (headers.get("authorization", "")[7:], headers.get("api-key")):
                raise Refused(401, {"error": {"message": "Incorrect API key provided"}})
            self.before(method, path)
            parts = urlsplit(path)
            _, provider, _, *route = map(unquote, parts.path.split("/"))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            match provider:
                case "together":
                    return self._together(method, route, headers, body)
                case "fireworks":
                    return self._fireworks(method, route, query, headers, body)
                case _:
                    return self._openai(method, route, query, headers, body)

    # OpenAI and Azure

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
                form, file = _form(headers, body)
                assert form == {"purpose": "fine-tune"}
                return self._file(self._new_file(*file))
            case "GET", ["files"]:
                assert query["purpose"] == "fine-tune"
                return self._page([self._file(f) for f in self.files.values()], query)
            case "GET", ["files", file_id]:
                return self._file(self._known_file(file_id))
            case "POST", ["fine_tuning", "jobs"]:
                return self._openai_job(self._openai_new(json.loads(body)))
            case "GET", ["fine_tuning", "jobs"]:
                return self._page([self._openai_job(job) for job in self.jobs], query)
            case "GET", ["fine_tuning", "jobs", job_id]:
                return self._openai_job(self._moved(self._job(job_id)))
            case "GET", ["fine_tuning", "jobs", job_id, "events"]:
                return self._page(self._job(job_id).events, query)
            case "GET", ["fine_tuning", "jobs", job_id, "checkpoints"]:
                return self._page(self._job(job_id).checkpoints, query)
            case "POST", ["fine_tuning", "jobs", job_id, order]:
                return self._openai_job(self._ordered(self._job(job_id), order))
            case "DELETE", ["models", model]:
                return self._delete(model) | {"id": model, "object": "model", "deleted": True}
            case _:
                raise Refused(404, {"error": {"message": f"no {method} {'/'.join(route)}"}})

    def _openai_new(self, given: Json) -> Job:
        for name in ("training_file", "validation_file"):
            if name in given and self._known_file(given[name]).status != "processed":
                raise Refused(400, {"error": {"message": "file not ready", "param": name}})
        if not self.metadata:
            given.pop("metadata")
        job = self._new_job(f"ftjob-{len(self.jobs):04}", given, OPENAI_WAY)
        self._say(job, f"Created fine-tuning job: {job.id}")
        return job

    def _openai_job(self, job: Job) -> Json:
        done = job.state == "succeeded"
        return {
            "object": "fine_tuning.job",
            "id": job.id,
            "model": job.given["model"],
            "created_at": job.made,
            "fine_tuned_model": _openai_model(job) if done else None,
            "status": job.state,
            "training_file": job.given["training_file"],
            "validation_file": job.given.get("validation_file"),
            "trained_tokens": 40_000 if done else None,
            "error": job.error if job.state == "failed" else {},
            "metadata": job.given.get("metadata"),
            "seed": job.given.get("seed"),
        }

    def _ordered(self, job: Job, order: str) -> Job:
        self.done[order] += 1
        if job.state in ("succeeded", "failed", "cancelled") and order != "resume":
            why = {"message": f"Job has already {job.state}.", "code": "invalid_state"}
            raise Refused(400, {"error": why})
        match order:
            case "cancel":
                job.way = ["cancelled"]
            case "pause":
                job.way = ["paused", *job.way]
            case _:
                job.way = [word for word in job.way if word != "paused"]
        return job

    def _moved(self, job: Job) -> Job:
        if len(job.way) > 1 and job.state != "paused":
            job.way.pop(0)
            self._say(job, f"The job is {job.state}")
            if job.state == "running":
                step = len(job.checkpoints) + 1
                self._say(
                    job,
                    f"Step {step}",
                    step=step,
                    total_steps=2,
                    train_loss=2.0 / step,
                    valid_loss=1.5,
                )
                job.checkpoints.append(self._checkpoint(job, step))
            if job.state == "succeeded":
                self.models.add(_openai_model(job))
        return job

    def _checkpoint(self, job: Job, step: int) -> Json:
        return {
            "object": "fine_tuning.job.checkpoint",
            "id": f"ftckpt-{job.id}-{step}",
            "created_at": self._now(),
            "step_number": step,
            "fine_tuned_model_checkpoint": f"{_openai_model(job)}:ckpt-step-{step}",
            "metrics": {"step": step, "train_loss": 2.0 / step, "full_valid_loss": None},
        }

    def _say(self, job: Job, message: str, **data: float) -> None:
        event = {
            "object": "fine_tuning.job.event",
            "id": f"ftevent-{job.id}-{len(job.events):03}",
            "created_at": self._now(),
            "level": "info",
            "message": message,
            "type": "metrics" if data else "message",
            "data": data,
        }
        job.events.append(event)

    def _page(self, oldest_first: Sequence[Json], query: Mapping[str, str]) -> Json:
        newest = list(reversed(oldest_first))
        ids = [each["id"] for each in newest]
        start = ids.index(query["after"]) + 1 if "after" in query else 0
        end = start + min(int(query["limit"]), self.page_size)
        return {"object": "list", "data": newest[start:end], "has_more": len(newest) > end}

    # Together

    def _together(
        self, method: str, route: list[str], headers: Mapping[str, str], body: bytes
    ) -> Any:
        match method, route:
            case "POST", ["files", "upload"]:
                form, file = _form(headers, body)
                assert form == {"purpose": "fine-tune", "file_name": file[0], "file_type": "jsonl"}
                return self._together_file(self._new_file(*file))
            case "GET", ["files"]:
                return {"data": [self._together_file(file) for file in self.files.values()]}
            case "GET", ["files", file_id]:
                return self._together_file(self._known_file(file_id))
            case "POST", ["fine-tunes"]:
                given = json.loads(body)
                return self._together_job(
                    self._new_job(f"ft-{len(self.jobs)}", given, TOGETHER_WAY)
                )
            case "GET", ["fine-tunes"]:
                return {"data": [self._together_job(job) for job in self.jobs]}
            case "GET", ["fine-tunes", job_id]:
                return self._together_job(self._together_moved(self._job(job_id)))
            case "GET", ["fine-tunes", job_id, "events"]:
                return {"data": self._job(job_id).events}
            case "GET", ["fine-tunes", job_id, "metrics"]:
                return {"metrics": _together_metrics(self._job(job_id))}
            case "GET", ["fine-tunes", job_id, "checkpoints"]:
                return {"data": self._job(job_id).checkpoints}
            case "POST", ["fine-tunes", job_id, "cancel"]:
                job = self._job(job_id)
                self.done["cancel"] += 1
                if job.state == "completed":
                    raise Refused(400, {"error": {"message": "job is completed"}})
                job.way = ["cancel_requested", "cancelled"]
                return self._together_job(job)
            case "DELETE", ["fine-tunes", job_id]:
                job = self._job(job_id)
                self.jobs.remove(job)
                return self._delete(_together_model(job)) | {"message": "Job has been deleted"}
            case _:
                raise Refused(404, {"error": {"message": f"no {method} {'/'.join(route)}"}})

    def _together_file(self, file: File) -> Json:
        word = {"processed": "COMPLETED", "later": "RUNNING", "error": "INVALID_FORMAT"}
        report = {"valid": False, "error": "line 3 has no messages"}
        return {
            "id": file.id,
            "object": "file",
            "filename": file.name,
            "bytes": len(file.content),
            "created_at": file.made,
            "processing_status": word[file.status],
            "validation_report": report if file.status == "error" else None,
        }

    def _together_job(self, job: Job) -> Json:
        done = job.state == "completed"
        return {
            "id": job.id,
            "status": job.state,
            "user_id": "u",
            "created_at": "2030-03-17T17:46:40Z",
            "model": job.given["model"],
            "suffix": job.given["suffix"],
            "training_file": job.given["training_file"],
            "model_output_name": _together_model(job),
            "events": job.events,
            "token_count": 40_000 if done else 0,
            "total_price": 19_200_000 if done else 0,
            "epochs_completed": 1 if done else 0,
        }

    def _together_moved(self, job: Job) -> Job:
        if len(job.way) > 1:
            job.way.pop(0)
            self._together_say(job, f"The job is {job.state}", "job_start")
            if job.state == "running":
                path = {"path": f"s3://{job.id}/1", "checkpoint_type": "Intermediate", "step": 1}
                job.checkpoints.append(path | {"created_at": "2030-03-17T17:46:41Z"})
            if job.state == "error":
                self._together_say(job, job.error["message"], "job_error")
            if job.state == "completed":
                self.models.add(_together_model(job))
        return job

    def _together_say(self, job: Job, message: str, kind: str) -> None:
        at = f"2030-03-17T18:{len(job.events):02}:00Z"
        step = 1 if job.state == "running" else None
        event = {"object": "fine-tune-event", "type": kind, "level": "info", "step": step}
        job.events.append(event | {"created_at": at, "message": message})

    # Fireworks

    def _fireworks(
        self,
        method: str,
        route: list[str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Any:
        match method, route[1:]:
            case "GET", []:
                return {"accounts": [{"name": name} for name in self.accounts]}
            case _, ["acme", *rest]:
                return self._fireworks_account(method, rest, query, headers, body)
            case _:
                raise Refused(403, {"code": 7, "message": "not your account", "details": []})

    def _fireworks_account(
        self,
        method: str,
        route: list[str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Any:
        kinds = ("supervisedFineTuningJobs", "dpoJobs")
        match method, route:
            case "POST", ["datasets"]:
                return self._dataset(json.loads(body))
            case "POST", ["datasets", name] if name.endswith(":upload"):
                return self._dataset_uploaded(name.removesuffix(":upload"), _form(headers, body)[1])
            case "GET", ["datasets", name]:
                file = self._known_file(f"accounts/acme/datasets/{name}")
                word = "READY" if file.status == "processed" else "UPLOADING"
                return {"name": file.id, "state": word, "status": {"code": "OK"}}
            case "POST", [kind] if kind in kinds:
                return self._fireworks_job(self._fireworks_new(kind, query, json.loads(body)))
            case "GET", [kind, name] if kind in kinds:
                return self._fireworks_job(self._fireworks_moved(self._named(kind, name)))
            case "POST", [kind, order] if kind in kinds:
                name, _, word = order.partition(":")
                job = self._named(kind, name)
                self.done[word] += 1
                job.way = ["CANCELLING", "CANCELLED"] if word == "cancel" else job.way
                return {}
            case "DELETE", ["models", name]:
                return self._delete(f"accounts/acme/models/{name}")
            case _:
                raise Refused(404, {"code": 5, "message": f"no {'/'.join(route)}", "details": []})

    def _dataset(self, given: Json) -> Json:
        name = f"accounts/acme/datasets/{given['datasetId']}"
        if name in self.files:
            raise Refused(409, {"code": 6, "message": "it exists already", "details": []})
        self.done["dataset"] += 1
        self.files[name] = File(name, "", b"", self._now(), "empty")
        return {"name": name, "state": "UPLOADING"}

    def _dataset_uploaded(self, name: str, sent: tuple[str, bytes]) -> Json:
        file = self._known_file(f"accounts/acme/datasets/{name}")
        self.done["upload"] += 1
        file.name, file.content = sent
        file.status = self.file_status
        return {"id": file.id, "bytes": len(file.content)}

    def _fireworks_new(self, kind: str, query: Mapping[str, str], given: Json) -> Job:
        (name,) = query.values()
        if any(job.id == f"accounts/acme/{kind}/{name}" for job in self.jobs):
            raise Refused(409, {"code": 6, "message": "it exists already", "details": []})
        return self._new_job(f"accounts/acme/{kind}/{name}", given, FIREWORKS_WAY)

    def _fireworks_job(self, job: Job) -> Json:
        output = job.given.get("outputModel") or job.given["trainingConfig"]["outputModel"]
        return {
            "name": job.id,
            "state": f"JOB_STATE_{job.state}",
            "createTime": "2030-03-17T17:46:40Z",
            "outputModel": output,
            "status": job.error if job.state == "FAILED" else {"code": "OK"},
            "jobProgress": {"percent": 50, "epoch": 1},
            "estimatedCost": {"currencyCode": "USD", "units": "1", "nanos": 250_000_000},
        }

    def _fireworks_moved(self, job: Job) -> Job:
        if len(job.way) > 1:
            job.way.pop(0)
        if job.state == "COMPLETED":
            self.models.add(job.given.get("outputModel") or "")
        return job

    def _named(self, kind: str, name: str) -> Job:
        return self._job(f"accounts/acme/{kind}/{name}")

    # What they have in common

    def _new_file(self, name: str, content: bytes) -> File:
        self.done["upload"] += 1
        file = File(f"file-{len(self.files):04}", name, content, self._now(), self.file_status)
        self.files[file.id] = file
        return file

    def _known_file(self, file_id: str) -> File:
        if file_id not in self.files:
            raise Refused(404, {"error": {"message": f"No such File object: {file_id}"}})
        return self.files[file_id]

    def _file(self, file: File) -> Json:
        status = {"later": "pending"}.get(file.status, file.status)
        return {
            "id": file.id,
            "object": "file",
            "purpose": "fine-tune",
            "filename": file.name,
            "bytes": len(file.content),
            "created_at": file.made,
            "status": status,
            "status_details": "line 3 has no messages" if status == "error" else None,
        }

    def _new_job(self, job_id: str, given: Json, usual: Sequence[str]) -> Job:
        self.done["create"] += 1
        job = Job(job_id, given, self._now(), list(self.way or usual), self.error)
        self.jobs.append(job)
        return job

    def _job(self, job_id: str) -> Job:
        for job in self.jobs:
            if job.id == job_id:
                return job
        raise Refused(404, {"error": {"message": f"Could not find fine tune: {job_id}"}})

    def _delete(self, model: str) -> Json:
        if model not in self.models:
            raise Refused(404, {"error": {"message": f"The model '{model}' does not exist"}})
        self.done["delete"] += 1
        self.models.remove(model)
        return {}

    def _now(self) -> int:
        self._made += 1
        return self._made


def _openai_model(job: Job) -> str:
    return f"ft:{job.given['model']}:acme:{job.given['suffix']}:{job.id[-4:]}"


def _together_model(job: Job) -> str:
    return f"acme/{job.given['model'].rpartition('/')[2]}-{job.given['suffix']}"


def _together_metrics(job: Job) -> list[Json]:
    return [{"train/global_step": 1, "train/loss": 2.0, "eval/loss": 1.5, "timestamp": 1.0}]


def _form(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], tuple[str, bytes]]:
    """The fields of a form, and its file: name and bytes."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    parts: Any = message_from_bytes(head + body, policy=HTTP).get_payload()
    form = {part["content-disposition"].params["name"]: part for part in parts}
    file = form.pop("file")
    name = file["content-disposition"].params["filename"]
    fields = {field: part.get_payload() for field, part in form.items()}
    return fields, (name, file.get_payload(decode=True))


@contextmanager
def serving() -> Iterator[FineTuneServer]:
    """A server on a free port of loopback, for as long as the context lasts."""
    state = FineTuneServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

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

        do_GET = do_POST = do_DELETE = do

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                # The client was killed.
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
