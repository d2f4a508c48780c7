"""A fine-tune of files of examples that somebody brings, instead of splits: the same request
otherwise, and the same job from there on.
"""

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from tracemill.errors import UsageError
from tracemill.events import FineTuneRequested, TrainingData, new_id
from tracemill.events.finetunes import Setting
from tracemill.files import sync
from tracemill.finetune.examples import examples_path, few_answers
from tracemill.finetune.providers.table import HERE, HOSTED
from tracemill.finetune.request import DEADLINE_S, FIXED, OURS, Method, key
from tracemill.llm.trained.artefact import folder_of
from tracemill.settings import Settings

DATASET = "files"
"""The data set of what was brought."""


class Upload(NamedTuple):
    """A file of examples: JSON lines in OpenAI's form."""

    name: str
    """Its id: it stands where a split does."""
    path: Path
    sha256: str
    size_bytes: int


class Wanted(NamedTuple):
    """What is to be made of files."""

    name: str
    """Of the model."""
    provider: str
    base_model: str
    """In the trainer's words; of `local` it is the method."""
    method: Method
    hyperparameters: Mapping[str, Setting]
    seed: int
    suffix: str | None = None
    metadata: Mapping[str, str] = {}
    key_id: str | None = None


def asked(
    settings: Settings, wanted: Wanted, training: Upload, validation: Upload | None
) -> FineTuneRequested:
    """The request that files make; they are kept as the examples of splits are.

    Raises `UsageError` for what no trainer can do.
    """
    _check(settings, wanted)
    learned = _kept(settings, training)
    watched = _kept(settings, validation) if validation else None
    now = datetime.now(UTC)
    event = FineTuneRequested(
        job_id=new_id(),
        name=wanted.name,
        provider=wanted.provider,
        base_model=wanted.base_model,
        method=wanted.method,
        hyperparameters=dict(wanted.hyperparameters),
        seed=wanted.seed,
        suffix=wanted.suffix,
        dataset=DATASET,
        dataset_digest=training.sha256,
        training=learned,
        validation=watched,
        idempotency_key="",
        occurred_at=now,
        deadline_at=now + timedelta(seconds=DEADLINE_S[wanted.provider in HERE]),
        key_id=wanted.key_id,
        metadata=dict(wanted.metadata),
    )
    return event.model_copy(update={"idempotency_key": key(event)})


def local_method(base_model: str, path: Path) -> Literal["classify", "lm"]:
    """What `local` trains: `auto` is a classifier where a file has few different answers.

    Raises `UsageError` where it trains no such model.
    """
    match base_model:
        case "classify" | "lm":
            return base_model
        case "auto":
            try:
                return "classify" if few_answers(path) else "lm"
            except (ValueError, KeyError, IndexError, TypeError):
                return "lm"  # the job's own check names the line
        case _:
            raise UsageError(
                f"local trains local/classify, local/lm and local/auto, not local/{base_model}"
            )


def _check(settings: Settings, wanted: Wanted) -> None:
    folder_of(settings.models, wanted.name, "0" * 16)
    if wanted.name in OURS:
        raise UsageError(f"a model cannot be called {wanted.name!r}: a folder of ours is")
    if wanted.provider != "local" and wanted.provider not in HOSTED:
        known = ", ".join(("local", *HOSTED))
        raise UsageError(f"nobody trains {wanted.provider}/{wanted.base_model}: {known} train")
    if wrong := sorted(FIXED & wanted.hyperparameters.keys()):
        raise UsageError(f"{wrong[0]!r} is no hyperparameter: it has a field of its own")


def _kept(settings: Settings, upload: Upload) -> TrainingData:
    path = examples_path(settings, upload.sha256)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{new_id()}.tmp")
        try:
            os.link(upload.path, aside)
        except OSError:
            shutil.copyfile(upload.path, aside)
        aside.replace(path)
        sync(path.parent)
    with path.open("rb") as file:
        rows = sum(1 for line in file if line.strip())
    return TrainingData(
        split=upload.name, sha256=upload.sha256, rows=rows, size_bytes=upload.size_bytes
    )
