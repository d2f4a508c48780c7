"""Fine-tuning at Together: files, jobs, events, metrics and checkpoints.

Together keeps no metadata: our job's id is in the name of its files, and its end in the suffix of
its model; by these they are found again. Read from the SDK `together` 3.1.1.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from tracemill.errors import CallFailed
from tracemill.finetune.providers import (
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
    refused,
    state_of,
    unsupported,
    whole,
)
from tracemill.llm.providers import Wire
from tracemill.llm.providers.batch import name_of
from tracemill.llm.providers.fields import malformed, obj, objects, text
from tracemill.messages import Json

_TRAINING = frozenset(
    {
        *("n_epochs", "n_evals", "n_checkpoints", "batch_size", "gradient_accumulation_steps"),
        *("learning_rate", "warmup_ratio", "weight_decay", "max_grad_norm", "max_seq_length"),
        *("packing", "early_stopping_enabled", "early_stopping_patience"),
        *("early_stopping_min_delta", "early_stopping_warmup_evals"),
    }
)
_LORA = frozenset({"lora_r", "lora_alpha", "lora_dropout", "lora_trainable_modules"})
_METHOD = {
    "supervised": frozenset({"train_on_inputs"}),
    "dpo": frozenset({"dpo_beta", "dpo_normalize_logratios_by_length", "rpo_alpha", "simpo_gamma"}),
}
FACTS: Mapping[str, Facts] = {
    "together": Facts(
        title="Together",
        methods=tuple(_METHOD),
        hyperparameters={name: _TRAINING | _LORA | own | {"lora"} for name, own in _METHOD.items()},
        epochs="n_epochs",
        usual_epochs=1,
        min_rows=1,
        # Larger files go up in parts, which is not done here.
        max_file_bytes=5 * 2**30,
        checkpoints=True,
        warning="Together serves a trained model on an endpoint of its own, by the minute; training "
        "is billed by the tokens of the training and the validation file.",
    )
}

_LONGEST_SUFFIX = 40
_NANODOLLARS = 1_000_000_000
_STATES: Mapping[str, RemoteState] = {
    "pending": "validating",
    "queued": "queued",
    "running": "running",
    "compressing": "running",
    "uploading": "running",
    "cancel_requested": "cancelling",
    "completed": "succeeded",
    "error": "failed",
    "user_error": "failed",
    "cancelled": "cancelled",
}
_FILE_LATER = {"PENDING", "QUEUED", "RUNNING"}
_FILE_GONE = {"FAILED", "INVALID_FORMAT"}
_FAULTS = {"job_error", "job_user_error"}


def find_upload(job: JobSpec, part: Part) -> Steps[str | None]:
    """The file of this name and size."""
    name, size = file_name(job, part), file_of(job, part).size_bytes
    for file in objects(obj((yield get_ask("/files"))).get("data")):
        same = file.get("filename") == name and file.get("bytes") in (size, 0, None)
        if same and file.get("processing_status") not in _FILE_GONE:
            return name_of(file.get("id")) or None
    return None


def upload(job: JobSpec, part: Part, content: bytes) -> Steps[str]:
    """Hand over a file."""
    name = file_name(job, part)
    fields = {"purpose": "fine-tune", "file_name": name, "file_type": "jsonl"}
    body = yield Ask(form(fields, name, content, "/files/upload"), once=True)
    if file_id := name_of(obj(body).get("id")):
        return file_id
    raise malformed("the answer to the uploaded file of examples has no id")


def find(job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote | None]:
    """The job of our file with our suffix: Together may know equal files by one id."""
    for body in objects(obj((yield get_ask("/fine-tunes"))).get("data")):
        named = text(body.get("suffix")) or text(body.get("model_output_name"))
        ours = not named or suffix_of(job) in named
        if body.get("training_file") == files["training"] and ours:
            return read(body)
    return None


def create(job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote]:
    """Have it trained, once the files were read."""
    for file_id in files.values():
        file = obj((yield get_ask(f"/files/{quote(file_id, safe='')}")))
        word = text(file.get("processing_status"))
        if word in _FILE_GONE:
            raise refused(file_id, text(obj(file.get("validation_report")).get("error")) or word)
        if word in _FILE_LATER:
            raise importing(file_id, word)
    return read((yield Ask(Wire("/fine-tunes", body_of(job, files)), once=True)))


def body_of(job: JobSpec, files: Mapping[Part, str]) -> Json:
    """The job as it is asked for. Only hyperparameters that Together has get in."""
    named = job.hyperparameters
    body: Json = {name: named[name] for name in named if name in _TRAINING}
    body |= {
        "model": job.base_model,
        "training_file": files["training"],
        "suffix": suffix_of(job),
        "random_seed": job.seed,
        "training_method": _method(job),
    }
    body.setdefault("n_epochs", 1)
    if "validation" in files:
        body["validation_file"] = files["validation"]
        body.setdefault("n_evals", body["n_epochs"])
    if named.get("lora") is False:
        body["training_type"] = {"type": "Full"}
    elif _LORA & named.keys():
        rank = named.get("lora_r", 8)
        lora = {name: named[name] for name in named if name in _LORA}
        doubled = 2 * rank if isinstance(rank, int | float) else rank
        body["training_type"] = {"type": "Lora", "lora_r": rank, "lora_alpha": doubled, **lora}
    return body


def _method(job: JobSpec) -> Json:
    own = {
        name: job.hyperparameters[name]
        for name in job.hyperparameters
        if name in _METHOD[job.method]
    }
    if job.method == "dpo":
        return {"method": "dpo", **own}
    return {"method": "sft", "train_on_inputs": "auto", **own}


def suffix_of(job: JobSpec) -> str:
    """The job's suffix with the end of its id, by which it is known again."""
    end = job.job_id.rpartition("-")[2]
    return f"{job.suffix[: _LONGEST_SUFFIX - len(end) - 1]}-{end}"


def get(remote_id: str) -> Steps[Remote]:
    """How far it is."""
    return read((yield get_ask(_job(remote_id))))


def events(remote_id: str, after: str | None) -> Steps[Events]:
    """What was said since; the cursor is how many events were read. The list is always whole."""
    said = objects(obj((yield get_ask(f"{_job(remote_id)}/events"))).get("data"))
    said.sort(key=lambda each: text(each.get("created_at")))
    seen = int(after) if after and after.isdecimal() else 0
    told = Events(
        tuple(text(each.get("message")) for each in said[seen:]),
        max((step for each in said if (step := whole(each.get("step"))) is not None), default=None),
        cursor=str(max(len(said), seen)),
    )
    if len(said) <= seen:
        return told._replace(step=None)
    return (yield from _measured(remote_id, told))


def _measured(remote_id: str, told: Events) -> Steps[Events]:
    """With the newest of each metric; a server may have none."""
    try:
        body = obj((yield get_ask(f"{_job(remote_id)}/metrics")))
    except CallFailed as error:
        if error.status in (404, 405):
            return told
        raise
    newest: dict[str, float] = {}
    for row in objects(body.get("metrics")):
        newest |= {name: value for name in row if (value := number(row[name])) is not None}
    step = whole(newest.pop("train/global_step", None))
    return told._replace(
        step=told.step if step is None else step,
        loss=newest.get("train/loss"),
        metrics=_metrics(newest),
    )


def _metrics(newest: Mapping[str, float]) -> dict[str, float]:
    told = {"train/loss": "train_loss", "eval/loss": "validation_loss"}
    return {
        told.get(name, name)[:200]: value
        for name, value in newest.items()
        if name != "timestamp" and not name.endswith(("step", "epoch"))
    }


def checkpoints(remote_id: str) -> Steps[list[Checkpoint]]:
    """All that there are, oldest first."""
    body = obj((yield get_ask(f"{_job(remote_id)}/checkpoints")))
    kept = [
        Checkpoint(f"{remote_id}:{step}", step, {})
        for each in objects(body.get("data"))
        if (step := whole(each.get("step"))) is not None
    ]
    return sorted(set_of(kept), key=lambda each: each.step)


def set_of(kept: Sequence[Checkpoint]) -> list[Checkpoint]:
    """One of each step: a step may be kept as adapter and as model."""
    return list({each.step: each for each in kept}.values())


def cancel(remote_id: str) -> Steps[Remote]:
    """Stop it; the steps that were done are paid."""
    return read((yield Ask(Wire(f"{_job(remote_id)}/cancel"))))


def pause(remote_id: str) -> Steps[Remote]:
    """There is no such thing."""
    yield from ()
    raise unsupported("a job at Together cannot be paused")


def resume(remote_id: str) -> Steps[Remote]:
    """There is no such thing."""
    yield from ()
    raise unsupported("a job at Together cannot be resumed")


def delete_model(model: str) -> Steps[None]:
    """Remove what was trained: Together deletes a job with all that it made."""
    for body in objects(obj((yield get_ask("/fine-tunes"))).get("data")):
        if model in (body.get("model_output_name"), body.get("output_name")):
            remote_id = name_of(body.get("id"))
            yield Ask(Wire(_job(remote_id), method="DELETE"))


def read(body: Any) -> Remote:
    """A job object. Raises `CallFailed` (`malformed_response`)."""
    remote_id, word = identified(body)
    job = obj(body)
    said = objects(job.get("events"))
    state = state_of(word, _STATES)
    price = whole(job.get("total_price"))
    done = state == "succeeded"
    return Remote(
        remote_id,
        state,
        word,
        step=max((s for each in said if (s := whole(each.get("step"))) is not None), default=None),
        total_steps=whole(job.get("total_steps")),
        epoch=number(job.get("epochs_completed")),
        model=(name_of(job.get("model_output_name")) or None) if done else None,
        trained_tokens=whole(job.get("token_count")) if done else None,
        cost_usd=Decimal(price) / _NANODOLLARS if done and price else None,
        error_message=_problem(said) if state == "failed" else None,
        created_at=moment(job.get("created_at")),
    )


def _problem(said: Sequence[Json]) -> str | None:
    """The job has no field for it: the event that tells of the error does."""
    faults = [each for each in said if text(each.get("type")).lower() in _FAULTS]
    faults = faults or [each for each in said if text(each.get("level")).lower() == "error"]
    return text(faults[-1].get("message")) or None if faults else None


def _job(remote_id: str) -> str:
    return f"/fine-tunes/{quote(remote_id, safe='')}"
