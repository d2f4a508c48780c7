"""Fine-tuning at OpenAI, and at Azure, which speaks its language: files, jobs, events, checkpoints.

Our job's id is in the name of its files and in its metadata; by these they are found again.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import quote, urlencode

from tracemill.corpus.trainable import LIMITS
from tracemill.errors import CallFailed
from tracemill.finetune.providers import (
    BaseModel,
    Checkpoint,
    Events,
    JobSpec,
    Part,
    Remote,
    RemoteState,
)
from tracemill.finetune.providers.wires import (
    Ask,
    Facts,
    Steps,
    file_name,
    file_of,
    form,
    get_ask,
    identified,
    importing,
    moment,
    number,
    older_than,
    pages,
    refused,
    state_of,
    whole,
)
from tracemill.llm.providers import Wire
from tracemill.llm.providers.batch import label, name_of
from tracemill.llm.providers.fields import malformed, obj, objects, text
from tracemill.messages import Json

_METHODS = ("supervised", "dpo")
_SET = frozenset({"n_epochs", "batch_size", "learning_rate_multiplier"})
_HYPERPARAMETERS = {"supervised": _SET, "dpo": _SET | {"beta"}}
LAST_JOBS = date(2027, 1, 6)
"""OpenAI, deprecations page, update to self-serve fine-tuning of 7 May 2026."""
_SHAPE = Facts(
    title="OpenAI",
    methods=_METHODS,
    hyperparameters=_HYPERPARAMETERS,
    epochs="n_epochs",
    usual_epochs=3,
    min_rows=10,
    max_file_bytes=512_000_000,
    pausable=True,
    checkpoints=True,
)


def _models(*, priced: bool) -> tuple[BaseModel, ...]:
    return tuple(
        BaseModel(
            name,
            _METHODS,
            known.max_tokens,
            known.usd_per_million if priced else None,
            known.shutdown_date if priced else None,
        )
        for name, known in LIMITS.items()
    )


FACTS: Mapping[str, Facts] = {
    "openai": _SHAPE._replace(
        models=_models(priced=True),
        last_jobs=LAST_JOBS,
        warning="OpenAI takes its last new fine-tuning jobs on 6 January 2027, and since 7 May 2026 "
        "none of organisations that were new to it; GPT-4o and GPT-4.1, with all that was trained "
        "on them, shut down on 14 January 2027. `provider: local` trains here.",
    ),
    "azure": _SHAPE._replace(
        title="Azure",
        models=_models(priced=False),
        warning="Azure serves a trained model only after it was deployed, under the deployment's "
        "name and by the hour; what training costs depends on the region and the tier.",
    ),
}

_OUR_ID = "tracemill_job_id"
# The words of the API; of Azure's older versions; and those that come with pause and resume.
_STATES: Mapping[str, RemoteState] = {
    "validating_files": "validating",
    "queued": "queued",
    "pending": "queued",
    "notRunning": "queued",
    "created": "queued",
    "resuming": "queued",
    "running": "running",
    "pausing": "running",
    "paused": "paused",
    "cancelling": "cancelling",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
}
_FILE_GONE = {"error", "deleted", "deleting"}
# Azure reads a file for a while before it can be trained on; OpenAI does not.
_FILE_LATER = {"pending", "running", "notRunning"}
_METRICS = {
    "valid_loss": "validation_loss",
    "full_valid_loss": "full_validation_loss",
    "train_mean_token_accuracy": "train_accuracy",
    "valid_mean_token_accuracy": "validation_accuracy",
    "full_valid_mean_token_accuracy": "full_validation_accuracy",
}


def find_upload(job: JobSpec, part: Part) -> Steps[str | None]:
    """The file of this name and size."""

    def page(after: str | None) -> Ask:
        return _list("/files", after, purpose="fine-tune", order="desc")

    name, size = file_name(job, part), file_of(job, part).size_bytes
    for file in (yield from pages(page, older_than(job))):
        same = file.get("filename") == name and file.get("bytes") in (size, None)
        if same and file.get("status") not in _FILE_GONE:
            return name_of(file.get("id")) or None
    return None


def upload(job: JobSpec, part: Part, content: bytes) -> Steps[str]:
    """Hand over a file."""
    wire = form({"purpose": "fine-tune"}, file_name(job, part), content, "/files")
    body = yield Ask(wire, once=True)
    if file_id := name_of(obj(body).get("id")):
        return file_id
    raise malformed("the answer to the uploaded file of examples has no id")


def find(job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote | None]:
    """The job with our id; where none are kept, the job of our file."""

    def page(after: str | None) -> Ask:
        return _list("/fine_tuning/jobs", after)

    for body in (yield from pages(page, older_than(job))):
        ours = text(obj(body.get("metadata")).get(_OUR_ID))
        if ours == job.job_id or (not ours and body.get("training_file") == files["training"]):
            return read(body)
    return None


def create(job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote]:
    """Have it trained, once the files are ready."""
    for file_id in files.values():
        file = obj((yield get_ask(f"/files/{quote(file_id, safe='')}")))
        if (word := text(file.get("status"))) in _FILE_GONE:
            raise refused(file_id, text(file.get("status_details")) or word)
        if word in _FILE_LATER:
            raise importing(file_id, word)
    return read((yield Ask(Wire("/fine_tuning/jobs", body_of(job, files)), once=True)))


def body_of(job: JobSpec, files: Mapping[Part, str]) -> Json:
    """The job as it is asked for. Hyperparameters stay in their own object, and change no other."""
    method: Json = {"type": job.method}
    if job.hyperparameters:
        method[job.method] = {"hyperparameters": dict(job.hyperparameters)}
    body: Json = {
        "model": job.base_model,
        "training_file": files["training"],
        "method": method,
        "seed": job.seed,
        "suffix": job.suffix[:64] or None,
        "metadata": {_OUR_ID: job.job_id, "tracemill_dataset_digest": job.dataset_digest[:512]},
    }
    if "validation" in files:
        body["validation_file"] = files["validation"]
    return body


def get(remote_id: str) -> Steps[Remote]:
    """How far it is."""
    return read((yield get_ask(_job(remote_id))))


def events(remote_id: str, after: str | None) -> Steps[Events]:
    """What was said since the event that `after` names. Lists begin with the newest."""
    unread: list[Json] = []
    cursor: str | None = None
    while True:
        page = obj((yield _list(f"{_job(remote_id)}/events", cursor)))
        data = objects(page.get("data"))
        unread += data
        ids = [each.get("id") for each in data]
        if (after in ids and not _rises(data)) or page.get("has_more") is not True:
            break
        if not ids or not isinstance(ids[-1], str) or ids[-1] == cursor:
            break
        cursor = ids[-1]
    return _said(unread if _rises(unread) else unread[::-1], after)


def checkpoints(remote_id: str) -> Steps[list[Checkpoint]]:
    """All that there are, oldest first; none where the server has no such list."""
    try:
        found = yield from pages(lambda after: _list(f"{_job(remote_id)}/checkpoints", after))
    except CallFailed as error:
        if error.status in (404, 405):
            return []
        raise
    kept = [
        Checkpoint(
            checkpoint_id,
            step,
            _metrics(obj(each.get("metrics"))),
            name_of(each.get("fine_tuned_model_checkpoint")) or None,
        )
        for each in found
        if (checkpoint_id := name_of(each.get("id")))
        and (step := whole(each.get("step_number"))) is not None
    ]
    return sorted(kept, key=lambda each: each.step)


def cancel(remote_id: str) -> Steps[Remote]:
    """Stop it."""
    return read((yield Ask(Wire(f"{_job(remote_id)}/cancel"))))


def pause(remote_id: str) -> Steps[Remote]:
    """Let it stand still."""
    return read((yield Ask(Wire(f"{_job(remote_id)}/pause"))))


def resume(remote_id: str) -> Steps[Remote]:
    """Let it go on."""
    return read((yield Ask(Wire(f"{_job(remote_id)}/resume"))))


def delete_model(model: str) -> Steps[None]:
    """Remove what was trained."""
    yield Ask(Wire(f"/models/{quote(model, safe=':')}", method="DELETE"))


def read(body: Any) -> Remote:
    """A job object. Raises `CallFailed` (`malformed_response`)."""
    remote_id, word = identified(body)
    job = obj(body)
    error = obj(job.get("error"))
    return Remote(
        remote_id,
        state_of(word, _STATES),
        word,
        model=name_of(job.get("fine_tuned_model")) or None,
        trained_tokens=whole(job.get("trained_tokens")),
        error_message=_problem(error),
        error_code=label(text(error.get("code"))) or None,
        created_at=moment(job.get("created_at")),
    )


def _problem(error: Json) -> str | None:
    said = text(error.get("message")) or text(error.get("code"))
    where = text(error.get("param"))
    return f"{where}: {said}" if said and where else said or None


def _said(unread: Sequence[Json], after: str | None) -> Events:
    """What is new in a list of events, oldest first."""
    ids = [name_of(each.get("id")) for each in unread]
    new = unread[ids.index(after) + 1 :] if after in ids else unread
    told = Events(
        tuple(text(e.get("message")) for e in new if e.get("type") != "metrics"),
        cursor=next((each for each in reversed(ids) if each), after),
    )
    for data in (obj(each.get("data")) for each in new):
        if (step := whole(data.get("step"))) is not None:
            loss = number(data.get("train_loss"))
            metrics = {**told.metrics, **_metrics(data)}
            told = told._replace(
                step=step,
                loss=told.loss if loss is None else loss,
                metrics=metrics,
                total_steps=whole(data.get("total_steps")) or told.total_steps,
            )
    return told


def _metrics(data: Json) -> dict[str, float]:
    found = {ours: number(data.get(theirs)) for theirs, ours in _METRICS.items()}
    found["train_loss"] = number(data.get("train_loss"))
    return {name: value for name, value in found.items() if value is not None}


def _rises(data: Sequence[Json]) -> bool:
    """Whether the oldest comes first, against the provider's custom."""
    moments = [made for each in data if (made := moment(each.get("created_at")))]
    return bool(moments) and moments[0] < moments[-1]


def _job(remote_id: str) -> str:
    return f"/fine_tuning/jobs/{quote(remote_id, safe='')}"


def _list(path: str, after: str | None, **more: str) -> Ask:
    query = {"limit": "100", **more} | ({"after": after} if after else {})
    return get_ask(f"{path}?{urlencode(query)}")
