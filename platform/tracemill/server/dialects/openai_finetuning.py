"""OpenAI's fine-tuning jobs, over any trainer: begun, followed, paused, cancelled.

A job goes on while the server runs; what it gives can be asked at once by `fine_tuned_model`.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from starlette.responses import Response as HttpResponse

from tracemill.errors import CallFailed
from tracemill.events import (
    FineTuneCancelled,
    FineTuneCheckpointed,
    FineTuneCreated,
    FineTuneFailed,
    FineTunePaused,
    FineTuneProgressed,
    FineTuneRequested,
    FineTuneResumed,
    FineTuneSucceeded,
    FineTuneUploaded,
    FineTuneValidated,
    Happened,
)
from tracemill.finetune import jobs, uploads
from tracemill.finetune.job import JobState, state, states
from tracemill.finetune.providers.table import HOSTED
from tracemill.finetune.uploads import Upload
from tracemill.llm import keys
from tracemill.messages import Json
from tracemill.server import files
from tracemill.server.dialects import openai_finetuning_body as body_of
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.dialects.openai_finetuning_body import BODY, Body
from tracemill.server.dialects.openai_pages import page
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import Trouble, invalid

PREFIX = "ftjob-"
_STATUS: Mapping[str, str] = {
    "requested": "validating_files",
    "validated": "validating_files",
    "validating": "validating_files",
    "created": "queued",
    "queued": "queued",
    # OpenAI's client knows no word for what stands still and will go on.
    "paused": "queued",
    "running": "running",
    "cancelling": "running",
    "unknown": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
_METRICS = {
    "loss": "train_loss",
    "train_loss": "train_loss",
    "accuracy": "train_mean_token_accuracy",
    "train_accuracy": "train_mean_token_accuracy",
    "validation_loss": "valid_loss",
    "valid_loss": "valid_loss",
    "validation_accuracy": "valid_mean_token_accuracy",
    "full_valid_loss": "full_valid_loss",
    "full_valid_mean_token_accuracy": "full_valid_mean_token_accuracy",
}
_BEGIN_S = 5.0
"""How long an order waits for a job that is not with its trainer yet."""


async def create(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Begin a job. What an SDK sends once more after a broken connection is the same job."""
    body = await asked.read(BODY)
    going = gateway.going(asked, OPENAI, body.model)
    again = asked.headers.get("x-stainless-retry-count", "0") == "0"
    key_id = asked.key.key_id if asked.key else None
    provider, _, base = going.model.partition("/")
    if provider in HOSTED and keys.of(f"{provider}/") is None:
        raise invalid(f"model: there is no key for {provider} here", "model")

    def begin() -> JobState:
        training = _upload(gateway, asked, body.training_file, "training_file")
        validation = None
        if body.validation_file:
            validation = _upload(gateway, asked, body.validation_file, "validation_file")
        method = uploads.local_method(base, training.path) if provider == "local" else base
        wanted = body_of.wanted(body, provider, method, key_id)
        event = uploads.asked(gateway.settings, wanted, training, validation)
        event = event.model_copy(update={"correlation_id": asked.request_id})
        job_id = jobs.begin(gateway.log, gateway.settings, event, again=again)
        return state(gateway.log, job_id)

    known = await asyncio.to_thread(begin)
    gateway.following.follow(known.job_id)
    return answer(_told(known))


def _upload(gateway: Gateway, asked: Incoming, name: str, field: str) -> Upload:
    try:
        stored = files.find(gateway.log, gateway.settings, name, asked.key)
        path = files.bytes_of(gateway.settings, stored)
    except Trouble as none:
        raise invalid(f"{field}: {none.message}", field) from None
    if stored.purpose != "fine-tune":
        raise invalid(f"{field}: its purpose is {stored.purpose}, not fine-tune", field)
    return Upload(stored.name, path, stored.sha256, stored.size_bytes)


async def listed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The jobs that the key sees, newest first."""
    found = await asyncio.to_thread(states, gateway.log)
    wanted = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in asked.query.items()
        if name.startswith("metadata[")
    }
    seen = [
        each
        for each in reversed(found)
        if _sees(asked, each) and wanted.items() <= dict(each.metadata).items()
    ]
    return answer(page(seen, asked, _name, _told))


async def retrieve(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """How far a job is."""
    known = await _found(gateway, asked)
    if not known.ended and known.dataset == uploads.DATASET:
        gateway.following.follow(known.job_id)
    return answer(_told(known))


async def _found(gateway: Gateway, asked: Incoming) -> JobState:
    return await asyncio.to_thread(_find, gateway, asked)


def _find(gateway: Gateway, asked: Incoming) -> JobState:
    name = asked.path["job_id"]
    stream = f"finetune:{name.removeprefix(PREFIX)}"
    if not name.startswith(PREFIX) or len(stream) > 200 or not gateway.log.version(stream):
        raise Trouble(404, "not_found", f"there is no job {name[:100]}", param="fine_tuning_job_id")
    known = state(gateway.log, name.removeprefix(PREFIX))
    if not _sees(asked, known):
        raise Trouble(404, "not_found", f"there is no job {name[:100]}", param="fine_tuning_job_id")
    return known


def _sees(asked: Incoming, known: JobState) -> bool:
    key = asked.key
    return key is None or key.admin or known.key_id == key.key_id


async def cancel(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Stop a job."""
    return await _ordered(gateway, asked, jobs.cancel)


async def pause(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Have a job stand still."""
    return await _ordered(gateway, asked, jobs.pause)


async def resume(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Have a job go on."""
    return await _ordered(gateway, asked, jobs.resume)


async def _ordered(
    gateway: Gateway, asked: Incoming, order: Callable[..., JobState]
) -> HttpResponse:
    known = await _begun(gateway, asked) if order is not jobs.cancel else None
    known = known or await _found(gateway, asked)
    if known.ended:
        raise invalid(f"job {_name(known)} is {known.state} already")

    def give() -> JobState:
        return order(gateway.log, gateway.settings, known.job_id, client=gateway.client)

    try:
        told = await asyncio.to_thread(give)
    except CallFailed as failed:
        if failed.error_type != "unsupported":
            raise
        raise invalid(str(failed)) from None
    gateway.following.follow(known.job_id)
    return answer(_told(told))


async def _begun(gateway: Gateway, asked: Incoming) -> JobState:
    """The job, once its trainer has it: that takes a moment."""
    until = time.monotonic() + _BEGIN_S
    while True:
        known = await _found(gateway, asked)
        if known.ended or known.remote_id is not None or time.monotonic() > until:
            return known
        await asyncio.sleep(0.05)


async def listed_events(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """What happened to a job, newest first."""
    known = await _found(gateway, asked)
    history = await asyncio.to_thread(_history, gateway, known)
    found = [told for event in history for told in _events(event)]
    return answer(page(found[::-1], asked, lambda each: each["id"], lambda each: each))


async def checkpoints(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """What a job has kept on its way, newest first. A checkpoint of a model that is trained here is
    for its own training to go on from: it cannot be asked anything."""
    known = await _found(gateway, asked)
    history = await asyncio.to_thread(_history, gateway, known)
    kept = [event for event in history if isinstance(event, FineTuneCheckpointed)]
    found = [_checkpoint(known, event) for event in reversed(kept)]
    return answer(page(found, asked, lambda each: each["id"], lambda each: each, usual=10))


def _history(gateway: Gateway, known: JobState) -> list[Happened]:
    return [recorded.event for recorded in gateway.log.read(stream=known.stream)]


def _name(known: JobState) -> str:
    return PREFIX + known.job_id


def _told(known: JobState) -> Json:
    """A job as clients have it."""
    given = {
        "n_epochs": known.hyperparameters.get("n_epochs")
        or known.hyperparameters.get("epochs")
        or known.hyperparameters.get("passes")
        or "auto",
        "batch_size": known.hyperparameters.get("batch_size", "auto"),
        "learning_rate_multiplier": known.hyperparameters.get("learning_rate_multiplier")
        or known.hyperparameters.get("learning_rate", "auto"),
    }
    kind = "dpo" if known.method == "dpo" else "supervised"
    return {
        "id": _name(known),
        "object": "fine_tuning.job",
        "created_at": _seconds(known.requested_at),
        "error": _error(known),
        "estimated_finish": None,
        "fine_tuned_model": known.model,
        "finished_at": _seconds(known.ended_at) if known.ended_at else None,
        "hyperparameters": given,
        "integrations": [],
        "metadata": dict(known.metadata),
        "method": {"type": kind, kind: {"hyperparameters": given}},
        "model": f"{known.provider}/{known.base_model}",
        "organization_id": "tracemill",
        "result_files": [],
        "seed": known.seed,
        "status": _STATUS.get(known.state, "running"),
        "tracemill_state": known.state,
        "trained_tokens": known.trained_tokens,
        "training_file": known.training.split,
        "user_provided_suffix": known.suffix,
        "validation_file": known.validation.split if known.validation else None,
    }


def _error(known: JobState) -> Json | None:
    if known.state != "failed":
        return None
    kind = known.error_type or "internal_error"
    code = "invalid_training_file" if kind == "invalid_data" else known.error_code or kind
    param = "training_file" if kind == "invalid_data" else None
    return {"code": code, "message": known.error_message or kind, "param": param}


def _checkpoint(known: JobState, event: FineTuneCheckpointed) -> Json:
    return {
        "id": f"ftckpt_{event.event_id}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": _seconds(event.occurred_at),
        "fine_tuned_model_checkpoint": event.checkpoint_id,
        "fine_tuning_job_id": _name(known),
        "metrics": {"step": event.step, **_measured(event.metrics)},
        "step_number": event.step,
    }


def _measured(metrics: Mapping[str, float]) -> Json:
    """By OpenAI's names where it has one, else by the trainer's."""
    return {_METRICS.get(name, name): value for name, value in metrics.items()}


def _events(event: Happened) -> Iterator[Json]:
    """What an event of ours says, in lines as OpenAI has them."""
    match event:
        case FineTuneRequested():
            yield _line(event, f"Created fine-tuning job: {PREFIX}{event.job_id}")
        case FineTuneValidated():
            found = ", ".join(f"{n} x {code}" for code, n in event.issues.items())
            yield _line(event, "Files validated" + (f": {found}" if found else ""))
        case FineTuneUploaded():
            yield _line(event, f"The trainer has the {event.part} file: {event.rows:,} examples")
        case FineTuneCreated():
            yield _line(event, "The trainer has taken the job")
        case FineTuneProgressed():
            yield from _progress(event)
        case FineTuneCheckpointed():
            yield _line(event, f"Checkpoint {event.checkpoint_id} created at step {event.step}")
        case FineTunePaused():
            yield _line(event, "Fine-tuning job paused")
        case FineTuneResumed():
            yield _line(event, "Fine-tuning job resumed")
        case FineTuneSucceeded():
            yield _line(event, f"The job has successfully completed: {event.model}")
        case FineTuneFailed():
            yield _line(event, f"The job failed: {event.error_message}", level="error")
        case FineTuneCancelled():
            yield _line(event, f"The job was cancelled: {event.reason}", level="warn")
        case _:
            pass


def _progress(event: FineTuneProgressed) -> Iterator[Json]:
    for number, message in enumerate(event.messages):
        yield _line(event, message, suffix=f"-{number}")
    if event.loss is None and not event.metrics:
        if not event.messages:
            yield _line(event, f"Job is {event.state}")
        return
    measured = _measured(event.metrics)
    if event.loss is not None:
        measured["train_loss"] = event.loss
    of = f"/{event.total_steps}" if event.total_steps else ""
    told = ", ".join(f"{name}={value:.4g}" for name, value in measured.items())
    data = {"step": event.step, "total_steps": event.total_steps, **measured}
    yield _line(event, f"Step {event.step}{of}: {told}", data=data)


def _line(
    event: Happened, message: str, *, level: str = "info", data: Any = None, suffix: str = ""
) -> Json:
    return {
        "id": f"ftevent-{event.event_id}{suffix}",
        "object": "fine_tuning.job.event",
        "created_at": _seconds(event.occurred_at),
        "level": level,
        "message": message,
        "type": "metrics" if data else "message",
        "data": data or {},
    }


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _route(method: str, path: str, handler: Any, summary: str, body: Any = None) -> Route:
    whole = f"/v1/fine_tuning/jobs{path}"
    return Route(method, whole, handler, OPENAI, "finetuning", summary, body)


_ONE = "/{job_id}"
ROUTES = (
    _route("POST", "", create, "Begin a fine-tune of a file that was handed over.", BODY),
    _route("GET", "", listed, "The fine-tunes of the key."),
    _route("GET", _ONE, retrieve, "How far a fine-tune is."),
    _route("POST", f"{_ONE}/cancel", cancel, "Stop a fine-tune."),
    _route("POST", f"{_ONE}/pause", pause, "Have a fine-tune stand still."),
    _route("POST", f"{_ONE}/resume", resume, "Have a fine-tune go on."),
    _route("GET", f"{_ONE}/events", listed_events, "What happened to a fine-tune."),
    _route("GET", f"{_ONE}/checkpoints", checkpoints, "What a fine-tune has kept on its way."),
)

__all__ = ["ROUTES", "Body"]
