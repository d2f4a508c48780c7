"""Who trains models, and what a trainer has to offer.

A trainer answers questions about jobs and takes orders; it keeps nothing that the log does not
know. Every method may be cut anywhere and called again: `find_upload` and `find` tell what is there
already, so that nothing is done twice.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Part = Literal["training", "validation"]
RemoteState = Literal[
    "validating", "queued", "running", "paused", "cancelling",
    "succeeded", "failed", "cancelled", "unknown",
]  # fmt: skip


class TrainingFile(NamedTuple):
    """Examples on the disk, as JSON lines in OpenAI's form."""

    path: Path
    split: str
    sha256: str
    rows: int
    size_bytes: int


class JobSpec(NamedTuple):
    """All that a trainer is told of a job."""

    job_id: str
    """Ours, a UUIDv7; trainers keep it beside the job where they can."""
    name: str
    """Of the model that is to come."""
    base_model: str
    method: Literal["classify", "lm", "supervised", "dpo"]
    hyperparameters: Mapping[str, bool | int | float | str]
    seed: int
    suffix: str
    dataset: str
    dataset_digest: str
    training: TrainingFile
    validation: TrainingFile | None
    command: tuple[str, ...] = ()
    """For the trainer `subprocess`."""


class BaseModel(NamedTuple):
    """A model that can be trained further."""

    name: str
    methods: tuple[str, ...]
    max_tokens: int | None
    """Of one example; None where it is not known."""
    usd_per_million: Decimal | None
    """For a million tokens trained on, each epoch anew; None where it is not known."""
    shutdown_date: date | None = None


class Capabilities(NamedTuple):
    """What a trainer can do."""

    models: tuple[BaseModel, ...]
    """Those that are known; others may be named too where `other_models`."""
    other_models: bool
    min_rows: int
    max_file_bytes: int | None
    pausable: bool
    checkpoints: bool
    warning: str | None = None
    """What people should know before they begin, such as the day on which it closes."""


class Estimate(NamedTuple):
    """What training will take, before anything is sent."""

    trained_tokens: int | None
    """All epochs together; None where nobody can tell."""
    cost_usd: Decimal | None
    """None where the price is not known; 0 for what is trained here."""
    seconds: float | None = None


class Validation(NamedTuple):
    """What is wrong with the examples."""

    errors: tuple[str, ...]
    """Sentences that name the line and the mend; with any, nothing is sent."""
    warnings: Mapping[str, int]
    """Codes of `tracemill validate`, and how often."""


class RemoteFile(NamedTuple):
    """A file of examples at the trainer."""

    remote_file_id: str
    sha256: str
    rows: int
    size_bytes: int


class Remote(NamedTuple):
    """A job as the trainer tells of it."""

    remote_id: str
    state: RemoteState
    raw_state: str
    """The trainer's word."""
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    metrics: Mapping[str, float] = {}
    model: str | None = None
    """The name of the model for `Request.model`, once there is one."""
    model_digest: str | None = None
    """Which version that is, where the trainer can tell; else the name stands in."""
    trained_tokens: int | None = None
    cost_usd: Decimal | None = None
    size_bytes: int | None = None
    error_message: str | None = None
    error_code: str | None = None
    created_at: datetime | None = None


class Events(NamedTuple):
    """What the trainer said of a job since somebody last asked."""

    messages: tuple[str, ...]
    """Oldest first."""
    step: int | None = None
    loss: float | None = None
    metrics: Mapping[str, float] = {}
    cursor: str | None = None
    """Where to go on."""
    total_steps: int | None = None


class Checkpoint(NamedTuple):
    """The model as it was after a step."""

    checkpoint_id: str
    step: int
    metrics: Mapping[str, float]
    model: str | None = None
    """Its name for `Request.model`, where it can be called."""


class FineTuneProvider(Protocol):
    """A trainer. Every method but the first three may raise `CallFailed`."""

    def capabilities(self) -> Capabilities: ...

    def validate(self, job: JobSpec) -> Validation:
        """Look at the examples; sends nothing."""
        ...

    def estimate(self, job: JobSpec) -> Estimate:
        """What it will take; sends nothing."""
        ...

    def find_upload(self, job: JobSpec, part: Part) -> RemoteFile | None:
        """The file, where the trainer has it already."""
        ...

    def upload(self, job: JobSpec, part: Part) -> RemoteFile:
        """Hand over a file of examples."""
        ...

    def find(self, job: JobSpec, files: Mapping[Part, str]) -> Remote | None:
        """The job, where the trainer has it already. `files` are ids of the uploaded files."""
        ...

    def create(self, job: JobSpec, files: Mapping[Part, str]) -> Remote:
        """Have it trained. Is called only where `find` found none."""
        ...

    def get(self, remote_id: str) -> Remote:
        """How far it is."""
        ...

    def events(self, remote_id: str, after: str | None) -> Events:
        """What was said since the cursor."""
        ...

    def checkpoints(self, remote_id: str) -> Sequence[Checkpoint]: ...

    def cancel(self, remote_id: str) -> Remote: ...

    def pause(self, remote_id: str) -> Remote:
        """Raises `CallFailed` with `unsupported` where the trainer cannot."""
        ...

    def resume(self, remote_id: str) -> Remote: ...

    def delete_model(self, model: str) -> None: ...
