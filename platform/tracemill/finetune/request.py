"""What a recipe asks for, made definite: the files of examples, the method, the day it is given up."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from tracemill.corpus.write import Dataset, current
from tracemill.errors import InputError, UsageError
from tracemill.events import FineTuneRequested, TrainingData, new_id
from tracemill.finetune.examples import few_answers, write_examples
from tracemill.finetune.job import ENDED, JobState, state
from tracemill.finetune.providers import TrainingFile
from tracemill.finetune.providers.table import HERE
from tracemill.finetune.recipe import FineTune
from tracemill.llm.trained.artefact import folder_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

DEADLINE_S = {True: 3_600.0, False: 172_800.0}
"""For trainers here, and for those elsewhere."""
OURS = ("examples", "jobs", "python-help")
"""Folders beside those of the models, the base of language models among them."""
FIXED = frozenset(
    (
        *("model", "base_model", "method", "seed", "suffix", "name", "job_id", "command"),
        *("training", "training_file", "training_files", "dataset", "dataset_id", "metadata"),
        *("validation", "validation_file", "evaluation_dataset", "output_model"),
    )
)
"""What a job is told apart from hyperparameters, which may not say otherwise."""

Method = Literal["classify", "lm", "supervised", "dpo"]


def asked(
    settings: Settings, name: str, recipe: FineTune, actor: str | None = None
) -> FineTuneRequested:
    """The request that a recipe makes of the splits in force; its files of examples are written.

    Raises `UsageError` and `InputError` for a recipe that cannot be followed.
    """
    _check(settings, name, recipe)
    dataset = current(settings.splits)
    training = write_examples(settings, name, recipe, recipe.train, dataset)
    if not training.rows:
        raise InputError(f"model {name!r}: {_nothing(recipe)}")
    validation = _validation(settings, name, recipe, dataset)
    method = _method(name, recipe, training)
    now = datetime.now(UTC)
    limit_s = recipe.deadline_s or DEADLINE_S[recipe.provider in HERE]
    event = FineTuneRequested(
        job_id=new_id(),
        name=name,
        provider=recipe.provider,
        base_model=recipe.base_model or _base(recipe, method),
        method=method,
        hyperparameters=recipe.hyperparameters,
        seed=recipe.seed,
        suffix=recipe.suffix,
        command=recipe.command,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        training=_data(training),
        validation=_data(validation) if validation else None,
        idempotency_key="",
        occurred_at=now,
        deadline_at=now + timedelta(seconds=limit_s),
        actor=actor,
    )
    return event.model_copy(update={"idempotency_key": key(event)})


def key(event: FineTuneRequested) -> str:
    """A digest of what decides which model comes of it.

    Bytes count and not the version of the data set: one that differs in another split only is not
    trained on, and paid for, again.
    """
    parts = event.model_dump(mode="json", include=set(_DECIDING))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


_DECIDING = (
    *("name", "provider", "base_model", "method", "hyperparameters", "seed", "suffix", "command"),
    *("training", "validation"),
)


def same(log: "EventLog", settings: Settings, event: FineTuneRequested) -> JobState | None:
    """The newest job of the same request; None where it has to be made (again)."""
    query = (
        "SELECT stream FROM events WHERE kind = 'finetune.requested' "
        "AND payload ->> '$.idempotency_key' = $key ORDER BY position DESC LIMIT 1"
    )
    found = log.arrow(query, {"key": event.idempotency_key}).column("stream").to_pylist()
    if not found:
        return None
    known = state(log, str(found[0]).removeprefix("finetune:"))
    return known if _is_there(settings, known) else None


def _is_there(settings: Settings, known: JobState) -> bool:
    """False for a model that was trained here and whose files are gone, and for a job of one."""
    if known.provider != "local":
        return True
    if known.state == "succeeded" and known.model_digest:
        return folder_of(settings.models, known.name, known.model_digest).is_dir()
    begun = known.remote_id is not None and known.state not in ENDED
    return not begun or (settings.models / "jobs" / known.job_id).is_dir()


def _check(settings: Settings, name: str, recipe: FineTune) -> None:
    folder_of(settings.models, name, "0" * 16)
    if name in OURS:
        raise UsageError(
            f"a model cannot be called {name!r}: a folder of ours is; rename its recipe"
        )
    if wrong := sorted(FIXED & recipe.hyperparameters.keys()):
        raise UsageError(
            f"model {name!r}: {wrong[0]!r} is no hyperparameter: it has a field of its own in the "
            "recipe, or follows from the split"
        )
    if recipe.method == "dpo":
        raise UsageError(
            f"model {name!r}: splits hold answers and no preferences, so `dpo` has nothing to learn "
            "from: use `supervised`"
        )
    here = recipe.method in ("classify", "lm")
    if recipe.provider == "local" and not here and recipe.method != "auto":
        raise UsageError(
            f"model {name!r}: `local` trains `classify` and `lm`, not `{recipe.method}`"
        )
    if recipe.provider != "local" and here:
        raise UsageError(
            f"model {name!r}: `{recipe.method}` is trained by `local` alone: "
            f"for {recipe.provider} use `supervised`"
        )


def _validation(
    settings: Settings, name: str, recipe: FineTune, dataset: Dataset
) -> TrainingFile | None:
    """None too where nothing of the split is wanted: there is nothing to watch."""
    if recipe.validation is None:
        return None
    file = write_examples(settings, name, recipe, recipe.validation, dataset)
    return file if file.rows else None


def _nothing(recipe: FineTune) -> str:
    examples = recipe.examples
    where = f"no record of the split {recipe.train!r}"
    where += f" from {' or '.join(examples.origins)}" if examples.origins else ""
    if examples.target == "answer":
        return f"{where} ends with an answer"
    least = examples.min_per_label
    rare = f" that it shares with {least - 1} others: lower `min_per_label`" if least > 1 else ""
    return f"{where} has a label{rare}"


def _method(name: str, recipe: FineTune, training: TrainingFile) -> Method:
    if recipe.method != "auto":
        return recipe.method
    if recipe.provider != "local":
        return "supervised"
    labelled = recipe.examples.target == "label" or few_answers(training.path)
    return "classify" if labelled else "lm"


def _base(recipe: FineTune, method: Method) -> str:
    if recipe.provider == "local":
        return method
    if recipe.provider == "subprocess":
        return "unnamed"
    raise UsageError(
        f"{recipe.provider} trains models of several kinds: name one as `base_model` in the recipe"
    )


def _data(file: TrainingFile) -> TrainingData:
    return TrainingData(
        split=file.split, sha256=file.sha256, rows=file.rows, size_bytes=file.size_bytes
    )
