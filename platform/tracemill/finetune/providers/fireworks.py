"""Fine-tuning at Fireworks: data sets and jobs whose ids we choose, so that none is made twice.

Its API for training lies two folders above that for models; an account's name is a part of every
path. Read from the SDK `fireworks-ai` 1.2.28 and docs.fireworks.ai, fine-tuning via API.
"""

import os
import re
from collections.abc import Mapping
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
from tracemill.llm.providers.batch import label, name_of
from tracemill.llm.providers.fields import obj, objects, text
from tracemill.messages import Json

_TRAINING = frozenset(
    {
        *("epochs", "learningRate", "loraRank", "maxContextLength", "batchSize"),
        *("batchSizeSamples", "gradientAccumulationSteps", "learningRateWarmupSteps"),
        *("optimizerWeightDecay", "samplerCheckpointSaveIntervalSteps"),
    }
)
_SUPERVISED = frozenset({"earlyStop", "evalAutoCarveout", "isTurbo"})
FACTS: Mapping[str, Facts] = {
    "fireworks": Facts(
        title="Fireworks",
        methods=("supervised", "dpo"),
        hyperparameters={"supervised": _TRAINING | _SUPERVISED, "dpo": _TRAINING},
        epochs="epochs",
        usual_epochs=1,
        min_rows=3,
        # Larger files go to a signed address elsewhere, which is not done here.
        max_file_bytes=150_000_000,
        warning="Fireworks serves a trained model on a deployment of its own, by the second, and "
        "takes no seed.",
    )
}

_ABOVE = "/../../v1"
"""From https://api.fireworks.ai/inference/v1, where models are, to where training is."""
_ACCOUNT = "FIREWORKS_ACCOUNT_ID"
_KIND = {"supervised": "supervisedFineTuningJobs", "dpo": "dpoJobs"}
_ID = {"supervised": "supervisedFineTuningJobId", "dpo": "dpoJobId"}
_STATES: Mapping[str, RemoteState] = {
    "CREATING": "validating",
    "CREATING_INPUT_DATASET": "validating",
    "VALIDATING": "validating",
    "PENDING": "queued",
    "RE_QUEUEING": "queued",
    "RUNNING": "running",
    "WRITING_RESULTS": "running",
    "PAUSED": "paused",
    "IDLE": "paused",
    "CANCELLING": "cancelling",
    "COMPLETED": "succeeded",
    "EARLY_STOPPED": "succeeded",
    "FAILED": "failed",
    "EXPIRED": "failed",
    "CANCELLED": "cancelled",
}


def find_upload(job: JobSpec, part: Part) -> Steps[str | None]:
    """The data set of our id, where its file has arrived."""
    path = f"{(yield from _account())}/datasets/{_dataset(job, part)}"
    try:
        found = obj((yield get_ask(f"{_ABOVE}/{path}")))
    except CallFailed as error:
        if error.status == 404:
            return None
        raise
    return path if text(found.get("state")) == "READY" else None


def upload(job: JobSpec, part: Part, content: bytes) -> Steps[str]:
    """Make the data set, unless it is there, and hand over its file, which may be done again."""
    account, dataset = (yield from _account()), _dataset(job, part)
    described: Json = {"exampleCount": str(file_of(job, part).rows), "userUploaded": {}}
    body: Json = {"datasetId": dataset, "dataset": {"format": "CHAT", **described}}
    try:
        yield Ask(Wire(f"{_ABOVE}/{account}/datasets", body), once=True)
    except CallFailed as error:
        if error.status != 409:
            raise
    path = f"{account}/datasets/{dataset}"
    yield Ask(form({}, file_name(job, part), content, f"{_ABOVE}/{path}:upload"), once=True)
    return path


def find(job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote | None]:
    """The job of our id."""
    account = yield from _account()
    try:
        return read((yield get_ask(f"{_ABOVE}/{account}/{_KIND[job.method]}/{_job_id(job)}")))
    except CallFailed as error:
        if error.status == 404:
            return None
        raise


def create(job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote]:
    """Have it trained, once the data sets are ready."""
    for path in files.values():
        found = obj((yield get_ask(f"{_ABOVE}/{path}")))
        status = obj(found.get("status"))
        if text(status.get("code")) not in ("", "OK"):
            raise refused(path, text(status.get("message")) or text(status.get("code")))
        if (word := text(found.get("state"))) != "READY":
            raise importing(path, word)
    account = yield from _account()
    query = f"{_ID[job.method]}={_job_id(job)}"
    wire = Wire(f"{_ABOVE}/{account}/{_KIND[job.method]}?{query}", body_of(job, files, account))
    return read((yield Ask(wire, once=True)))


def body_of(job: JobSpec, files: Mapping[Part, str], account: str) -> Json:
    """The job as it is asked for. Only hyperparameters that Fireworks has get in."""
    known = FACTS["fireworks"].hyperparameters[job.method]
    named = {name: value for name, value in job.hyperparameters.items() if name in known}
    base = job.base_model
    training: Json = named | {
        "baseModel": base if "/" in base else f"accounts/fireworks/models/{base}",
        "outputModel": f"{account}/models/{_model_id(job)}",
    }
    body: Json = {"displayName": job.name[:63], "dataset": files["training"]}
    if job.method == "dpo":
        return body | {"trainingConfig": training}
    if "validation" in files:
        body["evaluationDataset"] = files["validation"]
    return body | training


def get(remote_id: str) -> Steps[Remote]:
    """How far it is."""
    return read((yield get_ask(f"{_ABOVE}/{_path(remote_id)}")))


def events(remote_id: str, after: str | None) -> Steps[Events]:
    """Fireworks keeps no list of them."""
    yield from ()
    return Events((), cursor=after)


def checkpoints(remote_id: str) -> Steps[list[Checkpoint]]:
    """Fireworks keeps no list of them."""
    yield from ()
    return []


def cancel(remote_id: str) -> Steps[Remote]:
    """Stop it."""
    yield Ask(Wire(f"{_ABOVE}/{_path(remote_id)}:cancel", {}))
    return (yield from get(remote_id))


def pause(remote_id: str) -> Steps[Remote]:
    """There is no such thing."""
    yield from ()
    raise unsupported("a job at Fireworks cannot be paused")


def resume(remote_id: str) -> Steps[Remote]:
    """Let one go on that Fireworks has paused."""
    yield Ask(Wire(f"{_ABOVE}/{_path(remote_id)}:resume", {}))
    return (yield from get(remote_id))


def delete_model(model: str) -> Steps[None]:
    """Remove what was trained."""
    yield Ask(Wire(f"{_ABOVE}/{_path(model)}", method="DELETE"))


def read(body: Any) -> Remote:
    """A job object. Raises `CallFailed` (`malformed_response`)."""
    remote_id, word = identified(body, named="name", state="state")
    job = obj(body)
    state = state_of(word.removeprefix("JOB_STATE_"), _STATES)
    progress, status = obj(job.get("jobProgress")), obj(job.get("status"))
    output = job.get("outputModel") or obj(job.get("trainingConfig")).get("outputModel")
    return Remote(
        remote_id,
        state,
        word,
        epoch=number(progress.get("epoch")),
        metrics=_percent(progress),
        model=(name_of(output) or None) if state == "succeeded" else None,
        trained_tokens=whole(progress.get("inputTokens")) or None,
        cost_usd=_cost(obj(job.get("estimatedCost"))) if state == "succeeded" else None,
        error_message=_problem(word, status) if state == "failed" else None,
        error_code=label(text(status.get("code"))) or None if state == "failed" else None,
        created_at=moment(job.get("createTime")),
    )


def _problem(word: str, status: Json) -> str | None:
    return text(status.get("message")) or ("it expired" if word.endswith("EXPIRED") else None)


def _percent(progress: Json) -> dict[str, float]:
    done = number(progress.get("percent"))
    return {} if done is None else {"percent": done}


def _cost(money: Json) -> Decimal | None:
    """An amount of google.type.Money, where it is in dollars."""
    if text(money.get("currencyCode")) not in ("", "USD") or not money:
        return None
    units, nanos = whole(money.get("units")) or 0, whole(money.get("nanos")) or 0
    return units + Decimal(nanos) / 1_000_000_000


def _account() -> Steps[str]:
    """`accounts/NAME`: the one that the environment names, else the only one of the key."""
    if named := os.environ.get(_ACCOUNT, "").strip().removeprefix("accounts/"):
        return f"accounts/{quote(named, safe='')}"
    found = objects(obj((yield get_ask(f"{_ABOVE}/accounts"))).get("accounts"))
    names = [name for each in found if (name := name_of(each.get("name")))]
    if len(names) == 1:
        return _path(names[0])
    raise CallFailed(
        "invalid_request",
        f"the key of Fireworks has {len(names)} accounts: set {_ACCOUNT} to the one to train in",
    )


def _dataset(job: JobSpec, part: Part) -> str:
    return file_name(job, part).removesuffix(".jsonl")


def _job_id(job: JobSpec) -> str:
    return f"tracemill-{job.job_id}"


def _model_id(job: JobSpec) -> str:
    """Letters, digits and hyphens, at most 63; the end of the job's id makes it the only one."""
    name = re.sub(r"[^a-z0-9]+", "-", job.suffix.lower()).strip("-") or "model"
    return f"{name[:50]}-{job.job_id.rpartition('-')[2]}"


def _path(name: str) -> str:
    """The name of a resource, as a path."""
    return quote(name, safe="/")
